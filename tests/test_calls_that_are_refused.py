"""Calls of ops that cannot be meant: each is refused in one line that says who, what must hold, and what came."""

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops, optim
from tinygrad_rnn.tasks.supervised import stacked

V, K, I = ValueError, TypeError, IndexError
xs = tg.tensor(np.zeros((5, 2, 3), np.float32))
x, v, ids = tg.tensor(np.ones((2, 3), np.float32)), tg.tensor(np.ones(3, np.float32)), tg.tensor([0, 1])

# ---- axes -----------------------------------------------------------------------------------------------------------

SEVERAL = ["sum", "mean", "max", "min", "var", "softmax", "log_softmax", "logsumexp", "squeeze", "flip", "permute"]
ONE = ["argmax", "cumsum", "unsqueeze", "expand_dims", "unbind"]
BY_TORCH = [*SEVERAL, *ONE]


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("axes", [(0, 0), (0, -2), [1, 0, -1]], ids=str)
def test_one_axis_twice(name, axes):
    with pytest.raises(ValueError, match=rf"^{name}: axis must name each axis once, got "):
        getattr(ops, name)(tg.tensor(np.ones((1, 1))), axes)


@pytest.mark.parametrize("name", [*SEVERAL, *ONE])
@pytest.mark.parametrize("axis", [1.0, "a", True, (0.5,), np.array(0.5)], ids=repr)
def test_an_axis_that_is_no_integer(name, axis):
    with pytest.raises(TypeError, match=rf"^{name.replace('expand_dims', 'unsqueeze')}: axis must be an integer, got "):
        getattr(ops, name)(x, axis)


@pytest.mark.parametrize("name", [*SEVERAL, *ONE])
@pytest.mark.parametrize("axis", [2, -3, (0, 5)], ids=repr)
def test_an_axis_that_is_not_there(name, axis):
    axis = axis if name in SEVERAL or isinstance(axis, int) else 7
    axis = {2: 3, -3: -4}.get(axis, axis) if name in ("unsqueeze", "expand_dims") else axis
    with pytest.raises(ValueError, match=rf"^{name.replace('expand_dims', 'unsqueeze')}: axis must be "):
        getattr(ops, name)(x, axis)


@pytest.mark.parametrize("name", ONE)
def test_several_axes_where_one_must_be(name):
    with pytest.raises(TypeError, match="axis must be an integer, got "):
        getattr(ops, name)(x, (0, 1))


@pytest.mark.parametrize("axis", [np.int64(1), np.array(1), tg.tensor(1), np.int8(-1)], ids=repr)
def test_an_integer_of_any_kind_is_an_axis(axis):
    assert ops.sum(x, axis).shape == ops.argmax(x, axis).shape == ops.cumsum(x, axis)[:, 0].shape == (2,)
    assert ops.sum(x, np.array([0, 1])).shape == ops.sum(x, [0, 1]).shape == ()
    assert ops.concat([x, x], axis).shape == (2, 6)


@pytest.mark.parametrize("name", BY_TORCH)
@pytest.mark.parametrize("method", [False, True])
def test_pytorchs_names_of_arguments_are_told_ours(name, method):
    wrong = {"flip": "dims", "permute": "dims"}.get(name, "dim")
    call = getattr(x, name, None) if method else getattr(ops, name)
    if call is None:
        pytest.skip("it is no method")
    ours = "axes" if name == "permute" else "axis"
    who = name.replace("expand_dims", "unsqueeze")
    with pytest.raises(TypeError, match=f"^{who}: there is no argument '{wrong}'; it is called '{ours}' here$"):
        call(**({} if method else {"x": x}), **{wrong: 0})


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: ops.concat([x, x], dim=1), "concat: .*'dim'.*'axis'"),
        (lambda: ops.stack([x, x], dim=1), "stack: .*'dim'.*'axis'"),
        (lambda: x.split(1, dim=0), "split: .*'dim'.*'axis'"),
        (lambda: x.chunk(1, dim=0), "chunk: .*'dim'.*'axis'"),
        (lambda: x.sum(0, keepdim=True), "sum: .*'keepdim'.*'keepdims'"),
        (lambda: ops.max(x, 0, keepdim=True), "max: .*'keepdim'.*'keepdims'"),
        (lambda: x.transpose(dim0=0, dim1=1), "transpose: .*'dim0'.*'axis0'"),
        (lambda: x.var(unbiased=False), "var: .*'unbiased'.*'correction'"),
        (lambda: ops.take_along_axis(x, ids, dim=1), "take_along_axis: .*'dim'.*'axis'"),
        (lambda: ops.scatter_add(x, ids, v, dim=1), "scatter_add: .*'dim'.*'axis'"),
        (lambda: ops.take(x, ids, dim=1), "take: .*'dim'.*'axis'"),
        (lambda: x.sum(out=v), "sum: there is no argument 'out'$"),
    ],
)
def test_so_are_those_beside_other_arguments(call, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        call()


# ---- kinds and shapes -----------------------------------------------------------------------------------------------

NO_TENSORS = {
    "sum": lambda a: ops.sum(a), "mean": lambda a: ops.mean(a), "var": lambda a: ops.var(a),
    "max": lambda a: ops.max(a), "softmax": lambda a: ops.softmax(a), "logsumexp": lambda a: ops.logsumexp(a),
    "argmax": lambda a: ops.argmax(a), "cumsum": lambda a: ops.cumsum(a, 0), "reshape": lambda a: ops.reshape(a, 1),
    "permute": lambda a: ops.permute(a, (0,)), "transpose": lambda a: ops.swapaxes(a, 0, 0),
    "unsqueeze": lambda a: ops.unsqueeze(a, 0), "squeeze": lambda a: ops.squeeze(a), "flip": lambda a: ops.flip(a, 0),
    "split": lambda a: ops.split(a, 1), "chunk": lambda a: ops.chunk(a, 1), "unbind": lambda a: ops.unbind(a),
    "broadcast_to": lambda a: ops.broadcast_to(a, (1,)), "pad": lambda a: ops.pad(a, [(0, 0)]),
    "take": lambda a: ops.take(a, [0]), "take_along_axis": lambda a: ops.take_along_axis(a, [0], 0),
    "scatter_add": lambda a: ops.scatter_add(a, [0], v[:1]), "embedding": lambda a: ops.embedding([0], a),
    "cast": lambda a: ops.cast(a, "float32"), "concat": lambda a: ops.concat([a]), "stack": lambda a: ops.stack([a]),
}  # fmt: skip


@pytest.mark.parametrize("a", [[1.0], 3, 2.5, None, "a"], ids=repr)
@pytest.mark.parametrize("name", NO_TENSORS)
def test_what_is_neither_tensor_nor_array(name, a):
    message = f"^{name}: it must get a tensor or an array, got {type(a).__name__}; make it one by tensor"
    with pytest.raises(TypeError, match=message):
        NO_TENSORS[name](a)


OPERANDS = {
    "add": lambda o: x + o, "sub": lambda o: o - x, "mul": lambda o: x * o, "div": lambda o: o / x,
    "pow": lambda o: x**o, "maximum": lambda o: ops.maximum(x, o), "greater": lambda o: x > o,
    "where": lambda o: ops.where(x > 0, x, o), "stack": lambda o: ops.stack([x, o]),
}  # fmt: skip


NO_NUMBERS = [None, "a", 1 + 2j, np.complex64(1), np.ones((2, 3), complex), {}, [x], [[1], [2, 3]], np.array("a")]


@pytest.mark.parametrize("name", OPERANDS)
@pytest.mark.parametrize("operand", NO_NUMBERS, ids=repr)
def test_an_operand_that_is_no_number(name, operand):
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: (an )?operands? must be [^\n]*$|not supported"):
        OPERANDS[name](operand)


def test_a_tensor_is_not_equal_to_none_or_a_word():
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711
    assert (x == "a") is False
    assert None not in [x[0, 0]]


@pytest.mark.parametrize("dtype", ["complex64", complex, object, "S3", "datetime64[s]", "nonsense", None], ids=repr)
def test_a_dtype_that_tensors_cannot_have(dtype):
    makers = (lambda: tg.zeros(2, dtype=dtype), lambda: tg.ones(2, dtype=dtype), lambda: ops.one_hot(ids, 3, dtype))
    for call in (lambda: ops.cast(x, dtype), lambda: x.to(dtype), lambda: x.astype(dtype), *makers):
        with pytest.raises(
            TypeError, match=r"^(cast|astype|zeros|ones|one_hot): the dtype must be of floats, integers or booleans"
        ):
            call()


@pytest.mark.parametrize("sign, call", {"&": lambda a: a & a, "|": lambda a: a | a, "~": lambda a: ~a}.items())
def test_signs_of_masks_between_numbers(sign, call):
    for a in (x, ids):
        with pytest.raises(TypeError, match=rf"^\{sign}: operands must be masks \(of booleans\), got "):
            call(a)
    assert call(x > 0).dtype == bool
    assert (True & (x > 0)).dtype == (False | (x > 0)).dtype == bool


def parameter():
    return nn.Parameter(np.ones(3, np.float32))


def both_ways(*args):
    return nn.Bidirectional(nn.GRUCell(3, 4), nn.GRUCell(3, 4))(*args)


def loaded(kind, other):
    """An optimiser that is given the state of another kind."""
    p, options = parameter(), {optim.SGD: {"lr": 0.1, "momentum": 0.9}}
    made = other([p], **options.get(other, {}))
    p.grad = v
    made.step()
    kind([p], **options.get(kind, {})).load_state_dict(made.state_dict())


REFUSED = [
    (lambda: x @ 3, K, "matmul: operands must be tensors or arrays, got int; use . for numbers"),
    (lambda: 3.0 @ x, K, "matmul: operands must be tensors or arrays, got float"),
    (lambda: ops.matmul(x, None), K, "matmul: operands must be tensors or arrays, got NoneType"),
    (lambda: x @ x, V, r"matmul: the first's last axis .* got shapes \(2, 3\) and \(2, 3\)"),
    (lambda: v @ tg.ones(4), V, r"matmul: the first's last axis .* got shapes \(3,\) and \(4,\)"),
    (lambda: (x, x) @ x, K, "matmul: operands must be tensors, got a tuple of tensors; stack them first"),
    (lambda: ops.tanh([x, x]), K, "tanh: operands must be tensors, got a list of tensors; stack them first"),
    (lambda: ops.einsum("ijk->", (x, x)), K, "einsum: operands must be tensors, got a tuple of tensors; stack them"),
    (lambda: ops.einsum("ij->", 3), K, "einsum: operands must be tensors or arrays, got int"),
    (lambda: ops.einsum(x, x), K, "einsum: the first must be a string"),
    (lambda: ops.einsum("ii->i", x), V, r"einsum: axes 0 and 1 have one letter .* got shape \(2, 3\)"),
    (lambda: ops.embedding(ids, 3), K, "embedding: it must get a tensor or an array, got int"),
    (lambda: ops.embedding(ids, v), V, r"embedding: weight must be \(V, D\), got shape \(3,\); ops.take"),
    (lambda: ops.embedding(ids, tg.ones(4, 3, 2)), V, r"embedding: weight must be \(V, D\), got shape \(4, 3, 2\)"),
    (lambda: ops.embedding(2.0, x), K, "embedding: the index must be integers, got dtype float64"),
    (lambda: ops.take_along_axis(x, ids, 1), V, r"take_along_axis: index must have the axes of x, .* got shape \(2,\)"),
    (lambda: ops.take_along_axis(x, [[0]] * 3, 1), V, r"take_along_axis: index must have .* got shape \(3, 1\)"),
    (lambda: ops.take_along_axis(x, ids, None), K, "take_along_axis: axis must be an integer, got None"),
    (lambda: ops.scatter_add(x, [[0]], 1.0), K, "scatter_add: it must get a tensor or an array, got float"),
    (lambda: ops.scatter_add(x, [0, 1], v[:2]), V, r"scatter_add: index must have the axes of x, .* got shape \(2,\)"),
    (lambda: ops.scatter_add(x, [[0] * 4], tg.ones(1, 4)), V, "scatter_add: index must have the axes of x"),
    (lambda: ops.one_hot(ids, 2.5), K, "one_hot: num_classes must be an integer, got 2.5"),
    (lambda: x.chunk(0), V, "chunk: the number of chunks must be at least 1, got 0"),
    (lambda: x.chunk(-2), V, "chunk: the number of chunks must be at least 1, got -2"),
    (lambda: x.chunk(1.5), K, "chunk: the number of chunks must be an integer, got 1.5"),
    (lambda: x.split(1.5), K, "split: the size of a piece must be an integer, got 1.5"),
    (lambda: x.split([1, -1, 2]), V, r"split: sizes must add up to the 2 of axis 0, got \[1, -1, 2\]"),
    (lambda: x.reshape(2.5), K, "reshape: sizes must be integers, got 2.5"),
    (lambda: x.reshape(None), K, "reshape: sizes must be integers, got None"),
    (lambda: x.permute(0), V, r"permute: axes must name each of the 2 axes of shape \(2, 3\), got 0"),
    (lambda: x.broadcast_to((-1, 2, 3)), V, "broadcast_to: shape .* must fit the last axes of the new one"),
    (lambda: x.broadcast_to((3,)), V, "broadcast_to: shape .* must fit the last axes of the new one"),
    (lambda: ops.pad(x, 1), K, "pad: widths must hold"),
    (lambda: ops.pad(x, [(-1, 0), (0, 0)]), V, "pad: widths must hold"),
    (lambda: ops.concat(3), K, "concat: it must get a list of tensors, got int"),
    (lambda: ops.stack(t for t in [x, x]), K, "stack: it must get a list of tensors, got generator"),
    (lambda: ops.clip(x, "a"), K, "clip: min and max must be numbers or tensors, got str"),
    (lambda: ops.where(None, x, x), K, "where: the condition must be a mask, got None"),
    (lambda: ops.uniform(2.5), K, "uniform: sizes must be integers, got 2.5"),
    (lambda: x.var(correction=None), K, "var: correction must be a number, got None"),
    (lambda: ops.tanh(None), K, "tanh: operands must be tensors, arrays or numbers, got NoneType"),
    (lambda: ops.relu("a"), K, "relu: operands must be tensors, arrays or numbers, got str"),
    (lambda: nn.cross_entropy([1, 2], [0]), K, "cross_entropy: logits must be a tensor, got list"),
    (lambda: nn.mse_loss(3, x), K, "mse_loss: prediction must be a tensor, got int"),
    (lambda: nn.Linear(4, 2)(x), V, r"Linear: x must have 4 features in its last axis, got shape \(2, 3\)"),
    (lambda: nn.Linear(3, 2)(3), K, "Linear: x must be a tensor, got int"),
    (lambda: nn.LayerNorm(3)(x[:, :1]), V, r"LayerNorm: x must have 3 features in its last axis, got shape \(2, 1\)"),
    (lambda: nn.Linear(-1, 2), V, "Linear: in_features must be at least 0, got -1"),
    (lambda: nn.Embedding(3, 2.5), K, "Embedding: embedding_dim must be an integer, got 2.5"),
    (lambda: optim.clip_grad_norm_(3, 1.0), K, "clip_grad_norm_: must get parameters, .* got a int"),
    (lambda: optim.clip_grad_norm_(["W"], 1.0), K, "clip_grad_norm_: parameters must be tensors, got str"),
    (lambda: optim.clip_grad_value_(v, -1.0), V, "clip_grad_value_: clip_value must be at least 0, got -1"),
    (lambda: optim.clip_grad_value_(v, "a"), K, "clip_grad_value_: clip_value must be a number, got 'a'"),
    (lambda: optim.clip_grad_norm_(v, None), K, "clip_grad_norm_: max_norm must be a number, got None"),
    (lambda: optim.clip_grad_norm_(v, 1.0, 0), V, "clip_grad_norm_: norm_type must be greater than 0, got 0"),
    (lambda: optim.clip_grad_norm_(v, 1.0, "inf"), K, "clip_grad_norm_: norm_type must be a number, got 'inf'"),
    (lambda: optim.step_decay(0.1, 0), V, "step_decay: step_size must be greater than 0, got 0"),
    (lambda: optim.cosine(0.1, "a"), K, "cosine: total_steps must be a number, got 'a'"),
    (lambda: optim.warmup("a", 3), K, "warmup: schedule must be a number, got 'a'"),
    (lambda: optim.Adam([("W", v)]), K, "Adam: parameters must be leaf tensors, .* got tuple"),
    (lambda: optim.Adam([x * parameter()]), K, "Adam: parameters must be leaf tensors, .* got a tensor that was"),
    (lambda: optim.Adam([v], betas=0.9), K, "Adam: betas must be a pair of numbers, got 0.9"),
    (lambda: optim.Adam([v], betas=(0.9, 0.9, 0.9)), K, "Adam: betas must be a pair of numbers"),
    (lambda: optim.Adam([v]).load_state_dict({}), V, "Adam.load_state_dict: values must be .* got dict"),
    (lambda: optim.Adam([v]).load_state_dict(None), V, "Adam.load_state_dict: values must be .* got NoneType"),
    (
        lambda: nn.GRU(3, 4)([np.ones((5, 3)), np.ones((2, 3))]),
        V,
        "nn.GRU: xs must be .* got sequences of 2 to 5 steps",
    ),
    (
        lambda: nn.Recurrent(nn.AttentionCell(nn.GRUCell(7, 4), nn.DotAttention()))(np.ones((2, 1, 3), "f4")),
        NotImplementedError,
        r"AttentionCell: must be given a first state: cell.start\(state, memory\)",
    ),
    (
        lambda: stacked([(np.ones(3), 0), (np.ones(4), 1)]),
        V,
        r"SupervisedTask: the inputs of a batch must be of one shape, got \(3,\)",
    ),
    (
        lambda: stacked([(np.ones(3), [0]), (np.ones(3), [0, 1])]),
        V,
        r"SupervisedTask: the targets of a batch must be of one shape, got",
    ),
    (lambda: loaded(optim.Adam, optim.SGD), V, r"Adam.load_state_dict: the state must be \['m', 's'\], got \['v'\]"),
    (lambda: loaded(optim.SGD, optim.Adam), V, r"SGD.load_state_dict: the state must be \['v'\], got \['m', 's'\]"),
    (lambda: nn.Linear(3, 2).load_state_dict([1]), K, "Linear.load_state_dict: values must be .* got list"),
    (lambda: tg.tensor(np.ones(2, complex), "float32"), K, "tensor: values must be .* got dtype complex128"),
    (lambda: setattr(parameter(), "data", np.ones(3, complex)), K, "Tensor.data: values must be .* got dtype complex"),
    (lambda: setattr(parameter(), "grad", [1.0]), V, r"grad: must have shape \(3,\), got \(1,\)"),
    (lambda: nn.GRU(3, 4.0), K, "nn.GRU: hidden_size must be an integer, got 4.0"),
    (lambda: nn.LSTM("3", 4), K, "nn.LSTM: input_size must be an integer, got '3'"),
    (lambda: nn.RNN(3, 4, num_layers=1.5), K, "nn.RNN: num_layers must be an integer, got 1.5"),
    (lambda: nn.LSTM(3, 4, proj_size=2.0), K, "ProjectedLSTMCell: proj_size must be an integer, got 2.0"),
    (lambda: nn.LSTMCell(3, None), K, "LSTMCell: hidden_size must be an integer, got None"),
    (lambda: nn.GRU(3, 4, batch_first=True), K, "nn.GRU: there is no argument 'batch_first'; time comes first"),
    (lambda: nn.LSTM(3, 4, dtype="float64"), K, r"nn.LSTM: there is no argument 'dtype'; use .to\(dtype\)"),
    (lambda: nn.RNN(3, 4, colour=1), K, "nn.RNN: there is no argument 'colour'$"),
    (lambda: nn.GRU(3, 4, 2, dropout="a"), K, "Dropout: p must be a number, got 'a'"),
    (lambda: nn.Dropout()(None), K, "dropout: x must be a tensor, got NoneType"),
    (lambda: nn.Layers(nn.GRUCell(3, 4), 3, 4), K, "nn.Layers: make must be a class of cells, got GRUCell"),
    (lambda: nn.Layers("gru", 3, 4), K, "nn.Layers: make must be a class of cells, got str"),
    (lambda: nn.Stack(nn.GRUCell(3, 4)), K, "Stack: must get a list of cells, got GRUCell"),
    (lambda: nn.AdditiveAttention(8, -8), V, "AdditiveAttention: value_size must be at least 0, got -8"),
    (lambda: nn.GeneralAttention(8.0, 8), K, "GeneralAttention: query_size must be an integer, got 8.0"),
    (lambda: nn.MultiheadAttention(8, 2.0), K, "MultiheadAttention: num_heads must be an integer, got 2.0"),
    (lambda: nn.GRU(3, 4)(xs, tg.zeros(1, 2, 5)), V, r"nn.GRU: state must have 4 units in .* got \(2, 5\)"),
    (lambda: nn.GRU(3, 4, 2)(xs, tg.zeros(2, 2, 5)), V, r"nn.GRU: state must have 4 units in .* got \(2, 5\)"),
    (lambda: nn.LSTM(3, 4, proj_size=2)(xs, (tg.zeros(1, 2, 4),) * 2), V, "nn.LSTM: state must have 2 units"),
    (lambda: nn.Recurrent(nn.LSTMCell(3, 4))(xs, (x[:, :1], x)), V, "Recurrent: state must have 4 units"),
    (lambda: both_ways(xs, tg.zeros(2, 4)), V, r"Bidirectional: state must be a pair, .* got \(2, 4\)"),
    (lambda: nn.DotAttention().remember([1.0]), K, r"DotAttention: values must be a tensor \(S, B, V\), got list"),
    (
        lambda: nn.IndRNNCell(3, -4),
        V,
        "IndRNNCell: input_size must be at least 0 and hidden_size at least 1, got 3 and",
    ),
    (lambda: setattr(nn.Linear(2, 2), "W", np.ones((2, 2))), K, "Linear.W: .* got an array; .* by W.data = …"),
    (lambda: nn.cross_entropy(tg.tensor(1.0), 0), V, r"cross_entropy: logits must have at least one axis, got \(\)"),
    (lambda: nn.linear_cross_entropy(x, None, None, ids), K, "linear_cross_entropy: W must be a tensor, got NoneType"),
    (lambda: nn.linear_cross_entropy([1.0], x, None, ids), K, "linear_cross_entropy: ys must be a tensor, got list"),
    (lambda: nn.linear_cross_entropy(x, x, None, ids), V, r"linear_cross_entropy: W must be \(H, V\) .* got \(2, 3\)"),
    (lambda: nn.linear_cross_entropy(x, x.T, v, ids), V, r"linear_cross_entropy: .* got \(3, 2\) and \(3,\)"),
]


@pytest.mark.parametrize("call, kind, message", REFUSED, ids=[m for _, _, m in REFUSED])
def test_a_call_that_cannot_be_meant_is_refused_in_one_line(call, kind, message):
    with pytest.raises(kind, match=f"^{message}") as caught:
        call()
    assert "\n" not in str(caught.value)


OPTIONS = [
    (optim.SGD, {"lr": 0.1, "momentum": -0.1}), (optim.SGD, {"lr": 0.1, "weight_decay": -0.1}),
    (optim.SGD, {"lr": -1.0}), (optim.SGD, {"lr": float("nan")}), (optim.RMSprop, {"eps": -1e-8}),
    (optim.RMSprop, {"alpha": 1.0}), (optim.RMSprop, {"alpha": -0.1}), (optim.RMSprop, {"momentum": -1}),
    (optim.Adam, {"eps": -1e-8}), (optim.Adam, {"betas": (1.0, 0.9)}), (optim.Adam, {"betas": (0.9, 1)}),
    (optim.Adam, {"betas": (-0.1, 0.9)}), (optim.AdamW, {"weight_decay": -0.1}), (optim.AdamW, {"lr": -1e-3}),
]  # fmt: skip


@pytest.mark.parametrize("kind, options", OPTIONS, ids=[f"{k.__name__} {o}" for k, o in OPTIONS])
def test_an_option_of_an_optimiser_out_of_its_range(kind, options):
    with pytest.raises(ValueError, match=rf"^{kind.__name__}: \w+ must be (at least 0|from 0 to less than 1), got "):
        kind([nn.Parameter(np.ones(2))], **options)


def test_a_learning_rate_that_is_no_number():
    p = nn.Parameter(np.ones(2))
    with pytest.raises(TypeError, match=r"^SGD: lr must be a number, got None"):
        optim.SGD([p], None)
    optimizer = optim.SGD([p], 0.1)
    with pytest.raises(ValueError, match=r"^SGD: lr must be at least 0, got -1"):
        optimizer.lr = -1
