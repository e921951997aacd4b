"""PyTorch's weights, both ways, against PyTorch itself; and what needs no PyTorch."""

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, torch_weights

T, B, I, H = 5, 3, 4, 6

RECURRENT = {
    "RNN": (nn.RNN, {}),
    "RNN with relu": (nn.RNN, {"nonlinearity": "relu"}),
    "LSTM": (nn.LSTM, {}),
    "GRU": (nn.GRU, {"reset": "after"}),
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
    h, c = draw(n, B, H, seed=1), draw(n, B, H, seed=2)
    return (h, c) if name == "LSTM" else h


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
        for a, b in zip(state if name == "LSTM" else [state], last if name == "LSTM" else [last], strict=True):
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
        nn.MultiheadAttention(8, 2), nn.MultiheadAttention(8, 2, kdim=3), Ours(),
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
