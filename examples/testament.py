"""The New Testament in Greek and in English, word by word, with links between the words made by hand; for alignments.py

Greek: the lemmas of the SBLGNT, (c) 2010 Society of Biblical Literature and Logos. English: the words of the Berean
Standard Bible, without punctuation. Links: Clear Bible, Inc, CC BY 4.0, in the package bible-alignments.
python examples/testament.py 46013013     what is linked in 1 Corinthians 13:13: book, chapter, verse by 2, 3, 3 digits
"""

import json
import re
import sys

from importlib import metadata

SHOWN = "46013013"  # it comes first in the test
FILES = ("SBLGNT.tsv", "lemma"), ("nt_BSB.tsv", "text")


def rows(text):
    """The lines of a table as dicts; fields are not quoted."""
    names, *lines = (line.split("\t") for line in text.removesuffix("\n").split("\n"))
    return [dict(zip(names, line, strict=False)) for line in lines]


def verses():
    """By verse: the Greek, the English, and the links, a set of places (in English, in Greek). A word is one token."""
    try:
        files = {file.name: file for file in metadata.files("bible-alignments")}
    except metadata.PackageNotFoundError:
        sys.exit("alignments: bible-alignments is not installed; pip install --no-deps bible-alignments")
    found, places = {}, {}
    for side, (name, column) in enumerate(FILES):
        for row in rows(files[name].read_text("utf-8")):
            if not row.get("exclude"):  # as punctuation is
                verse = row["id"].removeprefix("n")[:8]
                words = found.setdefault(verse, ([], [], set()))[side]
                places[row["id"]] = verse, len(words)
                words.append(re.sub(r"\W", "_", row[column].lower()))  # God’s, self-control: else cut in two
    for record in json.loads(files["SBLGNT-BSB-manual.json"].read_text("utf-8"))["records"]:
        for (verse, t), (other, s) in ((places[y], places[x]) for y in record["target"] for x in record["source"]):
            if verse == other:  # a few links lead into the next verse
                found[verse][2].add((t, s))
    return {verse: parts for verse, parts in found.items() if parts[2]}


def parts(most=None, longest=40):
    """Those to learn from, and all of each tenth chapter for the test: pairs of texts, and the links of each.

    Of at most 40 words each, as 98 % of the verses are.
    """
    found = {verse: v for verse, v in verses().items() if max(map(len, v[:2])) <= longest}
    held = set(sorted({verse[:5] for verse in found})[5::10])
    named = sorted(found, key=lambda verse: verse != SHOWN)
    for test in False, True:
        part = [found[verse] for verse in named if (verse[:5] in held) == test][:most]
        yield [(" ".join(greek), " ".join(english)) for greek, english, _ in part], [links for *_, links in part]


def main(verse=SHOWN):
    greek, english, links = verses()[verse]
    for t, word in enumerate(english):
        print(word, "–", *(greek[s] for s in range(len(greek)) if (t, s) in links))


if __name__ == "__main__":
    main(*sys.argv[1:])
