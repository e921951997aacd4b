"""PyTorch's weights, both ways, against PyTorch itself; and what needs no PyTorch."""

import json
import sys

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, optim, torch_weights

T, B, I, H = 5, 3, 4, 6

RECURRENT = {
    "RNN": (nn.RNN, {}),
    "RNN with relu": (nn.RNN, {"nonlinearity": "relu"}),
    "LSTM": (nn.LSTM, {}),
    "GRU": (nn.GRU, {"reset": "after"}),
    "LSTM with a projection": (nn.LSTM, {"proj_size": 2}),
}
recurrent = pytest.mark.parametrize("name", RECURRENT)
both_ways = pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (2, False), (1, True), (3, True)])


def pair(name, layers, bidirectional):
    """The same layers in both libraries, with PyTorch's weights in both."""
    torch = pytest.importorskip("torch")
    cls, options = RECURRENT[name]
    theirs = {k: v for k, v in options.items() if k != "reset"}
    theirs = getattr(torch.nn, cls.__name__)(I, H, layers, bidirectional=bidirectional, **theirs).double()
    ours = cls(I, H, layers, bidirectional=bidirectional, **options).to("float64")
    torch_weights.load(ours, theirs.state_dict())
    return ours, theirs


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def states(name, layers, bidirectional):
    n = layers * (2 if bidirectional else 1)
    h, c = draw(n, B, 2 if "projection" in name else H, seed=1), draw(n, B, H, seed=2)
    return (h, c) if "LSTM" in name else h


@pytest.mark.oracle
@recurrent
@both_ways
def test_layers_with_pytorchs_weights_compute_what_pytorch_computes(name, layers, bidirectional):
    import torch

    ours, theirs = pair(name, layers, bidirectional)
    xs, lengths = draw(T, B, I), np.array([2, 5, 3])
    given = states(name, layers, bidirectional)
    tensors = lambda make: tuple(map(make, given)) if isinstance(given, tuple) else make(given)
    for ragged in False, True:
        x = torch.tensor(xs, requires_grad=True)
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
        expected, last = theirs(packed if ragged else x, tensors(torch.tensor))
        if ragged:
            expected, _ = torch.nn.utils.rnn.pad_packed_sequence(expected, total_length=T)
        weights = draw(*expected.shape, seed=3)
        (expected * torch.tensor(weights)).sum().backward()
        x_ours = tg.tensor(xs, requires_grad=True)
        ys, state = ours(x_ours, tensors(tg.tensor), lengths=lengths if ragged else None)
        (ys * tg.tensor(weights)).sum().backward()
        np.testing.assert_allclose(ys.numpy(), expected.detach().numpy(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(x_ours.grad.numpy(), x.grad.numpy(), rtol=1e-9, atol=1e-12)
        pairs = (state, last) if "LSTM" in name else ([state], [last])
        for a, b in zip(*pairs, strict=True):
            np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.oracle
@recurrent
@both_ways
def test_what_is_exported_gives_the_same_outputs_in_pytorch(name, layers, bidirectional, tmp_path):
    import torch

    from safetensors.torch import load_file

    ours, theirs = pair(name, layers, bidirectional)
    for p in ours.parameters():
        p.data = draw(*p.shape, seed=p.size)
    torch_weights.save(ours, tmp_path / "weights.safetensors")
    theirs.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    xs = draw(T, B, I)
    np.testing.assert_allclose(
        ours(tg.tensor(xs))[0].numpy(), theirs(torch.tensor(xs))[0].detach().numpy(), rtol=1e-9, atol=1e-12
    )


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells_take_pytorchs_weights(name):
    import torch

    theirs = getattr(torch.nn, name)(I, H).double()
    ours = getattr(nn, name)(I, H, **({"reset": "after"} if name == "GRUCell" else {})).to("float64")
    torch_weights.load(ours, theirs.state_dict())
    x, h, c = draw(B, I), draw(B, H, seed=1), draw(B, H, seed=2)
    given = (h, c) if name == "LSTMCell" else h
    tensors = lambda make: tuple(map(make, given)) if isinstance(given, tuple) else make(given)
    expected = theirs(torch.tensor(x), tensors(torch.tensor))
    y, _ = ours(tg.tensor(x), tensors(tg.tensor))
    expected = expected[0] if name == "LSTMCell" else expected
    np.testing.assert_allclose(y.numpy(), expected.detach().numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.oracle
@pytest.mark.parametrize("sizes", [{}, {"kdim": 5, "vdim": 7}])
@pytest.mark.parametrize("masked", ["none", "keys", "queries", "both"])
def test_multihead_attention_is_pytorchs(sizes, masked):
    import torch

    S, E, N = 6, 8, 2
    theirs = torch.nn.MultiheadAttention(E, N, **sizes).double()
    theirs.in_proj_bias.data = torch.tensor(draw(3 * E, seed=9))
    ours = nn.MultiheadAttention(E, N, **sizes).to("float64")
    torch_weights.load(ours, theirs.state_dict())
    q, k, v = draw(T, B, E), draw(S, B, sizes.get("kdim", E), seed=1), draw(S, B, sizes.get("vdim", E), seed=2)
    if not sizes:
        v = k
    keys = np.arange(S) < np.array([[2], [6], [3]]) if masked in ("keys", "both") else None
    queries = np.tril(np.ones((T, S), bool)) if masked in ("queries", "both") else None
    no = lambda m: None if m is None else torch.tensor(~m)
    x = torch.tensor(q, requires_grad=True)
    expected, weights = theirs(
        x, *map(torch.tensor, (k, v)), key_padding_mask=no(keys), attn_mask=no(queries), average_attn_weights=False
    )
    mine = tg.tensor(q, requires_grad=True)
    context, alpha = ours(mine, ours.remember(tg.tensor(v), tg.tensor(k), mask=keys), queries)
    g = draw(T, B, E, seed=4)
    (expected * torch.tensor(g)).sum().backward(), (context * tg.tensor(g)).sum().backward()
    np.testing.assert_allclose(context.numpy(), expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(alpha.numpy(), weights.detach().numpy().transpose(2, 0, 1, 3), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(mine.grad.numpy(), x.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.oracle
@recurrent
@pytest.mark.parametrize("engine", ["eager", "numpy", "llvm"])
def test_layers_of_two_biases_train_as_pytorchs_do(name, engine):
    import torch

    cls, options = RECURRENT[name]
    torch.manual_seed(0)
    theirs = getattr(torch.nn, cls.__name__)(I, H, 2, **{k: v for k, v in options.items() if k != "reset"}).double()
    ours = cls(I, H, 2, **options, biases=2, engine=engine).to("float64")
    torch_weights.load(ours, theirs)
    xs = draw(T, B, I)
    step, optimizer = optim.SGD(ours.parameters(), lr=0.1), torch.optim.SGD(theirs.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad(), step.zero_grad()
        (theirs(torch.tensor(xs))[0] ** 2).sum().backward(), (ours(tg.tensor(xs))[0] ** 2).sum().backward()
        optimizer.step(), step.step()
    for key, value in torch_weights.export(ours).items():
        np.testing.assert_allclose(value, theirs.state_dict()[key].numpy(), rtol=1e-8, atol=1e-10, err_msg=key)


@pytest.mark.oracle
def test_a_module_a_file_and_a_prefix_are_taken(tmp_path):
    import torch

    theirs = torch.nn.LSTM(I, H, 2)
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    torch.save({"epoch": 3, "model": theirs.state_dict()}, tmp_path / "checkpoint.pt")
    torch.save(torch.nn.Linear, tmp_path / "class.pt")
    expected = nn.LSTM(I, H, 2)
    torch_weights.load(expected, theirs.state_dict())
    for values in (
        theirs,
        tmp_path / "weights.pt",
        str(tmp_path / "weights.pt"),
        {f"module.{k}": v for k, v in theirs.state_dict().items()},
        {f"_orig_mod.module.{k}": v for k, v in theirs.state_dict().items()},
    ):
        ours = nn.LSTM(I, H, 2)
        assert torch_weights.load(ours, values) == ([], [])
        for name, a in ours.state_dict().items():
            np.testing.assert_array_equal(a, expected.state_dict()[name])
    with pytest.raises(ValueError, match=r"must be tensors by name, 'epoch' is int; pass a part of it$"):
        torch_weights.load(expected, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"^[^\x1b\n]*class\.pt' holds more than weights[^\x1b\n]*$"):
        torch_weights.load(expected, tmp_path / "class.pt")


@pytest.mark.oracle
def test_bfloat16_becomes_float32(tmp_path):
    import torch

    from safetensors.torch import save_file

    theirs = torch.nn.GRU(I, H).bfloat16()
    save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    expected = nn.GRU(I, H, reset="after")
    torch_weights.load(expected, {k: v.float().numpy() for k, v in theirs.state_dict().items()})
    for values in theirs, theirs.state_dict(), tmp_path / "w.safetensors", tmp_path / "w.pt":
        ours = nn.GRU(I, H, reset="after")
        torch_weights.load(ours, values)
        for name, a in ours.state_dict().items():
            assert a.dtype == np.float32
            np.testing.assert_array_equal(a, expected.state_dict()[name])


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["LSTM", "RNN", "projected"])
def test_cells_that_are_run_over_time_take_the_weights_of_layers(name):
    import torch

    kind, options = ("LSTM", {"proj_size": 2}) if name == "projected" else (name, {})
    make = {
        "LSTM": nn.LSTMCell, "RNN": nn.RNNCell, "projected": lambda i, h: nn.ProjectedLSTMCell(i, h, 2),
    }[name]  # fmt: skip
    P, xs = options.get("proj_size", H), draw(T, B, I)
    for ours, more in (
        (nn.Recurrent(make(I, H)), {}),
        (nn.Recurrent(nn.Stack([make(I, H), make(P, H)])), {"num_layers": 2}),
        (nn.Bidirectional(make(I, H), make(I, H)), {"bidirectional": True}),
    ):
        theirs = getattr(torch.nn, kind)(I, H, **options, **more).double()
        torch_weights.load(ours.to("float64"), theirs)
        np.testing.assert_allclose(
            ours(tg.tensor(xs))[0].numpy(), theirs(torch.tensor(xs))[0].detach().numpy(), rtol=1e-9, atol=1e-12
        )


class Ours(nn.Module):
    def __init__(self):
        self.embedding, self.rnn, self.norm = nn.Embedding(7, I), nn.LSTM(I, H), nn.LayerNorm(H)
        self.out = [nn.Linear(H, 3), nn.Linear(3, 2, bias=False)]


@pytest.mark.oracle
def test_a_model_made_of_these_takes_a_whole_state_dict():
    import torch

    theirs = torch.nn.Module()
    theirs.embedding, theirs.rnn, theirs.norm = torch.nn.Embedding(7, I), torch.nn.LSTM(I, H), torch.nn.LayerNorm(H)
    theirs.out = torch.nn.ModuleList([torch.nn.Linear(H, 3), torch.nn.Linear(3, 2, bias=False)])
    torch.nn.init.normal_(theirs.norm.weight)
    ours = Ours()
    torch_weights.load(ours, theirs.state_dict())
    ids = np.array([[1, 2], [6, 0], [3, 3]])
    a = theirs.out[1](theirs.out[0](theirs.norm(theirs.rnn(theirs.embedding(torch.tensor(ids)))[0])))
    b = ours.out[1](ours.out[0](ours.norm(ours.rnn(ours.embedding(ids))[0])))
    np.testing.assert_allclose(b.numpy(), a.detach().numpy(), rtol=1e-5, atol=1e-6)


# ---- without PyTorch -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module",
    [
        nn.LSTM(I, H, 2, bidirectional=True), nn.GRU(I, H, 2, reset="after"), nn.RNN(I, H), nn.Linear(I, H),
        nn.MultiheadAttention(8, 2), nn.MultiheadAttention(8, 2, kdim=3), Ours(), nn.LSTM(I, H, 2, proj_size=3),
        nn.GRU(I, H, reset="after", biases=2), nn.LSTM(I, H, biases=2, bidirectional=True), nn.RNNCell(I, H, biases=2),
    ],
)  # fmt: skip
def test_weights_come_back_from_a_file(module, tmp_path):
    for p in module.parameters():
        p.data = draw(*p.shape, seed=p.size).astype(p.dtype)
    before = module.state_dict()
    torch_weights.save(module, tmp_path / "w.safetensors")
    for p in module.parameters():
        p.data = p.numpy() * 0
    torch_weights.load(module, tmp_path / "w.safetensors")
    for name, a in module.state_dict().items():
        np.testing.assert_allclose(a, before[name], rtol=1e-6, err_msg=name)


def test_what_does_not_fit_is_said_and_nothing_is_taken(tmp_path):
    layer = nn.LSTM(I, H)
    before, values = layer.state_dict(), torch_weights.export(layer)
    with pytest.raises(ValueError, match=r"missing \['weight_hh_l0'\]"):
        torch_weights.load(layer, {k: v + 1 for k, v in values.items() if k != "weight_hh_l0"})
    with pytest.raises(ValueError, match=r"not in the module \['weight_ih_l1'\]"):
        torch_weights.load(layer, {**values, "weight_ih_l1": np.ones(2)})
    with pytest.raises(ValueError, match=r"weight_hh_l0 must have shape \(24, 6\), got \(24, 5\)"):
        torch_weights.load(layer, {**values, "weight_hh_l0": np.ones((24, 5))})
    with pytest.raises(ValueError, match="there is no file"):
        torch_weights.load(layer, tmp_path / "nothing")
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(ValueError, match="is no safetensors file"):
        torch_weights.load(layer, tmp_path / "text")
    assert all((a == before[name]).all() for name, a in layer.state_dict().items())


def test_a_gru_that_resets_before_the_product_is_not_pytorchs():
    with pytest.raises(ValueError, match='make ours with reset="after"'):
        torch_weights.export(nn.GRU(I, H))


def test_layers_without_biases_have_zeros_here():
    layer = nn.LSTM(I, H)
    values = {k: v for k, v in torch_weights.export(layer).items() if "bias" not in k}
    torch_weights.load(layer, values)
    assert not layer.state_dict()["layers.0.cell.b"].any()


def test_a_part_is_taken_and_what_was_missing_is_returned():
    class Model(nn.Module):
        def __init__(self):
            self.rnn, self.head = nn.LSTM(I, H), nn.Linear(H, 2)

    model, other = Model(), Model()
    for p in other.parameters():
        p.data = draw(*p.shape, seed=p.size)
    values = torch_weights.export(other)
    before = model.state_dict()
    part = {k: v for k, v in values.items() if k.startswith("rnn") and "weight_hh" not in k}
    found = torch_weights.load(model, {**part, "decoder.weight": np.zeros(3)}, strict=False)
    assert found.missing_keys == ["head.bias", "head.weight", "rnn.weight_hh_l0"]
    assert found.unexpected_keys == ["decoder.weight"]
    now = torch_weights.export(model)
    for name, a in now.items():
        wanted = values if name in part else {**values, **torch_weights.export(model)}
        np.testing.assert_allclose(a, wanted[name], err_msg=name)
    np.testing.assert_array_equal(model.state_dict()["head.W"], before["head.W"])
    np.testing.assert_array_equal(model.state_dict()["rnn.layers.0.cell.W"], before["rnn.layers.0.cell.W"])
    with pytest.raises(ValueError, match=r"weight_ih_l0 must have shape \(24, 4\), got \(24, 5\)"):
        torch_weights.load(model, {"rnn.weight_ih_l0": np.ones((24, 5))}, strict=False)
    assert torch_weights.load(model, other) == ([], [])


def test_without_pytorch_a_file_of_its_says_what_is_needed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "w.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(RuntimeError, match=r"w\.pt' was written by torch.save and PyTorch, which reads"):
        torch_weights.load(nn.LSTM(I, H), tmp_path / "w.pt")


def test_something_else_than_weights_is_named():
    with pytest.raises(TypeError, match=r"must be a module of PyTorch's, its state_dict or a file of one, got int$"):
        torch_weights.load(nn.LSTM(I, H), 3)


def test_bfloat16_needs_no_pytorch(tmp_path):
    values = torch_weights.export(nn.RNN(I, H))
    upper = {k: (np.ascontiguousarray(v, "<f4").view("<u4") >> 16).astype("<u2") for k, v in values.items()}
    header, data = {}, b""
    for name, a in upper.items():
        header[name] = {"dtype": "BF16", "shape": a.shape, "data_offsets": [len(data), len(data) + a.nbytes]}
        data += a.tobytes()
    text = json.dumps(header).encode()
    (tmp_path / "w.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    layer = nn.RNN(I, H)
    torch_weights.load(layer, tmp_path / "w.safetensors")
    for name, a in torch_weights.export(layer).items():
        np.testing.assert_array_equal(np.ascontiguousarray(a).view("<u4") >> 16, upper[name])


@pytest.mark.parametrize("engine", ["eager", "numpy", "llvm"])
@pytest.mark.parametrize("make", [nn.RNN, nn.LSTM, nn.GRU, lambda *a, **k: nn.GRU(*a, reset="after", **k)])
def test_two_biases_are_their_sum_and_each_has_the_gradient_of_one(make, engine):
    one, two = make(I, H, engine="eager"), make(I, H, biases=2, engine=engine)
    values = {**one.state_dict()}
    b = values["layers.0.cell.b"] = draw(*values["layers.0.cell.b"].shape).astype("f")
    share = np.where(np.arange(len(b)) < 2 * H, 0.25, 0) * b  # a GRU that resets after does not add the last third
    after = values.pop("layers.0.cell.b_hn", None)
    second = share if after is None else np.concatenate([share[: 2 * H], after])
    two.load_state_dict({**values, "layers.0.cell.b": b - share, "layers.0.cell.b_h": second.astype("f")})
    one.load_state_dict({**values, **({} if after is None else {"layers.0.cell.b_hn": after})})
    found = []
    for layer in one, two:
        ys, _ = layer(tg.tensor(draw(T, B, I).astype("f")))
        (ys * ys).sum().backward()
        grads = {n.rpartition(".")[2]: p.grad.numpy() for n, p in layer.named_parameters()}
        found.append((ys.numpy(), grads))
    (ys, grads), (ys_two, grads_two) = found
    np.testing.assert_allclose(ys_two, ys, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(grads_two["b"], grads["b"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(grads_two["b_h"][: 2 * H], grads["b"][: 2 * H], rtol=1e-4, atol=1e-5)


def test_there_are_one_or_two_biases():
    with pytest.raises(ValueError, match=r"^LSTMCell: biases must be 1 or 2, got 3$"):
        nn.LSTM(I, H, biases=3)
