"""A model that is fed what it said itself: drawings show it, though integers leave nothing in the graph."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

from architectures import B, H, I, V, encoder_decoder, spelled
from test_circuit_pictures import BOXES, CELLS, CIRCUIT, ends, labelled, parsed, squares

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn
from tinygrad_rnn.autograd.graph import Chosen, Constant, all_parents, ancestors
from viz.read.values import values
from viz.style import COLOURS, LINE


class Speller(nn.Module):
    """It reads its own letters. encoder: what makes the first state of an image"""

    def __init__(self, make=nn.GRUCell, encode=False, engine="auto"):
        self.cell, self.out, self.letters = make(I, H), nn.Linear(H, V), nn.Embedding(V, I)
        self.encoder = nn.Recurrent(make(I, H), engine=engine) if encode else None

    def forward(self, target=4, say=lambda logits: logits.argmax(-1)):
        state = self.cell.initial_state(B)
        if self.encoder is not None:
            _, state = self.encoder(tg.tensor(np.ones((3, B, I), np.float32)))
        loss, ids = 0, np.zeros(B, int)
        for t in range(target):
            with tg.scope(t):
                y, state = self.cell(self.letters(ids), state)
                logits = self.out(y)
                loss = loss + nn.cross_entropy(logits, np.full(B, t % V))
                ids = say(logits)
        return loss


def fed(nodes, edges):
    """(label of the tail, label of the head) of the edges into what is looked up, from level with it or above."""
    found = [(nodes[a]["label"], nodes[b]["label"]) for a, b in ends(edges)]
    return sorted((a, b) for a, b in found if b.startswith("E[") and a != "" and not a.startswith("E "))


@pytest.mark.parametrize("make", [nn.GRUCell, nn.LSTMCell, nn.RNNCell], ids=lambda c: c.__name__)
def test_what_a_model_says_leads_to_its_next_input(make):
    nodes, edges = parsed(Speller(make)(), **CELLS)
    assert fed(nodes, edges) == [("ŷ₁", "E[x₂]"), ("ŷ₂", "E[x₃]"), ("ŷ₃", "E[x₄]")]
    nodes, edges = parsed(spelled(make, form="free"), **CELLS)  # looked up in the step that says it
    assert fed(nodes, edges) == [("ŷ₁", "E[x₁]"), ("ŷ₂", "E[x₂]"), ("ŷ₃", "E[x₃]")]


@pytest.mark.parametrize("look", [CELLS, {}, CIRCUIT, BOXES], ids=str)
@pytest.mark.parametrize("make", [Speller(), lambda: spelled(form="free")], ids=["own step", "next step"])
def test_no_gradient_is_drawn_on_the_way_of_a_letter(make, look):
    edges, plain = (parsed(make(), **look, **more)[1] for more in ({"gradient": True}, {}))
    said = {(a, b) for a, b, e in plain if e.get("style") == "dashed" and e["color"] == COLOURS["said"][1]}
    assert said and all("state" not in e.get("class", "").split() for a, b, e in plain if (a, b) in said)
    assert {e["color"] for a, b, e in edges if (a, b) in said} == {LINE}
    assert {e["color"] for a, b, e in edges if (a, b) not in said} - {LINE}


@pytest.mark.parametrize("look", [CIRCUIT, BOXES], ids=str)
@pytest.mark.parametrize("steps", [2, 4, 20])
def test_in_a_circuit_it_goes_through_a_delay_of_its_own(steps, look):
    nodes, edges = parsed(Speller()(steps), **look)
    assert sorted(nodes[f"{square}.name"]["label"] for square in squares(nodes)) == ["h", "ŷ"]
    (delay,) = (name.removesuffix(".name") for name in labelled(nodes, "ŷ") if name.endswith(".name"))
    (lookup,) = labelled(nodes, "E[x]")
    assert (delay, lookup) in ends(edges)
    (said,) = (a for a, b in ends(edges) if b == delay)
    assert nodes[said]["label"] in ("ŷ", "h·W₂ + b₂")


def test_most_steps_may_be_left_out():
    nodes, edges = parsed(Speller()(20), **CELLS)
    assert ("ŷ₁", "E[x₂]") in fed(nodes, edges) and ("ŷ₁₉", "E[x₂₀]") in fed(nodes, edges)
    assert ("· · ·", "E[x₁₇]") in fed(nodes, edges)


@pytest.mark.parametrize("engine", ["eager", "numpy"])
def test_it_is_drawn_also_where_a_compiled_layer_is_drawn_in_full(engine):
    nodes, edges = parsed(Speller(encode=True, engine=engine)(), **CELLS)
    assert [b for _, b in fed(nodes, edges)] == ["E[x₂]", "E[x₃]", "E[x₄]"]
    for more in ({"values": True}, {"gradient": True}):
        assert len(fed(*parsed(Speller(encode=True, engine=engine)(), **CELLS, **more))) in (0, 3)


def test_letters_that_come_from_outside_are_not_fed():
    outside = Speller()(say=lambda logits: np.argmax(logits.detach().numpy(), -1))
    for loss in (outside, spelled(), encoder_decoder()):
        assert fed(*parsed(loss, **CELLS)) == []


SAID = ["wie", "geht", "es", "dir"]
READ = ["<s>", *SAID[:-1]]
words = lambda loss, tokens=READ, **look: parsed(loss, tokens=tokens, targets=SAID, **look)
dashed = lambda nodes, edges: sorted((nodes[a]["label"], nodes[b]["label"]) for a, b, e in edges
                                     if e["color"] == COLOURS["said"][1] and e.get("style") == "dashed")  # fmt: skip


@pytest.mark.parametrize("look", [{}, CELLS], ids=str)
def test_the_word_that_is_said_leads_to_where_it_is_read(look):
    nodes, edges = words(Speller()(), **look)
    over = [(a, b) for a, b, e in edges if nodes[a]["label"] == nodes[b]["label"] in SAID]
    assert [(nodes[a]["label"], a[:3], b[:3]) for a, b in over] == [
        (word, f"t{t}.", f"t{t + 1}.") for t, word in enumerate(SAID[:-1], 1)
    ]
    of_words = {(a, b) for a, b in dashed(nodes, edges) if a in SAID and b in SAID}
    assert of_words == {(word, word) for word in SAID[:-1]}
    assert {(a, b) for a, b in dashed(nodes, edges)} - of_words == {
        (f"ŷ{'₁₂₃₄'[t]}" if look else "h·W₂ + b₂", word) for t, word in enumerate(SAID)
    }


@pytest.mark.parametrize("look", [{}, CELLS], ids=str)
def test_true_words_that_are_given_come_from_nowhere(look):
    nodes, edges = words(Speller()(say=lambda _: np.zeros(B, int)), **look)
    read = {a for a, n in nodes.items() if n["label"] in READ and n["fillcolor"] == COLOURS["input"][0]}
    assert len(read) == 4
    assert {nodes[a]["label"] for a, b in ends(edges) if b in read} <= {"E  12×3"}
    assert {b for _, b in dashed(nodes, edges)} - {nodes[name]["label"] for name in nodes if name[0] == "p"} == {*SAID}


@pytest.mark.parametrize("make", [Speller(), lambda: spelled(form="free")], ids=["own step", "next step"])
def test_on_the_way_back_words_stay_as_they_are(make):
    nodes, edges = words(make(), **CELLS)
    classes = [e["class"].split() for a, b, e in edges if e.get("style") == "dashed" and nodes[b]["label"] in SAID]
    assert len(classes) == 7 and all("forward" in names for names in classes)


def test_a_word_leads_nowhere_where_another_one_is_read():
    nodes, edges = words(Speller()(), ["<s>", "wie", "geht", "ihr"], **CELLS)
    assert {("wie", "wie"), ("geht", "geht"), ("ŷ₃", "ihr"), ("ŷ₃", "es")} <= {*dashed(nodes, edges)}
    assert not {("es", "ihr"), ("es", "es")} & {*dashed(nodes, edges)}


def test_what_is_looked_up_in_the_step_that_says_it_has_the_name_of_what_the_next_step_reads():
    nodes, edges = words(spelled(form="free"), **CELLS)
    assert {(word, word) for word in SAID[:-1]} <= {*dashed(nodes, edges)}
    heads = [(nodes[a]["label"], b[:2]) for a, b in ends(edges) if a[:2] != b[:2] and nodes[b]["label"] == "GRU"]
    assert {("wie", "t2"), ("geht", "t3"), ("es", "t4")} <= {*heads}


def test_where_most_steps_are_left_out_words_lead_to_the_neighbours_alone():
    names = [f"w{t}" for t in range(20)]
    nodes, edges = parsed(Speller()(20), tokens=["<s>", *names[:-1]], targets=names, **CELLS)
    found = {*dashed(nodes, edges)}
    assert {("w0", "w0"), ("w18", "w18"), ("ŷ₄", "· · ·"), ("· · ·", "w15")} <= found


def test_what_is_known_of_a_look_up_is_known_also_where_its_letters_were_chosen():
    own = Speller()
    loss = own()
    lookups = [n for n in ancestors([loss.node], all_parents) if n.op is not None and n.op.name == "getitem"]
    assert sum(any(type(i) is Chosen for i in n.inputs) for n in lookups) == 3
    known = values(loss.node)
    assert all(known[n].shape == (B, I) for n in lookups if n.shape == (B, I))


def test_gradients_are_those_of_given_letters():
    own, said = Speller(), []
    with tg.no_grad():
        own(say=lambda logits: said.append(logits.argmax(-1).numpy()) or said[-1])
    found = []
    given = iter(said)
    for say in (lambda logits: logits.argmax(-1), lambda logits: next(given)):
        own.zero_grad()
        own(say=say).backward()
        found.append([p.grad.numpy().copy() for p in own.parameters() if p.grad is not None])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_letters_that_are_kept_keep_no_graph_and_are_drawn_as_an_input():
    out, letters = nn.Linear(H, V), nn.Embedding(V, I)
    logits = out(tg.tensor(np.ones((B, H), np.float32)))
    ids, graph = logits.argmax(-1), weakref.ref(logits.node)
    assert ids.is_leaf and not ids.requires_grad
    for other in (copy.copy(ids), copy.deepcopy(ids), pickle.loads(pickle.dumps(ids))):
        np.testing.assert_array_equal(other.numpy(), ids.numpy())
    assert type(pickle.loads(pickle.dumps(ids)).node) is Constant
    del logits
    gc.collect()
    assert graph() is None
    nodes, edges = parsed(letters(ids).tanh().exp().sum())
    assert "E[x]" in {n["label"] for n in nodes.values()} and fed(nodes, edges) == []


def test_without_a_graph_nothing_is_noted():
    with tg.no_grad():
        assert nn.Linear(H, V)(tg.tensor(np.ones((B, H), np.float32))).argmax(-1).node is None
    assert tg.tensor(np.ones((B, H), np.float32)).argmax(-1).node is None


def test_the_names_that_code_gives_are_there_also_in_steps_that_are_fed():
    class Within(Speller):
        def forward(self, ids, h):
            gate = (self.letters(ids) @ self.cell.U[:, :H] + h @ self.cell.W[:, :H]).sigmoid()
            h = gate * h + self.cell(self.letters(ids), h)[0]
            return self.out(h), h

    model, h, loss, ids = Within(), tg.tensor(np.ones((B, H), np.float32)), 0, np.zeros(B, int)
    for t in range(3):
        with tg.scope(t):
            logits, h = model(ids, h)
            loss, ids = loss + nn.cross_entropy(logits, np.full(B, t)), logits.argmax(-1)
    nodes, edges = parsed(loss)
    assert len(labelled(nodes, "gate  σ")) == 3
    assert len(fed(nodes, edges)) == 4  # two look-ups in each of two steps
    assert viz.draw(loss).dot == viz.draw(loss).dot
