"""On a GPU nobody waits: how often the host does, and what it copies, counted on the stand-in for CuPy; and that the
numbers, and the errors, are those of the CPU."""

import math

import numpy as np
import pytest
import strict_cupy

from conftest import REAL_GPU

import tinygrad_rnn as tg

from tinygrad_rnn import decode, nn, ops, optim
from tinygrad_rnn.autograd import transfers
from tinygrad_rnn.autograd.transfers import Reading, Uploads
from tinygrad_rnn.data.batches import Pairs, Stream
from tinygrad_rnn.nn.lengths import Lengths
from tinygrad_rnn.tasks import cells_by_name, language_model, translation
from tinygrad_rnn.tasks.ahead import Ahead
from tinygrad_rnn.tasks.fit import Trainer
from tinygrad_rnn.tasks.run_folder import RunFolder

rng = np.random.default_rng(7)
B, T, E, H = 4, 8, 8, 16


def lm(cell="lstm", vocabulary=20, dropout=0.0):
    """A language model and what it learns from: 6 windows."""
    model = language_model.LanguageModel(vocabulary, E, cells_by_name.make_cell(cell, E, H), H, dropout)
    ids = np.random.default_rng(0).integers(0, vocabulary, B * T * 6 + B)
    return model, lambda m: language_model.LanguageTask(m, Stream(ids, B, T), Stream(ids, B, T))


def pairs(attention, dropout=0.0, layers=1):
    """A model of pairs, and pairs of several lengths: 3 batches, whose padded targets are ignored."""
    draw, sizes = np.random.default_rng(0), [(3, 3), (5, 2), (4, 4), (5, 5), (2, 2), (5, 5), (3, 3), (9, 7), (8, 3)]
    sources, targets = [draw.integers(0, 11, n) for n, _ in sizes], [draw.integers(3, 13, n) for _, n in sizes]
    found = Pairs(sources, targets, 3, start=1, end=2)
    config = translation.Config(hidden=H, embed=E, attention=attention, dropout=dropout, layers=layers)
    return translation.build(config, 11, 13), lambda m: translation.PairTask(m, found, found)


def trainer(made, *, kind=optim.Adam, clip=1.0, folder=None, dtype="float32"):
    model, task = made
    for module in model.to(dtype).modules():
        if isinstance(module, nn.Recurrent):
            module.engine = "eager"
    return Trainer(model, kind(model.parameters(), 1e-2), task(model), folder, clip=clip)


def costs(counts, syncs, copies=None):
    """The host waited, and copied, so often; nobody counts on a real GPU."""
    if not REAL_GPU:
        assert counts.syncs == syncs, counts
        assert copies in (None, counts.copies), counts


STEPS = {
    "a language model": (lm, {}, 2),
    "a language model without clipping": (lm, {"clip": 0.0}, 2),
    "a language model of many words": (lambda: lm(vocabulary=4000), {}, 2),
    "a GRU by RMSprop": (lambda: lm("gru"), {"kind": optim.RMSprop}, 2),
    "pairs by attention": (lambda: pairs("general"), {}, 4),
    "pairs by several heads": (lambda: pairs("multihead"), {}, 4),
    "pairs by two layers": (lambda: pairs("context", layers=2), {}, 4),
    "a language model with dropout": (lambda: lm(dropout=0.2), {}, 2),
    "pairs with dropout": (lambda: pairs("additive", dropout=0.2), {}, 4),
}


# What a batch copies: ids and targets; of pairs the source, its lengths, inputs and targets
@pytest.mark.parametrize("name", STEPS)
def test_a_step_of_training_waits_for_nothing_and_copies_but_the_next_batch(name, gpu):
    make, options, arrays = STEPS[name]
    run = trainer(make(), **options)
    run.carry = run.task.start(0)
    run._batch(0)
    with strict_cupy.counted() as counts:
        run._batch(1)
    costs(counts, 0, arrays)


@pytest.mark.parametrize("name", ["a language model", "a language model of many words", "pairs by attention"])
def test_a_run_on_a_gpu_has_the_losses_of_the_cpu(name, cupy, tmp_path):
    make, options, _ = STEPS[name]
    rows = {}
    for device in "cpu", "gpu":
        tg.manual_seed(0)
        with tg.device(device):
            run = trainer(make(), **options, folder=RunFolder(tmp_path / device), dtype="float64")
            (tmp_path / device).mkdir()
            run.fit(1, lambda line: None)
        rows[device] = run.progress.rows[0]
    for key in "train_loss", "valid_loss", "steps":
        assert rows["gpu"][key] == pytest.approx(rows["cpu"][key], rel=1e-12)


def test_validation_waits_once(gpu):
    for make in lm, lambda: pairs("general"):
        run = trainer(make())
        with strict_cupy.counted() as counts:
            run.task.validate()
        costs(counts, 1)


# ---- the loss -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [0, 2, 5])
@pytest.mark.parametrize("saving", [False, True], ids=["saved at the end", "saved at each step"])
def test_a_loss_that_is_not_finite_is_told_before_anything_is_saved(device, tmp_path, batch, saving, monkeypatch):
    run = trainer(lm(), folder=RunFolder(tmp_path))
    run.save_every, begun = 0.0 if saving else math.inf, []
    loss_of = run.task.loss

    def loss(i, carry):
        begun.append(i)
        loss, n, carry = loss_of(i, carry)
        return (loss * math.nan if i == batch else loss), n, carry

    monkeypatch.setattr(run.task, "loss", loss)
    monkeypatch.setattr("tinygrad_rnn.tasks.fit.save_checkpoint", lambda *_: begun.append("saved"))
    with pytest.raises(ValueError, match=r"^train: the loss must stay finite, got nan; start again with a smaller"):
        run.fit(1, lambda line: None)
    last = batch if saving or device == "cpu" else min(batch + 1, 5)  # on a GPU the next step is under way
    assert begun[-1] == last
    assert begun.count("saved") == saving * batch


def test_a_run_is_not_saved_with_a_loss_that_is_not_finite(gpu, tmp_path):
    run = trainer(lm(), folder=RunFolder(tmp_path))
    run.losses.append((Reading(tg.tensor(math.inf).array), 1))
    with pytest.raises(ValueError, match="the loss must stay finite, got inf"):
        run.save(tmp_path / "last.safetensors")
    assert not list(tmp_path.iterdir())


def test_on_the_cpu_a_step_is_not_made_where_its_loss_is_not_finite():
    run = trainer(lm())
    before = run.model.state_dict()
    run.model.output.b.data = np.full(20, math.nan)
    run.carry = run.task.start(0)
    with pytest.raises(ValueError, match="the loss must stay finite"):
        run._batch(0)
    np.testing.assert_array_equal(run.model.output.W.numpy(), before["output.W"])


def test_a_reading_has_the_values_of_when_it_was_begun(device):
    x = tg.tensor([1.0, 2.0])
    reading, array = Reading(x.array), x.array
    assert reading.at_hand == (device == "cpu")
    with strict_cupy.counted() as counts:
        for _ in range(200):
            x = x * 1
        np.testing.assert_array_equal(reading.get(), [1, 2])
    costs(counts, 0)
    with strict_cupy.counted() as counts:  # at once, it has to be waited for
        np.testing.assert_array_equal(Reading(array).get(), [1, 2])
    costs(counts, device == "gpu")


# ---- ids ------------------------------------------------------------------------------------------------------------

TABLE = {
    "embedding": lambda ids: ops.embedding(ids, tg.ones(5, 2)),
    "take": lambda ids: ops.take(tg.ones(2, 5), ids, 1),
    "one_hot": lambda ids: ops.one_hot(ids, 5),
    "take_along_axis": lambda ids: ops.take_along_axis(tg.ones(5), ids, 0),
    "scatter_add": lambda ids: ops.scatter_add(tg.ones(5), ids, tg.ones(*ids.shape), 0),
    "cross_entropy": lambda ids: nn.cross_entropy(tg.ones(*ids.shape, 5), ids),
    "linear_cross_entropy": lambda ids: nn.linear_cross_entropy(
        tg.ones(*ids.shape, 1 << 18), tg.ones(1 << 18, 5), None, ids
    ),
}
READS = {
    "item": lambda x: x.sum().item(),
    "numpy": lambda x: x.numpy(),
    "tolist": lambda x: x.tolist(),
    "a truth": lambda x: bool(x.sum() > 0),
    "a reading": lambda x: Reading(x.array).get(),
    "another value": lambda x: tg.ones(1).item(),
    "a state": lambda x: nn.Linear(1, 1).state_dict(),
}


@pytest.mark.parametrize("name", TABLE)
def test_ids_of_the_host_are_checked_before_they_move(name, device):
    with strict_cupy.counted() as counts, pytest.raises(IndexError, match=rf"^{name}: .* from 0 to 4, got [01] to 5"):
        TABLE[name](np.array([1, 5, 3]))
    costs(counts, 0, 0)


@pytest.mark.parametrize("read", READS)
def test_ids_on_a_gpu_are_checked_when_values_are_read(read, gpu):
    with strict_cupy.counted() as counts:
        y = ops.embedding(tg.tensor([1, -1, 5]), tg.ones(5, 2))
    costs(counts, 0)
    with pytest.raises(IndexError, match=r"^embedding: the index must be from 0 to 4, got -1 to 5"):
        READS[read](y)
    assert tg.ones(1).item() == 1  # told once


@pytest.mark.parametrize("name", TABLE)
def test_whoever_takes_ids_on_a_gpu_checks_them_without_waiting(name, gpu):
    good, bad = tg.tensor([1, 4, 3]), tg.tensor([1, 5, 3])
    with strict_cupy.counted() as counts:
        y = TABLE[name](good)
    costs(counts, 0)
    y.numpy()
    y = TABLE[name](bad)
    with pytest.raises(IndexError, match=rf"^{name}: .* from 0 to 4, got [01] to 5"):
        y.numpy()


def test_ids_of_which_nobody_reads_a_value_are_checked_in_the_end(gpu):
    ops.embedding(tg.tensor([5]), tg.ones(5, 2))
    with strict_cupy.counted() as counts, pytest.raises(IndexError):
        for _ in range(transfers.MOST_WAITING):
            ops.embedding(tg.tensor([1]), tg.ones(5, 2))
    costs(counts, 0)
    tg.ones(1).item()


# ---- losses of targets that are ignored -----------------------------------------------------------------------------

IGNORED = np.array([[3, -100, 1], [-100, 0, 2]])


@pytest.mark.parametrize("where", ["host", "gpu"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("targets", [IGNORED, np.full((2, 3), -100)], ids=["some", "all"])
@pytest.mark.parametrize("H", [3, 1 << 16])
def test_targets_that_are_ignored_are_counted_without_waiting(cupy, H, targets, smoothing, reduction, where):
    V, values = 5, {}
    ys, W, b = rng.normal(size=(2, 3, H)), rng.normal(size=(H, V)) / math.sqrt(H), rng.normal(size=V)
    ys[targets == -100] = math.nan if H > 3 else 0.0  # what stands there counts for nothing
    for device in "cpu", "gpu":
        with tg.device(device), strict_cupy.counted() as counts:
            tensors = [tg.tensor(a, requires_grad=True) for a in (ys, W, b)]
            ids = tg.tensor(targets) if where == "gpu" else targets
            loss = nn.linear_cross_entropy(*tensors, ids, reduction=reduction, label_smoothing=smoothing)
            loss.backward()
            costs(counts, 0, 4 * (device == "gpu"))
            values[device] = [loss.numpy(), *(t.grad.numpy() for t in tensors)]
    for ours, theirs in zip(values["gpu"], values["cpu"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


# ---- masks, clipping, zeros, drawings -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6,), (6, 2)], ids=["rows", "elements"])
@pytest.mark.parametrize("where", ["host", "gpu"])
def test_a_mask_as_an_index_is_looked_through_once(gpu, where, shape):
    values, mask = rng.normal(size=(6, 2)), rng.random(shape) < 0.5
    x = tg.tensor(values, requires_grad=True)
    with strict_cupy.counted() as counts:
        y = x[mask if where == "host" else tg.tensor(mask)]
        (y * y).sum().backward()
    costs(counts, where == "gpu")
    np.testing.assert_array_equal(y.numpy(), values[mask])
    expected = np.zeros((6, 2))
    expected[mask] = 2 * values[mask]
    np.testing.assert_array_equal(x.grad.numpy(), expected)
    with pytest.raises(IndexError):
        x[mask[:3] if where == "host" else tg.tensor(mask[:3])]


@pytest.mark.parametrize("p", [0.5, 1, 2, 3.0, math.inf])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e30, math.inf, math.nan])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_gradients_are_clipped_as_on_the_cpu_without_waiting(cupy, p, scale, dtype):
    with np.errstate(over="ignore", invalid="ignore"):
        gs = [(np.array(g) * scale).astype(dtype) for g in ([3.0, -4.0], -2.0, np.zeros((0, 3)))]
    found = {}
    for device in "cpu", "gpu":
        with tg.device(device):
            ps = [nn.Parameter(np.zeros_like(g)) for g in gs]
            for each, g in zip(ps, gs, strict=True):
                each.grad = g
            with strict_cupy.counted() as counts:
                norm = optim.clip_grad_norm_(ps, 1.0, p)
            costs(counts, 0, 0)
            assert (norm.device[:3], norm.shape, norm.dtype) == (device, (), np.float64)
            found[device] = [norm.numpy(), *(each.grad.numpy() for each in ps)]
    for ours, theirs in zip(found["gpu"], found["cpu"], strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_norm_that_must_be_finite_is_read(gpu):
    p = nn.Parameter(np.zeros(2))
    p.grad = np.array([math.inf, 1.0])
    with pytest.raises(RuntimeError, match=r"^clip_grad_norm_: the norm of the gradients must be finite, got inf"):
        optim.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert optim.clip_grad_norm_(nn.Parameter(np.zeros(2)), 1.0).item() == 0  # without a gradient


def test_gradients_on_several_devices_are_clipped_together(cupy):
    ps = [nn.Parameter(tg.tensor([0.0], device=device)) for device in ("cpu", "gpu")]
    for each, g in zip(ps, (3.0, 4.0), strict=True):
        each.grad = tg.tensor([g], device=each.device)
    assert optim.clip_grad_norm_(ps, 1.0).item() == 5
    np.testing.assert_allclose([each.grad.item() for each in ps], [0.6, 0.8], rtol=1e-6)


def test_zeros_and_ones_are_made_on_the_device(gpu):
    with strict_cupy.counted() as counts:
        made = [tg.zeros(2, 3), tg.ones(2), nn.init.zeros((2,)), nn.init.constant((2,), 0.5), np.zeros_like(tg.ones(2))]
    costs(counts, 0, 0)
    cell = nn.LSTMCell(2, 3)
    with strict_cupy.counted() as counts:
        made += [*cell.initial_state(4)]
    costs(counts, 0, 0)
    assert {t.device for t in made} == {"gpu:0"}
    assert [t.numpy().sum() for t in made] == [0, 2, 0, 1, 0, 0, 0]


def test_one_hot_vectors_are_no_rows_of_a_table(device):
    y = ops.one_hot([[1, 199_999]], 200_000)  # whose identity matrix has 4 · 10¹⁰ elements
    assert (y.shape, y.sum().item(), y[0, 1, 199_999].item()) == ((1, 2, 200_000), 2, 1)


def test_arrays_of_a_gpu_are_known_again(device):
    W, x = tg.tensor([2.0], requires_grad=True), tg.tensor([3.0])
    y = W * x + W * x.array
    assert x.node.data() is x.array
    copied = [i for n in (y.node.inputs[0], y.node.inputs[1]) for i in n.inputs if i is not W.node]
    assert all(i.data() is x.array for i in copied)


# ---- layers and decoding --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["eager", "auto"])
@pytest.mark.parametrize("come", [False, True], ids=["lengths of the host", "lengths that have come"])
def test_a_call_copies_one_mask_of_lengths_and_none_if_they_have_come(gpu, engine, come):
    layer, lengths = nn.Recurrent(nn.LSTMCell(3, 4), engine=engine), np.array([5, 2])
    lengths = Lengths(lengths, tg.tensor(lengths).array) if come else lengths
    xs = tg.tensor(rng.normal(size=(5, 2, 3)).astype("f4"))
    layer(xs, lengths=lengths)[0].sum().backward()  # it is recorded
    with strict_cupy.counted() as counts:
        layer(xs, lengths=lengths)[0].sum().backward()
    costs(counts, 0, 0 if come else 1)
    assert not [place for place in counts.places("launch") if place.startswith("copy at primitive.py")]


def test_a_step_of_inference_copies_its_ids_and_waits_for_nothing(gpu):
    model, _ = lm()
    with tg.no_grad(), strict_cupy.counted() as counts:
        _, state = model.step(np.array([1, 2]), model.initial_state(2))
        model.step(np.array([1, 2]), state)
    costs(counts, 0, 2)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("looks", [False, True], ids=["no weights", "weights"])
def test_a_step_of_a_search_waits_for_its_logits_and_weights_only(gpu, width, looks):
    model, _ = pairs("general", layers=2)
    model.eval()
    with tg.no_grad():
        state = model.encode(np.array([[3, 4], [5, 6]]), np.array([2, 2]))
    steps = 6
    options = {"start": 1, "end": 2, "weights": nn.attention_weights if looks else None}
    with strict_cupy.counted() as counts:
        found = decode.beam_search(model.step, state, width=width, max_length=steps, **options)
    taken = max(len(h.tokens) for each in found for h in each) if width == 1 else steps
    assert counts.syncs <= (1 + looks) * (taken + 1), counts
    assert counts.copies <= 2 * (steps + 1), counts  # the ids that it is fed, and which rows go on


# ---- batches --------------------------------------------------------------------------------------------------------


def test_batches_come_in_any_order_each_begun_with_the_one_before(device):
    made = []

    def make(i):
        made.append(i)
        return (np.full((2, 3), i), np.zeros((0, 2)), np.arange(6.0).reshape(2, 3).T + i), f"batch {i}"

    batches = Ahead(make, 4)
    for i, begun in ((0, [0, 1]), (1, [2]), (3, [3]), (0, [0, 1]), (1, [2]), (2, [3]), (3, [])):
        made.clear()
        (a, b, c), rest = batches.get(i, tg.ones(1).device)
        assert made == ([i] if device == "cpu" else begun)
        assert rest == f"batch {i}"
        if device == "gpu":
            assert {t.device for t in (a, b, c)} == {"gpu:0"}
        a, b, c = map(np.asarray, (a, b, c)) if device == "cpu" else (t.numpy() for t in (a, b, c))
        for ours, theirs in zip((a, b, c), make(i)[0], strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype


def test_what_comes_to_a_gpu_is_not_there_before_somebody_waits_for_it(gpu):
    source = np.array([1.0, 2.0])
    (array,), wait = Uploads("gpu:0").begin([source])
    source[:] = 0  # it is copied from a place of its own
    if not REAL_GPU:  # there it may have come by now
        assert np.isnan(array.get()).all()
    wait()
    np.testing.assert_array_equal(array.get(), [1, 2])
