"""What can be asked of a profile, and the words for it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from drconv.analysis.timing import StopRule
from drconv.checks import pick
from drconv.errors import ArgumentError
from drconv.kernels import BACKENDS

__all__ = ["CACHES", "LAYOUTS", "PASSES", "Layout", "Pass", "ProfileOptions"]

Pass = Literal["forward", "backward", "step"]
PASSES = ("forward", "backward", "step")
Layout = Literal["own", "NCHW", "channels_last", "both"]
LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
"""Name -> memory format."""
CACHES = ("warm", "cold")


@dataclass(frozen=True)
class ProfileOptions:
    """How to profile.

    Attributes:
        backends: to time beside `conv2d`; None times those that a call would choose from.
        naive: whether to time `naive`, too.
        layout: of the dynamic candidates: the input's own, NCHW, channels_last, or both. `conv2d` is timed in both
            layouts in any case.
        which: "forward" in inference mode; "backward" without its forward pass, which runs untimed before it; "step",
            both, with gradients of input and parameters, in train mode.
        stop: when a target has been timed enough.
        caches: "warm", "cold" (emptied before each call), or both.
        every_layer: time every layer; else one of each group of layers with equal sizes, though all are checked.
        layers: whether to time layers, and not the network only.
        network: whether to time the network, and not its layers only.
        stages: whether to time the stages of each layer apart.
        roofline: whether to measure the machine's peaks and hold the layers against them.
        memory: whether to measure the peak memory of each candidate.
        trace: file for a Chrome trace with one labelled range per candidate.

    Raises:
        ArgumentError: a word is not known, or two options contradict each other.
        UnknownNameError: no backend has that name.
    """

    backends: tuple[str, ...] | None = None
    layout: Layout = "own"
    which: Pass = "forward"
    stop: StopRule = field(default_factory=StopRule)
    naive: bool = True
    caches: tuple[str, ...] = ("warm",)
    every_layer: bool = False
    layers: bool = True
    network: bool = True
    stages: bool = False
    roofline: bool = True
    memory: bool = True
    trace: Path | None = None

    def __post_init__(self) -> None:
        pick("layout", self.layout, ("own", *LAYOUTS, "both"))
        pick("which", self.which, PASSES)
        for cache in self.caches:
            pick("caches", cache, CACHES)
        if not self.caches:
            raise ArgumentError("caches must name one at least, got none; known: 'warm', 'cold'")
        for name in self.backends or ():
            BACKENDS[name]
        if self.stages and self.which != "forward":
            raise ArgumentError(f"stages are timed in the forward pass only, got which={self.which!r}")
        if not self.layers and not self.network:
            raise ArgumentError("layers=False and network=False leave nothing to time; leave one of them True")

    @property
    def names(self) -> list[str]:
        """Backends to time, `naive` last: those named, or all that some device of this machine takes by itself."""
        named = self.backends
        if named is None:
            kinds = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
            named = tuple(n for n, row in BACKENDS.items() if any(row.is_automatic(kind) for kind in kinds))
        return list(dict.fromkeys([*named, "naive"] if self.naive else named))

    def layouts(self, own: str) -> tuple[str, ...]:
        """Return the layouts of dynamic candidates for an input that has its own."""
        asked = {"own": (own,), "both": tuple(LAYOUTS)}
        return asked.get(self.layout, (self.layout,))
