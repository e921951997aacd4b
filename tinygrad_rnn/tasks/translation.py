"""Pairs of sequences: learn to write a target for a source, by an encoder and a decoder; translate, and score.

P(y₁ … y_T | x₁ … x_S) = Π P(y_t | y₁ … y_{t-1}, x): pronunciation, translation, answers.
"""

from __future__ import annotations

import math

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from tinygrad_rnn import data, decode, metrics, nn, optim
from tinygrad_rnn.autograd import arrays, random
from tinygrad_rnn.autograd.devices import default_device
from tinygrad_rnn.autograd.tensor import Tensor, no_grad
from tinygrad_rnn.data import END, START, UNKNOWN, Vocabulary
from tinygrad_rnn.data.batches import IGNORED, Batch, Pairs, padded, rounded
from tinygrad_rnn.decode import Hypothesis
from tinygrad_rnn.tasks import cells_by_name
from tinygrad_rnn.tasks import config as runs
from tinygrad_rnn.tasks.fit import Trainer
from tinygrad_rnn.tasks.run_folder import RunFolder

QUERIES = ("output", "previous", "context")
MEMORIES = ("none", "context", *nn.ATTENTIONS)


@dataclass(frozen=True)
class Config(runs.Config):
    """What a model of pairs is and how it is trained; the options of `tinygrad-rnn train seq2seq`."""

    pairs: str = ""
    source_words: bool = False
    target_words: bool = False
    min_count: int = 1
    attention: str = "general"
    query: str = "output"
    sampling: float = 0.0
    dropout: float = 0.2
    epochs: int = 10
    batch: int = 128
    lr: float = 2e-3


def checked(config: Config, who: str = "--") -> Config:
    """The config, if its values make sense; ValueError if not. `who` stands before the names of options."""
    return runs.checked(
        config, who,
        hidden=(config.hidden >= 2 and config.hidden % 2 == 0, "even: each direction of the encoder has half of them"),
        sampling=(0 <= config.sampling <= 1, "from 0 to 1"),
        min_count=(config.min_count >= 1, "at least 1"),
        attention=(config.attention in MEMORIES, f"one of {', '.join(MEMORIES)}"),
        query=(config.query in QUERIES, f"one of {', '.join(QUERIES)}"),
    )  # fmt: skip


def build(config: Config, sources: int, targets: int) -> nn.EncoderDecoder:
    """The model that a config describes, for vocabularies of these sizes: an encoder of H / 2 units in each direction,
    a decoder of H units."""
    H, E, kind = config.hidden, config.embed, config.attention
    make = lambda inputs, units: cells_by_name.make_cell(config.cell, inputs, units)
    encoder = nn.Layers(make, E, H // 2, config.layers, bidirectional=True, dropout=config.dropout)
    end = nn.state_size(encoder.cells)
    read = {"none": 0, "context": end}.get(kind, H)
    cells = [make(H if i else E + read, H) for i in range(config.layers)]
    cell = cells[0] if config.layers == 1 else nn.Stack(cells, dropout=config.dropout)
    bridge, said = nn.Bridge(end, cell), H
    if kind == "context":
        cell = nn.ContextCell(cell)
    elif kind != "none":
        cell, said = nn.AttentionCell(cell, nn.ATTENTIONS[kind](H, H), query=config.query), 2 * H
    model = nn.EncoderDecoder(
        nn.Embedding(sources, E), encoder, bridge, nn.Embedding(targets, E), cell, nn.Linear(said, targets),
        dropout=config.dropout,
    )  # fmt: skip
    return model.to(config.dtype)


# ---- training -------------------------------------------------------------------------------------------------------


class PairTask:
    """Pairs in batches of like lengths; the decoder is fed the true token before (teacher forcing), or, with scheduled
    sampling, now and then its own. Bengio et al. (2015), arXiv:1506.03099.

    sampling: the share of its own tokens in the last epoch; it grows linearly from none over `epochs`
    """

    unit, metric = "token", "perplexity"

    def __init__(
        self, model: nn.EncoderDecoder, train: Pairs, valid: Pairs, sampling: float = 0.0, epochs: int = 1
    ):  # fmt: skip
        self.model, self.train, self.valid, self.sampling, self.epochs = model, train, valid, sampling, epochs
        self.start(0)

    def __len__(self) -> int:
        return len(self.train)

    def tokens(self) -> int:
        """The number of targets in an epoch."""
        return self.train.tokens

    def start(self, epoch: int) -> None:
        """The order of the epoch's batches."""
        self.order = self.train.order(epoch)
        self.share = self.sampling * min(epoch / max(self.epochs - 1, 1), 1)

    def loss(self, batch: int, carry: Any) -> tuple[Tensor, int, Any]:
        """Nats of a batch, summed, and its number of tokens."""
        found = self.train.batch(self.order[batch])
        if self.share:
            found = found._replace(inputs=sampled_inputs(self.model, found, self.share))
        return (*self.batch_loss(found), None)

    def batch_loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Nats of these pairs, summed, and the number of their tokens."""
        outputs = self.model.decode(batch.source, batch.inputs, batch.lengths)
        last: Any = self.model.output
        loss = nn.linear_cross_entropy(outputs, last.W, last.b, batch.targets, reduction="sum", ignore_index=IGNORED)
        return loss, int((batch.targets != IGNORED).sum())

    def validate(self) -> float:
        """Nats per token of the held-out pairs."""
        self.model.eval()
        with no_grad():
            losses = [self.batch_loss(batch) for batch in self.valid.epoch(0)]
        self.model.train()
        return sum(loss.item() for loss, _ in losses) / sum(n for _, n in losses)

    def measure(self, nats: float) -> float:
        """Perplexity."""
        return math.exp(min(nats, 700.0))


def sampled_inputs(model: nn.EncoderDecoder, batch: Batch, share: float) -> np.ndarray:
    """The inputs of a batch, each but the first with probability `share` what the model draws itself. (T, B)

    Step by step, without recording: as no gradient flows through a drawn token, that of the loss on these inputs, all
    steps at once, is the one of scheduled sampling.
    """
    inputs = batch.inputs.copy()
    own = random.uniform(inputs.shape) < share
    rng = random.default_generator()
    with no_grad():
        state = model.encode(batch.source, batch.lengths)
        for t in range(len(inputs) - 1):
            logits, state = model.step(inputs[t], state)
            drawn = decode.sample_tokens(logits.numpy(), rng=rng)
            inputs[t + 1] = np.where(own[t + 1], drawn, inputs[t + 1])
    return inputs


def trainer(
    config: Config, folder: RunFolder, pairs: Sequence[tuple[str, str]], vocabularies: tuple[Vocabulary, Vocabulary],
    save_every: float = 10.0,
) -> Trainer:  # fmt: skip
    """A run at its beginning."""
    learned, held_out = hold_out(pairs, config.valid, config.seed)
    random.manual_seed(config.seed)
    model = build(config, *map(len, vocabularies)).to(default_device())
    train, valid = (numbered(part, *vocabularies, config.batch, config.seed) for part in (learned, held_out))
    task = PairTask(model, train, valid, config.sampling, config.epochs)
    schedule = optim.cosine(config.lr, config.epochs * len(task), min_lr=config.lr / 50)
    return Trainer(model, optim.Adam(model.parameters(), schedule), task, folder, config.clip, save_every)


def hold_out(pairs: Sequence[tuple[str, str]], share: float, seed: int) -> tuple[list, list]:
    """The pairs to learn from, and those held out; all pairs of a source are on one side."""
    sources = sorted({source for source, _ in pairs})
    n = max(1, round(len(sources) * share))
    if len(sources) <= n:
        raise ValueError(
            f"pairs: there must be sources beside those held out, got {len(sources)} different ones in all"
        )
    held = {sources[i] for i in np.random.default_rng(seed).permutation(len(sources))[:n]}
    return [p for p in pairs if p[0] not in held], [p for p in pairs if p[0] in held]


def vocabularies_of(config: Config, pairs: Sequence[tuple[str, str]]) -> tuple[Vocabulary, Vocabulary]:
    """Those of the sources and of the targets."""
    sources, targets = zip(*pairs, strict=True)
    source = Vocabulary.of(sources, config.source_words, min_count=config.min_count, special=[UNKNOWN])
    special = [UNKNOWN, START, END]
    return source, Vocabulary.of(targets, config.target_words, min_count=config.min_count, special=special)


def numbered(
    pairs: Sequence[tuple[str, str]], source: Vocabulary, target: Vocabulary, batch: int, seed: int = 0
) -> Pairs:  # fmt: skip
    """Pairs of texts as pairs of ids, in batches."""
    sources, targets = [source.encode(s) for s, _ in pairs], [target.encode(t) for _, t in pairs]
    return Pairs(sources, targets, batch, start=target.ids[START], end=target.ids[END], seed=seed)


def new_run(config: Config, folder: RunFolder, save_every: float = 10.0) -> tuple[Trainer, Any]:
    """Start a run in an empty folder; ValueError, and nothing written, if anything is wrong with the config."""
    pairs, content = read(checked(config))
    source, target = vocabularies_of(config, pairs)
    made = trainer(config, folder, pairs, (source, target), save_every)
    saved = {"source_vocabulary": source.as_dict(), "target_vocabulary": target.as_dict()}
    runs.create(folder, "seq2seq", config, "pairs", content, saved)
    return made, (source, target)


def resumed_run(config: Config, folder: RunFolder, save_every: float = 10.0) -> tuple[Trainer, Any]:
    """Go on with the run in a folder; ValueError if its pairs are not those it was started with."""
    pairs, content = read(config)
    runs.check_same(folder, "pairs", content, config.pairs)
    vocabularies = read_vocabularies(folder)
    made = trainer(config, folder, pairs, vocabularies, save_every)
    runs.resume(made)
    return made, vocabularies


def held_out_sources(config: Config) -> list[str]:
    """What a run with this config does not learn from, in the order of the file."""
    _, held_out = hold_out(read(config)[0], config.valid, config.seed)
    return list(dict.fromkeys(source for source, _ in held_out))


def read(config: Config) -> tuple[list[tuple[str, str]], str]:
    """The pairs that a config names, and the text of their file."""
    if not config.pairs:
        raise ValueError("--pairs: must name a file with a pair in each line, source TAB target")
    return data.read_pairs(config.pairs), data.read_text(config.pairs)


def read_config(folder: RunFolder) -> Config:
    """The config of a run; ValueError if it is not one of pairs."""
    return checked(*runs.read_config(folder, "seq2seq", Config, "a model of pairs"))


def read_vocabularies(folder: RunFolder) -> tuple[Vocabulary, Vocabulary]:
    """Those of the sources and of the targets of a run."""
    return runs.read_vocabulary(folder, "source_vocabulary"), runs.read_vocabulary(folder, "target_vocabulary")


# ---- using a trained model -------------------------------------------------------------------------------------------


class Translator:
    """A trained model with its vocabularies: texts in, texts out."""

    def __init__(self, model: nn.EncoderDecoder, source: Vocabulary, target: Vocabulary):
        self.model, self.source, self.target = model, source, target

    @classmethod
    def load(cls, folder: RunFolder) -> Translator:
        """The best model of a run; ValueError if there is none, or if its files are damaged."""
        config, (source, target) = read_config(folder), read_vocabularies(folder)
        model = build(config, len(source), len(target)).to(default_device())
        runs.load_best(model, folder)
        return cls(model, source, target)

    def __call__(
        self, texts: Sequence[str], *, beam: int = 1, length_penalty: float = 1.0, n_best: int = 1, batch: int = 256
    ) -> list[list[Hypothesis]]:
        """For each text its best hypotheses; beam 1 takes the likeliest token at each step."""
        ids = [self.source.encode(text, "source") for text in texts]
        for text, sequence in zip(texts, ids, strict=True):
            if not len(sequence):
                raise ValueError(f"source: must have at least one token, got {text!r}")
        found: list[Any] = [None] * len(texts)
        for part in _by_length(ids, batch):
            for i, hypotheses in zip(
                part, self._decode([ids[i] for i in part], beam, length_penalty, n_best), strict=True
            ):
                found[i] = hypotheses
        return found

    def _decode(
        self, ids: Sequence[np.ndarray], beam: int, length_penalty: float, n_best: int
    ) -> list[list[Hypothesis]]:
        options: dict[str, Any] = {
            "start": self.target.ids[START], "end": self.target.ids[END], "weights": nn.attention_weights,
            "max_length": 2 * rounded(max(map(len, ids))) + 10,
        }  # fmt: skip
        with no_grad():
            state = self.model.encode(padded(ids, 0), np.array([len(sequence) for sequence in ids]))
        if beam == n_best == 1:
            return [[h] for h in decode.greedy(self.model.step, state, **options)]
        return decode.beam_search(
            self.model.step, state, width=beam, n_best=n_best, length_penalty=length_penalty, **options
        )

    def text(self, hypothesis: Hypothesis) -> str:
        """What a hypothesis says."""
        return self.target.decode(hypothesis.tokens).strip()


def unrolled(translator: Translator, text: str) -> tuple[Tensor, list[list[str]], list[str]]:
    """The loss of what a model says to a source, recorded: the graph to draw; the tokens that its encoder and its
    decoder read, and those that it says.
    """
    ((best,),) = translator([text])
    batch = Pairs(
        [translator.source.encode(text)], [np.array(best.tokens, np.int64)], 1,
        start=translator.target.ids[START], end=translator.target.ids[END],
    ).batch([0])  # fmt: skip
    steps = len(best.tokens) + 1  # without padding
    logits = translator.model(batch.source[: batch.lengths[0]], batch.inputs[:steps], batch.lengths)
    loss = nn.cross_entropy(logits, arrays.from_numpy(batch.targets[:steps], logits.device), reduction="sum")
    said = translator.target.shown(best.tokens)
    return loss, [translator.source.split(text), [START, *said]], [*said, END]


def _by_length(ids: Sequence[np.ndarray], batch: int) -> Iterator[list[int]]:
    """The numbers of sequences, in batches of like lengths: what is said to one does not depend on its neighbours."""
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    for _, alike in groupby(order, key=lambda i: rounded(len(ids[i]))):
        part = list(alike)
        yield from (part[i : i + batch] for i in range(0, len(part), batch))


def evaluate(
    translator: Translator, pairs: Sequence[tuple[str, str]], *, bleu: bool = False, **options: Any
) -> dict[str, float]:
    """How well a model does on pairs; several targets of one source are alternatives, of which the closest counts.

    returns: "accuracy", the share of the sources with a target hit exactly; "token error rate", edits by tokens of the
    targets; "BLEU" if asked for, of several targets all count; options: as the translator's
    """
    vocabulary = translator.target
    seen = lambda tokens: [t for t in tokens if t.strip()] if vocabulary.words else tokens  # words, not the gaps
    references: dict[str, list[list[str]]] = {}
    for source, target in pairs:
        references.setdefault(source, []).append(seen(vocabulary.split(target)))
    best = [found[0] for found in translator(list(references), **options)]
    said = [seen(vocabulary.shown(hypothesis.tokens)) for hypothesis in best]
    answers = list(references.values())
    scores = {
        "accuracy": 1 - metrics.sequence_error_rate(said, answers),
        "token error rate": metrics.token_error_rate(said, answers),
    }
    return {**scores, "BLEU": metrics.corpus_bleu(said, answers)} if bleu else scores
