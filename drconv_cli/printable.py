"""Text from outside, such as names of files, as a terminal may be given it."""

from unicodedata import category

__all__ = ["printable"]

_CONTROLS = {"Cc", "Cf", "Cs"}
"""Control letters, which move the cursor and recolour; format letters, which turn lines around; halves of letters."""


def printable(text: str, but: str = "") -> str:
    r"""Return a text whose control letters are written out, as `\x1b`, except those of `but`."""
    if text.isprintable():
        return text
    return "".join(
        x.encode("unicode_escape").decode() if category(x) in _CONTROLS and x not in but else x for x in text
    )
