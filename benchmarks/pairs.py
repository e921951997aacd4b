"""Training tokens per second of examples/pronunciation.py, beside the same model in PyTorch, on the same batches.

python benchmarks/pairs.py [5|60]

PyTorch's is nn.LSTM as encoder, over packed sequences, and a loop of nn.LSTMCell with attention as decoder; both train
with Adam and clipping from the same weights. The first losses are compared before anything is timed.
"""

from __future__ import annotations

import sys
import tempfile

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import timing
import torch

from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tinygrad_rnn import optim, torch_weights
from tinygrad_rnn.autograd import random
from tinygrad_rnn.data import IGNORED, Batch, read_pairs
from tinygrad_rnn.tasks import translation

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import pronunciation

BATCHES = 24


class Attention(torch.nn.Module):
    def __init__(self, query: int, value: int):
        super().__init__()
        self.W = torch.nn.Parameter(torch.empty(value, query))


class Decoder(torch.nn.Module):
    """[x, c] -> LSTM -> y;  c = attention(y)"""

    def __init__(self, inputs: int, units: int):
        super().__init__()
        self.cell = torch.nn.LSTMCell(inputs + units, units)
        self.attention = Attention(units, units)

    def forward(self, xs, h, c, hs, mask):
        values = hs.transpose(0, 1)  # (B, S, V)
        keys, context, outputs = values @ self.attention.W, torch.zeros_like(h), []
        for x in xs:
            h, c = self.cell(torch.cat([x, context], -1), (h, c))
            scores = torch.bmm(keys, h.unsqueeze(2)).squeeze(2).masked_fill(~mask, -torch.inf)
            context = torch.bmm(scores.softmax(-1).unsqueeze(1), values).squeeze(1)
            outputs.append(torch.cat([h, context], -1))
        return torch.stack(outputs)


class Model(torch.nn.Module):
    def __init__(self, config: translation.Config, sources: int, targets: int):
        super().__init__()
        H, E = config.hidden, config.embed
        self.source, self.target = torch.nn.Embedding(sources, E), torch.nn.Embedding(targets, E)
        self.encoder = torch.nn.LSTM(E, H // 2, bidirectional=True)
        self.bridge = torch.nn.ModuleDict({"linear": torch.nn.Linear(2 * H, 2 * H)})
        self.decoder = torch.nn.ModuleDict({"cell": Decoder(E, H)})
        self.output, self.dropout = torch.nn.Linear(2 * H, targets), torch.nn.Dropout(config.dropout)

    def forward(self, xs, ys, lengths):
        packed = pack_padded_sequence(self.dropout(self.source(xs)), lengths, enforce_sorted=False)
        hs, (h, c) = self.encoder(packed)
        hs = self.dropout(pad_packed_sequence(hs, total_length=len(xs))[0])
        end = torch.cat([h.transpose(0, 1).flatten(1), c.transpose(0, 1).flatten(1)], -1)
        h, c = torch.tanh(self.bridge["linear"](end)).chunk(2, -1)
        mask = torch.arange(len(xs)) < lengths[:, None]
        return self.output(self.dropout(self.decoder["cell"](self.dropout(self.target(ys)), h, c, hs, mask)))


def pytorch(config: translation.Config, ours, sizes: tuple[int, int], batches: list[Batch]) -> Callable[[int], float]:
    """A step of training on batch i, which returns its loss."""
    model = Model(config, *sizes)
    model.load_state_dict({k: torch.tensor(v) for k, v in torch_weights.export(ours).items()})
    for name, p in model.named_parameters():
        p.requires_grad_("bias_hh" not in name)  # a second bias would learn at twice the rate
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, config.lr, fused=True)
    tensors = [Batch(*map(torch.tensor, batch)) for batch in batches]
    counts = [int((batch.targets != IGNORED).sum()) for batch in batches]

    def step(i: int) -> float:
        batch = tensors[i]
        logits = model(batch.source, batch.inputs, batch.lengths)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="sum")
        optimizer.zero_grad()
        (loss / counts[i]).backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        optimizer.step()
        return loss.item()

    return step


def tinygrad_rnn(
    config: translation.Config, model, task: translation.PairTask, batches: list[Batch]
) -> Callable[[int], float]:
    """The same, as `fit` does it."""
    optimizer = optim.Adam(model.parameters(), config.lr)

    def step(i: int) -> float:
        loss, n = task.batch_loss(batches[i])
        (loss / n).backward()
        optim.clip_grad_norm_(optimizer.parameters, config.clip)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def problem(minutes: int, dropout: float):
    config = replace(pronunciation.SETTINGS[minutes], dropout=dropout)
    with tempfile.TemporaryDirectory() as folder:
        pronunciation.write_pairs(Path(folder))
        pairs = read_pairs(Path(folder) / "train.tsv")
    vocabularies = translation.vocabularies_of(config, pairs)
    train = translation.numbered(pairs, *vocabularies, config.batch)
    batches = [train.batch(order) for order in train.order(0)[:BATCHES]]
    random.manual_seed(0)
    sizes = tuple(map(len, vocabularies))
    model = translation.build(config, *sizes)
    ours = tinygrad_rnn(config, model, translation.PairTask(model, train, train), batches)
    return batches, {"tinygrad_rnn": ours, "PyTorch": pytorch(config, model, sizes, batches)}


def main(minutes: int = 5) -> None:
    timing.print_header()
    batches, steps = problem(minutes, dropout=0.0)
    losses = {name: [step(i) for i in range(3)] for name, step in steps.items()}
    np.testing.assert_allclose(*losses.values(), rtol=1e-4)
    print(f"the first losses agree: {np.round(losses['PyTorch'], 1)} and {np.round(losses['tinygrad_rnn'], 1)} nats")
    batches, steps = problem(minutes, dropout=pronunciation.SETTINGS[minutes].dropout)
    tokens = sum(int((batch.targets != IGNORED).sum()) for batch in batches)

    def epoch(step: Callable[[int], float]) -> Callable[[], None]:
        return lambda: [step(i) for i in range(len(batches))] and None

    runs = {name: epoch(step) for name, step in steps.items()}
    times = timing.interleaved(runs, rounds=25, slice_s=0.5)
    timing.print_times(f"{len(batches)} batches, {tokens:,} phonemes", times, "tinygrad_rnn")
    for name, t in times.items():
        print(f"  {name:<14}{tokens / t.median:10,.0f} phonemes a second")
    print(f"  {timing.ratio_text(timing.ratios(times['PyTorch'], times['tinygrad_rnn']))} times PyTorch's speed")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
