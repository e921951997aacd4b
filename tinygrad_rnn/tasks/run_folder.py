"""The folder of a run: its options, checkpoints, losses and lock; each file is replaced in one step."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import tempfile

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tinygrad_rnn.files import TEMPORARY, locked, write_atomically


class RunFolder:
    """A run's files: config.json, vocabulary.json, metrics.csv, last.safetensors, best.safetensors, pictures; and
    train.lock while a process trains here."""

    def __init__(self, path: str | Path):
        self.path = path = Path(path)
        self.last, self.best = path / "last.safetensors", path / "best.safetensors"
        self.tensorboard = path / "tensorboard"

    @property
    def weights(self) -> Path:
        """The checkpoint with the best weights; the last one, where no epoch has ended yet."""
        return self.best if self.best.exists() else self.last

    def create(self, config: Mapping[str, Any], more: Mapping[str, Any]) -> None:
        """Make the folder for a new run; ValueError if there is anything in it. `more`: other JSON files by name."""
        if not self.path.is_dir() and self.path.exists():
            raise ValueError(f"--out: {str(self.path)!r} must be a folder, got a file")
        if (self.path / "config.json").exists():
            raise ValueError(
                f"--out: {str(self.path)!r} holds another run; add --resume to go on with it, or name another folder"
            )
        if self.path.exists() and any(self.path.iterdir()):
            raise ValueError(f"--out: {str(self.path)!r} is not empty and holds no run; name another folder")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.path.parent, prefix=f".{self.path.name}-") as made:
                content = Path(made) / "run"
                content.mkdir()
                for name, value in {**more, "config": config}.items():
                    _write_json(content / f"{name}.json", value)
                content.replace(self.path)  # all of it or nothing, also for one who is killed here
        except OSError as error:
            raise ValueError(f"--out: {str(self.path)!r} cannot be written: {error.strerror}") from None

    def locked(self) -> AbstractContextManager[None]:
        """Nobody else trains here meanwhile; RuntimeError that names the process if one does. The folder is made if
        there is none."""
        self.path.mkdir(parents=True, exist_ok=True)
        return locked(self.path / "train.lock", f"run: {str(self.path)!r}")

    def withdraw(self) -> None:
        """Remove what `create` made, and what a run writes before its first checkpoint; what else there is stays."""
        self.clean()
        for path in self.path.glob("*.json"):
            path.unlink()
        shutil.rmtree(self.tensorboard, ignore_errors=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()

    def update(self, config: Mapping[str, Any]) -> None:
        """Change what config.json says of these options."""
        _write_json(self.path / "config.json", {**self.read("config"), **config})

    def clean(self) -> None:
        """Remove what a killed run left half-written."""
        for litter in self.path.iterdir():
            if re.fullmatch(TEMPORARY, litter.name):
                litter.unlink()

    def read(self, name: str) -> Any:
        """The content of one of the JSON files; ValueError if this is no run folder or the file is damaged."""
        path = self.path / f"{name}.json"
        try:
            return json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise ValueError(f"run: {str(self.path)!r} is no run folder, it has no {path.name}") from None
        except OSError as error:
            raise ValueError(f"run: {str(path)!r} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise ValueError(f"run: {str(path)!r} is damaged ({error})") from None

    def write_metrics(self, rows: list[dict[str, float]]) -> None:
        """metrics.csv: a row for each epoch."""
        if rows:
            text = io.StringIO()
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_atomically(self.path / "metrics.csv", text.getvalue())


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode(errors="backslashreplace"))  # a file's name may hold what is no text
