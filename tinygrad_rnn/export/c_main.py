"""The `main` of an exported model: numbers, ids or text in, numbers, ids or text out."""

from __future__ import annotations

import json
import math

from collections.abc import Sequence
from string import Template

from tinygrad_rnn.export.c_code import TYPES
from tinygrad_rnn.export.program import Array

NUMBERS = """\
#ifndef ${name}_NO_MAIN
/* Reads $size numbers for each step, and writes a line of $out numbers for each. */
int main(void) {
  static ${name}_state state;
  static $in_type x[$size];
  static $out_type output[$out];
  ${name}_reset(&state);
  for (;;) {
    for (int i = 0; i < $size; i++) {
      double number;
      if (scanf("%lf", &number) != 1) return 0;
      x[i] = ($in_type)number;
    }
    ${name}_step(&state, x, output);
    for (int i = 0; i < $out; i++) printf("%.${digits}g%c", (double)output[i], i + 1 < $out ? ' ' : '\\n');
  }
}
#endif"""

LINES = """\
#ifndef ${name}_NO_MAIN
$read

/* Writes a line of $out numbers for each token that it reads. */
int main(void) {
  static ${name}_state state;
  static $out_type output[$out];
  $in_type x;
  ${name}_reset(&state);
  for (long id; (id = ${name}_read()) >= 0;) {
    x = ($in_type)id;
    ${name}_step(&state, &x, output);
    for (int i = 0; i < $out; i++) printf("%.${digits}g%c", (double)output[i], i + 1 < $out ? ' ' : '\\n');
  }
  return 0;
}
#endif"""

IDS = """\
#ifndef ${name}_NO_MAIN
$read

/* Without an argument: writes a line of $out numbers for each token that it reads. With a number of tokens: reads, and
   then goes on by that many, each the likeliest. */
int main(int count, char **arguments) {
  static ${name}_state state;
  static $out_type output[$out];
  long length = count > 1 ? strtol(arguments[1], NULL, 10) : -1, best = 0;
  $in_type x;
  int some = 0;
  ${name}_reset(&state);
  for (long id; (id = ${name}_read()) >= 0; some = 1) {
    x = ($in_type)id;
    ${name}_step(&state, &x, output);
    if (length >= 0) continue;
    for (int i = 0; i < $out; i++) printf("%.${digits}g%c", (double)output[i], i + 1 < $out ? ' ' : '\\n');
  }
  if (length >= 0 && !some) {
    fprintf(stderr, "$name: there must be a token to begin with, on standard input\\n");
    return 2;
  }
  for (; length > 0; length--) {
    best = 0;
    for (int i = 0; i < $out; i++) if (output[i] > output[best]) best = i;
    $write
    x = ($in_type)best;
    ${name}_step(&state, &x, output);
  }
  return 0;
}
#endif"""

READ_IDS = """\
/* The next id of standard input; -1 at its end. */
static long ${name}_read(void) {
  long id;
  if (scanf("%ld", &id) != 1) return -1;
  if (id < 0 || id >= $ids) {
    fprintf(stderr, "$name: an id must be from 0 to %d, got %ld\\n", $last, id);
    exit(2);
  }
  return id;
}"""

READ_TEXT = """\
static const char *const ${name}_tokens[$ids] = {
$tokens
};

/* The id of the next letter of standard input, which is one in UTF-8; -1 at its end. */
static long ${name}_read(void) {
  char letter[5] = {0};
  int first = getchar();
  if (first == EOF) return -1;
  letter[0] = (char)first;
  for (int i = 1; i < (first < 0xC0 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4); i++) letter[i] = (char)getchar();
  for (long id = 0; id < $ids; id++) if (!strcmp(${name}_tokens[id], letter)) return id;
  fprintf(stderr, "$name: \\"%s\\" is no letter that the model knows\\n", letter);
  exit(2);
}"""

WRITE_ID, WRITE_TEXT = 'printf("%ld\\n", best);', "fputs(${name}_tokens[best], stdout);"


def main_of(name: str, x: Array, out: int, out_type: str, ids: int, tokens: Sequence[str] | None) -> str:
    """The end of the file. out: the size of an output  ids: how many there are, or 0 if it reads numbers"""
    words = {
        "name": name, "in_type": TYPES[x.dtype.name], "out_type": out_type, "size": str(math.prod(x.shape)),
        "out": str(out), "digits": "17" if out_type == "double" else "9", "ids": str(ids), "last": str(ids - 1),
        "tokens": ",\n".join(f"  {_quoted(t)}" for t in tokens or ()),
    }  # fmt: skip
    words["write"] = Template(WRITE_TEXT if tokens else WRITE_ID).substitute(words)
    words["read"] = Template(READ_TEXT if tokens else READ_IDS).substitute(words)
    return Template((IDS if out == ids else LINES) if ids else NUMBERS).substitute(words)  # logits, so it can go on


def _quoted(token: str) -> str:
    """A string in C: what is not ASCII as its bytes in UTF-8, each by three octal digits."""
    plain = json.dumps("".join(t for t in token if " " <= t <= "~"))
    if plain == json.dumps(token):
        return plain.replace("?", "\\?")  # ??= is a letter of its own in C
    return '"' + "".join(f"\\{byte:03o}" for byte in token.encode()) + '"'
