"""Language models: learn a text, sample from it, score a sentence.

P(w₁ … wₙ) = Π P(wₖ | w₁ … wₖ₋₁): the targets are the inputs shifted by one.
"""

from __future__ import annotations

import itertools
import math

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tinygrad_rnn import data, decode, nn, ops
from tinygrad_rnn.autograd import arrays
from tinygrad_rnn.autograd.gradients import no_grad
from tinygrad_rnn.autograd.graph import scope
from tinygrad_rnn.autograd.tensor import Parameter, Tensor
from tinygrad_rnn.data import Vocabulary
from tinygrad_rnn.data.batches import Stream, hold_out
from tinygrad_rnn.parallel import World, world
from tinygrad_rnn.tasks import cells_by_name
from tinygrad_rnn.tasks.ahead import Ahead
from tinygrad_rnn.tasks.config import MODEL, CommonConfig, Limits
from tinygrad_rnn.tasks.fit import evaluating, perplexity, rows_read
from tinygrad_rnn.tasks.kind import Kind
from tinygrad_rnn.tasks.run_folder import RunFolder


@dataclass(frozen=True)
class Config(CommonConfig):
    """What a language model is and how it is trained; the options of `tinygrad-rnn train lm`."""

    text: str = ""  # a file; "" for Python's language reference
    words: bool = False
    steps: int = 32

    def limits(self) -> Limits:
        """Those of every kind of run, and that of its own option."""
        return {**super().limits(), "steps": (self.steps >= 1, "at least 1")}


class LanguageModel(nn.Module):
    """Embedding → recurrent layers → logits of the next token.

    ids: (T, B) integers  state: as the cell's  returns: logits (T, B, V), the state after the last step
    """

    def __init__(
        self, vocabulary_size: int, embedding_size: int, cell: nn.Cell, output_size: int, dropout: float = 0.0
    ):
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        self.recurrent = nn.Recurrent(cell)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(output_size, vocabulary_size)

    def forward(self, ids: Any, state: Any = None) -> tuple[Tensor, Any]:
        ys, state = self.read(ids, state)
        return self.output(ys), state

    def read(self, ids: Any, state: Any = None) -> tuple[Tensor, Any]:
        """What the output layer is given, (T, B, H), and the state after the last step."""
        ys, state = self.recurrent(self.dropout(self.embedding(ids)), state)
        return self.dropout(ys), state

    def step(self, ids: Any, state: Any) -> tuple[Tensor, Any]:
        """One step: ids (B,), returns logits (B, V) and the new state."""
        y, state = self.recurrent.cell(self.dropout(self.embedding(ids)), state)
        return self.output(self.dropout(y)), state

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first token."""
        return self.recurrent.cell.initial_state(batch_size)


def build(config: Config, vocabulary_size: int) -> LanguageModel:
    """The model that a config describes, its weights drawn from the library's generator."""
    make = lambda inputs, units: cells_by_name.make_cell(config.cell, inputs, units)
    cell = cells_by_name.stacked(make, config.embed, config.hidden, config.layers, config.dropout)
    model = LanguageModel(vocabulary_size, config.embed, cell, config.hidden, config.dropout)
    return model.to(config.dtype)


# ---- training -------------------------------------------------------------------------------------------------------


class LanguageTask:
    """Truncated backpropagation through time over a stream: the state is carried on, gradients stop at each window.

    train, valid: the strands of this process, one of `processes`; several streams are groups of the strands of one
    text, which are read one group after the other: the numbers are those of all at once, and less memory is needed
    """

    def __init__(
        self, model: LanguageModel, train: Stream | Sequence[Stream], valid: Stream | Sequence[Stream], words: bool,
        processes: World | None = None,
    ):  # fmt: skip
        learned, held_out = ([s] if isinstance(s, Stream) else list(s) for s in (train, valid))
        self.model, self.train, self.valid, self.words = model, learned[0], held_out[0], words
        self.world, self.parts = processes or World(), len(learned)
        self.strands = [[s.columns.shape[1] for s in streams] for streams in (learned, held_out)]
        self.learned, self.held_out = (Ahead(partial(_window, s), len(s[0]) * len(s)) for s in (learned, held_out))
        self.unit, self.metric = ("word", "perplexity") if words else ("character", "bits per character")

    def __len__(self) -> int:
        return len(self.train)

    def tokens(self) -> int:
        """The number of targets in an epoch."""
        return self.train.tokens

    def start(self, epoch: int) -> Any:
        """The state of each group before the first window: every strand begins anew in each epoch."""
        return tuple(self.model.initial_state(n) for n in self.strands[0])

    def loss(self, batch: int, carry: Any) -> tuple[Tensor, int, Any]:
        """Nats of a group of strands in a window, summed; the tokens in the window of all strands; the states, that of
        the next group first."""
        loss, steps, state = self._loss(self.learned, batch, carry[0])
        return loss, steps * self.train.batch_size, (*carry[1:], state)

    def rows(self, batch: int) -> Mapping[Parameter, np.ndarray]:
        """The rows of the embedding that are read in a window, if it has many more."""
        return rows_read(self.model.embedding.E, lambda: self.train.read(batch))

    def _loss(self, windows: Ahead, batch: int, state: Any) -> tuple[Tensor, int, Any]:
        output = self.model.output
        (inputs, targets), _ = windows.get(batch, output.W.device)
        ys, state = self.model.read(inputs, state)
        loss = nn.linear_cross_entropy(ys, output.W, output.b, targets, reduction="sum")
        return loss, len(targets), nn.detached(state)

    def validate(self) -> float:
        """Nats per token on the held-out tail, the state carried from its beginning to its end."""
        total: Any = 0.0
        groups = len(self.strands[1])
        states = [self.model.initial_state(n) for n in self.strands[1]]
        with evaluating(self.model):
            for i in range(len(self.valid) * groups):
                if self.strands[1][i % groups]:  # there may be fewer strands than processes
                    loss, _, states[i % groups] = self._loss(self.held_out, i, states[i % groups])
                    total += loss.astype("float64")
        return self.world.total(float(total))[0] / self.valid.tokens

    def measure(self, nats: float) -> float:
        """Bits per character, or perplexity per word."""
        return perplexity(nats) if self.words else nats / math.log(2)


def _window(streams: Sequence[Stream], i: int) -> tuple[tuple[np.ndarray, np.ndarray], None]:
    """Windows in the order in which they are learned: of each group the first, of each the second, …"""
    return streams[i % len(streams)].window(i // len(streams)), None


# ---- the kind of run -------------------------------------------------------------------------------------------------


def read(config: Config) -> tuple[str, str]:
    """The text that a config names, as what is learned and as the content of its file: the same."""
    text = data.read_text(config.text) if config.text else data.python_reference()
    return text, text


def batches(config: Config, text: str, vocabulary: Vocabulary) -> tuple[list[Stream], list[Stream]]:
    """The text as strands to learn from, and its end, held out: those of this process, in `accumulate` groups."""
    processes = world()
    if config.batch < processes.size:
        raise ValueError(f"--batch: must be at least the number of processes, {processes.size}, got {config.batch}")
    ids = vocabulary.encode(text)
    try:
        learned, held_out = hold_out(ids, config.valid, at_least=2 * config.batch * config.accumulate)
    except ValueError as error:
        raise ValueError(f"{error}; a smaller --batch needs less") from None
    strands = config.batch * config.accumulate
    numbers = (learned, strands), (held_out, min(strands, max(1, len(held_out) // 256)))
    train, valid = (_groups(config, part, n, processes) for part, n in numbers)
    return train, valid


def _groups(config: Config, ids: np.ndarray, strands: int, processes: World) -> list[Stream]:
    """A text as strands, in groups; of each the part of this process."""
    ends = [strands * i // config.accumulate for i in range(config.accumulate + 1)]
    parts = [(start, processes.part(end - start)) for start, end in itertools.pairwise(ends)]
    return [Stream(ids, strands, config.steps, slice(at + p.start, at + p.stop)) for at, p in parts]


KIND = Kind(
    name="lm", what="a language model", config=Config, lr_falls_by=10,
    source="text", default_source="the language reference", vocabulary_files=("vocabulary",),
    read=read, vocabularies=lambda config, text: (Vocabulary.of(text, config.words),), batches=batches, build=build,
    task=lambda config, model, train, valid: LanguageTask(model, train, valid, config.words, world()),
    model=(*MODEL, "words"),
)  # fmt: skip


# ---- using a trained model -------------------------------------------------------------------------------------------


def load(folder: RunFolder) -> tuple[LanguageModel, Vocabulary]:
    """The best model of a run, for evaluation; ValueError if there is none, or if its files are damaged."""
    model, (vocabulary,) = KIND.load(folder)
    return model, vocabulary


@no_grad()
def read_in(model: LanguageModel, ids: np.ndarray) -> tuple[np.ndarray, Any]:
    """Let the model read tokens. ids: (n,), n > 0  returns: log P of each possible next token after each, (n, V), and
    the state after the last."""
    logits, state = model(ids[:, None], model.initial_state(1))
    logp = ops.log_softmax(logits.to("float64")).numpy()[:, 0]
    if not np.isfinite(logp).all():
        raise ValueError(
            "model: its outputs must be finite numbers, they are not; train another one with a smaller --lr"
        )
    return logp, state


def sample(
    model: LanguageModel,
    vocabulary: Vocabulary,
    prompt: str = "",
    length: int = 200,
    temperature: float = 1.0,
    top_k: int = 0,
    seed: int | None = None,
) -> Iterator[str]:
    """Sample `length` tokens that go on after a prompt, one by one, as text.

    temperature: P(w)^(1/temperature), normalised; 0 takes the likeliest token each time
    top_k: only the k likeliest tokens; 0 for all
    seed: the same seed gives the same text
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"sample: temperature must be a finite number of at least 0, got {temperature}")
    for name, value in ("top_k", top_k), ("length", length), ("seed", seed or 0):
        if value < 0:
            raise ValueError(f"sample: {name} must be at least 0, got {value}")
    rng = np.random.default_rng(seed)
    ids = vocabulary.encode(prompt.rstrip(" ") if vocabulary.words else prompt, "prompt")
    context = ids if len(ids) else _start(vocabulary)
    logp, state = read_in(model, context)
    last, before = logp[-1], vocabulary.tokens[ids[-1]] if len(ids) else ""
    for _ in range(length):
        chosen = int(decode.sample_tokens(last[None], temperature=temperature, top_k=top_k, rng=rng)[0])
        token = vocabulary.tokens[chosen]
        yield vocabulary.spaced(token, before)
        before = token
        with no_grad():
            logits, state = model.step(np.array([chosen]), state)
        last = logits.numpy()[0].astype(np.float64)


def _start(vocabulary: Vocabulary) -> np.ndarray:
    """What stands before a text that has nothing before it: the end of a line, or else the first token."""
    return np.array([vocabulary.ids.get("\n", 0)])


def score(model: LanguageModel, vocabulary: Vocabulary, sentence: str) -> tuple[float, int]:
    """log P(sentence) in nats by the chain rule, given that a line begins with it, and its number of tokens."""
    ids = vocabulary.encode(sentence, "sentence")
    if not len(ids):
        raise ValueError("score: the sentence is empty")
    logp, _ = read_in(model, np.concatenate([_start(vocabulary), ids[:-1]]))
    return float(logp[np.arange(len(ids)), ids].sum()), len(ids)


def unrolled(model: LanguageModel, ids: np.ndarray) -> Tensor:
    """The loss L = Σ Lₜ over a few tokens, recorded step by step: the graph to draw. ids: (T + 1,)"""
    state, losses = model.initial_state(1), []
    for t in range(len(ids) - 1):
        with scope(t):
            logits, state = model.step(ids[t : t + 1], state)
            losses.append(
                nn.cross_entropy(logits, arrays.from_numpy(ids[t + 1 : t + 2], logits.device), reduction="sum")
            )
    return sum(losses[1:], losses[0])
