"""Everything that trains and decodes, with the GPU as the default device: in float64 it is what the CPU gives."""

import numpy as np
import pytest

from cells import CELLS
from comparing import all_close

import tinygrad_rnn as tg

from tinygrad_rnn import decode, nn, optim
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.cli.main import main
from tinygrad_rnn.tasks import language_model, translation
from tinygrad_rnn.tasks.checkpoint import load_checkpoint
from tinygrad_rnn.tasks.run_folder import RunFolder

T, B, I, H, V = 3, 3, 2, 3, 7  # so few steps run one by one on the CPU too
LENGTHS = [3, 0, 2]
START, END = 0, 1


def numbers(*shape, seed=0):
    return tg.tensor(np.random.default_rng(seed).standard_normal(shape))


def ids(*shape, seed=0):
    return np.random.default_rng(seed).integers(2, V, shape)


def on(device, run):
    """What `run()` gives with that default device, from one seed; all of it is there."""
    tg.manual_seed(0)
    with tg.device(device):
        found = [t for t in nest.leaves(run()) if isinstance(t, tg.Tensor)]
        assert found and {t.device for t in found} == {tg.default_device()}
    return found


def same_on_both(run, tolerance=1e-10):
    all_close(on("gpu", run), on("cpu", run), tolerance)


# ---- a few steps of training of everything ---------------------------------------------------------------------------


def steps(model, loss, n=3):
    """Losses, the norms of their gradients, and the parameters after n steps."""
    model.to("float64")
    optimizer = optim.Adam(model.parameters(), 0.05)
    said = []
    for _ in range(n):
        value = loss()
        value.backward()
        norm = optim.clip_grad_norm_(model.parameters(), 0.5)
        said += [value, norm]
        optimizer.step()
        optimizer.zero_grad()
    return [*said, *model.parameters()]


def of_sequences(make, **options):
    def run():
        layer = make()
        squared = lambda: sum((t * t).mean() for t in nest.leaves(layer(numbers(T, B, I), **options)))
        return steps(layer, squared)

    return run


def many_queries():
    """A query for each of four steps at once, some of which see nothing of the memory."""

    def run():
        attention = nn.MultiheadAttention(H, 3)
        mask = tg.tensor(np.arange(4)[:, None] > np.arange(T))
        look = lambda: attention(numbers(4, B, H), attention.remember(numbers(T, B, H), lengths=LENGTHS), mask)
        return steps(attention, lambda: sum((t * t).sum() for t in look()))

    return run


def looking(kind):
    """A decoder that looks at a memory."""

    def run():
        cell = nn.AttentionCell(nn.GRUCell(I + H, H), nn.ATTENTIONS[kind](H, H))
        rnn = nn.Recurrent(cell).to("float64")

        def loss():
            memory = cell.attention.remember(numbers(T, B, H, seed=1), lengths=[3, 1, 2])
            ys, _ = rnn(numbers(T, B, I), cell.start(cell.cell.initial_state(B), memory))
            return (ys * ys).sum()

        return steps(rnn, loss)

    return run


def translating(attention, cell="lstm"):
    """A model of pairs as the command line makes it, with ragged sources and ignored targets."""

    def run():
        config = translation.Config(hidden=4, embed=3, attention=attention, cell=cell, layers=2, dtype="float64")
        model = translation.build(config, V, V)
        source, said = ids(T, B), ids(T, B, seed=1)
        targets = np.where(np.arange(T)[:, None] < [3, 1, 2], said, -1)
        return steps(model, lambda: nn.cross_entropy(model(source, said, LENGTHS), tg.tensor(targets), ignore_index=-1))

    return run


def language(**options):
    def run():
        config = language_model.Config(hidden=4, embed=3, dtype="float64", **options)
        model = language_model.build(config, V)
        logits = lambda: model(ids(T, B))[0]
        return steps(model, lambda: nn.cross_entropy(logits(), tg.tensor(ids(T, B, seed=1)), label_smoothing=0.1))

    return run


FAMILIES = {
    "identity RNN": lambda: nn.irnn_cell(I, H),
    "IndRNN": lambda: nn.IndRNNCell(I, H),
    "minimal gated unit": lambda: nn.MGUCell(I, H),
    "peepholes": lambda: nn.PeepholeLSTMCell(I, H),
    "coupled gates": lambda: nn.CoupledLSTMCell(I, H),
    "projection": lambda: nn.ProjectedLSTMCell(I, H, 2),
    "layer norm": lambda: nn.LayerNormLSTMCell(I, H),
    "zoneout": lambda: nn.ZoneoutCell(nn.LSTMCell(I, H), 0.2),
    "variational dropout": lambda: nn.VariationalDropoutCell(nn.GRUCell(I, H), 0.2, 0.2),
    "residual": lambda: nn.ResidualCell(nn.RNNCell(I, I)),
}
CELL = {name: case.make for name, case in CELLS.items()} | FAMILIES

TRAINED = {
    **{f"cell: {name}": of_sequences(lambda make=make: nn.Recurrent(make())) for name, make in CELL.items()},
    "ragged, two layers, both directions": of_sequences(
        lambda: nn.LSTM(I, H, num_layers=2, bidirectional=True, dropout=0.3), lengths=LENGTHS
    ),
    "from the end": of_sequences(lambda: nn.Recurrent(nn.GRUCell(I, H), reverse=True), lengths=LENGTHS),
    "two directions": of_sequences(lambda: nn.Bidirectional(nn.RNNCell(I, H), nn.GRUCell(I, H)), lengths=LENGTHS),
    **{f"attention: {kind}": looking(kind) for kind in nn.ATTENTIONS if kind != "multihead"},
    "attention: multihead": many_queries(),
    **{f"pairs: {kind}": translating(kind) for kind in ("none", "context", "general")},
    "pairs: additive, GRU": translating("additive", "gru"),
    "language model": language(),
    "language model, two layers, dropout": language(layers=2, dropout=0.3, cell="gru"),
}


@pytest.mark.parametrize("run", TRAINED.values(), ids=TRAINED)
def test_a_few_steps_of_training_give_the_cpus_losses_and_weights(run, cupy):
    same_on_both(run)


# ---- optimisers and clipping -----------------------------------------------------------------------------------------

OPTIMIZERS = {
    "SGD": lambda ps: optim.SGD(ps, 0.1),
    "SGD, momentum": lambda ps: optim.SGD(ps, 0.1, momentum=0.9, weight_decay=0.01),
    "SGD, Nesterov": lambda ps: optim.SGD(ps, 0.1, momentum=0.9, nesterov=True),
    "RMSprop": lambda ps: optim.RMSprop(ps, 0.01, momentum=0.5),
    "Adam": lambda ps: optim.Adam(ps, optim.cosine(0.1, 4)),
    "AdamW": lambda ps: optim.AdamW(ps, 0.1, weight_decay=0.1),
}
CLIPPED = {
    "by norm": lambda ps: optim.clip_grad_norm_(ps, 0.5),
    "by norm 1": lambda ps: optim.clip_grad_norm_(ps, 0.5, 1.0),
    "by the largest": lambda ps: optim.clip_grad_norm_(ps, 0.5, float("inf")),
    "by value": lambda ps: optim.clip_grad_value_(ps, 0.1),
    "not": lambda ps: None,
}


def walked(make, clip, moved=False):
    """Parameters after four steps; in the middle, if moved, the optimiser's state goes over the host to another one."""
    ps = [nn.Parameter(numbers(2, 3)), nn.Parameter(numbers(3, seed=1)), nn.Parameter(numbers(seed=2))]
    optimizer = make(ps)
    for i in range(4):
        if moved and i == 2:
            saved = optimizer.state_dict()
            assert all(isinstance(v, (np.ndarray, np.generic, int, float)) for v in saved.values())
            optimizer = make(ps)
            optimizer.load_state_dict(saved)
        optimizer.zero_grad()
        sum(((p - i) ** 2).sum() for p in ps).backward()
        clip(ps)
        optimizer.step()
    return [t for p in ps for t in (p, p.grad)]


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimisers_step_as_on_the_cpu(make, cupy):
    same_on_both(lambda: walked(make, CLIPPED["not"]), 1e-13)
    all_close(on("gpu", lambda: walked(make, CLIPPED["not"], True)), on("gpu", lambda: walked(make, CLIPPED["not"])), 0)


@pytest.mark.parametrize("clip", CLIPPED.values(), ids=CLIPPED)
def test_gradients_are_clipped_as_on_the_cpu(clip, cupy):
    same_on_both(lambda: walked(OPTIMIZERS["SGD"], clip), 1e-13)


# ---- decoding --------------------------------------------------------------------------------------------------------

ENDS = {"start": START, "end": END, "max_length": 6}
SEARCHES = {
    "greedy": lambda step, state: decode.greedy(step, state, **ENDS),
    "beam": lambda step, state: decode.beam_search(step, state, width=3, **ENDS),
    "samples": lambda step, state: decode.sample(step, state, rng=np.random.default_rng(0), **ENDS),
    "score": lambda step, state: decode.score(step, state, [[2, 3], [4], [5, 6, 2]], start=START, end=END),
}
MODELS = {
    "language model": language_model.Config(hidden=8, embed=4, layers=2, dtype="float64"),
    "attention": translation.Config(hidden=8, embed=4, attention="general", dtype="float64"),
}


def decoded(search, config):
    tg.manual_seed(0)
    if isinstance(config, language_model.Config):
        model = language_model.build(config, V)
        state = model.initial_state(B)
    else:
        model = translation.build(config, V, V)
        state = model.eval().encode(ids(T, B), LENGTHS)
    model.output.W.data = 5 * model.output.W.data
    return search(model.eval().step, state)


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
def test_decoding_finds_what_it_finds_on_the_cpu(search, config, cupy):
    found = []
    for device in "cpu", "gpu":
        with tg.device(device):
            found.append(decoded(search, config))
    flat = [nest.leaves(each) if isinstance(each, list) else each for each in found]
    for mine, theirs in zip(*flat, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-10)


# ---- tasks, and their checkpoints, that go from one device to the other ----------------------------------------------


@pytest.fixture
def files(tmp_path):
    """A text and pairs to learn from."""
    (tmp_path / "text").write_text("the quick brown fox jumps over the lazy dog.\n" * 4)
    words = [a + b for a in "abcd" for b in "abcd"]
    (tmp_path / "pairs").write_text("".join(f"{word}\t{word[::-1]}\n" for word in words))
    return {"text": str(tmp_path / "text"), "pairs": str(tmp_path / "pairs")}


SMALL = {"hidden": 8, "embed": 4, "batch": 4, "dtype": "float64", "epochs": 2, "layers": 2, "dropout": 0.2}
TASKS = {
    "text": (language_model.KIND, {"steps": 3}),
    "pairs": (translation.KIND, {"sampling": 0.5, "attention": "additive"}),
}


class PowerCut(Exception):
    """In the middle of an epoch."""


def dying(loss, batches):
    """The task's loss, for so many batches."""
    left = iter(range(batches))

    def until(*args):
        if next(left, None) is None:
            raise PowerCut
        return loss(*args)

    return until


def learned(task, files, folder, devices, batches=5):
    """Train on each of the devices for a few batches, and to the end on the last: losses, arrays of the checkpoint."""
    kind, options = TASKS[task]
    config = kind.config(**{task: files[task]}, **SMALL, **options)
    for i, device in enumerate(devices):
        with tg.device(device):
            begin = kind.resumed_run if i else kind.new_run
            trainer, _ = begin(config, RunFolder(folder), save_every=0.0)
            assert next(iter(trainer.model.parameters())).device == tg.default_device()
            if i == len(devices) - 1:
                trainer.fit(config.epochs, report=lambda line: None)
                break
            trainer.task.loss = dying(trainer.task.loss, batches)
            with pytest.raises(PowerCut):
                trainer.fit(config.epochs, report=lambda line: None)
    arrays, progress = load_checkpoint(folder / "last.safetensors")
    losses = [[row["train_loss"], row["valid_loss"]] for row in progress["rows"]]
    return [np.array(losses), *(arrays[name] for name in sorted(arrays))]


@pytest.mark.parametrize("task", TASKS)
def test_a_run_goes_on_on_another_device_as_if_nothing_had_happened(task, files, tmp_path, cupy):
    whole, *moved = (
        learned(task, files, tmp_path / "-".join(devices), devices)
        for devices in (["cpu"], ["gpu"], ["cpu", "gpu"], ["gpu", "cpu"])
    )
    for other in moved:
        all_close(other, whole, 1e-8)


# ---- the command line ------------------------------------------------------------------------------------------------

COMMANDS = {
    "text": [["sample", "--prompt", "the ", "--length", "9", "--seed", "1"], ["score", "the dog."]],
    "pairs": [["translate", "ab", "--beam", "3"], ["evaluate", "--pairs"]],
}


@pytest.mark.parametrize("task", TASKS)
def test_every_command_says_on_a_gpu_what_it_says_on_the_cpu(task, files, tmp_path, default, capsys):
    small = [word for name in ("hidden", "embed", "batch") for word in (f"--{name}", str(SMALL[name]))]
    options = [f"--{task}", files[task], "--out", str(tmp_path / "run"), "--epochs", "1", "--dtype", "float64", *small]
    assert main(["train", TASKS[task][0].name, "--device", "gpu", *options]) == 0
    assert "gpu:0, float64" in capsys.readouterr().out
    for command, *more in COMMANDS[task]:
        said = []
        for device in "cpu", "gpu":
            given = [files[task]] if more[-1] == "--pairs" else []
            assert main([command, str(tmp_path / "run"), *more, *given, "--device", device]) == 0
            said.append(capsys.readouterr().out)
        assert said[0] == said[1] != ""
