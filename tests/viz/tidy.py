"""Whether a drawn figure is tidy: no two texts share pixels, no two of the given axes do, nothing leaves the page."""

import itertools

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Box = tuple[float, ...]
"""Left, bottom, right and top, in pixels."""


def assert_tidy(figure: Figure) -> None:
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    own = [
        text for ax in figure.axes for text in (*ax.texts, ax.title, ax._left_title, ax._right_title, ax.xaxis.label)
    ]
    texts = [text for text in [*figure.texts, *own] if text.get_text()]
    words = [(f"text {text.get_text()!r}", box(text.get_window_extent(renderer).extents)) for text in texts]
    frames = [(str(ax.get_label()), box(ax.get_window_extent(renderer).extents)) for ax in figure.axes]
    width, height = figure.get_size_inches() * figure.dpi
    for name, (left, bottom, right, top) in words + frames:
        assert min(left, bottom) >= -1, f"{name} leaves the page"
        assert right <= width + 1, f"{name} leaves the page"
        assert top <= height + 1, f"{name} leaves the page"
    for group in (words, frames):
        for (one, here), (other, there) in itertools.combinations(group, 2):
            assert not shared(here, there), f"{one} overlaps {other}"


def box(extents: object) -> Box:
    return tuple(map(float, extents))  # type: ignore[call-overload, no-any-return]


def shared(one: Box, other: Box) -> bool:
    """Whether two boxes share more than a pixel each way."""
    return all(min(one[i + 2], other[i + 2]) - max(one[i], other[i]) > 1 for i in (0, 1))
