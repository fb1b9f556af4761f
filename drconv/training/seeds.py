"""Seeds that follow from others, so that every random choice of training is a function of where it is made."""

from hashlib import blake2b

__all__ = ["derived_seed"]


def derived_seed(*parts: int | str) -> int:
    """Return a seed, 0 to 2^63 - 1, that differs wherever a part differs, on every machine alike."""
    digest = blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
