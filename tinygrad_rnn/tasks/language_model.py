"""Language models: learn a text, sample from it, score a sentence.

P(w₁ … wₙ) = Π P(wₖ | w₁ … wₖ₋₁): the targets are the inputs shifted by one.
"""

from __future__ import annotations

import math

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn import data, decode, nn, ops, optim
from tinygrad_rnn.autograd import arrays, random
from tinygrad_rnn.autograd.devices import default_device
from tinygrad_rnn.autograd.graph import scope
from tinygrad_rnn.autograd.tensor import Tensor, no_grad
from tinygrad_rnn.data import Vocabulary
from tinygrad_rnn.data.batches import Stream, hold_out
from tinygrad_rnn.tasks import cells_by_name
from tinygrad_rnn.tasks import config as runs
from tinygrad_rnn.tasks.fit import Trainer
from tinygrad_rnn.tasks.run_folder import RunFolder


@dataclass(frozen=True)
class Config(runs.Config):
    """What a language model is and how it is trained; the options of `tinygrad-rnn train lm`."""

    text: str = ""  # a file; "" for Python's language reference
    words: bool = False
    steps: int = 32


def checked(config: Config, who: str = "--") -> Config:
    """The config, if its values make sense; ValueError if not. `who` stands before the names of options."""
    return runs.checked(config, who, steps=(config.steps >= 1, "at least 1"))


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
    sizes = [config.embed] + [config.hidden] * config.layers
    cells = [cells_by_name.make_cell(config.cell, i, config.hidden) for i in sizes[:-1]]
    cell = cells[0] if config.layers == 1 else nn.Stack(cells, dropout=config.dropout)
    model = LanguageModel(vocabulary_size, config.embed, cell, config.hidden, config.dropout)
    model.to(config.dtype)
    return model


# ---- training -------------------------------------------------------------------------------------------------------


class LanguageTask:
    """Truncated backpropagation through time over a stream: the state is carried on, gradients stop at each window."""

    def __init__(self, model: LanguageModel, train: Stream, valid: Stream, words: bool):
        self.model, self.train, self.valid, self.words = model, train, valid, words
        self.unit, self.metric = ("word", "perplexity") if words else ("character", "bits per character")

    def __len__(self) -> int:
        return len(self.train)

    def tokens(self) -> int:
        """The number of targets in an epoch."""
        return self.train.tokens

    def start(self, epoch: int) -> Any:
        """The initial state of every strand."""
        return self.model.initial_state(self.train.columns.shape[1])

    def loss(self, batch: int, carry: Any) -> tuple[Tensor, int, Any]:
        """Nats of window `batch`, summed; its number of tokens; the state after it, cut off."""
        return self._loss(self.train, batch, carry)

    def _loss(self, stream: Stream, batch: int, state: Any) -> tuple[Tensor, int, Any]:
        inputs, targets = stream.window(batch)
        ys, state = self.model.read(inputs, state)
        output = self.model.output
        loss = nn.linear_cross_entropy(ys, output.W, output.b, targets, reduction="sum")
        return loss, targets.size, nn.detached(state)

    def validate(self) -> float:
        """Nats per token on the held-out tail, the state carried from its beginning to its end."""
        total, state = 0.0, self.model.initial_state(self.valid.columns.shape[1])
        self.model.eval()
        with no_grad():
            for i in range(len(self.valid)):
                loss, _, state = self._loss(self.valid, i, state)
                total += loss.item()
        self.model.train()
        return total / self.valid.tokens

    def measure(self, nats: float) -> float:
        """Bits per character, or perplexity per word."""
        return math.exp(min(nats, 700.0)) if self.words else nats / math.log(2)


def load_text(config: Config) -> str:
    """The text that a config names."""
    return data.read_text(config.text) if config.text else data.python_reference()


def trainer(config: Config, folder: RunFolder, text: str, vocabulary: Vocabulary, save_every: float = 10.0) -> Trainer:
    """A run at its beginning."""
    ids = vocabulary.encode(text)
    try:
        learned, held_out = hold_out(ids, config.valid, at_least=2 * config.batch)
    except ValueError as error:
        raise ValueError(f"{error}; a smaller --batch needs less") from None
    random.manual_seed(config.seed)
    model = build(config, len(vocabulary)).to(default_device())
    task = LanguageTask(
        model,
        Stream(learned, config.batch, config.steps),
        Stream(held_out, min(config.batch, max(1, len(held_out) // 256)), config.steps),
        config.words,
    )
    schedule = optim.cosine(config.lr, config.epochs * len(task), min_lr=config.lr / 10)
    optimizer = optim.Adam(model.parameters(), schedule)
    return Trainer(model, optimizer, task, folder, config.clip, save_every)


def new_run(config: Config, folder: RunFolder, save_every: float = 10.0) -> tuple[Trainer, Vocabulary]:
    """Start a run in an empty folder; ValueError, and nothing written, if anything is wrong with the config."""
    text = load_text(checked(config))
    vocabulary = Vocabulary.of(text, config.words)
    made = trainer(config, folder, text, vocabulary, save_every)
    runs.create(folder, "lm", config, "text", text, {"vocabulary": vocabulary.as_dict()})
    return made, vocabulary


def resumed_run(config: Config, folder: RunFolder, save_every: float = 10.0) -> tuple[Trainer, Vocabulary]:
    """Go on with the run in a folder; ValueError if its text is not the one it was started with."""
    text = load_text(config)
    runs.check_same(folder, "text", text, config.text or "the language reference")
    vocabulary = runs.read_vocabulary(folder)
    made = trainer(config, folder, text, vocabulary, save_every)
    runs.resume(made)
    return made, vocabulary


def read_config(folder: RunFolder) -> Config:
    """The config of a run; ValueError if it is not a language model's."""
    return checked(*runs.read_config(folder, "lm", Config, "a language model"))


# ---- using a trained model -------------------------------------------------------------------------------------------


def load(folder: RunFolder) -> tuple[LanguageModel, Vocabulary]:
    """The best model of a run, for evaluation; ValueError if there is none, or if its files are damaged."""
    config, vocabulary = read_config(folder), runs.read_vocabulary(folder)
    model = build(config, len(vocabulary)).to(default_device())
    runs.load_best(model, folder)
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
    """Draw `length` tokens that go on after a prompt, one by one, as text.

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
