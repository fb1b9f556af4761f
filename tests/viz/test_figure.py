import base64
import io
import re
import warnings

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.image import AxesImage
from matplotlib.text import Text
from PIL import Image

from drconv.analysis.statistics import LayerStatistics, RegionStatistics
from drconv.errors import ArgumentError
from drconv.viz import region_colors, region_figure

PANELS = ["photo", "map", "overlay", "margin", "legend", "cosines"]


def layer_of(name, mask, num_regions, norms=None, cosines=None):
    counts = np.bincount(mask.ravel(), minlength=num_regions)
    if cosines is None:
        cosines = np.random.default_rng(0).uniform(-1, 1, (num_regions, num_regions)).tolist()
    return LayerStatistics(
        name,
        mask.shape,
        tuple(counts.tolist()),
        tuple((counts / mask.size).tolist()),
        tuple(norms or [1.5 + j for j in range(num_regions)]),
        tuple(map(tuple, cosines)),
    )


def draw(specs, shape=(60, 80), *, title="photo.jpg", notes=()):
    """specs: name, mask, num_regions per layer."""
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    statistics = RegionStatistics(tuple(layer_of(name, mask, count) for name, mask, count in specs))
    masks = {name: mask for name, mask, _ in specs}
    margins = {name: np.linspace(0, 1, mask.size).reshape(mask.shape) for name, mask, _ in specs}
    return region_figure(pixels, statistics, masks, title=title, margins=margins, notes=notes)


def random_mask(rows, columns, num_regions):
    return np.random.default_rng(3).integers(0, num_regions, (rows, columns))


def axes(figure, label):
    return [ax for ax in figure.axes if ax.get_label() == label]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def boxes(figure):
    """Every visible text and its box in pixels, `[N, 4]`."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    found = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    extents = np.array([text.get_window_extent(renderer).extents for text in found])
    return [text.get_text() for text in found], extents


def overlapping(first, second):
    """Whether boxes `[N, 4]` and `[K, 4]` share more than half a pixel, `[N, K]`."""
    first, second = first[:, None], second[None]
    return np.all((first[..., :2] + 0.5 < second[..., 2:]) & (second[..., :2] + 0.5 < first[..., 2:]), axis=-1)


def assert_tidy(figure):
    names, extents = boxes(figure)
    hits = np.argwhere(np.triu(overlapping(extents, extents), 1))
    assert [(names[i], names[j]) for i, j in hits] == []
    width, height = figure.get_size_inches() * figure.dpi
    assert extents[:, :2].min() > 0
    assert extents[:, 2].max() < width
    assert extents[:, 3].max() < height
    frames = np.array([ax.get_window_extent().extents for ax in figure.axes])
    hits = np.argwhere(np.triu(overlapping(frames, frames), 1))
    assert [(figure.axes[i].get_label(), figure.axes[j].get_label()) for i, j in hits] == []
    # A text lies within its own axes or outside all others; the photo must never carry one.
    pictures = np.array([ax.get_window_extent().extents for label in PANELS[:4] for ax in axes(figure, label)])
    assert not overlapping(extents, pictures).any()


def test_overlap_check_finds_an_overlap():
    figure = draw([("a", random_mask(3, 4, 2), 2)])
    assert_tidy(figure)
    figure.text(0.5, 0.5, "across everything " * 20, ha="center")
    with pytest.raises(AssertionError):
        assert_tidy(figure)


@pytest.mark.parametrize("rows", [1, 3])
def test_six_axes_per_layer(rows):
    figure = draw([(f"layer{i}", random_mask(6, 8, 4), 4) for i in range(rows)])
    assert [ax.get_label() for ax in figure.axes] == ["scale", "margin scale", *PANELS * rows]
    for label in PANELS:
        tops = [ax.get_position().y1 for ax in axes(figure, label)]
        assert tops == sorted(tops, reverse=True)


def test_twelve_layers_are_tidy():
    assert_tidy(draw([(f"stage{i}.0.branch2.0", random_mask(3, 4, 4), 4) for i in range(12)]))


def test_map_is_the_mask_in_region_colors():
    mask = random_mask(5, 7, 8)
    figure = draw([("a", mask, 8)])
    (image,) = axes(figure, "map")[0].images
    np.testing.assert_array_equal(np.asarray(image.get_array()), region_colors(8)[mask])
    assert image.get_interpolation() == "nearest"
    assert image.get_extent() == [0, 7, 5, 0]


def test_overlay_is_the_map_half_over_the_photo():
    mask = random_mask(5, 7, 8)
    figure = draw([("a", mask, 8)])
    photo, regions = axes(figure, "overlay")[0].images
    assert np.asarray(photo.get_array()).shape == (60, 80, 3)
    np.testing.assert_array_equal(np.asarray(regions.get_array())[..., :3], region_colors(8)[mask])
    assert regions.get_interpolation() == "nearest"
    assert (regions.get_array()[..., 3] == 0.5).all()
    assert regions.get_extent() == photo.get_extent()


def test_rendered_map_shows_every_position_in_its_color():
    mask = np.array([[0, 1, 2], [3, 4, 5]])
    figure = draw([("a", mask, 6)], (40, 60))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3]
    box = axes(figure, "map")[0].get_window_extent()
    for (u, v), region in np.ndenumerate(mask):
        x = int(box.x0 + (v + 0.5) / 3 * box.width)
        y = int(drawn.shape[0] - box.y1 + (u + 0.5) / 2 * box.height)
        np.testing.assert_allclose(drawn[y, x] / 255, region_colors(6)[region], atol=0.01)


def test_margins_have_a_fixed_scale_and_hatched_gaps():
    statistics = RegionStatistics((layer_of("a", MASK, 2),))
    margins = np.full(MASK.shape, 0.25)
    margins[0, 0] = np.nan
    figure = region_figure(np.zeros((4, 8, 3), np.uint8), statistics, {"a": MASK}, title="", margins={"a": margins})
    (ax,) = axes(figure, "margin")
    (image,) = ax.images
    assert image.get_clim() == (0, 1)
    assert image.get_interpolation() == "nearest"
    np.testing.assert_array_equal(image.get_array().filled(np.nan), margins)
    (gap,) = ax.patches
    assert (gap.get_xy(), gap.get_hatch()) == ((0, 0), "/////")


def test_without_margins_there_is_no_panel_for_them():
    figure = region_figure(
        np.zeros((4, 8, 3), np.uint8), RegionStatistics((layer_of("a", MASK, 2),)), {"a": MASK}, title=""
    )
    assert axes(figure, "margin") == axes(figure, "margin scale") == []


@pytest.mark.parametrize("label", ["photo", "overlay"])
def test_boundaries_separate_exactly_the_unlike_neighbours(label):
    mask = np.array([[0, 0, 1], [0, 2, 1]])
    figure = draw([("a", mask, 3)])
    for lines in (c for c in axes(figure, label)[0].collections if isinstance(c, LineCollection)):
        segments = {tuple(map(tuple, s.astype(int).tolist())) for s in lines.get_segments()}
        assert segments == {((2, 0), (2, 2)), ((1, 1), (1, 2)), ((1, 1), (2, 1))}
    assert len(axes(figure, label)[0].collections) == 2


def test_one_region_has_no_boundary():
    figure = draw([("a", np.zeros((4, 4), int), 1)])
    assert all(len(lines.get_segments()) == 0 for lines in axes(figure, "photo")[0].collections)


def test_panels_keep_the_aspect_of_the_photo():
    for shape in ((60, 80), (90, 30), (20, 200), (64, 64)):
        figure = draw([("a", random_mask(4, 4, 2), 2)], shape)
        for label in PANELS[:3]:
            box = axes(figure, label)[0].get_window_extent()
            assert box.width / box.height == pytest.approx(shape[1] / shape[0], rel=1e-6)
        assert not any("stretched" in text.get_text() for text in figure.texts)


@pytest.mark.parametrize(("shape", "word"), [((4, 4000), "wide"), ((4000, 4), "tall")])
def test_slivers_are_stretched_and_say_so(shape, word):
    figure = draw([("a", random_mask(4, 4, 2), 2)], shape)
    assert f"Photo panels are stretched; the photo is very {word}." in [text.get_text() for text in figure.texts]
    assert min(axes(figure, "map")[0].get_window_extent().size) >= 0.11 * figure.dpi


def test_legend_has_shares_and_norms():
    mask = np.repeat([0, 1, 2, 2], 8).reshape(4, 8)
    layer = layer_of("a", mask, 4, norms=[0.5, None, 1234.0, 100.0])
    figure = region_figure(np.zeros((4, 8, 3), np.uint8), RegionStatistics((layer,)), {"a": mask}, title="")
    legend = axes(figure, "legend")[0]
    rows = [tuple(texts(legend)[i : i + 3]) for i in range(0, len(legend.texts), 3)]
    assert rows == [
        ("region 0", "25.0 %", "0.500"),
        ("region 1", "25.0 %", "not finite"),
        ("region 2", "50.0 %", "1.23e+03"),
        ("region 3", "0 %", "100"),
    ]
    widths = [bar.get_width() for bar in legend.patches]
    assert widths[1] == widths[0] == pytest.approx(widths[2] / 2)
    assert widths[3] == 0
    np.testing.assert_allclose([bar.get_facecolor()[:3] for bar in legend.patches], region_colors(4))
    assert [text.get_color() for text in legend.texts] == ["black"] * 9 + ["0.6"] * 3


@pytest.mark.parametrize(
    ("share", "shown"), [(1e-5, "<0.1 %"), (0.0006, "0.1 %"), (0.99999, ">99.9 %"), (1.0, "100.0 %")]
)
def test_rounding_never_claims_absence_or_totality(share, shown):
    mask = np.zeros((2, 2), int)
    layer = LayerStatistics("a", (2, 2), (1, 1), (share, 1 - share), (1.0, 1.0), ((1.0, 0.0), (0.0, 1.0)))
    figure = region_figure(np.zeros((4, 8, 3), np.uint8), RegionStatistics((layer,)), {"a": mask}, title="")
    assert texts(axes(figure, "legend")[0])[1] == shown


def test_bars_have_one_scale_in_every_figure():
    """A bar of half the positions is half as long as one of all, whatever else is in the picture."""
    figure = draw([("a", np.zeros((2, 2), int), 2), ("b", np.array([[0, 1], [0, 1]]), 2)])
    whole, half = (ax.patches[0].get_width() for ax in axes(figure, "legend"))
    assert half == pytest.approx(whole / 2)
    (alone,) = (ax.patches[0].get_width() for ax in axes(draw([("b", np.array([[0, 1], [0, 1]]), 2)]), "legend"))
    assert alone == pytest.approx(half)


def test_cosines_have_numbers_a_fixed_range_and_hatched_gaps():
    mask = np.array([[0, 1]])
    layer = layer_of("a", mask, 2, cosines=[[1.0, -0.001], [None, -0.25]])
    figure = region_figure(np.zeros((4, 8, 3), np.uint8), RegionStatistics((layer,)), {"a": mask}, title="")
    ax = axes(figure, "cosines")[0]
    (image,) = ax.images
    assert image.get_clim() == (-1, 1)
    assert image.get_interpolation() == "nearest"
    assert texts(ax)[:3] == ["1.00", "0.00", "-0.25"]
    assert [patch.get_xy() for patch in ax.patches if patch.get_hatch()] == [(-0.5, 0.5)]


def test_swatches_of_both_axes_have_the_region_colors():
    figure = draw([("a", random_mask(4, 4, 3), 3)])
    swatches = [patch for patch in axes(figure, "cosines")[0].patches if not patch.get_hatch()]
    assert len(swatches) == 6
    for j in range(3):
        for swatch in swatches[2 * j : 2 * j + 2]:
            np.testing.assert_allclose(swatch.get_facecolor()[:3], region_colors(3)[j])
    legend, cosines = (axes(figure, label)[0].get_position() for label in ("legend", "cosines"))
    assert (legend.y0, legend.y1) == pytest.approx((cosines.y0, cosines.y1))


def test_more_than_eight_regions_have_no_numbers_in_cells():
    figure = draw([("a", random_mask(4, 4, 9), 9)])
    assert texts(axes(figure, "cosines")[0]) == [str(j) for j in range(9) for _ in range(2)]


@pytest.mark.parametrize(("count", "repeats"), [(16, False), (17, True)])
def test_repeated_colors_are_announced(count, repeats):
    shown = [text.get_text() for text in draw([("a", random_mask(6, 8, count), count)]).texts]
    assert ("Colours repeat after 16 regions." in shown) == repeats


def test_texts_of_the_figure():
    figure = draw([("layer2.dr", random_mask(6, 8, 4), 5)], title="cost $5_a$\nof {x}", notes=["weights are random"])
    written = [text.get_text() for text in figure.findobj(Text)]
    assert "6 x 8 positions (height x width), 4 of 5 regions occur" in written
    shown = [text.get_text() for text in figure.texts]
    assert shown[:1] == ["cost $5_a$ of {x}"]
    assert "layer2.dr" in shown
    assert shown[-2] == "weights are random"
    assert shown[-1].startswith("Regions are routing, not semantic segments.")
    FigureCanvasAgg(figure).draw()


LONG = "features." + "a_rather_long_block_name." * 20 + "dr"
CASES = {
    "one row": ([("a", random_mask(6, 8, 8), 8)], (60, 80)),
    "one region": ([("a", np.zeros((6, 8), int), 1)], (60, 80)),
    "three rows": ([(n, random_mask(k, k, m), m) for n, k, m in (("a", 28, 4), ("b", 14, 8), ("c", 7, 16))], (60, 60)),
    "sixteen rows": ([(f"l{i}", random_mask(7, 7, 2 ** (i % 5)), 2 ** (i % 5)) for i in range(16)], (64, 64)),
    "many regions": ([("a", random_mask(12, 12, 40), 40)], (60, 80)),
    "portrait": ([("a", random_mask(9, 6, 8), 8)], (90, 60)),
    "very wide": ([(LONG, random_mask(2, 128, 8), 8), ("b", random_mask(1, 64, 16), 16)], (10, 640)),
    "very tall": ([(LONG, random_mask(128, 2, 8), 8), ("b", random_mask(64, 1, 1), 1)], (640, 10)),
    "one position": ([("a", np.zeros((1, 1), int), 4)], (1, 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_nothing_overlaps(case):
    specs, shape = CASES[case]
    assert_tidy(draw(specs, shape, title="a very long title " * 20, notes=["a note " * 60, "unbreakable" * 60]))


@pytest.mark.parametrize("dpi", [100, 300])
@pytest.mark.parametrize("case", ["three rows", "very wide", "portrait"])
def test_nothing_overlaps_at_other_resolutions(case, dpi):
    figure = draw(*CASES[case], title="a very long title " * 20, notes=["a note " * 60])
    figure.set_dpi(dpi)
    assert_tidy(figure)


def test_long_layer_names_are_cut_in_the_middle():
    figure = draw([(LONG, random_mask(4, 4, 2), 2)])
    (shown,) = (text.get_text() for text in figure.texts if "…" in text.get_text())
    start, end = shown.split("…")
    assert LONG.startswith(start)
    assert LONG.endswith(end)
    assert min(len(start), len(end)) > 20


def test_large_photos_are_reduced_for_the_file():
    figure = draw([("a", random_mask(4, 4, 2), 2)], (3000, 4000))
    (photo,) = axes(figure, "photo")[0].images
    rows, columns = np.asarray(photo.get_array()).shape[:2]
    box = axes(figure, "photo")[0].get_window_extent()
    assert 400 <= columns / (box.width / figure.dpi) < 800
    assert rows / columns == pytest.approx(0.75, rel=0.01)


@pytest.mark.parametrize(
    "style", [{"text.usetex": True, "font.size": 30, "image.interpolation": "bicubic"}, {"axes.titlesize": 40}]
)
def test_the_users_style_is_neither_used_nor_changed(style):
    with mpl.rc_context(style):
        before = dict(mpl.rcParams)
        figure = draw([("a", random_mask(6, 8, 4), 4)])
        assert dict(mpl.rcParams) == before
        assert_tidy(figure)
        assert all(image.get_interpolation() != "bicubic" for image in figure.findobj(AxesImage))


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_saves_without_a_display_or_a_warning(suffix):
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw([("a", random_mask(6, 8, 4), 4)]).savefig(file, format=suffix)
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert file.getvalue().startswith(start)


def test_letters_the_font_lacks_do_not_warn_while_building(recwarn):
    draw([("a", random_mask(6, 8, 4), 4)], title="猫の写真 " * 40)
    assert len(recwarn) == 0


def test_same_input_same_picture():
    pictures = []
    for _ in range(2):
        canvas = FigureCanvasAgg(draw([("a", random_mask(6, 8, 4), 4)]))
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba()).copy())
    np.testing.assert_array_equal(*pictures)


MASK = np.array([[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("pixels", "masks", "message"),
    [
        (np.zeros((4, 4), np.uint8), {"a": MASK}, r"pixels must be uint8 of shape \[H, W, 3\], got uint8 of \[4, 4\]"),
        (np.zeros((4, 4, 3)), {"a": MASK}, "got float64"),
        (np.zeros((0, 4, 3), np.uint8), {"a": MASK}, r"got uint8 of \[0, 4, 3\]"),
        (None, {}, "got none for 'a'"),
        (None, {"a": MASK[None]}, r"must be integers of shape \[2, 2\], got int64 of \[1, 2, 2\]"),
        (None, {"a": MASK.astype(float)}, "got float64"),
        (None, {"a": MASK + 1}, "must hold 0 to 1, got 1 to 2"),
        (None, {"a": MASK - 1}, "must hold 0 to 1, got -1 to 0"),
    ],
)
def test_unfit_arguments(pixels, masks, message):
    pixels = np.zeros((4, 4, 3), np.uint8) if pixels is None else pixels
    with pytest.raises(ArgumentError, match=message):
        region_figure(pixels, RegionStatistics((layer_of("a", MASK, 2),)), masks, title="")


def test_no_layers():
    with pytest.raises(ArgumentError, match="at least one layer, got none"):
        region_figure(np.zeros((4, 4, 3), np.uint8), RegionStatistics(()), {}, title="")


def test_overlay_is_half_photo_half_region_in_vector_files():
    photo = np.full((40, 60, 3), (200, 100, 0), np.uint8)
    mask = np.zeros((4, 6), int)
    figure = region_figure(photo, RegionStatistics((layer_of("a", mask, 2),)), {"a": mask}, title="")
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    embedded = re.findall(rb"data:image/png;base64,\s*([^\"]+)", file.getvalue())
    middles = []
    for data in embedded:
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            middles.append(np.array(image.convert("RGB").getpixel((image.width // 2, image.height // 2))))
    expected = (photo[0, 0] + 255 * region_colors(1)[0]) / 2
    assert min(np.abs(middle - expected).max() for middle in middles) <= 2
