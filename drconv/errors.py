"""The errors users of drconv can meet; each message says what is wrong, what was got and what would work."""

__all__ = [
    "ArgumentError",
    "BackendError",
    "CheckpointError",
    "CountError",
    "DrconvError",
    "FileError",
    "ModelError",
    "RegressionError",
    "StoppedError",
    "TrainingError",
    "UnknownNameError",
]


class DrconvError(Exception):
    """Base of every error this package raises on purpose."""


class ArgumentError(DrconvError, ValueError):
    """An argument or a tensor shape does not describe a valid call."""


class UnknownNameError(DrconvError, LookupError):
    """A name is not in a table; the message offers the near ones."""


class BackendError(DrconvError, RuntimeError):
    """The named backend cannot run this call; the message carries its reason."""


class ModelError(DrconvError):
    """A model could not be built, or failed on its input."""


class CheckpointError(DrconvError):
    """A checkpoint cannot be read, is unsafe to read, or belongs to another model."""


class CountError(DrconvError):
    """A count is not what it claims to be: counters differ, or part of the model went uncounted."""


class RegressionError(DrconvError):
    """A time is worse than the one it was compared with, by more than was allowed."""


class FileError(DrconvError):
    """A file cannot be read or written, or is not what it should be."""


class TrainingError(DrconvError):
    """Training cannot go on: the loss or a gradient is not finite, or data and model do not fit."""


class StoppedError(DrconvError):
    """Training was asked to stop, and has kept what it needs to go on."""
