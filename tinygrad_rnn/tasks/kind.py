"""A kind of run: from its options to its files, on from its files, and from these to a trained model."""

from __future__ import annotations

import hashlib

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinygrad_rnn import nn, optim, parallel
from tinygrad_rnn.autograd import random
from tinygrad_rnn.autograd.devices import default_device
from tinygrad_rnn.data import read_text
from tinygrad_rnn.data.subwords import Tokens, from_dict
from tinygrad_rnn.nn.state_dicts import without_prefix
from tinygrad_rnn.tasks.checkpoint import load_checkpoint
from tinygrad_rnn.tasks.config import MODEL, OF_OLD, CommonConfig, checked
from tinygrad_rnn.tasks.events import Events
from tinygrad_rnn.tasks.fit import Task, Trainer
from tinygrad_rnn.tasks.optimizers import make_optimizer
from tinygrad_rnn.tasks.run_folder import RunFolder

Vocabularies = tuple[Tokens, ...]


@dataclass(frozen=True)
class Kind:
    """What one kind of run has of its own; its methods are what all kinds do alike.

    name, what: in config.json, as "task"; in words, for errors
    config: the class of its options
    source, default_source: the option that names the file that is learned; what is learned without one, for errors
    vocabulary_files: in the run's folder, one for each of its vocabularies
    model: the options that the model and its vocabularies depend on
    lr_falls_by: the cosine of the learning rate ends at this part of what it begins with
    read: config -> what the file holds, and its text, by which it is known again
    vocabularies: config, what the file holds -> its vocabularies
    batches: config, what the file holds, each vocabulary -> batches to learn from, and held-out ones
    build: config, the size of each vocabulary -> the model, its weights drawn from the library's generator
    task: config, model, batches, held-out ones -> what is minimised

    Of several processes, that of rank 0 alone reads and writes files; `batches` and `task` ask `parallel.world()`.
    """

    name: str
    what: str
    config: type[CommonConfig]
    source: str
    vocabulary_files: tuple[str, ...]
    lr_falls_by: int
    read: Callable[[Any], tuple[Any, str]]
    vocabularies: Callable[[Any, Any], Vocabularies]
    batches: Callable[..., tuple[Any, Any]]
    build: Callable[..., nn.Module]
    task: Callable[[Any, Any, Any, Any], Task]
    default_source: str = ""
    model: tuple[str, ...] = MODEL

    def new_run(
        self, config: Any, folder: RunFolder, save_every: float = 10.0, share_update: bool = False
    ) -> tuple[Trainer, Vocabularies]:
        """Start a run in an empty folder; ValueError, and nothing written, if anything is wrong with the config.

        share_update: let each of several processes update its part of the parameters (`ZeroRedundancyOptimizer`)
        """
        world = parallel.world()
        examples, text = world.first(lambda: self.read(checked(config)))
        vocabularies = world.first(lambda: self._vocabularies(config, examples))
        trainer = self._trainer(config, folder, examples, vocabularies, save_every, share_update)
        self._take_weights(trainer, config)
        saved = {**asdict(config), "task": self.name}
        saved |= {key: str(Path(saved[key]).absolute()) for key in (*self.sources, "from_run") if saved[key]}
        named = zip(self.vocabulary_files, vocabularies, strict=True)
        files = {name: v.as_dict() for name, v in named}
        world.first(lambda: folder.create({**saved, **self._digests(config, text)}, files))
        return trainer, vocabularies

    def resumed_run(
        self, config: Any, folder: RunFolder, save_every: float = 10.0, share_update: bool = False
    ) -> tuple[Trainer, Vocabularies]:
        """Go on with the run in a folder; ValueError if what it learns is not what it was started with."""
        world = parallel.world()
        examples, vocabularies = world.first(lambda: self.read_again(config, folder))
        trainer = self._trainer(config, folder, examples, vocabularies, save_every, share_update)
        if world.first(lambda: _last_is_there(folder)):
            trainer.restore(folder.last)
            world.first(lambda: folder.write_metrics(trainer.progress.rows))
        else:
            self._take_weights(trainer, config)
        return trainer, vocabularies

    def _vocabularies(self, config: Any, examples: Any) -> Vocabularies:
        """Those of the run that this one goes on from, or new ones."""
        if config.from_run:
            return self._read_vocabularies(RunFolder(Path(config.from_run)))
        return self.vocabularies(config, examples)

    def _take_weights(self, trainer: Trainer, config: Any) -> None:
        """Begin with the best weights of the run that is named, if one is."""
        if config.from_run:
            best = RunFolder(Path(config.from_run)).weights
            arrays, _ = trainer.world.first(lambda: load_checkpoint(best))
            self._fill(trainer.model, arrays, best)

    def read_again(self, config: Any, folder: RunFolder, who: str = "--resume") -> tuple[Any, Vocabularies]:
        """What a run learns, and its vocabularies; ValueError in the name of `who` if that is not what it learned."""
        examples, text = self.read(config)
        saved = folder.read("config")
        for key, digest in self._digests(config, text).items():
            if digest != saved.get(key):  # but the file may have been moved
                name = key.removesuffix("_sha256")
                flag = (name if who == "--resume" else self.source).replace("_", "-")
                if not saved.get(name) and name != self.source:
                    raise ValueError(f"{who}: this run was started without --{flag}; leave the option out")
                raise ValueError(
                    f"{who}: {getattr(config, name) or self.default_source!r} is not the {name.replace('_', ' ')} "
                    f"this run was started with; --{flag} FILE names another"
                )
        return examples, self._read_vocabularies(folder)

    @property
    def sources(self) -> tuple[str, ...]:
        """The options that name files to learn from, to validate on and to test with."""
        names = (self.source, f"valid_{self.source}", f"test_{self.source}")
        return tuple(name for name in names if hasattr(self.config, name))

    def _digests(self, config: Any, text: str) -> dict[str, str]:
        """By what the files that a run depends on are known again; text: of what it learns."""
        valid = f"valid_{self.source}"
        path = getattr(config, valid, "")
        found = {f"{self.source}_sha256": _sha256(text)}
        return {**found, f"{valid}_sha256": _sha256(read_text(path))} if path else found

    def read_config(self, folder: RunFolder) -> Any:
        """The config of a run; ValueError if it is damaged, or of another kind of run."""
        saved = folder.read("config")
        if not isinstance(saved, dict) or saved.get("task") != self.name:
            raise ValueError(f"run: {str(folder.path)!r} must hold {self.what}, its config.json says otherwise")
        default = asdict(self.config())  # of an option that came later: what was always done before
        try:
            config = self.config(**{k: saved[k] if k in OF_OLD else saved.get(k, v) for k, v in default.items()})
        except KeyError as error:
            raise ValueError(f"run: {str(folder.path / 'config.json')!r} is damaged, it lacks {error}") from None
        return checked(config, f"run: {folder.path}/config.json: ")

    def load(self, folder: RunFolder) -> tuple[Any, Vocabularies]:
        """The best model of a run, for evaluation, and the run's vocabularies; ValueError if there is none, or if its
        files are damaged."""
        config, vocabularies = self.read_config(folder), self._read_vocabularies(folder)
        model = self.build(config, *map(len, vocabularies)).to(default_device())
        arrays, _ = load_checkpoint(folder.weights)
        self._fill(model, arrays, folder.weights)
        model.eval()
        return model, vocabularies

    def _fill(self, model: nn.Module, arrays: Any, path: Path) -> None:
        """Give a model the weights of a checkpoint."""
        try:
            model.load_state_dict(without_prefix("model", arrays))
        except ValueError as error:
            raise ValueError(f"checkpoint: {str(path)!r} does not fit the run's config ({error})") from None

    def _trainer(
        self, config: Any, folder: RunFolder, examples: Any, vocabularies: Vocabularies, save_every: float,
        share_update: bool,
    ) -> Trainer:  # fmt: skip
        """A run before its first batch: a new model, an optimiser, and the batches."""
        batches = self.batches(config, examples, *vocabularies)
        random.manual_seed(config.seed)
        model = self.build(config, *map(len, vocabularies)).to(default_device())
        task = self.task(config, model, *batches)
        made, plateau = make_optimizer(config, model.parameters(), len(task), self.lr_falls_by)
        events = Events(folder.tensorboard) if config.tensorboard and not parallel.world().rank else None
        return Trainer(
            model, optim.ZeroRedundancyOptimizer(made) if share_update else made, task, folder, config.clip,
            save_every, seed=config.seed, plateau=plateau, patience=config.patience, log_every=config.log_every,
            events=events,
        )  # fmt: skip

    def _read_vocabularies(self, folder: RunFolder) -> Vocabularies:
        return tuple(_read_vocabulary(folder, name) for name in self.vocabulary_files)


def kind_of(folder: RunFolder) -> str:
    """The name of the kind of a run, whichever it is; "" if its config has none."""
    saved = folder.read("config")
    return saved.get("task", "") if isinstance(saved, dict) else ""


def _last_is_there(folder: RunFolder) -> bool:
    """Is there a checkpoint to go on from? What a killed run left half-written is removed."""
    with folder.locked():
        folder.clean()
        if folder.best.exists() and not folder.last.exists():
            raise ValueError(f"--resume: {str(folder.path)!r} has lost its last.safetensors; start another run")
        return folder.last.exists()


def _read_vocabulary(folder: RunFolder, name: str) -> Tokens:
    saved = folder.read(name)
    try:
        return from_dict(saved)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"run: {str(folder.path / name) + '.json'!r} is damaged ({error!r})") from None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
