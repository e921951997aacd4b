"""Language models: learn a text, sample from it, score a sentence.

P(w₁ … wₙ) = Π P(wₖ | w₁ … wₖ₋₁): the targets are the inputs shifted by one.
"""

from __future__ import annotations

import itertools
import math

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn import data, decode, nn
from tinygrad_rnn.autograd import arrays
from tinygrad_rnn.autograd.gradients import no_grad
from tinygrad_rnn.autograd.graph import scope
from tinygrad_rnn.autograd.tensor import Parameter, Tensor
from tinygrad_rnn.data import UNKNOWN, Subwords, Vocabulary
from tinygrad_rnn.data.batches import Stream, hold_out
from tinygrad_rnn.data.subwords import Tokens
from tinygrad_rnn.parallel import World, world
from tinygrad_rnn.tasks import cells_by_name
from tinygrad_rnn.tasks.ahead import Ahead
from tinygrad_rnn.tasks.config import MODEL, CommonConfig, Limits, subwords_limit
from tinygrad_rnn.tasks.fit import evaluating, perplexity, rows_read
from tinygrad_rnn.tasks.kind import Kind
from tinygrad_rnn.tasks.run_folder import RunFolder


@dataclass(frozen=True)
class Config(CommonConfig):
    """What a language model is and how it is trained; the options of `tinygrad-rnn train lm`."""

    text: str = ""  # a file; "" for Python's language reference
    valid_text: str = ""
    test_text: str = ""
    words: bool = False
    tokenizer: str = ""
    subwords: int = 0
    min_count: int = 0
    max_vocab: int = 0
    tie: bool = False
    steps: int = 32

    def limits(self) -> Limits:
        """Those of every kind of run, and those of its own options."""
        limited = not (self.tokenizer or self.subwords)
        counts = {
            name: (n >= 0 and (limited or not n), "at least 0, and left out beside subwords")
            for name, n in (("min_count", self.min_count), ("max_vocab", self.max_vocab))
        }
        tied = not self.tie or self.embed == self.hidden, f"left out unless --embed, {self.embed}, is --hidden"
        one = sum(map(bool, (self.words, self.tokenizer, self.subwords))) <= 1
        counts |= {
            "tokenizer": (one or bool(self.subwords), "left out beside --words"),
            "subwords": subwords_limit(self.subwords) if one else (False, "left out beside --words or --tokenizer"),
        }
        return {**super().limits(), **counts, "steps": (self.steps >= 1, "at least 1"), "tie": tied}


class LanguageModel(nn.Module):
    """Embedding → recurrent layers → logits of the next token.

    ids: (T, B) integers  state: as the cell's  returns: logits (T, B, V), the state after the last step
    tie: the weights of the output are the embedding's, Eᵀ. Press and Wolf (2017), arXiv:1608.05859
    """

    def __init__(
        self, vocabulary_size: int, embedding_size: int, cell: nn.Cell, output_size: int, dropout: float = 0.0,
        tie: bool = False,
    ):  # fmt: skip
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        self.recurrent = nn.Recurrent(cell)
        self.dropout = nn.Dropout(dropout)
        self.tied = tie
        if tie:
            self.bias = nn.Parameter(nn.init.zeros((vocabulary_size,)))
            self.embedding.E.data = nn.init.uniform(self.embedding.E.shape, 1 / math.sqrt(embedding_size))  # as Linear
        else:
            self.output = nn.Linear(output_size, vocabulary_size)

    def forward(self, ids: Any, state: Any = None) -> tuple[Tensor, Any]:
        ys, state = self.read(ids, state)
        return self._logits(ys), state

    def _logits(self, ys: Tensor) -> Tensor:
        return ys @ self.embedding.E.T + self.bias if self.tied else self.output(ys)

    def loss(self, ys: Tensor, targets: Any) -> Tensor:
        """Nats of targets (T, B) after what the output layer is given, summed."""
        W, b = (self.embedding.E.T, self.bias) if self.tied else (self.output.W, self.output.b)
        return nn.linear_cross_entropy(ys, W, b, targets, reduction="sum")

    def read(self, ids: Any, state: Any = None) -> tuple[Tensor, Any]:
        """What the output layer is given, (T, B, H), and the state after the last step."""
        ys, state = self.recurrent(self.dropout(self.embedding(ids)), state)
        return self.dropout(ys), state

    def step(self, ids: Any, state: Any) -> tuple[Tensor, Any]:
        """One step: ids (B,), returns logits (B, V) and the new state."""
        y, state = self.recurrent.cell(self.dropout(self.embedding(ids)), state)
        return self._logits(self.dropout(y)), state

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first token."""
        return self.recurrent.cell.initial_state(batch_size)


def build(config: Config, vocabulary_size: int) -> LanguageModel:
    """The model that a config describes, its weights drawn from the library's generator."""
    make = lambda inputs, units: cells_by_name.make_cell(config.cell, inputs, units)
    cell = cells_by_name.stacked(make, config.embed, config.hidden, config.layers, config.dropout)
    model = LanguageModel(vocabulary_size, config.embed, cell, config.hidden, config.dropout, config.tie)
    return model.to(config.dtype)


# ---- training -------------------------------------------------------------------------------------------------------


class LanguageTask:
    """Truncated backpropagation through time over a stream: the state is carried on, gradients stop at each window.

    train, valid: the strands of this process, one of `processes`; several streams are groups of the strands of one
    text, which are read one group after the other: the numbers are those of all at once, and less memory is needed
    unit: what a token is: "character", "word", "subword"
    """

    def __init__(
        self, model: LanguageModel, train: Stream | Sequence[Stream], valid: Stream | Sequence[Stream],
        processes: World | None = None, unit: str = "character",
    ):  # fmt: skip
        learned, held_out = ([s] if isinstance(s, Stream) else list(s) for s in (train, valid))
        self.model, self.train, self.valid = model, learned[0], held_out[0]
        self.world, self.parts = processes or World(), len(learned)
        self.strands = [[s.columns.shape[1] for s in streams] for streams in (learned, held_out)]
        self.learned, self.held_out = (Ahead(partial(_window, s), len(s[0]) * len(s)) for s in (learned, held_out))
        self.unit, self.metric = unit, "bits per character" if unit == "character" else "perplexity"

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
        """The rows of the embedding that are read in a window, if it has many more; the output reads them all."""
        return {} if self.model.tied else rows_read(self.model.embedding.E, lambda: self.train.read(batch))

    def _loss(self, windows: Ahead, batch: int, state: Any) -> tuple[Tensor, int, Any]:
        (inputs, targets), _ = windows.get(batch, self.model.embedding.E.device)
        ys, state = self.model.read(inputs, state)
        return self.model.loss(ys, targets), len(targets), nn.detached(state)

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
        """Bits per character, or perplexity per word or subword."""
        return nats / math.log(2) if self.unit == "character" else perplexity(nats)


def _window(streams: Sequence[Stream], i: int) -> tuple[tuple[np.ndarray, np.ndarray], None]:
    """Windows in the order in which they are learned: of each group the first, of each the second, …"""
    return streams[i % len(streams)].window(i // len(streams)), None


# ---- the kind of run -------------------------------------------------------------------------------------------------


Texts = tuple[str, str]  # to learn from, and to validate on; "": the end of the other


def read(config: Config) -> tuple[Texts, str]:
    """The texts that a config names, and the one that is learned, by which its file is known again."""
    text = data.read_text(config.text) if config.text else data.python_reference()
    if config.test_text:
        data.read_text(config.test_text)  # that it is missing shows before a run, not after it
    return (text, data.read_text(config.valid_text) if config.valid_text else ""), text


def vocabulary_of(config: Config, texts: Texts) -> tuple[Tokens]:
    """The vocabulary of the text that is learned, or the tokenizer that is named."""
    if config.tokenizer:
        return (Subwords.read(config.tokenizer),)
    if config.subwords:
        return (Subwords.of(texts[0].splitlines(keepends=True), config.subwords),)
    counts: dict[str, Any] = {"min_count": config.min_count or None, "max_size": config.max_vocab or None}
    return (Vocabulary.of(texts[0], config.words, **counts),)


def batches(config: Config, texts: Texts, vocabulary: Tokens) -> tuple[list[Stream], list[Stream]]:
    """The text as strands to learn from, and its end, held out: those of this process, in `accumulate` groups."""
    processes = world()
    if config.batch < processes.size:
        raise ValueError(f"--batch: must be at least the number of processes, {processes.size}, got {config.batch}")
    learned, held_out = parts(config, texts, vocabulary)
    strands = config.batch * config.accumulate
    numbers = (learned, strands), (held_out, min(strands, max(1, len(held_out) // 256)))
    train, valid = (_groups(config, part, n, processes) for part, n in numbers)
    return train, valid


def parts(config: Config, texts: Texts, vocabulary: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """The ids to learn from, and those to validate on."""
    ids, least = vocabulary.encode(texts[0]), 2 * config.batch * config.accumulate
    if texts[1]:
        held_out = vocabulary.encode(texts[1], "--valid-text")
        for name, found in ("--text", ids), ("--valid-text", held_out):
            if len(found) < least:
                raise ValueError(
                    f"{name}: it must have at least {least} tokens, got {len(found)}; a smaller --batch needs less"
                )
        return ids, held_out
    try:
        return hold_out(ids, config.valid, at_least=least)
    except ValueError as error:
        raise ValueError(f"{error}; a smaller --batch needs less") from None


def _groups(config: Config, ids: np.ndarray, strands: int, processes: World) -> list[Stream]:
    """A text as strands, in groups; of each the part of this process."""
    ends = [strands * i // config.accumulate for i in range(config.accumulate + 1)]
    parts = [(start, processes.part(end - start)) for start, end in itertools.pairwise(ends)]
    return [Stream(ids, strands, config.steps, slice(at + p.start, at + p.stop)) for at, p in parts]


KIND = Kind(
    name="lm", what="a language model", config=Config, lr_falls_by=10,
    source="text", default_source="the language reference", vocabulary_files=("vocabulary",),
    read=read, vocabularies=vocabulary_of, batches=batches, build=build,
    task=lambda config, model, train, valid: LanguageTask(
        model, train, valid, world(),
        "subword" if config.tokenizer or config.subwords else "word" if config.words else "character",
    ),
    model=(*MODEL, "words", "tokenizer", "subwords", "min_count", "max_vocab", "tie"),
)  # fmt: skip


# ---- using a trained model -------------------------------------------------------------------------------------------


def load(folder: RunFolder) -> tuple[LanguageModel, Tokens]:
    """The best model of a run, for evaluation; ValueError if there is none, or if its files are damaged."""
    model, (vocabulary,) = KIND.load(folder)
    return model, vocabulary


@no_grad()
def read_in(model: LanguageModel, ids: np.ndarray) -> tuple[np.ndarray, Any]:
    """Let the model read tokens. ids: (n,), n > 0  returns: log P of each possible next token after each, (n, V), and
    the state after the last."""
    logits, state = model(ids[:, None], model.initial_state(1))
    logp = logits.to("float64").log_softmax().numpy()[:, 0]
    if not np.isfinite(logp).all():
        raise ValueError(
            "model: its outputs must be finite numbers, they are not; train another one with a smaller --lr"
        )
    return logp, state


def sample(
    model: LanguageModel,
    vocabulary: Tokens,
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
    choose = partial(decode.sample_tokens, temperature=temperature, top_k=top_k, rng=rng)
    yield from vocabulary.written(_sampled(model, context, length, choose), ids)


def _sampled(model: LanguageModel, context: np.ndarray, length: int, choose: Callable[..., Any]) -> Iterator[int]:
    """The ids of `length` tokens that go on after others."""
    logp, state = read_in(model, context)
    last = logp[-1]
    for _ in range(length):
        chosen = int(choose(last[None])[0])
        yield chosen
        with no_grad():
            logits, state = model.step(np.array([chosen]), state)
        last = logits.numpy()[0].astype(np.float64)


def _start(vocabulary: Tokens) -> np.ndarray:
    """What stands before a text that has nothing before it: the end of a line, or else the first token."""
    return np.array([vocabulary.newline])


def score(model: LanguageModel, vocabulary: Tokens, sentence: str) -> tuple[float, int]:
    """log P(sentence) in nats by the chain rule, given that a line begins with it, and its number of tokens."""
    ids = vocabulary.encode(sentence, "sentence")
    if not len(ids):
        raise ValueError("score: the sentence is empty")
    logp, _ = read_in(model, np.concatenate([_start(vocabulary), ids[:-1]]))
    return float(logp[np.arange(len(ids)), ids].sum()), len(ids)


class Evaluation(NamedTuple):
    """How well a model predicts a text: nats of all its tokens; how many these are, and of them unknown; its words,
    which here are what stands between blanks, in any model, so that models of unlike tokens can be compared."""

    nats: float
    tokens: int
    unknown: int
    words: int


@no_grad()
def evaluate(
    model: LanguageModel, vocabulary: Tokens, text: str, window: int = 1024, ids: np.ndarray | None = None
) -> Evaluation:
    """Let a model read a text from its beginning, as `score` does, to its end, `window` tokens at a time.

    ids: the text's tokens; None: what the vocabulary makes of it
    """
    ids = vocabulary.encode(text, "--text") if ids is None else ids
    if not len(ids):
        raise ValueError("--text: must have at least one token, got none")
    before = np.concatenate([_start(vocabulary), ids[:-1]])
    state, nats = model.initial_state(1), 0.0
    for i in range(0, len(ids), window):
        ys, state = model.read(before[i : i + window, None], state)
        nats += model.loss(ys, ids[i : i + window, None]).item()
    unknown = int((ids == vocabulary.ids[UNKNOWN]).sum()) if UNKNOWN in vocabulary.ids else 0
    return Evaluation(nats, len(ids), unknown, len(text.split()))


def held_out(config: Config, texts: Texts, vocabulary: Tokens) -> tuple[str, np.ndarray]:
    """The text that a run is validated on, and its tokens: those of a text in which some are unknown are not those of
    what it says then."""
    ids = parts(config, texts, vocabulary)[1]
    return texts[1] or vocabulary.decode(ids), ids


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
