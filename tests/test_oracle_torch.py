"""PyTorch as the oracle: values, gradients, second-order gradients and whole training runs, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from comparing import values

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops, optim

torch = pytest.importorskip("torch")

from oracle_ops import CASES, Case  # noqa: E402 (it needs torch)

pytestmark = pytest.mark.oracle
torch.set_num_threads(1)  # the arrays are small
F = torch.nn.functional
VALUE, GRADIENT, LOSS = 1e-12, 1e-10, 1e-9  # relative tolerances


def assert_same(ours: Any, theirs: Any, tolerance: float) -> None:
    """Of one shape, and equal relative to the largest element."""
    a, b = values(ours), theirs.numpy(force=True)
    assert a.shape == b.shape
    largest = float(np.abs(b, where=np.isfinite(b), out=np.zeros(b.shape)).max(initial=0.0))
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * largest)


def all_same(ours: Sequence, theirs: Sequence, tolerance: float) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert_same(a, b, tolerance)


def as_list(y: Any) -> list:
    return list(y) if isinstance(y, (tuple, list)) else [y]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


# ---- derivatives of both --------------------------------------------------------------------------------------------


def our_derivatives(f: Callable, arrays: Sequence[np.ndarray]) -> tuple[list, list, list]:
    """The outputs y; g = d ⟨u, y⟩ / dx; and d (⟨v, g⟩ + ⟨u, u⟩) / d(x, u), for random u and v."""
    xs = [tg.tensor(a, requires_grad=a.dtype == np.float64) for a in arrays]
    ys, varied = as_list(f(*xs)), [x for x in xs if x.requires_grad]
    live = [y for y in ys if y.requires_grad]
    if not live:
        return ys, [], []
    us = [tg.tensor(normal(*y.shape, seed=1), requires_grad=True) for y in live]
    gs = tg.grad(live, varied, us, create_graph=True, allow_unused=True)
    vs = [tg.tensor(normal(*g.shape, seed=2)) for g in gs]
    total = sum((g * v).sum() for g, v in zip(gs, vs, strict=True)) + sum((u * u).sum() for u in us)
    return ys, list(gs), list(tg.grad(total, [*varied, *us], allow_unused=True))


def their_derivatives(f: Callable, arrays: Sequence[np.ndarray]) -> tuple[list, list, list]:
    """The same with PyTorch."""
    xs = [torch.tensor(a, requires_grad=a.dtype == np.float64) for a in arrays]
    ys, varied = as_list(f(*xs)), [x for x in xs if x.requires_grad]
    live = [y for y in ys if y.requires_grad]
    if not live:
        return ys, [], []
    us = [torch.tensor(normal(*y.shape, seed=1), requires_grad=True) for y in live]
    kwargs = {"allow_unused": True, "materialize_grads": True}
    gs = torch.autograd.grad(live, varied, us, create_graph=True, **kwargs)
    vs = [torch.tensor(normal(*g.shape, seed=2)) for g in gs]
    total = sum((g * v).sum() for g, v in zip(gs, vs, strict=True)) + sum((u * u).sum() for u in us)
    return ys, list(gs), list(torch.autograd.grad(total, [*varied, *us], **kwargs))


def compare(ours: Callable, theirs: Callable, arrays: Sequence[np.ndarray], order: int = 2) -> None:
    """Value, gradient and, for order 2, second-order gradient of two functions."""
    (y, g, h), (y2, g2, h2) = our_derivatives(ours, arrays), their_derivatives(theirs, arrays)
    all_same(y, y2, VALUE)
    all_same(g, g2, GRADIENT)
    if order == 2:
        all_same(h, h2, GRADIENT)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.op} {c.what}")
def test_an_operation_has_the_value_and_derivatives_of_pytorchs(case: Case):
    compare(case.ours, case.theirs, case.inputs, case.order)


def test_every_operation_is_compared_with_pytorch():
    assert set(ops.__all__) - {c.op for c in CASES} == {"transfer", "uniform"}  # a GPU, and random numbers


# ---- layers and losses ----------------------------------------------------------------------------------------------


def double(module: nn.Module) -> nn.Module:
    """The module in float64, every parameter drawn anew: no bias is 0 and no gain is 1."""
    rng = np.random.default_rng(3)
    for p in module.to("float64").parameters():
        p.data = rng.normal(0.0, 0.5, p.shape)
    return module


def weights(module: nn.Module) -> dict[str, Any]:
    """PyTorch's copy of the parameters, by name."""
    return {name: torch.tensor(p.numpy(), requires_grad=True) for name, p in module.named_parameters()}


def assert_same_gradients(module: nn.Module, theirs: dict[str, Any]) -> None:
    for name, p in module.named_parameters():
        assert_same(p.grad, theirs[name].grad, GRADIENT)


def assert_same_layer(module: nn.Module, theirs: Callable, x: np.ndarray) -> None:
    """Value, gradient of the input if that has one, and gradients of all parameters."""
    differentiable, w = x.dtype.kind == "f", weights(double(module))
    a, b = tg.tensor(x, requires_grad=differentiable), torch.tensor(x, requires_grad=differentiable)
    y, y2 = module(a), theirs(b, w)
    u = normal(*y.shape, seed=1)
    y.backward(tg.tensor(u))
    y2.backward(torch.tensor(u))
    assert_same(y, y2, VALUE)
    assert_same_gradients(module, w)
    if differentiable:
        assert_same(a.grad, b.grad, GRADIENT)


@pytest.mark.parametrize("shape", [(3,), (5, 3), (4, 5, 3), (0, 3)])
def test_linear_is_pytorchs(shape: tuple[int, ...]):
    assert_same_layer(nn.Linear(3, 6), lambda x, w: F.linear(x, w["W"].T, w["b"]), normal(*shape))
    assert_same_layer(nn.Linear(3, 6, bias=False), lambda x, w: F.linear(x, w["W"].T), normal(*shape))


@pytest.mark.parametrize("shape", [(), (6,), (4, 6)])
def test_an_embedding_is_pytorchs(shape: tuple[int, ...]):
    ids = np.random.default_rng(0).integers(0, 5, shape)
    assert_same_layer(nn.Embedding(5, 3), lambda x, w: F.embedding(x, w["E"]), ids)


@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 5, 4)])
def test_layer_norm_is_pytorchs(shape: tuple[int, ...]):
    theirs = lambda x, w: F.layer_norm(x, (4,), w["gain"], w["b"], eps=1e-5)
    assert_same_layer(nn.LayerNorm(4), theirs, 1.5 + normal(*shape))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("ignored", [None, -100, 2])
def test_cross_entropy_is_pytorchs(reduction: str, smoothing: float, ignored: int | None):
    targets = np.random.default_rng(0).integers(0, 5, (4, 3))
    if ignored is not None:
        targets[1:3, 1] = ignored
    ignore_index = -100 if ignored is None else ignored
    options = {"reduction": reduction, "label_smoothing": smoothing, "ignore_index": ignore_index}
    ours = lambda x: nn.cross_entropy(x, targets, **options)
    theirs = lambda x: F.cross_entropy(x.permute(0, 2, 1), torch.tensor(targets), **options)
    compare(ours, theirs, [normal(4, 3, 5)])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse_loss_is_pytorchs(reduction: str):
    ours = lambda x, y: nn.mse_loss(x, y, reduction=reduction)
    compare(ours, lambda x, y: F.mse_loss(x, y, reduction=reduction), [normal(4, 3), normal(4, 3, seed=5)])


# ---- recurrent networks: PyTorch's layers, run with our weights -----------------------------------------------------


def run_torch(layer: Any, converted: dict[str, Any], xs: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
    """PyTorch's layer on weights in its layout; its state has one axis more, for the layers."""
    packed = xs
    if lengths is not None:
        packed = torch.nn.utils.rnn.pack_padded_sequence(xs, torch.tensor(lengths), enforce_sorted=False)
    given = tuple(s[None] for s in state) if isinstance(state, tuple) else state[None]
    ys, new = torch.func.functional_call(layer, converted, (packed, given))
    if lengths is not None:
        ys, _ = torch.nn.utils.rnn.pad_packed_sequence(ys, total_length=len(xs))
    return ys, tuple(s[0] for s in new) if isinstance(new, tuple) else new[0]


def torch_layer(U: Any, W: Any, b: Any, b_hidden: Any) -> dict[str, Any]:
    return {"weight_ih_l0": U.T, "weight_hh_l0": W.T, "bias_ih_l0": b, "bias_hh_l0": b_hidden}


def torch_rnn(w: dict[str, Any], xs: Any, state: Any, lengths: Any = None, *, nonlinearity: str = "tanh") -> tuple:
    layer = torch.nn.RNN(*w["cell.U"].shape, nonlinearity=nonlinearity, dtype=torch.float64)
    b = w["cell.b"]
    return run_torch(layer, torch_layer(w["cell.U"], w["cell.W"], b, torch.zeros_like(b)), xs, state, lengths)


def torch_relu_rnn(*args: Any) -> tuple:
    return torch_rnn(*args, nonlinearity="relu")


def torch_lstm(w: dict[str, Any], xs: Any, state: Any, lengths: Any = None) -> tuple:
    """Both have the gates in the order i, f, g, o."""
    layer, b = torch.nn.LSTM(xs.shape[-1], w["cell.W"].shape[0], dtype=torch.float64), w["cell.b"]
    return run_torch(layer, torch_layer(w["cell.U"], w["cell.W"], b, torch.zeros_like(b)), xs, state, lengths)


def torch_gru(w: dict[str, Any], xs: Any, state: Any, lengths: Any = None) -> tuple:
    """PyTorch's order is r, z, n, and its z is 1 - σ(a) = σ(-a) of ours."""
    U, W, b = [torch.cat([r, -z, n], -1) for z, r, n in (w[f"cell.{p}"].chunk(3, -1) for p in "UWb")]
    b_hidden = torch.cat([torch.zeros_like(b[: -len(w["cell.b_hn"])]), w["cell.b_hn"]])
    layer = torch.nn.GRU(xs.shape[-1], len(w["cell.b_hn"]), dtype=torch.float64)
    return run_torch(layer, torch_layer(U, W, b, b_hidden), xs, state, lengths)


def textbook_gru(w: dict[str, Any], xs: Any, h: Any, lengths: Any = None) -> tuple:
    """The reset gate before the product, which PyTorch has no layer for: a loop."""
    (U_z, U_r, U_n), (W_z, W_r, W_n), (b_z, b_r, b_n) = [w[f"cell.{p}"].chunk(3, -1) for p in "UWb"]
    ys = []
    for t, x in enumerate(xs):
        z, r = torch.sigmoid(x @ U_z + h @ W_z + b_z), torch.sigmoid(x @ U_r + h @ W_r + b_r)
        new = (1 - z) * h + z * torch.tanh(x @ U_n + (r * h) @ W_n + b_n)
        goes_on = torch.tensor([[lengths is None or t < n] for n in (lengths or [0])])
        ys.append(torch.where(goes_on, new, 0.0))
        h = torch.where(goes_on, new, h)
    return torch.stack(ys), h


I, H = 3, 4
CELLS: dict[str, tuple[Callable, Callable]] = {
    "RNN": (lambda i, h: nn.RNNCell(i, h), torch_rnn),
    "RNN with relu": (lambda i, h: nn.RNNCell(i, h, nonlinearity="relu"), torch_relu_rnn),
    "LSTM": (lambda i, h: nn.LSTMCell(i, h), torch_lstm),
    "GRU, reset after": (lambda i, h: nn.GRUCell(i, h, reset="after"), torch_gru),
    "GRU, reset before": (lambda i, h: nn.GRUCell(i, h, reset="before"), textbook_gru),
}


def states(name: str, B: int) -> tuple[Any, Any, list, list]:
    """An initial state of both libraries, and the tensors that each is made of."""
    arrays = [normal(B, H, seed=4), normal(B, H, seed=5)][: 2 if name == "LSTM" else 1]
    ours = [tg.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    return (nn.LSTMState(*ours), tuple(theirs), ours, theirs) if name == "LSTM" else (*ours, *theirs, ours, theirs)


def weighted_sum(tensors: Sequence[Any], library: Any) -> Any:
    """A loss that every element of every tensor changes."""
    return sum((t * library.tensor(normal(*t.shape, seed=i))).sum() for i, t in enumerate(tensors))


@pytest.mark.parametrize("lengths", [None, (3, 6, 1, 6), (2, 2, 5, 1)], ids=str)
@pytest.mark.parametrize("name", CELLS)
def test_a_recurrent_layer_is_pytorchs(name: str, lengths: tuple[int, ...] | None):
    T, B = 6, 4
    cell, theirs = CELLS[name]
    rnn = double(nn.Recurrent(cell(I, H)))
    w, (state, state2, leaves, leaves2) = weights(rnn), states(name, B)
    xs, xs2 = tg.tensor(normal(T, B, I), requires_grad=True), torch.tensor(normal(T, B, I), requires_grad=True)
    ys, last = rnn(xs, state, lengths=None if lengths is None else np.array(lengths))
    ys2, last2 = theirs(w, xs2, state2, lengths)
    found, found2 = [ys, *as_list(last)], [ys2, *as_list(last2)]
    weighted_sum(found, tg).backward()
    weighted_sum(found2, torch).backward()
    all_same(found, found2, GRADIENT)
    assert_same_gradients(rnn, w)
    all_same([t.grad for t in (xs, *leaves)], [t.grad for t in (xs2, *leaves2)], GRADIENT)


# ---- training: a language model of characters, truncated backpropagation through time -------------------------------

V, STEPS, T, B = 11, 50, 7, 3


class Model(nn.Module):
    """Embedding, recurrent layer, logits."""

    def __init__(self, cell: nn.Cell):
        self.embedding, self.rnn, self.out = nn.Embedding(V, I), nn.Recurrent(cell), nn.Linear(H, V)

    def forward(self, ids: np.ndarray, state: Any) -> tuple[tg.Tensor, Any]:
        ys, state = self.rnn(self.embedding(ids), state)
        return self.out(ys), state


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    """Windows of T ids and the ids that follow them, one after the other in B streams of a repeating text."""
    rng = np.random.default_rng(0)
    text = np.concatenate([np.tile(rng.integers(0, V, (9, B)), (45, 1)), rng.integers(0, V, (V, B))])
    return [(text[i : i + T], text[i + 1 : i + T + 1]) for i in range(0, STEPS * T, T)]


def our_losses(model: Model, make_optimizer: Callable) -> list[float]:
    losses, state = [], None
    optimizer = make_optimizer(optim, model.parameters())
    for ids, targets in batches():
        logits, state = model(ids, state)
        loss = nn.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        state = nn.detached(state)
        losses.append(loss.item())
    return losses


def their_losses(w: dict[str, Any], run: Callable, make_optimizer: Callable, two_states: bool) -> list[float]:
    """The same with PyTorch: its parameters are ours, so that clipping and optimisers see the same gradients."""
    zero = torch.zeros(B, H, dtype=torch.float64)
    losses, state = [], (zero, zero) if two_states else zero
    optimizer = make_optimizer(torch.optim, w.values())
    for ids, targets in batches():
        xs = F.embedding(torch.tensor(ids), w["embedding.E"])
        ys, state = run({k.removeprefix("rnn."): v for k, v in w.items()}, xs, state)
        loss = F.cross_entropy((ys @ w["out.W"] + w["out.b"]).reshape(-1, V), torch.tensor(targets).reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(w.values(), 0.5)
        optimizer.step()
        state = tuple(s.detach() for s in state) if two_states else state.detach()
        losses.append(loss.item())
    return losses


OPTIMIZERS: dict[str, Callable] = {
    "SGD": lambda o, p: o.SGD(p, lr=0.5),
    "SGD with momentum": lambda o, p: o.SGD(p, lr=0.1, momentum=0.9),
    "SGD with Nesterov momentum": lambda o, p: o.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "SGD with weight decay": lambda o, p: o.SGD(p, lr=0.1, momentum=0.5, weight_decay=0.01),
    "RMSprop": lambda o, p: o.RMSprop(p, lr=0.01, alpha=0.9),
    "RMSprop with momentum": lambda o, p: o.RMSprop(p, lr=0.01, alpha=0.99, momentum=0.5),
    "Adam": lambda o, p: o.Adam(p, lr=0.02),
    "Adam with other betas": lambda o, p: o.Adam(p, lr=0.02, betas=(0.5, 0.9), eps=1e-4),
    "AdamW": lambda o, p: o.AdamW(p, lr=0.02, weight_decay=0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", CELLS)
def test_fifty_training_steps_follow_pytorchs(name: str, optimizer: str):
    cell, run = CELLS[name]
    model = double(Model(cell(I, H)))
    w = weights(model)
    ours = our_losses(model, OPTIMIZERS[optimizer])
    theirs = their_losses(w, run, OPTIMIZERS[optimizer], two_states=name == "LSTM")
    np.testing.assert_allclose(ours, theirs, rtol=LOSS)
    assert theirs[-1] < 0.97 * theirs[0], "the test should learn something"


def test_clipping_by_norm_and_by_value_is_pytorchs():
    for max_norm in (0.1, 1e3):
        model = double(nn.Linear(I, H))
        w = weights(model)
        for name, p in model.named_parameters():
            p.grad = tg.tensor(normal(*p.shape))
            w[name].grad = torch.tensor(normal(*p.shape))
        norm = optim.clip_grad_norm_(model.parameters(), max_norm)
        assert float(norm) == pytest.approx(torch.nn.utils.clip_grad_norm_(w.values(), max_norm).item(), rel=VALUE)
        assert_same_gradients(model, w)
        optim.clip_grad_value_(model.parameters(), 0.03)
        torch.nn.utils.clip_grad_value_(w.values(), 0.03)
        assert_same_gradients(model, w)


# ---- schedules ------------------------------------------------------------------------------------------------------


def their_rates(make: Callable, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler, rates = make(torch.optim.lr_scheduler, optimizer), []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (optim.constant(0.3), lambda s, o: s.ConstantLR(o, factor=1.0)),
        (optim.step_decay(0.3, 4, 0.5), lambda s, o: s.StepLR(o, 4, 0.5)),
        (optim.cosine(0.3, 12, 0.01), lambda s, o: s.CosineAnnealingLR(o, 12, 0.01)),
        (optim.warmup(0.3, 5), lambda s, o: s.LinearLR(o, start_factor=1 / 5, total_iters=4)),
    ],
    ids=["constant", "step_decay", "cosine", "warmup"],
)
def test_a_schedule_is_pytorchs(ours: Callable, theirs: Callable):
    steps = 13
    np.testing.assert_allclose([ours(step) for step in range(steps)], their_rates(theirs, steps), rtol=1e-9)
