"""Decoding: searches against all sequences there are and against plain loops, draws against probabilities."""

import itertools
import math

from typing import Any, NamedTuple

import numpy as np
import pytest

from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn import decode, nn, ops
from tinygrad_rnn.autograd.gradients import is_grad_enabled
from tinygrad_rnn.autograd.tensor import tensor

START, END = 0, 1
ENDS = {"start": START, "end": END}


class Chain:
    """A table with other probabilities after each history: no two sequences are equally likely.

    logits: (M, V) by node. The state is a node: `before`, then another one after each token.
    """

    def __init__(self, seed, vocabulary=3, spread=1.5):
        self.logits = spread * np.random.default_rng(seed).standard_normal((10_007, vocabulary))
        self.steps = 0

    def state(self, before=(0,)):
        return tensor(np.array(before))

    def next(self, node, token):
        return (node * self.logits.shape[1] + token + 1) % len(self.logits)

    def step(self, ids, state):
        assert ids.dtype == np.int64
        assert ids.shape == state.shape
        self.steps += 1
        node = self.next(state.numpy(), ids)
        return tensor(self.logits[node]), tensor(node)

    def log_prob(self, tokens, before=0):
        """log P of tokens that come after the start."""
        node, total = self.next(before, START), 0.0
        for token in tokens:
            total += log_softmax(self.logits[node])[token]
            node = self.next(node, token)
        return total


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum())


class Network:
    """A GRU that attends to a memory, with random weights. Its state is a nest of many kinds, with a None at first."""

    class State(NamedTuple):
        h: Any
        rest: dict

    def __init__(self, vocabulary=5, hidden=6, source=4, bias=0.0):
        self.embedding, self.cell = nn.Embedding(vocabulary, 3), nn.GRUCell(3, hidden)
        self.output = nn.Linear(hidden, vocabulary)
        for part in self.embedding, self.cell, self.output:
            part.to("float64")
        self.output.W.data = 4 * self.output.W.data
        self.output.b.data = np.where(np.arange(vocabulary) == END, bias, 0.0)
        self.source = source
        self.memories = []

    def state(self, batch=1, seed=0):
        rng = np.random.default_rng(seed)
        h = tensor(rng.standard_normal((batch, self.cell.hidden_size)))
        memory = tensor(rng.standard_normal((batch, self.source, self.cell.hidden_size)))
        return self.State(h, {"memory": memory, "weights": None})

    def step(self, ids, state):
        assert not is_grad_enabled()
        h, memory = state.h, state.rest["memory"]
        self.memories.append(memory)
        weights = ops.softmax((memory * h.reshape(len(ids), 1, -1)).sum(axis=2), axis=1)
        context = (memory * weights.reshape(len(ids), -1, 1)).sum(axis=1)
        y, h = self.cell(self.embedding(ids), h + context)
        return self.output(y), self.State(h, {"memory": memory, "weights": weights})

    def weights(self, state):
        return state.rest["weights"]


def rows_of(state, rows):
    """Some rows of a network's state."""
    memory = state.rest["memory"][rows]
    return type(state)(state.h[rows], {"memory": memory, "weights": None})


def everything(log_p, vocabulary, max_length, penalty):
    """All hypotheses that there are, best first; log_p(tokens with the end) -> log P."""
    others = [token for token in range(vocabulary) if token != END]
    made = []
    for n in range(1, max_length + 1):
        for tokens in itertools.product(others, repeat=n - 1):
            made.append(hypothesis(log_p, [*tokens, END], penalty))
    for tokens in itertools.product(others, repeat=max_length):
        made.append(hypothesis(log_p, list(tokens), penalty))
    return sorted(made, key=lambda h: -h.score)


def hypothesis(log_p, tokens, penalty):
    value, finished = log_p(tokens), tokens[-1] == END
    return decode.Hypothesis(tokens[:-1] if finished else tokens, value, value / len(tokens) ** penalty, finished)


def plain_beam(log_p, vocabulary, max_length, width, penalty):
    """Beam search as one would write it for one sequence: lists of tokens that are sorted at each step."""
    beam = [hypothesis(lambda tokens: 0.0, [START], penalty)._replace(tokens=[])]
    for _ in range(max_length):
        pool = [h for h in beam if h.finished]
        for h in beam:
            if not h.finished:
                pool += [hypothesis(log_p, [*h.tokens, token], penalty) for token in range(vocabulary)]
        beam = sorted(pool, key=lambda h: -h.score)[:width]
    return beam


def assert_same(found, wanted):
    """The same tokens, and the same numbers up to rounding."""
    assert [(h.tokens, h.finished) for h in found] == [(h.tokens, h.finished) for h in wanted]
    for name in "log_prob", "score":
        np.testing.assert_allclose([getattr(h, name) for h in found], [getattr(h, name) for h in wanted], atol=1e-9)


# ---- beam search ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_beam_as_wide_as_there_are_sequences_finds_all_of_them_in_order(seed, penalty):
    chain, before = Chain(seed), [2, 0]
    width = 3**4
    found = decode.beam_search(
        chain.step, chain.state(before), **ENDS, max_length=4, width=width, n_best=width, length_penalty=penalty
    )
    for hypotheses, token in zip(found, before, strict=True):
        assert_same(hypotheses, everything(lambda tokens, b=token: chain.log_prob(tokens, b), 3, 4, penalty))


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_a_narrow_beam_finds_what_a_plain_loop_over_lists_finds(width, penalty):
    for seed in range(12):
        chain = Chain(seed, vocabulary=5)
        found = decode.beam_search(
            chain.step, chain.state(), **ENDS, max_length=6, width=width, n_best=width, length_penalty=penalty
        )
        assert_same(found[0], plain_beam(chain.log_prob, 5, 6, width, penalty))


def test_the_chains_tell_the_penalties_apart():
    """Otherwise the tests above would show less than they seem to."""
    best = [[], []]
    for seed in range(12):
        chain = Chain(seed, vocabulary=5)
        for i, penalty in enumerate([0.0, 1.0]):
            found = decode.beam_search(chain.step, chain.state(), **ENDS, max_length=6, length_penalty=penalty)
            best[i].append(len(found[0][0].tokens))
    assert sum(best[0]) < sum(best[1])


@pytest.mark.parametrize("seed", range(30))
def test_a_beam_of_one_is_greedy(seed):
    chain, network = Chain(seed, vocabulary=6), Network()
    for model, state in (chain, chain.state([0, 3, 5])), (network, network.state(3, seed)):
        found = decode.beam_search(model.step, state, **ENDS, max_length=8, width=1)
        greedy = decode.greedy(model.step, state, **ENDS, max_length=8)
        assert_same([h for (h,) in found], greedy)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_of_tokens_that_are_equally_likely_the_first_is_taken(width):
    def step(ids, state):
        return tensor(np.zeros((len(ids), 4))), state

    state = tensor(np.zeros((2, 1)))
    (greedy, _) = decode.greedy(step, state, start=0, end=3, max_length=3)
    assert greedy.tokens == [0, 0, 0]
    for best in decode.beam_search(step, state, start=0, end=3, max_length=3, width=width):
        assert best[0].tokens == [0, 0, 0]


@pytest.mark.parametrize("order", list(itertools.permutations(range(5))))
def test_the_likeliest_come_first_and_then_the_first_of_those_that_are_equally_likely(order):
    logits = np.array([3.0, 1.0, 1.0, 1.0, 0.0])[list(order)]

    def step(ids, state):
        return tensor(np.tile(logits, (len(ids), 1))), state

    for width in 1, 2, 3, 4, 5:
        (found,) = decode.beam_search(
            step, tensor(np.zeros(1)), start=0, end=0, max_length=1, width=width, n_best=width
        )
        tokens = [h.tokens[0] if h.tokens else 0 for h in found]
        assert tokens == np.argsort(-logits, kind="stable")[:width].tolist()


def test_the_greedy_sequence_takes_the_likeliest_token_at_each_step():
    chain = Chain(3, vocabulary=7)
    found = decode.greedy(chain.step, chain.state([0, 4]), **ENDS, max_length=9)
    for h, before in zip(found, [0, 4], strict=True):
        path, node = [], chain.next(before, START)
        while len(path) < 9 and END not in path:
            path.append(int(chain.logits[node].argmax()))
            node = chain.next(node, path[-1])
        assert h.tokens == [token for token in path if token != END]
        assert h.finished == (END in path)
        assert h.log_prob == pytest.approx(chain.log_prob(path, before), abs=1e-9)
        assert h.score == pytest.approx(h.log_prob / len(path), abs=1e-9)


def test_the_log_probability_of_each_hypothesis_is_the_score_of_its_tokens():
    network = Network(bias=2.0)
    state = network.state(12)
    found = decode.beam_search(network.step, state, **ENDS, max_length=12, width=6, n_best=6, length_penalty=0.0)
    finished = 0
    for row, hypotheses in enumerate(found):
        for h in (h for h in hypotheses if h.finished):
            finished += 1
            (log_prob,) = decode.score(network.step, rows_of(state, [row]), [h.tokens], **ENDS)
            assert abs(h.log_prob - log_prob) < 1e-9
            assert h.score == h.log_prob
    assert finished > 12


def test_the_n_best_are_sorted_distinct_and_begin_with_the_best():
    network = Network()
    search = {**ENDS, "max_length": 10, "width": 8}
    for one, all_of_them in zip(
        decode.beam_search(network.step, network.state(5), **search),
        decode.beam_search(network.step, network.state(5), **search, n_best=8),
        strict=True,
    ):
        assert_same(one, all_of_them[:1])
        assert len(all_of_them) == len({tuple(h.tokens) for h in all_of_them}) == 8
        scores = [h.score for h in all_of_them]
        assert scores == sorted(scores, reverse=True)
        for h in all_of_them:
            assert h.score == pytest.approx(h.log_prob / (len(h.tokens) + h.finished))


@pytest.mark.parametrize("width", [1, 4, 9])
def test_a_batch_decodes_as_its_sequences_do_one_at_a_time(width):
    network = Network()
    state = network.state(6, seed=1)
    search = {**ENDS, "max_length": 15, "width": width, "n_best": width, "weights": network.weights}
    found = decode.beam_search(network.step, state, **search)
    lengths = set()
    for row in range(6):
        (alone,) = decode.beam_search(network.step, rows_of(state, [row]), **search)
        assert_same(found[row], alone)
        for together, single in zip(found[row], alone, strict=True):
            np.testing.assert_allclose(together.weights, single.weights, atol=1e-12)
        lengths.add(len(alone[0].tokens))
    assert len(lengths) > 1, "they should end at different steps"


def test_a_search_stops_when_all_hypotheses_have_ended():
    chain = Chain(0)
    chain.logits[:, END] = 30.0
    decode.beam_search(chain.step, chain.state([0, 1]), **ENDS, max_length=1000, width=2, length_penalty=0.0)
    assert chain.steps == 2  # one for the best, one more for the second best
    decode.greedy(chain.step, chain.state([0, 1]), **ENDS, max_length=1000)
    assert chain.steps == 3


def test_a_search_stops_when_there_are_fewer_hypotheses_than_it_could_hold():
    chain = Chain(0, vocabulary=1)
    (found,) = decode.beam_search(chain.step, chain.state(), start=0, end=0, max_length=1000, width=5, n_best=5)
    assert_same(found, [decode.Hypothesis([], 0.0, 0.0, True)])
    assert chain.steps == 1


def test_a_penalty_of_any_size_leaves_numbers():
    chain = Chain(0, vocabulary=4)
    (found,) = decode.beam_search(
        chain.step, chain.state(), **ENDS, max_length=9, width=30, n_best=30, length_penalty=1e300
    )
    assert len(found) == 30
    assert all(-math.inf < h.score <= 0 and -math.inf < h.log_prob < 0 for h in found)


def test_logits_of_any_size_leave_numbers():
    def step(ids, state):
        return tensor(np.tile([1e308, -1e308, 0.0], (len(ids), 1))), state

    state = tensor(np.zeros((2, 1)))
    for best in decode.beam_search(step, state, start=0, end=2, max_length=3, width=4, n_best=4):
        assert best[0].tokens == [0, 0, 0]
        assert not any(math.isnan(h.score) for h in best)
    for h in decode.sample(step, state, start=0, end=2, max_length=3, rng=np.random.default_rng(0)):
        assert (h.tokens, h.log_prob) == ([0, 0, 0], 0.0)


def test_what_is_impossible_is_not_searched_any_further():
    """1e308 - -1e308 is more than a float can hold: the second token has probability 0."""
    steps = itertools.count()

    def step(ids, state):
        next(steps)
        return tensor(np.tile([1e308, -1e308], (len(ids), 1))), state

    (found,) = decode.beam_search(step, tensor(np.zeros(1)), start=0, end=0, max_length=9, width=2, n_best=2)
    assert_same(found, [decode.Hypothesis([], 0.0, 0.0, True)])
    assert next(steps) == 1


def test_a_sequence_that_never_ends_is_cut_and_unfinished():
    chain = Chain(0)
    chain.logits[:, END] = -1e9
    for length in 1, 5:
        (h,) = decode.greedy(chain.step, chain.state(), **ENDS, max_length=length)
        (best,) = decode.beam_search(chain.step, chain.state(), **ENDS, max_length=length, width=2, n_best=2)
        for cut in h, *best:
            assert not cut.finished
            assert len(cut.tokens) == length
            assert END not in cut.tokens


def test_the_end_token_counts_for_the_greatest_length():
    chain = Chain(0)
    chain.logits[:, END] = -1e9
    chain.logits[:, 2] = 1e3
    node = 0
    for token in START, 2, 2:
        node = chain.next(node, token)
    chain.logits[node, END] = 1e9
    for length, finished in (2, False), (3, True), (4, True):
        (h,) = decode.greedy(chain.step, chain.state(), **ENDS, max_length=length)
        assert (h.tokens, h.finished) == ([2, 2], finished)
        assert h.log_prob == pytest.approx(0)


def test_of_length_0_there_is_one_empty_sequence():
    chain = Chain(0)
    empty = decode.Hypothesis([], 0.0, 0.0, False, None)
    rng = np.random.default_rng()
    assert decode.greedy(chain.step, chain.state([0, 1]), **ENDS, max_length=0) == [empty, empty]
    assert decode.sample(chain.step, chain.state(), **ENDS, max_length=0, rng=rng) == [empty]
    assert decode.beam_search(chain.step, chain.state([0, 1]), **ENDS, max_length=0, n_best=5) == [[empty], [empty]]
    assert chain.steps == 0


def test_of_no_sequences_nothing_is_decoded():
    chain, rng = Chain(0), np.random.default_rng()
    none = tensor(np.zeros(0, np.int64))
    assert decode.greedy(chain.step, none, **ENDS, max_length=9) == []
    assert decode.sample(chain.step, none, **ENDS, max_length=9, rng=rng) == []
    assert decode.beam_search(chain.step, none, **ENDS, max_length=9) == []
    assert decode.score(chain.step, none, [], **ENDS).shape == (0,)


def test_start_and_end_may_be_the_same_token():
    chain = Chain(5)
    chain.logits[:, START] += 2
    both = {"start": START, "end": START}
    (best,) = decode.beam_search(chain.step, chain.state(), **both, max_length=20, width=4, n_best=4)
    for h in best:
        assert h.finished
        assert START not in h.tokens
        (log_prob,) = decode.score(chain.step, chain.state(), [h.tokens], **both)
        assert h.log_prob == pytest.approx(log_prob, abs=1e-9)


# ---- states -----------------------------------------------------------------------------------------------------


def test_a_memory_that_the_step_hands_on_is_copied_once_for_the_whole_search():
    network = Network()
    decode.beam_search(network.step, network.state(3), **ENDS, max_length=9, width=4)
    assert len(network.memories) > 2
    assert all(memory is network.memories[0] for memory in network.memories)
    assert network.memories[0].shape[0] == 12


def test_with_one_hypothesis_a_memory_is_never_copied():
    network = Network()
    state = network.state(3)
    decode.greedy(network.step, state, **ENDS, max_length=4)
    decode.score(network.step, state, [[2], [3], [4, 2]], **ENDS)
    assert all(memory is state.rest["memory"] for memory in network.memories)


def test_a_memory_that_is_made_anew_at_each_step_gives_the_same_hypotheses():
    network = Network()

    def step(ids, state):
        logits, state = network.step(ids, state)
        return logits, state._replace(rest=state.rest | {"memory": state.rest["memory"] + 0})

    search = {**ENDS, "max_length": 9, "width": 4, "n_best": 4}
    for found, wanted in zip(
        decode.beam_search(step, network.state(3), **search),
        decode.beam_search(network.step, network.state(3), **search),
        strict=True,
    ):
        assert_same(found, wanted)


def test_a_state_that_is_kept_for_some_steps_only_moves_with_its_hypothesis():
    """A leaf that a step hands on untouched, but that an earlier one made, differs between the hypotheses."""
    for seed in range(10):
        found = decode.beam_search(*slow_chain(seed), **ENDS, max_length=7, width=3, n_best=3)[0]
        assert_same(found, plain_beam(lambda tokens, seed=seed: slow_log_prob(seed, tokens), 4, 7, 3, 1.0))


def slow_chain(seed):
    chain, count = Chain(seed, vocabulary=4), itertools.count()

    def step(ids, slow):
        t = next(count)
        node = chain.next(slow.numpy(), ids)
        return tensor(chain.logits[node + t]), slow if t % 3 else tensor(node)

    return step, chain.state()


def slow_log_prob(seed, tokens):
    chain, slow, total = Chain(seed, vocabulary=4), 0, 0.0
    for t, (last, token) in enumerate(itertools.pairwise([START, *tokens])):
        node = chain.next(slow, last)
        total += log_softmax(chain.logits[node + t])[token]
        slow = slow if t % 3 else node
    return total


def test_a_state_may_grow():
    """As the keys and values of self-attention do: here, all the tokens that were fed."""
    chain = Chain(2, vocabulary=4)

    def step(ids, state):
        logits, prev = chain.step(ids, state[0])
        return logits, [prev, *state[1:], tensor(ids)]

    def fed(state):
        return np.stack([leaf.numpy() for leaf in (state[1:] + [state[1]] * 9)[:9]], axis=1)

    (found,) = decode.beam_search(step, [chain.state()], **ENDS, max_length=6, width=4, n_best=4, weights=fed)
    assert_same(found, plain_beam(chain.log_prob, 4, 6, 4, 1.0))
    for h in found:
        n = len(h.weights)
        assert h.weights[-1][:n].tolist() == [START, *h.tokens][:n]


@pytest.mark.parametrize("seed", range(10))
def test_weights_are_those_of_the_hypothesis_at_each_of_its_steps(seed):
    chain = Chain(seed, vocabulary=5)

    def step(ids, state):
        logits, node = chain.step(ids, state[0])
        return logits, (node, tensor(np.stack([state[0].numpy(), ids], axis=1)))

    def weights(state):
        return state[1] if seed % 2 else state[1].numpy()

    state = (chain.state([0, 4]), tensor(np.zeros((2, 2), np.int64)))
    options = {**ENDS, "max_length": 7, "weights": weights}
    drawn = decode.sample(step, state, **options, rng=np.random.default_rng(seed))
    found = decode.beam_search(step, state, **options, width=4, n_best=4)
    for node, greedy, sampled, best in zip([0, 4], decode.greedy(step, state, **options), drawn, found, strict=True):
        for h in greedy, sampled, *best:
            fed = [START, *h.tokens][: len(h.tokens) + h.finished]
            nodes = list(itertools.accumulate(fed, chain.next, initial=node))
            assert h.weights.tolist() == [list(pair) for pair in zip(nodes, fed, strict=False)]


def test_without_weights_there_are_none():
    chain = Chain(0)
    assert decode.greedy(chain.step, chain.state(), **ENDS, max_length=3)[0].weights is None


def test_weights_that_are_written_over_by_the_next_step_are_kept():
    chain, buffer = Chain(1), np.zeros((1, 1))

    def weights(state):
        buffer[:] += 1
        return buffer

    chain.logits[:, END] = -1e9
    (h,) = decode.greedy(chain.step, chain.state(), **ENDS, max_length=3, weights=weights)
    assert h.weights.tolist() == [[1], [2], [3]]


def test_a_row_that_has_ended_may_give_anything():
    """A step past the end is outside of what a model has learnt."""
    chain = Chain(1, vocabulary=4)

    def step(ids, state):
        logits, prev = chain.step(ids, state)
        return tensor(np.where((ids == END)[:, None], [np.nan, np.inf, -np.inf, 1e308], logits.numpy())), prev

    before = [0, 1, 2, 3]
    for width in 1, 3:
        found = decode.beam_search(step, chain.state(before), **ENDS, max_length=8, width=width, n_best=width)
        assert len({len(best[0].tokens) for best in found}) > 1
        for hypotheses, token in zip(found, before, strict=True):
            wanted = plain_beam(lambda tokens, b=token: chain.log_prob(tokens, b), 4, 8, width, 1.0)
            assert_same(hypotheses, wanted)
    scores = decode.score(step, chain.state([0, 0]), [[], [2, 3, 0, 2]], **ENDS)
    np.testing.assert_allclose(scores, [chain.log_prob([END]), chain.log_prob([2, 3, 0, 2, END])])


def test_decoding_works_on_every_device(device):
    network = Network()
    state = network.state(3)
    assert state.h.device.startswith(device)
    found = decode.beam_search(network.step, state, **ENDS, max_length=6, width=3, n_best=3, weights=network.weights)
    for row, hypotheses in enumerate(found):
        for h in (h for h in hypotheses if h.finished):
            (log_prob,) = decode.score(network.step, rows_of(state, [row]), [h.tokens], **ENDS)
            assert abs(h.log_prob - log_prob) < 1e-9
            assert h.weights.shape == (len(h.tokens) + 1, 4)
    greedy = decode.greedy(network.step, state, **ENDS, max_length=6)
    drawn = decode.sample(network.step, state, **ENDS, max_length=6, temperature=0, rng=np.random.default_rng(0))
    assert_same(drawn, greedy)
    logits = tensor(np.log([[0.1, 0.9], [0.6, 0.4]]))
    assert decode.sample_tokens(logits, top_k=1, rng=np.random.default_rng(0)).tolist() == [1, 0]


# ---- scoring ----------------------------------------------------------------------------------------------------


def test_a_score_is_the_sum_over_the_chain_for_lists_of_any_lengths():
    chain, rng = Chain(4, vocabulary=6), np.random.default_rng(0)
    targets = [rng.integers(0, 6, size=n).tolist() for n in (3, 0, 9, 1, 5)]
    before = [0, 1, 2, 3, 4]
    scores = decode.score(chain.step, chain.state(before), targets, **ENDS)
    wanted = [chain.log_prob([*tokens, END], b) for tokens, b in zip(targets, before, strict=True)]
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-9)
    assert chain.steps == 10
    arrays = [np.array(tokens, np.int32) for tokens in targets]
    np.testing.assert_array_equal(decode.score(chain.step, chain.state(before), arrays, **ENDS), scores)


def test_the_probabilities_of_all_sequences_add_up_to_1():
    chain = Chain(6)
    chain.logits[:, END] += 2
    found = everything(chain.log_prob, 3, 8, 0.0)
    finished = [h.tokens for h in found if h.finished]
    scores = decode.score(chain.step, chain.state([0] * len(finished)), finished, **ENDS)
    cut = [h.log_prob for h in found if not h.finished]
    assert np.exp(scores).sum() + np.exp(cut).sum() == pytest.approx(1, abs=1e-9)
    assert np.exp(scores).sum() > 0.9


# ---- drawing ----------------------------------------------------------------------------------------------------


def one_by_one(log_p, temperature, top_k, rng):
    """How `tinygrad-rnn sample` has drawn its tokens since it is there: the same seed gives the same text."""
    if temperature == 0:
        return int(log_p.argmax())
    with np.errstate(over="ignore"):
        scaled = (log_p - log_p.max()) / temperature
    if 0 < top_k < len(scaled):
        scaled = np.where(scaled < np.partition(scaled, -top_k)[-top_k], -np.inf, scaled)
    p = np.exp(scaled - scaled.max())
    return int(rng.choice(len(p), p=p / p.sum()))


@pytest.mark.parametrize("top_k", [0, 1, 4, 99])
@pytest.mark.parametrize("temperature", [0, 1e-300, 0.3, 1.0, 4])
def test_a_row_draws_the_very_tokens_that_one_draw_at_a_time_gives(temperature, top_k):
    source, ours, theirs = np.random.default_rng(0), np.random.default_rng(7), np.random.default_rng(7)
    for _ in range(40):
        logits = np.round(3 * source.standard_normal((2, 50)), 1)  # rounded: some are equal
        drawn = decode.sample_tokens(logits, temperature=temperature, top_k=top_k, rng=ours)
        assert drawn.dtype == np.int64
        assert drawn.tolist() == [one_by_one(row, temperature, top_k, theirs) for row in logits]
    assert ours.random() == theirs.random()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_their_probability_says(temperature):
    n = 40_000
    logits = np.random.default_rng(1).standard_normal((2, 6))
    p = np.exp(logits / temperature)
    p /= p.sum(axis=1, keepdims=True)
    rng = np.random.default_rng(2)
    for row, expected in enumerate(p):
        drawn = decode.sample_tokens(np.repeat(logits[row : row + 1], n, axis=0), temperature=temperature, rng=rng)
        counts = np.bincount(drawn, minlength=6)
        error = (counts - n * expected) / np.sqrt(n * expected * (1 - expected))  # standard deviations
        assert np.abs(error).max() < 4


def test_the_rows_of_a_batch_are_drawn_independently():
    n = 20_000
    drawn = decode.sample_tokens(np.zeros((2 * n, 2)), rng=np.random.default_rng(3)).reshape(n, 2)
    counts = np.bincount(2 * drawn[:, 0] + drawn[:, 1], minlength=4)
    assert np.abs(counts - n / 4).max() < 4 * np.sqrt(n * 3 / 16)


def support(logits, **options):
    """The tokens that are ever drawn from (V,) logits: their probabilities are large enough for 4,000 draws to show."""
    drawn = decode.sample_tokens(np.repeat(logits[None], 4000, axis=0), **options, rng=np.random.default_rng(0))
    return set(drawn.tolist())


@pytest.mark.parametrize("seed", range(6))
def test_of_the_likeliest_k_tokens_only_these_are_drawn(seed):
    logits = np.random.default_rng(seed).standard_normal(7)
    for k in range(1, 9):
        assert support(logits, top_k=k) == set(np.argsort(-logits)[:k].tolist())
    assert support(logits, top_k=0) == set(range(7))


@pytest.mark.parametrize("seed", range(6))
def test_the_nucleus_is_the_smallest_set_of_tokens_that_is_likely_enough(seed):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal(6)
    p = np.exp(logits) / np.exp(logits).sum()
    subsets = [set(s) for size in range(1, 7) for s in itertools.combinations(range(6), size)]
    for top_p in (1e-300, *rng.uniform(0.05, 0.999, size=8)):
        reach = [s for s in subsets if sum(p[list(s)]) >= top_p]
        size = min(map(len, reach))
        wanted = max((s for s in reach if len(s) == size), key=lambda s: sum(p[list(s)]))
        assert support(logits, top_p=top_p) == wanted


def test_a_nucleus_that_its_tokens_reach_exactly_holds_no_more():
    assert support(np.log([0.1] * 10), top_p=0.8) == set(range(8))
    assert support(np.log([0.25] * 4), top_p=0.5) == {0, 1}
    assert support(np.log([0.25] * 4), top_p=0.51) == {0, 1, 2}


def test_the_nucleus_is_taken_after_the_temperature_and_of_the_k_likeliest():
    logits = np.log([0.4, 0.3, 0.2, 0.1])
    assert support(logits, top_p=0.6) == {0, 1}
    assert support(logits, top_p=0.6, temperature=100.0) == {0, 1, 2}
    assert support(logits, top_p=0.5, top_k=2) == {0}  # 0.4 of 0.7
    assert support(logits, top_p=0.6, top_k=2) == {0, 1}


def test_what_is_left_is_drawn_in_proportion_to_its_probability():
    n, p = 40_000, np.array([0.1, 0.5, 0.15, 0.25])
    for options in {"top_k": 2}, {"top_p": 0.7}:
        drawn = decode.sample_tokens(np.log(np.repeat(p[None], n, axis=0)), **options, rng=np.random.default_rng(5))
        assert abs((drawn == 1).sum() - n * 2 / 3) < 4 * np.sqrt(n * 2 / 9)
        assert ((drawn == 1) | (drawn == 3)).all()


@given(
    st.lists(st.floats(-1e308, 1e308), min_size=1, max_size=6),
    st.floats(0, 1e308),
    st.integers(0, 7),
    st.floats(0, 1, exclude_min=True),
)
def test_any_finite_numbers_can_be_drawn_from(row, temperature, top_k, top_p):
    logits = np.array([row, row[::-1]])
    drawn = decode.sample_tokens(
        logits, temperature=temperature, top_k=top_k, top_p=top_p, rng=np.random.default_rng(0)
    )
    assert drawn.shape == (2,)
    assert ((drawn >= 0) & (drawn < len(row))).all()
    if temperature == 0:
        assert drawn.tolist() == logits.argmax(axis=1).tolist()


@pytest.mark.parametrize("temperature", [0, 5e-324, 1e-300, 1e-10])
def test_as_the_temperature_goes_to_0_the_likeliest_token_is_drawn(temperature):
    logits = np.random.default_rng(0).standard_normal((200, 30)).astype(np.float32)
    drawn = decode.sample_tokens(logits, temperature=temperature, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, logits.argmax(axis=1))


def test_drawing_leaves_the_logits_as_they_are():
    logits = np.random.default_rng(0).standard_normal((3, 5))
    before = logits.copy()
    decode.sample_tokens(logits, top_k=2, top_p=0.5, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(logits, before)


# ---- sampling ---------------------------------------------------------------------------------------------------


def test_sequences_are_sampled_as_often_as_their_probability_says():
    n, chain = 30_000, Chain(8)
    found = decode.sample(chain.step, chain.state([0] * n), **ENDS, max_length=3, rng=np.random.default_rng(0))
    for wanted in everything(chain.log_prob, 3, 3, 1.0):
        same = [h for h in found if h.tokens == wanted.tokens]
        p = math.exp(wanted.log_prob)
        assert abs(len(same) - n * p) < 4.5 * math.sqrt(n * p * (1 - p)) + 1
        assert_same(same[:1], [wanted] * len(same[:1]))


def test_sampling_is_greedy_where_only_the_likeliest_token_is_left():
    for seed in range(10):
        chain = Chain(seed, vocabulary=6)
        greedy = decode.greedy(chain.step, chain.state([0, 2, 5]), **ENDS, max_length=8)
        for options in {"temperature": 0}, {"temperature": 1e-9}, {"top_k": 1}, {"top_p": 1e-9}:
            drawn = decode.sample(
                chain.step, chain.state([0, 2, 5]), **ENDS, max_length=8, rng=np.random.default_rng(0), **options
            )
            assert_same(drawn, greedy)


def test_a_sample_s_log_probability_is_the_model_s_own():
    chain, rng = Chain(9, vocabulary=5), np.random.default_rng(0)
    found = decode.sample(
        chain.step, chain.state([0] * 20), **ENDS, max_length=9, temperature=2.0, top_k=4, top_p=0.9, rng=rng
    )
    assert len({tuple(h.tokens) for h in found}) > 5
    for h in found:
        tokens = [*h.tokens, END] if h.finished else h.tokens
        assert h.log_prob == pytest.approx(chain.log_prob(tokens), abs=1e-9)
        assert h.score == pytest.approx(h.log_prob / len(tokens), abs=1e-9)


def test_the_same_generator_samples_the_same_sequences():
    chain = Chain(10, vocabulary=6)
    a, b, c = (
        decode.sample(chain.step, chain.state([0] * 9), **ENDS, max_length=9, rng=np.random.default_rng(seed))
        for seed in (0, 0, 1)
    )
    assert a == b != c


# ---- errors -----------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
CALLS = {
    "greedy": (decode.greedy, {"max_length": 3}),
    "sample": (decode.sample, {"max_length": 3, "rng": RNG}),
    "beam_search": (decode.beam_search, {"max_length": 3}),
    "score": (decode.score, {"targets": [[2], [2, 2]]}),
}
NAN = math.nan


def message(name, step=None, state=None, **changes):
    chain = Chain(0)
    function, options = CALLS[name]
    state = chain.state([0, 1]) if state is None else state
    with pytest.raises(ValueError) as caught:
        function(step or chain.step, state, **{**ENDS, **options, **changes})
    return str(caught.value)


@pytest.mark.parametrize(
    "name, change, text",
    [
        ("beam_search", {"width": 0}, "width must be at least 1, got 0"),
        ("beam_search", {"n_best": 6}, "n_best must be from 1 to the width, 5, got 6"),
        ("beam_search", {"n_best": 0}, "n_best must be from 1 to the width, 5, got 0"),
        ("beam_search", {"length_penalty": NAN}, "length_penalty must be a finite number of at least 0, got nan"),
        ("beam_search", {"length_penalty": -1}, "length_penalty must be a finite number of at least 0, got -1"),
        ("beam_search", {"length_penalty": math.inf}, "length_penalty must be a finite number of at least 0, got inf"),
        ("sample", {"temperature": NAN}, "temperature must be a finite number of at least 0, got nan"),
        ("sample", {"temperature": -0.1}, "temperature must be a finite number of at least 0, got -0.1"),
        ("sample", {"temperature": math.inf}, "temperature must be a finite number of at least 0, got inf"),
        ("sample", {"top_k": -1}, "top_k must be at least 0, got -1"),
        ("sample", {"top_p": 0}, "top_p must be greater than 0 and at most 1, got 0"),
        ("sample", {"top_p": 1.1}, "top_p must be greater than 0 and at most 1, got 1.1"),
        ("sample", {"top_p": NAN}, "top_p must be greater than 0 and at most 1, got nan"),
        ("score", {"targets": [[1]]}, "there must be 2 targets, got 1"),
        ("score", {"targets": [[], [2, -1]]}, "token 1 must be an id, an integer of at least 0, got -1"),
        ("score", {"targets": [[], [0.5]]}, "token 0 must be an id, an integer of at least 0, got 0.5"),
        ("score", {"targets": [[], [7]]}, "logits must be (2, V) with V greater than 7, got (2, 3)"),
        *[(name, {"max_length": -1}, "max_length must be at least 0, got -1") for name in CALLS if name != "score"],
        *[(name, {"start": -1}, "start must be an id, an integer of at least 0, got -1") for name in CALLS],
        *[(name, {"end": None}, "end must be an id, an integer of at least 0, got None") for name in CALLS],
    ],
)
def test_bad_options_are_refused_in_one_line(name, change, text):
    assert message(name, **change) == f"{name}: {text}"


@pytest.mark.parametrize("name", CALLS)
def test_states_and_logits_of_the_wrong_shape_are_refused(name):
    rows = 10 if name == "beam_search" else 2
    state = f"{name}: the state must hold tensors (N, ...), all of one N, got "
    assert message(name, state=()) == state + "()"
    assert message(name, state=(tensor(np.zeros((2, 1))), tensor(np.zeros((3, 1))))) == state + "((2, 1), (3, 1))"
    assert message(name, state=tensor(0.0)) == state + "()"
    shape = f"{name}: logits must be ({rows}, V) with V greater than "
    high = 2 if name == "score" else 1
    assert message(name, lambda ids, s: (tensor(np.zeros((rows, 3, 1))), s)) == f"{shape}{high}, got ({rows}, 3, 1)"
    assert message(name, lambda ids, s: (tensor(np.zeros((1, 3))), s)) == f"{shape}{high}, got (1, 3)"
    assert message(name, end=3) == f"{shape}3, got ({rows}, 3)"
    shorter = message(name, lambda ids, s: (tensor(np.zeros((rows, 3))), s[:1]))
    assert shorter == f"{name}: the new state must have {rows} rows, got 1"
    if name != "score":
        text = message(name, weights=lambda s: np.zeros(rows))
        assert text == f"{name}: weights must be ({rows}, …, S), got ({rows},)"


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
@pytest.mark.parametrize("name", CALLS)
def test_logits_that_are_not_finite_are_refused(name, value):
    def step(ids, state):
        logits = np.zeros((len(ids), 3), np.float32)
        logits[-1 if name != "beam_search" else -5, 2] = (
            value  # of beam search's rows only the first holds anything yet
        )
        return tensor(logits), state

    assert message(name, step) == f"{name}: logits must be finite numbers, got {value}"


def test_draw_refuses_what_it_cannot_draw_from():
    for options, text in [
        ({"logits": np.array([[0.0, NAN]])}, "logits must be finite numbers, got nan"),
        ({"logits": np.zeros(3)}, "logits must be (N, V) with V at least 1, got (3,)"),
        ({"logits": np.zeros((3, 0))}, "logits must be (N, V) with V at least 1, got (3, 0)"),
        ({"temperature": NAN}, "temperature must be a finite number of at least 0, got nan"),
        ({"top_p": 0.0}, "top_p must be greater than 0 and at most 1, got 0.0"),
        ({"top_k": -2}, "top_k must be at least 0, got -2"),
    ]:
        with pytest.raises(ValueError) as caught:
            decode.sample_tokens(**{"logits": np.zeros((2, 3)), "rng": RNG, **options})
        assert str(caught.value) == f"sample_tokens: {text}"
    assert decode.sample_tokens(np.zeros((0, 3)), rng=RNG).shape == (0,)
    assert decode.draw is decode.sample_tokens  # its former name
