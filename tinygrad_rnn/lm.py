"""Language models: learn a text, sample from it, score a sentence.

P(w₁ … wₙ) = Π P(wₖ | w₁ … wₖ₋₁): the targets are the inputs shifted by one.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import sys

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_rnn import backend, data, nest, nn, ops, optim, random
from tinygrad_rnn.checkpoint import load_checkpoint, without_prefix
from tinygrad_rnn.data import Stream, Vocabulary
from tinygrad_rnn.graph import scope
from tinygrad_rnn.tensor import Tensor, no_grad
from tinygrad_rnn.train import RunFolder, Trainer

CELLS: dict[str, Callable[[int, int], nn.Cell]] = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}


@dataclass(frozen=True)
class Config:
    """What a language model is and how it is trained; the options of `tinygrad-rnn train lm`."""

    text: str = ""  # a file; "" for Python's language reference
    words: bool = False
    cell: str = "lstm"
    hidden: int = 256
    embed: int = 64
    layers: int = 1
    dropout: float = 0.0
    epochs: int = 8
    batch: int = 32
    steps: int = 32
    lr: float = 5e-3
    clip: float = 1.0
    valid: float = 0.05
    seed: int = 0
    dtype: str = "float32"


def checked(config: Config, who: str = "--") -> Config:
    """The config, if its values make sense; ValueError if not. `who` stands before the names of options."""
    default = Config()
    for name, value in asdict(config).items():
        kind = type(getattr(default, name))
        if not (isinstance(value, kind) or (kind is float and isinstance(value, int))) or (
            isinstance(value, bool) and kind is not bool
        ):
            raise ValueError(f"{who}{name}: must be of type {kind.__name__}, got {value!r}")
    for name in ("hidden", "embed", "layers", "epochs", "batch", "steps"):
        if getattr(config, name) < 1:
            raise ValueError(f"{who}{name}: must be at least 1, got {getattr(config, name)}")
    limits = {
        "lr": (0 < config.lr < math.inf, "a finite number greater than 0"),
        "clip": (0 <= config.clip < math.inf, "a finite number of at least 0"),
        "dropout": (0 <= config.dropout < 1, "from 0 to less than 1"),
        "valid": (0 < config.valid < 1, "between 0 and 1"),
        "seed": (config.seed >= 0, "at least 0"),
        "dtype": (config.dtype in ("float32", "float64"), "float32 or float64"),
    }
    for name, (holds, what) in limits.items():
        if not holds:
            raise ValueError(f"{who}{name}: must be {what}, got {getattr(config, name)}")
    return config


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
        ys, state = self.recurrent(self.dropout(self.embedding(ids)), state)
        return self.output(self.dropout(ys)), state

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
    cells = [make_cell(config.cell, i, config.hidden) for i in sizes[:-1]]
    cell = cells[0] if config.layers == 1 else nn.Stack(cells, dropout=config.dropout)
    model = LanguageModel(vocabulary_size, config.embed, cell, config.hidden, config.dropout)
    model.to(config.dtype)
    return model


# ---- cells by name -------------------------------------------------------------------------------------------------


def make_cell(name: str, input_size: int, hidden_size: int) -> nn.Cell:
    """The cell "lstm", "gru", "rnn" or "package.module:Class", tried out for one step; ValueError if it is none."""
    cls = CELLS.get(name) or _import_cell(name)
    try:
        inspect.signature(cls).bind(input_size, hidden_size)
    except TypeError as error:
        raise ValueError(f"--cell: {name} must be made as Class(input_size, hidden_size); {error}") from None
    try:
        cell = cls(input_size, hidden_size)
    except Exception as error:  # whatever the user's own code raises
        raise ValueError(f"--cell: making {name} failed ({type(error).__name__}: {error})") from None
    for batch in 2, 3:
        problem = _try_cell(cell, input_size, hidden_size, batch)
        if problem:
            raise ValueError(f"--cell: {name}: {problem}")
    return cell


def _import_cell(name: str) -> Any:
    module_name, _, class_name = name.partition(":")
    if not (module_name and class_name):
        raise ValueError(f'--cell: must be one of {", ".join(CELLS)} or "package.module:Class", got {name!r}')
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's own module raises
        raise ValueError(
            f"--cell: {module_name!r} cannot be imported from {Path.cwd()} ({type(error).__name__}: {error})"
        ) from None
    cls = getattr(module, class_name, None)
    if not (inspect.isclass(cls) and issubclass(cls, nn.Cell)):
        what = (
            "a class that is not"
            if inspect.isclass(cls)
            else "something else"
            if cls is not None
            else "nothing of that name"
        )
        raise ValueError(f"--cell: {class_name} in {module_name} must be a class derived from nn.Cell, found {what}")
    return cls


def _try_cell(cell: nn.Cell, input_size: int, hidden_size: int, batch: int) -> str:
    """What is wrong with a cell, found by a step on zeros; "" if nothing is."""
    try:
        with no_grad():
            state = cell.initial_state(batch)
            result = cell(cell.zeros(batch, input_size), state)
    except Exception as error:  # whatever the user's own code raises
        return f"a step on zeros failed ({type(error).__name__}: {error})"
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Tensor)):
        return f"forward(x, state) must return (y, state), got {nest.describe(result)}"
    y, new = result
    if y.shape != (batch, hidden_size):
        return f"y must be (batch, hidden_size), got {y.shape} for batch {batch} and hidden_size {hidden_size}"
    strange = [leaf for leaf in nest.leaves(state) if not isinstance(leaf, Tensor)]
    if strange:
        return f"the state must hold tensors, got {type(strange[0]).__name__}"
    if nest.describe(new) != nest.describe(state):
        return f"the state must keep its shapes, got {nest.describe(new)} after {nest.describe(state)}"
    return ""


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

    def start(self) -> Any:
        """The initial state of every strand."""
        return self.model.initial_state(self.train.columns.shape[1])

    def loss(self, batch: int, carry: Any) -> tuple[Tensor, int, Any]:
        """Nats of window `batch`, summed; its number of tokens; the state after it, cut off."""
        return self._loss(self.train, batch, carry)

    def _loss(self, stream: Stream, batch: int, state: Any) -> tuple[Tensor, int, Any]:
        inputs, targets = stream.window(batch)
        logits, state = self.model(inputs, state)
        targets = backend.from_numpy(targets, logits.device)
        return nn.cross_entropy(logits, targets, reduction="sum"), targets.size, nn.detached(state)

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
        learned, held_out = data.hold_out(ids, config.valid, at_least=2 * config.batch)
    except ValueError as error:
        raise ValueError(f"{error}; a smaller --batch needs less") from None
    random.manual_seed(config.seed)
    model = build(config, len(vocabulary)).to(backend.default_device())
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
    text = load_text(config)
    vocabulary = Vocabulary.of(text, config.words)
    made = trainer(config, folder, text, vocabulary, save_every)
    saved = {**asdict(config), "task": "lm", "text": str(Path(config.text).absolute()) if config.text else ""}
    folder.create({**saved, "text_sha256": _sha256(text)}, {"vocabulary": asdict_vocabulary(vocabulary)})
    return made, vocabulary


def resumed_run(config: Config, folder: RunFolder, save_every: float = 10.0) -> tuple[Trainer, Vocabulary]:
    """Go on with the run in a folder; ValueError if its text is not the one it was started with."""
    text = load_text(config)
    if _sha256(text) != folder.read("config").get("text_sha256"):
        raise ValueError(
            f"--resume: {config.text or 'the language reference'!r} is not the text this run was started with"
        )
    vocabulary = read_vocabulary(folder)
    made = trainer(config, folder, text, vocabulary, save_every)
    folder.clean()
    if folder.best.exists() and not folder.last.exists():
        raise ValueError(f"--resume: {str(folder.path)!r} has lost its last.safetensors; start another run")
    if folder.last.exists():
        made.restore(folder.last)
        folder.write_metrics(made.progress.rows)
    return made, vocabulary


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def asdict_vocabulary(vocabulary: Vocabulary) -> dict[str, Any]:
    """A vocabulary as JSON can hold it."""
    return {"words": vocabulary.words, "tokens": vocabulary.tokens}


def read_vocabulary(folder: RunFolder) -> Vocabulary:
    """The vocabulary of a run."""
    saved = folder.read("vocabulary")
    try:
        return Vocabulary(saved["tokens"], saved["words"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"run: {str(folder.path / 'vocabulary.json')!r} is damaged ({error!r})") from None


def read_config(folder: RunFolder) -> Config:
    """The config of a run; ValueError if it is not a language model's."""
    saved = folder.read("config")
    if not isinstance(saved, dict) or saved.get("task") != "lm":
        raise ValueError(f"run: {str(folder.path)!r} must hold a language model, its config.json says otherwise")
    try:
        return checked(Config(**{key: saved[key] for key in asdict(Config())}), f"run: {folder.path}/config.json: ")
    except KeyError as error:
        raise ValueError(f"run: {str(folder.path / 'config.json')!r} is damaged, it lacks {error}") from None


# ---- using a trained model -------------------------------------------------------------------------------------------


def load(folder: RunFolder) -> tuple[LanguageModel, Vocabulary]:
    """The best model of a run, for evaluation; ValueError if there is none, or if its files are damaged."""
    config, vocabulary = read_config(folder), read_vocabulary(folder)
    path = folder.best if folder.best.exists() else folder.last
    arrays, _ = load_checkpoint(path)
    model = build(config, len(vocabulary)).to(backend.default_device())
    try:
        model.load_state_dict(without_prefix("model", arrays))
    except ValueError as error:
        raise ValueError(f"checkpoint: {str(path)!r} does not fit the run's config ({error})") from None
    model.eval()
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
    last, before = logp[-1], vocabulary.tokens[context[-1]]
    for _ in range(length):
        chosen = _draw(last, temperature, top_k, rng)
        token = vocabulary.tokens[chosen]
        yield vocabulary.spaced(token, before)
        before = token
        with no_grad():
            logits, state = model.step(np.array([chosen]), state)
        last = logits.numpy()[0].astype(np.float64)


def _draw(logp: np.ndarray, temperature: float, top_k: int, rng: np.random.Generator) -> int:
    """One token from (unnormalised) log probabilities."""
    if temperature == 0:
        return int(logp.argmax())
    with np.errstate(over="ignore"):
        scaled = (logp - logp.max()) / temperature
    if 0 < top_k < len(scaled):
        scaled = np.where(scaled < np.partition(scaled, -top_k)[-top_k], -np.inf, scaled)
    p = np.exp(scaled - scaled.max())
    return int(rng.choice(len(p), p=p / p.sum()))


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
                nn.cross_entropy(logits, backend.from_numpy(ids[t + 1 : t + 2], logits.device), reduction="sum")
            )
    return sum(losses[1:], losses[0])
