"""Count multiply-adds and parameters of any model."""

from drconv.analysis.flops.count import count_flops
from drconv.analysis.flops.counters import register_counter
from drconv.analysis.flops.cross_check import CrossCheck, cross_check
from drconv.analysis.flops.kinds import CONVENTION, KINDS
from drconv.analysis.flops.memory import MemoryEstimate, estimate_memory
from drconv.analysis.flops.operators import OP_FLOPS
from drconv.analysis.flops.released import count_released
from drconv.analysis.flops.report import FlopReport, FlopTree, LayerFlops, StageFlops
from drconv.analysis.flops.sweep import SweepReport, sweep_flops

__all__ = [
    "CONVENTION",
    "KINDS",
    "OP_FLOPS",
    "CrossCheck",
    "FlopReport",
    "FlopTree",
    "LayerFlops",
    "MemoryEstimate",
    "StageFlops",
    "SweepReport",
    "count_flops",
    "count_released",
    "cross_check",
    "estimate_memory",
    "register_counter",
    "sweep_flops",
]
