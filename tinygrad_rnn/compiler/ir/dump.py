"""What the compiler does, as text: TINYGRAD_RNN_DUMP says of which stages, and where it goes.

TINYGRAD_RNN_DUMP=all                 all stages, to stderr
TINYGRAD_RNN_DUMP=normalise,source    the circuit after this pass, and the generated code
TINYGRAD_RNN_DUMP=all:FOLDER          each text into a file of its own
"""

from __future__ import annotations

import itertools
import os
import re
import sys

from pathlib import Path

# The circuit as it was recorded and after each pass, what is computed when, and the Python or LLVM text.
STAGES = (
    "recorded", "normalise", "simplify", "reassociate", "merge_products", "merge_elementwise", "merge_reductions",
    "copy_transposed", "lower_softmax", "one_dtype", "sum_rows", "schedule", "source",
)  # fmt: skip

_number = itertools.count(1)  # of the files of this process


class Dump:
    """Where the texts of some stages go. asked: what the environment says, "" for nothing"""

    def __init__(self, asked: str):
        names, colon, folder = asked.partition(":")
        self.stages = set(STAGES) if names == "all" else {name.strip() for name in names.split(",")} - {""}
        self.folder = Path(folder) if colon else None
        if unknown := sorted(self.stages - set(STAGES)):
            known = ", ".join(STAGES)
            raise ValueError(f"TINYGRAD_RNN_DUMP: stages must be all or some of {known}, got {', '.join(unknown)}")

    @classmethod
    def asked(cls) -> Dump:
        """What the environment asks for now."""
        return cls(os.environ.get("TINYGRAD_RNN_DUMP", ""))

    def __contains__(self, stage: str) -> bool:
        return stage in self.stages

    def write(self, stage: str, who: str, title: str, text: str, ending: str = "txt") -> None:
        """The text of a stage, if it is asked for."""
        if stage not in self:
            return
        if self.folder is None:
            sys.stderr.write(f"--- {who}: {title}\n{text}\n\n")
            return
        name = re.sub(r"\W+", "-", f"{next(_number):03} {who} {stage}")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{name}.{ending}").write_text(text + "\n", encoding="utf-8")
