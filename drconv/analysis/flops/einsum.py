"""Multiply-adds of an Einstein sum, product by product, as PyTorch runs it."""

from collections.abc import Sequence
from math import prod
from string import ascii_uppercase

__all__ = ["einsum_madds"]


def einsum_madds(equation: str, shapes: Sequence[Sequence[int]], path: Sequence[int] | None = None) -> tuple[int, int]:
    """Count an Einstein sum.

    Operands are taken two by two: from the left, or in the order of `path`. What stands in one operand alone and not in
    the result is summed before; a product that then sums over nothing is element-wise.

    Args:
        equation: as `torch.einsum` takes it.
        shapes: of the operands.
        path: pairs of places, flattened, as `torch.einsum` gets them from opt_einsum; None is from left to right.

    Returns:
        Multiply-adds, and products that are not summed.
    """
    terms, result = _terms(equation, shapes)
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            # A side of 1 is broadcast.
            sizes[letter] = max(size, sizes.get(letter, 1))
    madds = products = 0
    operands = list(terms)
    steps = list(path or ())
    while len(operands) > 1:
        first, second = (steps.pop(0), steps.pop(0)) if steps else (0, 1)
        a, b = operands[first], operands[second]
        operands = [term for place, term in enumerate(operands) if place not in (first, second)]
        elsewhere = set(result).union(*operands)
        kept = [x for x in dict.fromkeys(a + b) if x in elsewhere]
        summed = [x for x in dict.fromkeys(a) if x in b and x not in elsewhere]
        if summed:
            madds += prod(sizes[x] for x in (*kept, *summed))
        else:
            products += prod(sizes[x] for x in kept)
        made = "".join(kept)
        # From the left the product takes the first place; a path puts it at the end.
        operands = [*operands, made] if path else [made, *operands]
    return madds, products


def _terms(equation: str, shapes: Sequence[Sequence[int]]) -> tuple[list[str], str]:
    """Return the letters of the operands and of the result, dots spelled out and the result's made explicit."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    free = [letter for letter in ascii_uppercase if letter not in equation]
    dots = max((len(s) - len(t) + 3 for t, s in zip(terms, shapes, strict=True) if "..." in t), default=0)
    spelled = "".join(free[:dots])
    terms = [
        term.replace("...", spelled[dots - (len(shape) - len(term) + 3) :]) if "..." in term else term
        for term, shape in zip(terms, shapes, strict=True)
    ]
    if not arrow:
        once = sorted(x for x in set("".join(terms)) if "".join(terms).count(x) == 1 and x not in spelled)
        return terms, spelled + "".join(once)
    return terms, right.replace("...", spelled)
