"""How near a time comes to what the machine allows, and which of its limits binds."""

from dataclasses import dataclass

from drconv.analysis.profile.peaks import Peaks

__all__ = ["Roofline", "Traffic", "binding", "roofline"]

_EXPLAINS = 0.3
"""Share of the time that a limit must account for to be called the one that binds."""


@dataclass(frozen=True)
class Traffic:
    """What a call has to do at least, whoever does it.

    Attributes:
        madds: multiply-adds with one filter per position.
        bytes: each of input, output and parameters (or given filters) moved once; their gradients, too, if made.
    """

    madds: int
    bytes: int


@dataclass(frozen=True)
class Roofline:
    """A time against the machine's peaks.

    Attributes:
        madds: of the call, in theory.
        bytes: that it has to move.
        flops: achieved operations per second; a multiply-add is two.
        bandwidth: achieved bytes per second.
        arithmetic_floor: seconds that the operations take at the peak.
        bytes_floor: seconds that the bytes take at the peak of where they fit, the last cache or memory.
        fits_cache: whether that is the cache.
        peak_share: `flops` over the peak.
        overhead: seconds of the same kind of call with next to nothing to compute; None if it was not measured.
    """

    madds: int
    bytes: int
    flops: float
    bandwidth: float
    arithmetic_floor: float
    bytes_floor: float
    fits_cache: bool
    peak_share: float
    overhead: float | None = None


def roofline(seconds: float, traffic: Traffic, peaks: Peaks, overhead: float | None = None) -> Roofline:
    """Hold a time against the machine's peaks.

    Calls follow each other on the same tensors, so bytes that fit into half of the last cache are read from there.
    """
    fits = traffic.bytes <= peaks.cache / 2
    return Roofline(
        madds=traffic.madds,
        bytes=traffic.bytes,
        flops=2 * traffic.madds / seconds,
        bandwidth=traffic.bytes / seconds,
        arithmetic_floor=2 * traffic.madds / peaks.flops,
        bytes_floor=traffic.bytes / (peaks.cache_read if fits else peaks.read),
        fits_cache=fits,
        peak_share=2 * traffic.madds / seconds / peaks.flops,
        overhead=overhead,
    )


def binding(who: str, seconds: float, found: Roofline) -> str:
    """Return one sentence: which limit accounts for most of a time, and for how much of it."""
    where = "the last cache" if found.fits_cache else "memory"
    limits = {
        "arithmetic": (found.arithmetic_floor, f"{2 * found.madds / 1e6:.3g} MFLOP at the peak"),
        "memory": (found.bytes_floor, f"{found.bytes / 1e6:.3g} MB from {where}"),
    }
    if found.overhead is not None:
        limits["call overhead"] = (found.overhead, "a call with nothing to compute")
    shares = {name: floor / seconds for name, (floor, _) in limits.items()}
    first = max(shares, key=shares.__getitem__)
    parts = ", ".join(f"{name} {_us(limits[name][0])} ({limits[name][1]})" for name in limits)
    head = f"{who} takes {_us(seconds)}; floors: {parts}"
    if shares[first] >= _EXPLAINS:
        return f"{head}: {first} binds, {min(shares[first], 1):.0%} of the time"
    return f"{head}: none binds, {first} comes nearest with {shares[first]:.0%} of the time"


def _us(seconds: float) -> str:
    """Return a time in microseconds, or in milliseconds from a thousand of them."""
    return f"{1e6 * seconds:.3g} us" if seconds < 0.9995e-3 else f"{1e3 * seconds:.4g} ms"
