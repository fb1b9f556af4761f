"""Whether a figure is tidy: no two texts or axes share pixels, no text is on foreign axes, nothing leaves the page."""

import itertools

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

Box = tuple[float, ...]
"""Left, bottom, right and top, in pixels."""


def assert_tidy(figure: Figure) -> None:
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    owned = [(text, None) for text in figure.texts] + [(text, ax) for ax in figure.axes for text in texts_of(ax)]
    shown = [(text, ax) for text, ax in owned if text.get_text() and text.get_visible()]
    words = [(f"text {text.get_text()!r}", box(text.get_window_extent(renderer).extents)) for text, _ in shown]
    frames = [(str(ax.get_label()), box(ax.get_window_extent(renderer).extents)) for ax in figure.axes]
    for (text, owner), (name, here) in zip(shown, words, strict=True):
        for ax, (frame, there) in zip(figure.axes, frames, strict=True):
            foreign = ax is not owner and ax.axison and text.get_bbox_patch() is None
            assert not (foreign and shared(here, there)), f"{name} is on {frame}"
    width, height = figure.get_size_inches() * figure.dpi
    for name, (left, bottom, right, top) in words + frames:
        assert min(left, bottom) >= -1, f"{name} leaves the page"
        assert right <= width + 1, f"{name} leaves the page"
        assert top <= height + 1, f"{name} leaves the page"
    for group in (words, frames):
        for (one, here), (other, there) in itertools.combinations(group, 2):
            assert not shared(here, there), f"{one} overlaps {other}"


def texts_of(ax: Axes) -> list[Text]:
    """Return its texts, titles, labels and the labels of its ticks."""
    ticks = [text for axis in (ax.xaxis, ax.yaxis) if ax.axison for text in axis.get_ticklabels()]
    return [*ax.texts, ax.title, ax._left_title, ax._right_title, ax.xaxis.label, ax.yaxis.label, *ticks]


def box(extents: object) -> Box:
    return tuple(map(float, extents))  # type: ignore[call-overload, no-any-return]


def shared(one: Box, other: Box) -> bool:
    """Whether two boxes share more than a pixel each way."""
    return all(min(one[i + 2], other[i + 2]) - max(one[i], other[i]) > 1 for i in (0, 1))
