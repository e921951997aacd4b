"""Translate what programs say: an encoder, attention and a decoder learn from the catalogues of installed programs.

Programs hold their messages and the translations of these in /usr/share/locale; examples/catalogues.sh gathers those
of all of Debian's programs, without installing them. Whole programs are held out: what is translated at the end is of
programs that were not learned, and no message that was learned is among it. Tokens are 4,000 subwords a side.

python examples/catalogues.py de [MINUTES] [FOLDER …]     the run's folder is runs/catalogues-de
The same from the command line, once the files are there: tinygrad-rnn train seq2seq --pairs …/train.tsv
  --valid-pairs …/valid.tsv --test-pairs …/test.tsv --source-subwords 4000 --target-subwords 4000 …
"""

import sys

from pathlib import Path

from tinygrad_rnn.data.gettext import pairs_by_program
from tinygrad_rnn.tasks.run_folder import RunFolder
from tinygrad_rnn.tasks.translation import KIND, Config, Translator, evaluate

WORDS = 10  # pairs with longer sides are left out
EPOCH = 120  # seconds for an epoch of 100,000 pairs, on two cores
TESTED = 10_000  # pairs at most


def short(pairs):
    return [(a, b) for a, b in pairs if max(len(a.split()), len(b.split())) <= WORDS and a != b]


def split(programs):
    """To learn from, to validate on, to test with: of ten programs one each, lists of names (iso-codes) left out."""
    programs = {name: short(pairs) for name, pairs in programs.items() if not name.startswith("iso")}
    names = sorted(programs, key=lambda name: (-len(programs[name]), name))
    parts = [[], [], []]
    for i, name in enumerate(names):
        parts[{4: 1, 9: 2}.get(i % 10, 0)] += programs[name]
    known = {source for source, _ in parts[0]}
    return [parts[0], *([pair for pair in part if pair[0] not in known] for part in parts[1:])], names[9::10]


def main(language="de", minutes=12.0, folders=(), out=None, **options):
    folders = folders or [f"/usr/share/locale/{language}/LC_MESSAGES"]
    out = Path(out or f"runs/catalogues-{language}")
    out.mkdir(parents=True, exist_ok=True)
    programs = {}
    for folder in folders:
        programs |= pairs_by_program(folder)
    parts, tested = split(programs)
    print(f"{sum(map(len, parts)):,} pairs of {len(programs)} programs; tested with those of {', '.join(tested[:8])} …")
    for name, pairs in zip(("train", "valid", "test"), parts, strict=True):
        (out / f"{name}.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    epochs = max(1, int(float(minutes) * 60 / (EPOCH * len(parts[0]) / 1e5)))
    config = {"cell": "gru", "hidden": 256, "embed": 128, "batch": 128, "lr": 2e-3, "dropout": 0.1, "epochs": epochs}
    config |= {"source_subwords": 4000, "target_subwords": 4000, "label_smoothing": 0.1, "log_every": 500, **options}
    files = {f"{name}pairs": str(out / f"{part}.tsv") for name, part in (("", "train"), ("valid_", "valid"))}
    run = RunFolder(out / "run")
    trainer, _ = (KIND.resumed_run if run.last.exists() else KIND.new_run)(Config(**config, **files), run)
    trainer.fit(config["epochs"], print)
    translator = Translator.load(run)
    scores = evaluate(translator, parts[2][:: len(parts[2]) // TESTED + 1], bleu=True, beam=4)
    print(f"test: BLEU {scores['BLEU']:.1f}, {scores['accuracy']:.1%} of the messages exactly")
    sources = list(dict.fromkeys(source for source, _ in parts[2]))[:: max(1, len(parts[2]) // 10)]
    for source, (best, *_) in zip(sources, translator(sources, beam=4), strict=True):
        print(f"  {source} → {translator.text(best)}")
    return scores


if __name__ == "__main__":
    main(*sys.argv[1:3], folders=sys.argv[3:])
