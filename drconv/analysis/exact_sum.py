"""Sums of floats that come out the same in any order, so that work can be split over processes."""

from dataclasses import dataclass
from fractions import Fraction

__all__ = ["ExactSum"]

_BITS = 1074
"""Every finite float64 is a whole multiple of 2^-1074."""


@dataclass
class ExactSum:
    """A running sum without rounding.

    Attributes:
        count: numbers added.
    """

    count: int = 0
    _units: int = 0

    def add(self, value: float) -> None:
        """Add a finite number."""
        numerator, denominator = value.as_integer_ratio()
        self._units += numerator << (_BITS + 1 - denominator.bit_length())
        self.count += 1

    def merge(self, other: "ExactSum") -> None:
        """Add what another sum holds."""
        self._units += other._units
        self.count += other.count

    def to_dict(self) -> dict[str, int]:
        """Return whole numbers, which JSON keeps exactly."""
        return {"count": self.count, "units": self._units}

    @classmethod
    def from_dict(cls, values: dict[str, int]) -> "ExactSum":
        """Return the sum that `to_dict` gave."""
        return cls(int(values["count"]), int(values["units"]))

    @property
    def total(self) -> float:
        """The sum, rounded once."""
        return float(Fraction(self._units, 1 << _BITS))

    @property
    def mean(self) -> float | None:
        """The mean, rounded once; None of nothing."""
        return float(Fraction(self._units, self.count << _BITS)) if self.count else None
