"""Texts as words: the scripts of the world, signs and emoji, and texts that come back exactly from their numbers."""

# ruff: noqa: RUF001

import itertools
import unicodedata

import pytest

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinygrad_rnn.data import UNKNOWN, Vocabulary
from tinygrad_rnn.tasks import language_model

NFD = unicodedata.normalize("NFD", "café Việt Ångström")

# a text in which each word stands between spaces is as many tokens
SPACED = {
    "Devanagari": "हिन्दी में लिखा क्षत्रिय",
    "Devanagari with a joiner": "क्\u200dष र्\u200dय",
    "Bengali": "বাংলা ভাষায় লেখা",
    "Tamil": "தமிழ் மொழி எழுத்து",
    "Telugu": "తెలుగు భాష",
    "Malayalam": "മലയാളം ഭാഷ ൻ്റെ",
    "Sinhala": "සිංහල ශ්\u200dරී ලංකා",
    "Burmese": "မြန်မာ ဘာသာ",
    "Khmer": "ភាសា ខ្មែរ",
    "Lao": "ພາສາ ລາວ",
    "Thai": "ภาษา ไทย น้ำ",
    "Tibetan": "བོད སྐད",
    "Arabic with vowels": "مُحَمَّد رَسُول",
    "Persian": "می\u200cخواهم کتاب\u200cها",
    "pointed Hebrew": "שָׁלוֹם עֲלֵיכֶם",
    "Hebrew short forms": "צה״ל ג׳ירפה",
    "Syriac": "ܫܠܳܡܳܐ ܥܠܰܝܟܽܘܢ",
    "decomposed": NFD,
    "Hangul": "한국어 말",
    "decomposed Hangul": unicodedata.normalize("NFD", "한국어 말"),
    "Greek": "Ἑλληνικὴ γλῶσσα",
    "Cyrillic": "йод ёлка " + unicodedata.normalize("NFD", "йод"),
    "Armenian with a question": "ինչպե՞ս ես",
    "Georgian": "ქართული ენა",
    "Ethiopic": "አማርኛ ቋንቋ",
    "Cherokee": "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ",
    "beyond 16 bits": "𐌲𐌿𐍄𐌹𐍃𐌺 𝔘𝔫𝔦",
    "Catalan": "paral·lel col·legi",
    "apostrophes": "don't l’été o'clock",
    "digits": "٣٤ १२ 10 x2 snake_case",
    "soft hyphen": "co\u00adoperate word",
    "direction marks": "\u200fمرحبا\u200f hello\u200e",
    "variation selectors": "葛\U000e0100城 ᠮᠣᠩ᠋ᠭᠣᠯ",
}


def vocabulary_of(text):
    return Vocabulary.of([text], words=True, min_count=1)


@pytest.mark.parametrize("text", SPACED.values(), ids=SPACED)
def test_a_word_of_any_script_is_one_token(text):
    vocabulary = vocabulary_of(text)
    assert vocabulary.split(text) == text.split()
    assert vocabulary.decode(vocabulary.encode(text)) == text


EMOJI = {
    "one": "🙂",
    "a family": "👨\u200d👩\u200d👧\u200d👦",
    "a tone": "👍🏽",
    "a tone and a joiner": "👩🏽\u200d🚀",
    "a variation selector": "❤\ufe0f",
    "a heart on fire": "❤\ufe0f\u200d🔥",
    "a sex": "🏃🏿\u200d♀\ufe0f",
    "a flag": "🇫🇷",
    "a flag of tags": "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "a pirates' flag": "🏴\u200d☠\ufe0f",
    "a keycap": "1\ufe0f\u20e3",
    "a keycap of a sign": "#\ufe0f\u20e3",
    "newer than Python's table": "\U0001fae8",
}


@pytest.mark.parametrize("emoji", EMOJI.values(), ids=EMOJI)
@pytest.mark.parametrize("text", ["{}", "so {} it", "so{}it", "{}{}", "{}, {}!", "2{}2"])
def test_an_emoji_is_one_token_with_all_that_belongs_to_it(emoji, text):
    written = text.format(emoji, emoji)
    vocabulary = vocabulary_of(written)
    assert vocabulary.split(written).count(emoji) == text.count("{}")
    assert vocabulary.decode(vocabulary.encode(written)) == written


SIGNS = [
    ("The cat (the cat) sat.\n", ["The", "cat", "(", "the", "cat", ")", "sat", ".", "\n"]),
    ("a state-of-the-art", ["a", "state", "-", "of", "-", "the", "-", "art"]),
    ('He said "no", twice', ["He", "said", '"', "no", '"', ",", "twice"]),
    ("« oui » !", ["«", "oui", "»", "!"]),
    ("pre - tokenised , as it is .", ["pre", "-", "tokenised", ",", "as", "it", "is", "."]),
    ("3.14 x/y a...", ["3", ".", "14", "x", "/", "y", "a", ".", ".", "."]),
    ("你好，世界。", ["你好", "，", "世界", "。"]),
    ("क्या? हाँ।", ["क्या", "?", "हाँ", "।"]),
    ("نعم، شكرا؟", ["نعم", "،", "شكرا", "؟"]),
    ("¿Qué?", ["¿", "Qué", "?"]),
    ("dogs' 'tis", ["dogs", "'", "'", "tis"]),
    ("a  b\tc\u00a0d\u2028e\u200bf", ["a", "  ", "b", "\t", "c", "\u00a0", "d", "\u2028", "e", "\u200b", "f"]),
]


@pytest.mark.parametrize(("text", "tokens"), SIGNS)
def test_signs_are_tokens_and_spaces_come_back_where_they_stood(text, tokens):
    vocabulary = vocabulary_of(text)
    assert vocabulary.split(text) == tokens
    ids = vocabulary.encode(text)
    assert vocabulary.shown(ids) == tokens
    assert vocabulary.decode(ids) == text


PIECES = "ab1 -.,'’(\")‿␣\n\t\r\u0301\u200b\u200d\ufe0f\u20e3👍🏽🇫❤क्،«»。_\0\u2028"


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from(PIECES), max_size=12))
@example("‿'‿")
@example("␣'a '‿ ‿- -␣ ‿‿ ‿\u0301")
def test_every_text_comes_back_from_its_numbers(text):
    vocabulary = vocabulary_of(text)
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == text
    assert UNKNOWN not in vocabulary.shown(ids)
    assert len(vocabulary.split(text)) == len(ids)


@pytest.mark.parametrize("learned", ["yes . no , ( a ) - b", "yes.no,(a)-b", "yes. no, (a) - b"])
@pytest.mark.parametrize("text", ["no, (yes).", "no , ( yes ) .", "no,(yes)-b", "b-a .no"])
def test_signs_are_known_with_whatever_spaces_they_were_learned(learned, text):
    vocabulary = vocabulary_of(learned)
    assert UNKNOWN not in vocabulary.shown(vocabulary.encode(text))
    assert vocabulary.shown(vocabulary.encode(text)) == vocabulary.split(text)
    assert UNKNOWN in vocabulary.shown(vocabulary.encode(text + "!"))


def test_a_sample_goes_on_after_its_prompt_as_a_text_does():
    text = " ".join(["one-two (three) four!"] * 3)
    vocabulary = vocabulary_of(text)
    model = language_model.build(language_model.Config(cell="rnn", words=True, hidden=4, embed=4), len(vocabulary))
    for prompt, seed in itertools.product(["", "one-", "(", "one"], range(4)):
        written = prompt + "".join(language_model.sample(model, vocabulary, prompt, 6, temperature=9, seed=seed))
        assert written == written.lstrip() and "( " not in written and " )" not in written


def test_usual_spaces_are_not_told():
    assert vocabulary_of("The cat, (a dog): no. Yes!\n").tokens[1:] == list(
        dict.fromkeys(["\n", "!", "(", ")", ",", ".", ":", "The", "Yes", "a", "cat", "dog", "no"])
    )


def test_spaces_that_were_never_learned_are_passed_over():
    vocabulary = vocabulary_of("a - b")
    assert vocabulary.split("a-b  a\t-") == ["a", "-", "b", "a", "-"]
    assert vocabulary.decode(vocabulary.encode("a-b  a\t-")) == "a - b a -"
