"""`drconv.visualize`: one line of Python, and what a notebook shows of it."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import drconv
from drconv.analysis import UsageReport
from drconv.errors import ArgumentError, FileError, ModelError, UnknownNameError
from drconv.regions import ImageRegions, expected_layers, measure_regions
from drconv.report import Column, Table
from drconv.table_html import table_html
from drconv.viz import load_image


class Net(nn.Sequential):
    def __init__(self, channels: int = 3) -> None:
        torch.manual_seed(0)
        super().__init__(
            nn.Conv2d(channels, 6, 3, 2, 1), drconv.DRConv2d(6, 5, 1, num_regions=3), drconv.DRConv2d(5, 4, 1)
        )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "<b>&.png")
    return tmp_path / "<b>&.png"


@pytest.fixture
def regions(file: Path) -> ImageRegions:
    return drconv.visualize(Net(), file, ["1"], size=20)


def test_every_kind_of_image_gives_the_same(file: Path) -> None:
    net = Net()
    first = drconv.visualize(net, file, ["all"], size=20)
    with Image.open(file) as image:
        others = [str(file), image, np.asarray(image), load_image(file, 20).tensor, load_image(file, 20).tensor[0]]
        for other in others:
            found = drconv.visualize(net, other, ["all"], size=20)
            assert found.statistics == first.statistics
            np.testing.assert_array_equal(found.pixels, first.pixels)
            for name, mask in first.guided_masks.items():
                np.testing.assert_array_equal(found.guided_masks[name], mask)
                np.testing.assert_array_equal(found.margins[name], first.margins[name])


def test_layers_that_are_expected_change_what_runs_and_not_what_is_found() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(drconv.DRConv2d(3, 4, 1, num_regions=3), nn.AdaptiveMaxPool2d(4), drconv.DRConv2d(4, 4, 1))
    large, small = torch.rand(1, 3, 9, 7), torch.rand(1, 3, 4, 4)
    assert expected_layers(model, large) == ["0", "2"]
    # Both layers have one map size here, so that only the last one is drawn.
    assert expected_layers(model, small) == ["2"]
    for image in (large, small):
        chosen = expected_layers(model, image)
        right = measure_regions(model, image, expected=chosen)
        assert [layer.name for layer in right.statistics.layers] == chosen
        for expected in (["0"], ["2"], ["0", "2"]):
            found = measure_regions(model, image, expected=expected)
            # To the last bit, because the images of a set may be measured in any order.
            assert found.statistics == right.statistics
            assert list(found.guided_masks) == list(found.margins) == chosen
        everything = measure_regions(model, image)
        for name in right.guided_masks:
            np.testing.assert_array_equal(everything.guided_masks[name], right.guided_masks[name])


def test_layers_that_report_no_calls_are_all_recorded() -> None:
    class Silent(drconv.DRConv2d):
        def forward(self, input: Tensor, guided_feature: Tensor | None = None) -> Tensor:
            return self.region_conv(input, self.filter_generator(input), self.guide(input), self.bias, self.backend)

    model = nn.Sequential(Silent(3, 4, 1), drconv.DRConv2d(4, 4, 1))
    image = torch.rand(1, 3, 4, 4)
    assert expected_layers(model, image) is None
    assert [layer.name for layer in measure_regions(model, image).statistics.layers] == ["1"]


def test_what_it_holds(regions: ImageRegions) -> None:
    (layer,) = regions.statistics.layers
    assert layer.name == "1"
    assert regions.pixels.shape == (20, 27, 3)
    assert regions.guided_masks["1"].shape == regions.margins["1"].shape == layer.grid == (10, 14)
    assert np.bincount(regions.guided_masks["1"].ravel(), minlength=3).tolist() == list(layer.region_positions)
    assert regions.title == "<b>&.png: regions of Net"


def test_the_last_layer_at_each_size_is_the_default(file: Path) -> None:
    assert list(drconv.visualize(Net(), file, size=20).guided_masks) == ["2"]


def test_full_statistics(file: Path) -> None:
    assert drconv.visualize(Net(), file, size=20, full=True).statistics.layers[0].shapes is not None


def test_the_model_is_as_before(file: Path) -> None:
    net = Net().train()
    drconv.visualize(net, file, size=20)
    assert all(module.training for module in net.modules())
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_other_channels() -> None:
    assert drconv.visualize(Net(1), np.full((9, 9, 3), 90, np.uint8), size=9).pixels.shape == (9, 9, 3)
    tensor = torch.stack([torch.full((8, 8), float(i)) for i in range(4)] + [torch.eye(8)])
    found = drconv.visualize(Net(5), tensor)
    np.testing.assert_array_equal(found.pixels[..., 1], 255 * np.eye(8, dtype=np.uint8))
    assert found.notes == ("photo: the mean of 5 channels, stretched",)


def test_a_double_model_takes_a_float_image(file: Path) -> None:
    assert drconv.visualize(Net().double(), file, size=20).statistics.layers


def test_an_untouched_batch_norm_is_said(file: Path) -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), Net())
    assert any("never seen data" in note for note in drconv.visualize(net, file, size=20).notes)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (3, "got int"),
        (np.zeros((4, 4), np.uint8), r"uint8 of shape \[H, W, 3\], got uint8 of \[4, 4\]"),
        (np.zeros((4, 4, 3)), "got float64"),
        (torch.zeros(2, 3, 4, 4), r"got float32 of \[2, 3, 4, 4\]"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), r"got uint8 of \[3, 4, 4\]"),
        (torch.zeros(3, 0, 4), r"\[3, 0, 4\]"),
    ],
)
def test_other_images_are_refused(image: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        drconv.visualize(Net(), image)


def test_other_mistakes_are_said(file: Path) -> None:
    with pytest.raises(FileError, match="does not exist"):
        drconv.visualize(Net(), "missing.png")
    with pytest.raises(ModelError, match="no layer with regions"):
        drconv.visualize(nn.Conv2d(3, 3, 1), file)
    with pytest.raises(ModelError, match="failed on an input of 1x4x8x8"):
        drconv.visualize(Net(), torch.zeros(4, 8, 8))
    with pytest.raises(UnknownNameError):
        drconv.visualize(Net(), file, ["nothing"])
    with pytest.raises(ArgumentError, match=r"use \['all'\]"):
        drconv.visualize(Net(), file, "all")
    with pytest.raises(ArgumentError, match="size must be"):
        drconv.visualize(Net(), file, size=0)


def test_a_truncated_pillow_image_is_refused(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(photo.read_bytes()[:20_000])
    with (
        Image.open(tmp_path / "cut.jpg") as image,
        pytest.raises(FileError, match=r"damaged or unreadable, got cut.jpg"),
    ):
        drconv.visualize(Net(), image)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
def test_save(suffix: str, regions: ImageRegions, tmp_path: Path) -> None:
    regions.save(tmp_path / f"x{suffix}")
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    assert (tmp_path / f"x{suffix}").read_bytes().startswith(starts[suffix.lower()])


def test_save_says_what_it_cannot_do(regions: ImageRegions, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"must end in \.png, \.svg or \.pdf"):
        regions.save(tmp_path / "x.bmp")
    with pytest.raises(FileError, match="cannot write"):
        regions.save(tmp_path / "no" / "x.png")


class Seen(HTMLParser):
    """Keeps the tags with their attributes, and the texts by the tag they stand in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append((self.tags[-1][0], data))


def test_a_notebook_shows_the_picture_and_the_table(regions: ImageRegions) -> None:
    assert regions._repr_png_().startswith(b"\x89PNG")
    seen = Seen(regions._repr_html_())
    assert {tag for tag, _ in seen.tags} == {"div", "img", "table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
    (picture,) = (attributes for tag, attributes in seen.tags if tag == "img")
    assert str(picture["src"]).startswith("data:image/png;base64,")
    assert str(picture["alt"]).startswith("<b>&.png: regions of Net")
    assert [text for tag, text in seen.texts if tag == "td"][2::9] == ["0", "1", "2"]
    assert "routing, not semantic segments" in seen.texts[-1][1]


def test_tables_show_themselves(regions: ImageRegions) -> None:
    assert "<table>" in regions.statistics._repr_html_()
    assert len(repr(regions)) < 300
    assert all(layer.name in repr(regions) for layer in regions.statistics.layers)
    assert "Use of regions over 0 images" in UsageReport(())._repr_html_()
    table = Table("<i>", (Column("a&"), Column("n", "share"), Column("c", "count")), (("<td>", 0.125, 1234),), ("x<",))
    html = table_html(table)
    assert all(text in html for text in ("&lt;i&gt;", "a&amp;", "&lt;td&gt;", ">12.5%<", ">1,234<", "x&lt;"))


def test_tensors_without_numbers_and_models_that_are_none() -> None:
    net = Net()
    for image in (torch.zeros(3, 8, 8, device="meta"), torch.zeros(3, 8, 8).to_sparse()):
        with pytest.raises(ArgumentError, match="must be dense and hold numbers"):
            drconv.visualize(net, image)
    with pytest.raises(ArgumentError, match=r"must be a torch\.nn\.Module, got str"):
        drconv.visualize("net", torch.zeros(3, 8, 8))
