"""An experiment from its options to its files: train, resume, use."""

from tinygrad_rnn.tasks.fit import Progress, Task, Trainer
from tinygrad_rnn.tasks.run_folder import RunFolder
from tinygrad_rnn.tasks.supervised import SupervisedTask

__all__ = ["Progress", "RunFolder", "SupervisedTask", "Task", "Trainer"]
