"""The words of counting: what is multiply-adds, and the kinds of operations that can stand beside them."""

__all__ = ["CONVENTION", "KINDS", "KIND_UNITS", "MADDS"]

CONVENTION = "MAdds of convolutions and linear layers, per image; one multiply-add is 1 (a FLOP count would be 2)"

MADDS = "madds"

KINDS = ("norm", "pool", "resize", "bias", "activation", "elementwise")
"""What can be counted beside multiply-adds of convolutions and linear layers."""

KIND_UNITS = "operations: norm and resize as fvcore counts them, else one per element or window element"
