"""A task of one's own: trained, validated, measured, stopped and resumed."""

import csv

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import data, nn, ops, optim
from tinygrad_rnn.parallel import World
from tinygrad_rnn.tasks import RunFolder, SupervisedTask, Trainer

rng = np.random.default_rng(0)
XS = rng.standard_normal((50, 3)).astype("f")
W = np.array([[1.0], [-2.0], [0.5]], "f")
YS = XS @ W + 0.3


class Reader(nn.Module):
    """The sign of the sum of a sequence. xs: (T, B, 1)  lengths: (B,)  returns: logits (B, 2)"""

    def __init__(self):
        self.rnn, self.output = nn.GRU(1, 8), nn.Linear(8, 2)

    def forward(self, xs, lengths):
        _, state = self.rnn(tg.tensor(xs), lengths=lengths)
        return self.output(state.reshape(-1, 8))


def sequences(n, seed):
    rng = np.random.default_rng(seed)
    xs = [rng.standard_normal(rng.integers(2, 7)).astype("f") for _ in range(n)]
    return [(x, int(x.sum() > 0)) for x in xs]


def side_by_side(examples):
    xs, ys = zip(*examples, strict=True)
    return (data.padded(xs, 0)[:, :, None], np.array([len(x) for x in xs])), np.array(ys)


def accuracy(logits, targets):
    return np.mean(logits.argmax(-1).numpy() == targets)


def regression(folder, **options):
    tg.manual_seed(0)
    model = nn.Linear(3, 1)
    task = SupervisedTask(model, nn.mse_loss, (XS[:40], YS[:40]), (XS[40:], YS[40:]), batch_size=8, **options)
    return Trainer(model, optim.Adam(model.parameters(), 0.05), task, folder), model


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_regression_is_learned_and_written_down(tmp_path):
    trainer, model = regression(tmp_path / "a" / "run")
    said = []
    trainer.fit(40, said.append)
    np.testing.assert_allclose(model.W.numpy(), W, atol=0.02)
    last = rows(tmp_path / "a" / "run")[-1]
    error = np.mean((model(XS[40:]).numpy() - YS[40:]) ** 2)
    assert float(last["valid_loss"]) == pytest.approx(error, rel=1e-5) and last["epoch"] == "40"
    assert said[-1].startswith("epoch 40/40: loss 0.0") and said[-1].endswith(" examples/s")
    assert (tmp_path / "a" / "run" / "best.safetensors").exists()


def test_the_loss_of_an_epoch_is_the_mean_over_examples_also_of_a_short_last_batch(tmp_path):
    model = nn.Linear(3, 1)
    task = SupervisedTask(model, nn.mse_loss, (XS[:13], YS[:13]), (XS[40:], YS[40:]), batch_size=5, seed=3)
    assert len(task) == 3 and task.tokens() == 13
    task.start(0)
    found = [task.loss(i, None) for i in range(3)]
    assert [n for _, n, _ in found] == [5, 5, 3]
    expected = np.mean((model(XS[:13]).numpy() - YS[:13]) ** 2)
    assert sum(loss.item() for loss, _, _ in found) / 13 == pytest.approx(expected, rel=1e-5)
    order = task.order.copy()
    task.start(1)
    assert sorted(task.order) == list(range(13)) and (task.order != order).any()


def test_processes_share_each_batch_and_the_validation():
    model, some = nn.Linear(3, 1), ((XS[:7], YS[:7]), (XS[40:45], YS[40:45]))
    parts = []
    for rank in range(3):
        world = World()
        world.rank, world.size, world.total = rank, 3, lambda *xs: list(xs)
        task = SupervisedTask(model, nn.mse_loss, *some, batch_size=5, processes=world)
        task.start(0)
        losses = [task.loss(i, None) for i in range(2)]
        parts.append((losses[0][0].item(), losses[1][0].item(), task.validate(), losses[1][1]))
    alone = SupervisedTask(model, nn.mse_loss, *some, batch_size=5)
    alone.start(0)
    wanted = [alone.loss(0, None)[0].item(), alone.loss(1, None)[0].item(), alone.validate()]
    np.testing.assert_allclose(np.sum(parts, 0)[:3], wanted, rtol=1e-5)
    assert parts[2][1] == 0.0 and {part[3] for part in parts} == {2}


def test_sequences_are_classified_and_measured(tmp_path):
    tg.manual_seed(0)
    model, valid = Reader(), sequences(60, 1)
    options = {"collate": side_by_side, "metrics": {"accuracy": accuracy}, "batch_size": 32}
    task = SupervisedTask(model, nn.cross_entropy, sequences(300, 0), valid, **options)
    said, seen = [], []

    def look(trainer):
        seen.append(trainer.progress.rows[-1]["valid_accuracy"])
        return len(seen) == 20

    trainer = Trainer(model, optim.Adam(model.parameters(), 0.02), task, RunFolder(tmp_path))
    trainer.fit(100, said.append, on_epoch=look)
    assert len(seen) == 20 and seen[-1] > 0.85 and "accuracy 0." in said[-1] and trainer.progress.epoch == 20
    inputs, targets = side_by_side(valid)
    assert seen[-1] == pytest.approx(accuracy(model.eval()(*inputs), targets))
    assert [row["valid_accuracy"] for row in rows(tmp_path)] == [str(x) for x in seen]


def test_a_run_goes_on_as_if_nothing_had_happened(tmp_path):
    whole, model = regression(tmp_path / "whole")
    whole.fit(3, lambda line: None)
    first, _ = regression(tmp_path / "parts")
    first.fit(1, lambda line: None)
    again, resumed = regression(tmp_path / "parts")
    again.restore(again.folder.last)
    again.fit(3, lambda line: None)
    np.testing.assert_array_equal(model.W.numpy(), resumed.W.numpy())
    assert again.progress.rows[-1]["valid_loss"] == whole.progress.rows[-1]["valid_loss"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"train": (XS, YS[:3])}, "train must have a target for each input, got 50 inputs and 3 targets"),
        ({"valid": []}, "valid must have examples, it has none"),
        (
            {"train": (XS, XS, YS)},
            r"train must be a pair of arrays or a list of examples, got \(ndarray, ndarray, ndarray\)",
        ),
        ({"train": (list(XS), list(YS))}, r"train must be a pair of arrays or a list of examples, got \(list, list\)"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"metrics": {"loss": accuracy}}, "metrics must have other names than 'loss'"),
    ],
)
def test_what_cannot_be_learned_is_told(change, line):
    with pytest.raises(ValueError, match=f"^SupervisedTask: {line}"):
        SupervisedTask(nn.Linear(3, 1), nn.mse_loss, **{"train": (XS, YS), "valid": (XS, YS), **change})


@pytest.mark.parametrize("name", ["loss", "spread"])
def test_what_is_measured_must_be_a_number(name, tmp_path):
    model, each = nn.Linear(3, 1), lambda y, t: ((y - t) ** 2).mean(1)
    loss, metrics = (each, {}) if name == "loss" else (nn.mse_loss, {name: lambda y, t: each(y, t).numpy()})
    task = SupervisedTask(model, loss, (XS[:4], YS[:4]), (XS[:4], YS[:4]), metrics=metrics)
    with pytest.raises(ValueError, match=rf"^SupervisedTask: {name} must return the mean .* got shape \(4,\)$"):
        Trainer(model, optim.SGD(model.parameters(), 0.1), task, tmp_path).fit(1, lambda line: None)


@pytest.mark.parametrize("answer", [True, np.True_, 1])
def test_any_true_answer_ends_a_run(answer, tmp_path):
    trainer, _ = regression(tmp_path)
    trainer.fit(5, lambda line: None, on_epoch=lambda _: answer)
    assert trainer.progress.epoch == 1
    trainer.fit(3, lambda line: None, on_epoch=lambda _: None)
    assert trainer.progress.epoch == 3


def test_the_seed_is_that_of_the_order():
    orders = []
    for seed in (0, 0, 1):
        task = SupervisedTask(nn.Linear(3, 1), nn.mse_loss, (XS, YS), (XS, YS), seed=seed)
        task.start(0)
        orders.append(task.order.tolist())
    assert orders[0] == orders[1] != orders[2]


def test_a_loss_of_ones_own_sees_what_the_model_gives(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            self.linear = nn.Linear(3, 2)

        def forward(self, x):
            y = self.linear(tg.tensor(x))
            return {"mean": y[:, :1], "spread": ops.exp(y[:, 1:])}

    def likelihood(found, targets):
        error = (found["mean"] - targets) / found["spread"]
        return (error * error / 2 + ops.log(found["spread"])).mean()

    model = Two()
    task = SupervisedTask(model, likelihood, (XS, YS), (XS, YS))
    Trainer(model, optim.Adam(model.parameters(), 0.05), task, tmp_path).fit(30, lambda line: None)
    assert task.validate() < -1
