"""Pairs of sequences: learn to write a target for a source, by an encoder and a decoder; translate, and score.

P(y₁ … y_T | x₁ … x_S) = Π P(y_t | y₁ … y_{t-1}, x): pronunciation, translation, answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np

from tinygrad_rnn import data, decode, metrics, nn
from tinygrad_rnn.autograd import arrays, random
from tinygrad_rnn.autograd.gradients import no_grad
from tinygrad_rnn.autograd.tensor import Parameter, Tensor
from tinygrad_rnn.data import END, START, UNKNOWN, Subwords, Vocabulary
from tinygrad_rnn.data.batches import IGNORED, Batch, Pairs, padded, rounded
from tinygrad_rnn.data.subwords import Tokens
from tinygrad_rnn.data.words import is_blank, parts_of, words_of
from tinygrad_rnn.decode import Hypothesis
from tinygrad_rnn.nn.lengths import Lengths
from tinygrad_rnn.parallel import World, world
from tinygrad_rnn.tasks import cells_by_name
from tinygrad_rnn.tasks.ahead import Ahead
from tinygrad_rnn.tasks.config import MODEL, CommonConfig, Limits, subwords_limit
from tinygrad_rnn.tasks.fit import evaluating, perplexity, rows_read
from tinygrad_rnn.tasks.kind import Kind
from tinygrad_rnn.tasks.run_folder import RunFolder

QUERIES = ("output", "previous", "context")
MEMORIES = ("none", "context", *nn.ATTENTIONS)
Parts = Sequence[tuple[np.ndarray, np.ndarray]]  # numbers of pairs, and those of the batch that they are a part of


@dataclass(frozen=True)
class Config(CommonConfig):
    """What a model of pairs is and how it is trained; the options of `tinygrad-rnn train seq2seq`."""

    pairs: str = ""
    valid_pairs: str = ""
    test_pairs: str = ""
    source_words: bool = False
    target_words: bool = False
    source_tokenizer: str = ""
    target_tokenizer: str = ""
    source_subwords: int = 0
    target_subwords: int = 0
    bpe_dropout: float = 0.0
    label_smoothing: float = 0.0
    min_count: int = 1
    attention: str = "general"
    query: str = "output"
    sampling: float = 0.0
    dropout: float = 0.2
    epochs: int = 10
    batch: int = 128
    lr: float = 2e-3

    def limits(self) -> Limits:
        """Those of every kind of run, and those of its own options."""
        subwords = self.source_tokenizer, self.target_tokenizer, self.source_subwords, self.target_subwords
        cut = not self.bpe_dropout or any(subwords)
        even = self.hidden >= 2 and self.hidden % 2 == 0
        return {
            **super().limits(),
            "hidden": (even, "even: each direction of the encoder has half of them"),
            **{k: v for side in ("source", "target") for k, v in self._tokens_of(side)},
            "bpe_dropout": (0 <= self.bpe_dropout < 1 and cut, "from 0 to less than 1, and 0 without subwords"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "from 0 to less than 1"),
            "sampling": (0 <= self.sampling <= 1, "from 0 to 1"),
            "min_count": (self.min_count >= 1, "at least 1"),
            "attention": (self.attention in MEMORIES, f"one of {', '.join(MEMORIES)}"),
            "query": (self.query in QUERIES, f"one of {', '.join(QUERIES)}"),
        }

    def _tokens_of(self, side: str) -> Iterator[tuple[str, tuple[bool, str]]]:
        """The limits of the options that say what a side's tokens are."""
        words, tokenizer, subwords = (getattr(self, f"{side}_{name}") for name in ("words", "tokenizer", "subwords"))
        one = sum(map(bool, (words, tokenizer, subwords))) <= 1
        beside = f"left out beside --{side}-words"
        yield f"{side}_tokenizer", (one or bool(subwords), beside)
        limit = subwords_limit(subwords) if one else (False, f"{beside} or --{side}-tokenizer")
        yield f"{side}_subwords", limit


def build(config: Config, sources: int, targets: int) -> nn.EncoderDecoder:
    """The model that a config describes, for vocabularies of these sizes: an encoder of H / 2 units in each direction,
    a decoder of H units."""
    H, E, kind = config.hidden, config.embed, config.attention
    make = lambda inputs, units: cells_by_name.make_cell(config.cell, inputs, units)
    encoder = nn.Layers(make, E, H // 2, config.layers, bidirectional=True, dropout=config.dropout)
    end = nn.state_size(encoder.cells)
    read = {"none": 0, "context": end}.get(kind, H)
    cell = cells_by_name.stacked(make, E + read, H, config.layers, config.dropout)
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
    processes: each takes every n-th pair of a batch, so that all have pairs of like lengths
    parts: in how many parts a batch is learned, one after the other
    label_smoothing: as in `nn.cross_entropy`, of what is learned; held-out pairs are validated without
    train: the pairs, or a function from the number of an epoch to them, always as many
    """

    unit, metric = "token", "perplexity"

    def __init__(
        self, model: nn.EncoderDecoder, train: Pairs | Callable[[int], Pairs], valid: Pairs, sampling: float = 0.0,
        epochs: int = 1, processes: World | None = None, parts: int = 1, label_smoothing: float = 0.0,
    ):  # fmt: skip
        self.model, self.valid, self.sampling, self.epochs = model, valid, sampling, epochs
        self.label_smoothing = label_smoothing
        self.pairs_of: Callable[[int], Pairs] = train if callable(train) else lambda epoch: train
        self.world, self.parts = processes or World(), parts
        self.validated = self._mine(valid, valid.order(0), 1)
        self.held_out = _ahead(valid, self.validated)
        self.start(0)

    def __len__(self) -> int:
        return len(self.train)

    def tokens(self) -> int:
        """The number of targets in an epoch."""
        return self.train.tokens

    def start(self, epoch: int) -> None:
        """Shuffle the batches for an epoch, and set the share of its own tokens that the decoder is fed; no carry."""
        self.train = self.pairs_of(epoch)
        self.order = self.train.order(epoch)
        self.mine = self._mine(self.train, self.order, self.parts)
        self.batches = _ahead(self.train, self.mine)
        self.share = self.sampling * min(epoch / max(self.epochs - 1, 1), 1)

    def loss(self, batch: int, carry: Any) -> tuple[Tensor, int, Any]:
        """Nats of this process's pairs of a part of a batch, summed, and the number of tokens of all pairs of the
        batch."""
        if not self.share or not len(self.mine[batch][0]):
            return (*self._loss_of(self.batches, self.mine, batch), None)
        (source, lengths, inputs, targets), (_, n) = self.batches.get(batch, "cpu")
        found = Batch(source, lengths, inputs, targets)
        return self._nats(found._replace(inputs=sampled_inputs(self.model, found, self.share))), n, None

    def rows(self, batch: int) -> Mapping[Parameter, np.ndarray]:
        """The rows of the embeddings that are read in a batch, if they have many more."""
        source: Any = self.model.source
        target: Any = self.model.target
        pairs = self.order[batch]
        found = rows_read(source.E, lambda: self.train.sources_read(pairs))
        return found if self.share else {**found, **rows_read(target.E, lambda: self.train.targets_read(pairs))}

    def batch_loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Nats of these pairs, summed, and the number of their tokens."""
        return self._nats(batch), int((batch.targets != IGNORED).sum())

    def _mine(self, pairs: Pairs, order: Sequence[np.ndarray], parts: int) -> Parts:
        """Of each part of each batch the pairs of this process, and all pairs of the batch."""
        n, every = pairs.batch_size // parts, slice(self.world.rank, None, self.world.size)
        return [(batch[i * n : (i + 1) * n][every], batch) for batch in order for i in range(parts)]

    def _loss_of(self, batches: Ahead, mine: Parts, i: int) -> tuple[Tensor, int]:
        last: Any = self.model.output
        if not len(mine[i][0]):  # the last batch may have fewer pairs than there are processes, or parts
            return Tensor(np.zeros((), last.W.dtype)), batches.get(i, "cpu")[1][1]
        (source, there, inputs, targets), (lengths, n) = batches.get(i, last.W.device)
        both: Any = lengths if there is lengths else Lengths(lengths, there.array)
        return self._nats(Batch(source, both, inputs, targets)), n

    def _nats(self, batch: Batch) -> Tensor:
        outputs = self.model.decode(batch.source, batch.inputs, batch.lengths)
        last: Any = self.model.output
        smoothing = self.label_smoothing if self.model.training else 0.0
        options: Any = {"reduction": "sum", "ignore_index": IGNORED, "label_smoothing": smoothing}
        return nn.linear_cross_entropy(outputs, last.W, last.b, batch.targets, **options)

    def validate(self) -> float:
        """Nats per token of the held-out pairs."""
        total: Any = 0.0
        with evaluating(self.model):
            for i in range(len(self.valid)):
                loss, _ = self._loss_of(self.held_out, self.validated, i)
                total += loss.astype("float64")
        return self.world.total(float(total))[0] / self.valid.tokens

    def measure(self, nats: float) -> float:
        """Nats per token as perplexity."""
        return perplexity(nats)


def _ahead(pairs: Pairs, order: Parts) -> Ahead:
    """Pairs side by side, and what the host must know of them: their lengths, and the number of tokens in all of the
    batch that they are a part of."""

    def make(i: int) -> tuple[Batch, tuple[np.ndarray, int]]:
        mine, whole = order[i]
        batch = pairs.batch(mine)
        return batch, (batch.lengths, pairs.tokens_of(whole))

    return Ahead(make, len(order))


def sampled_inputs(model: nn.EncoderDecoder, batch: Batch, share: float) -> np.ndarray:
    """The inputs of a batch, each but the first with probability `share` what is sampled from the model. (T, B)

    Step by step, without recording: as no gradient flows through a sampled token, that of the loss on these inputs, all
    steps at once, is the one of scheduled sampling.
    """
    inputs = batch.inputs.copy()
    own = random.uniform(inputs.shape) < share
    rng = random.default_generator()
    with no_grad():
        state = model.encode(batch.source, batch.lengths)
        for t in range(len(inputs) - 1):
            logits, state = model.step(inputs[t], state)
            sampled = decode.sample_tokens(logits.numpy(), rng=rng)
            inputs[t + 1] = np.where(own[t + 1], sampled, inputs[t + 1])
    return inputs


# ---- the kind of run -------------------------------------------------------------------------------------------------


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


def vocabularies_of(config: Config, pairs: Sequence[tuple[str, str]]) -> tuple[Tokens, Tokens]:
    """The vocabulary of the sources, and that of the targets."""
    sources, targets = zip(*pairs, strict=True)
    return _tokens(config, "source", sources, []), _tokens(config, "target", targets, [START, END])


def _tokens(config: Config, side: str, texts: Sequence[str], special: list[str]) -> Tokens:
    words, tokenizer, subwords = (getattr(config, f"{side}_{name}") for name in ("words", "tokenizer", "subwords"))
    if tokenizer or subwords:
        return Subwords.read(tokenizer, special) if tokenizer else Subwords.of(texts, subwords, special)
    return Vocabulary.of(texts, words, min_count=config.min_count, special=[UNKNOWN, *special])


def numbered(
    pairs: Sequence[tuple[str, str]], source: Tokens, target: Tokens, batch: int, seed: int = 0,
    encode: Callable[[Tokens, str], np.ndarray] = lambda tokens, text: tokens.encode(text),
) -> Pairs:  # fmt: skip
    """Pairs of texts as pairs of ids, in batches."""
    sources, targets = [encode(source, s) for s, _ in pairs], [encode(target, t) for _, t in pairs]
    return Pairs(sources, targets, batch, start=target.ids[START], end=target.ids[END], seed=seed)


def held_out(config: Config, examples: Examples) -> list[tuple[str, str]]:
    """The pairs that a run with this config is validated on, in the order of the file."""
    return _parts(config, examples)[1]


def held_out_sources(config: Config) -> list[str]:
    """Their sources, each once."""
    return list(dict.fromkeys(source for source, _ in held_out(config, read(config)[0])))


Examples = tuple[list[tuple[str, str]], list[tuple[str, str]]]  # to learn from; to validate on, or [] for some of them


def read(config: Config) -> tuple[Examples, str]:
    """The pairs that a config names, and the text of the file that is learned."""
    if not config.pairs:
        raise ValueError("--pairs: must name a file with a pair in each line, source TAB target")
    if config.test_pairs:
        data.read_pairs(config.test_pairs)  # that it is missing shows before a run, not after it
    valid = data.read_pairs(config.valid_pairs) if config.valid_pairs else []
    return (data.read_pairs(config.pairs), valid), data.read_text(config.pairs)


def _parts(config: Config, examples: Examples) -> Examples:
    """The pairs to learn from, and those to validate on."""
    return examples if examples[1] else hold_out(examples[0], config.valid, config.seed)


def batches(config: Config, examples: Examples, source: Tokens, target: Tokens) -> Any:
    """The pairs to learn from, and those held out, as numbers; with --bpe-dropout the former for each epoch anew."""
    parts = _parts(config, examples)
    learned, valid = parts[0], numbered(parts[1], source, target, config.batch, config.seed)
    size = config.batch * config.accumulate
    if not config.bpe_dropout:
        return numbered(learned, source, target, size, config.seed), valid

    for tokens in source, target:
        if isinstance(tokens, Subwords):
            tokens.check_dropout()

    @lru_cache(1)
    def cut(epoch: int) -> Pairs:
        rng = np.random.default_rng([config.seed, epoch, 1])  # another one than that of the order

        def encode(tokens: Tokens, text: str) -> np.ndarray:
            if isinstance(tokens, Subwords):
                return tokens.encode_with_dropout(text, config.bpe_dropout, rng)
            return tokens.encode(text)

        return numbered(learned, source, target, size, config.seed, encode)

    return cut, valid


KIND = Kind(
    name="seq2seq", what="a model of pairs", config=Config, lr_falls_by=50,
    source="pairs", vocabulary_files=("source_vocabulary", "target_vocabulary"),
    read=read, vocabularies=lambda config, examples: vocabularies_of(config, examples[0]), batches=batches, build=build,
    task=lambda config, model, train, valid: PairTask(
        model, train, valid, config.sampling, config.epochs, world(), config.accumulate, config.label_smoothing
    ),
    model=(*MODEL, "source_words", "target_words", "source_tokenizer", "target_tokenizer",
           "source_subwords", "target_subwords", "min_count", "attention", "query"),
)  # fmt: skip


# ---- using a trained model -------------------------------------------------------------------------------------------


class Translator:
    """A trained model with its vocabularies: texts in, texts out."""

    def __init__(self, model: nn.EncoderDecoder, source: Tokens, target: Tokens):
        self.model, self.source, self.target = model, source, target

    @classmethod
    def load(cls, folder: RunFolder) -> Translator:
        """The best model of a run; ValueError if there is none, or if its files are damaged."""
        model, vocabularies = KIND.load(folder)
        return cls(model, *vocabularies)

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

    def text(self, hypothesis: Hypothesis, source: str | None = None) -> str:
        """A hypothesis as text, without the start and end tokens.

        source: what was translated; each "<unk>" becomes that word of it to which most attention was paid, as in
        Luong et al. (2015), arXiv:1410.8206. Of words on both sides only, as `check_replacing` says
        """
        if source is None or isinstance(self.target, Subwords) or hypothesis.weights is None:
            return self.target.decode(hypothesis.tokens).strip()
        read = self.source.split(source)
        seen = hypothesis.weights.reshape(len(hypothesis.weights), hypothesis.weights.shape[1], -1).mean(-1)
        tokens = [self.target.tokens[i] for i in hypothesis.tokens]
        nearest = [read[int(row[: len(read)].argmax())] for row in seen]
        said = [word if token == UNKNOWN else token for token, word in zip(tokens, nearest, strict=False)]
        return self.target.joined(said).strip()

    def check_replacing(self) -> None:
        """ValueError unless unknown words can be replaced by those that attention points at."""
        if not (self.source.words and self.target.words):
            raise ValueError("--replace-unk: the tokens of both sides must be words (--source-words, --target-words)")
        if not isinstance(self.model.decoder.cell, nn.AttentionCell):
            raise ValueError("--replace-unk: this model was trained without attention, it points at nothing")

    def scored(self, text: str) -> list[str]:
        """What is compared of a text: tokens; of words without the gaps; of subwords the words that they make."""
        if isinstance(self.target, Subwords):
            return [parts_of(token)[1] for token in words_of(text) if not is_blank(token)]
        return _without_gaps(self.target, self.target.split(text))


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


def _said(translator: Translator, hypothesis: Hypothesis, source: str | None) -> list[str]:
    """What is compared of a hypothesis; source: see `Translator.text`."""
    vocabulary = translator.target
    if source is not None or isinstance(vocabulary, Subwords):
        return translator.scored(translator.text(hypothesis, source))
    return _without_gaps(vocabulary, vocabulary.shown(hypothesis.tokens))


def _without_gaps(vocabulary: Tokens, tokens: list[str]) -> list[str]:
    """Tokens; of words those that are no gaps."""
    return [t for t in tokens if t.strip()] if vocabulary.words else tokens


def evaluate(
    translator: Translator,
    pairs: Sequence[tuple[str, str]],
    *,
    bleu: bool = False,
    replace_unk: bool = False,
    **options: Any,
) -> dict[str, float]:
    """How well a model does on pairs; several targets of one source are alternatives, of which the closest counts.

    returns: "accuracy", the share of the sources with a target hit exactly; "token error rate", edits by tokens of the
    targets; "BLEU" if asked for, of several targets all count. Subwords are joined first: tokens are words and signs
    replace_unk: as `Translator.text` does  options: as the translator's
    """
    references: dict[str, list[list[str]]] = {}
    for source, target in pairs:
        references.setdefault(source, []).append(translator.scored(target))
    found = [best for best, *_ in translator(list(references), **options)]
    said = [_said(translator, h, s if replace_unk else None) for h, s in zip(found, references, strict=True)]
    answers = list(references.values())
    scores = {
        "accuracy": 1 - metrics.sequence_error_rate(said, answers),
        "token error rate": metrics.token_error_rate(said, answers),
    }
    return {**scores, "BLEU": metrics.corpus_bleu(said, answers)} if bleu else scores
