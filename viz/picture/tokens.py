"""The names of what steps read and say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from viz.picture.subject import Subject


class Tokens(NamedTuple):
    """Names by sequence and time step.

    sources    of the inputs, for each sequence that is read
    targets    of what the last of them says
    sequences  the runs that have their own columns
    first      the number of the first step of each of these
    """

    sources: Sequence[Sequence[str]]
    targets: Sequence[str]
    sequences: list[int]
    first: dict[int, int]

    def source(self, run: int, t: int) -> str | None:
        """What a step reads, if it has a name."""
        number = self.sequences.index(run)
        names = self.sources[number] if number < len(self.sources) else ()
        k = t - self.first[run]
        return names[k] if k < len(names) else None

    def target(self, run: int, t: int) -> str | None:
        """What a step says, if it has a name."""
        k = t - self.first[run]
        return self.targets[k] if run == self.sequences[-1] and k < len(self.targets) else None


def tokens_of(subject: Subject, sources: Sequence[Sequence[str]], targets: Sequence[str]) -> Tokens:
    """The tokens of a graph's sequences. ValueError for more names than there are steps."""
    sequences = sorted({c.run for c in subject.states.columns if c.t is not None})
    steps = {run: subject.flow.runs.steps[run] for run in sequences}
    lengths = [max(each) - min(each) + 1 for each in steps.values()]
    check_names(sources, lengths)
    check_names([targets], lengths[-1:], "targets")
    return Tokens(sources, targets, sequences, {run: min(each) for run, each in steps.items()})


def check_names(lists: Sequence[Sequence[str]], most: Sequence[int], what: str = "tokens") -> None:
    """ValueError for names of more sequences, or of more steps, than there are. most: the steps of each sequence"""
    if len(lists) > len(most) and any(lists):
        raise ValueError(f"viz.draw: {what} must be for {len(most)} sequences over time, got {len(lists)} lists")
    for names, n in zip(lists, most, strict=False):
        if len(names) > n:
            raise ValueError(f"viz.draw: {what} must be at most {n}, one for each time step, got {len(names)}")
