"""Frames of clips in, animations out: what is read, when it is shown, and that colours of regions stay."""

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drconv.errors import ArgumentError, DrconvError, FileError
from drconv.viz import region_colors
from drconv.viz.canvas import ClipCanvas
from drconv.viz.frames import load_frames
from drconv.viz.gif import GifWriter, clip_palette, indexed

RNG = np.random.default_rng(0)
LEVELS = (10, 60, 110, 160, 210)


def plain(level: int) -> Image.Image:
    return Image.new("RGB", (12, 8), (level, level, level))


def shown(path: Path, **options: object) -> list[tuple[int, float, int]]:
    """Return index, time in milliseconds, and level of every frame."""
    frames = load_frames(path, 8, **options)  # type: ignore[arg-type]
    return [(f.index, round(1000 * f.time), int(f.image.pixels.mean())) for f in frames]


def animation(path: Path, duration: int | list[int] = 40) -> Path:
    first, *others = map(plain, LEVELS)
    first.save(path, save_all=True, append_images=others, duration=duration, lossless=True)
    return path


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_frames_and_times_of_an_animation(suffix: str, tmp_path: Path) -> None:
    path = animation(tmp_path / f"a.{suffix}", [40, 100, 40, 40, 40])
    assert shown(path) == list(zip(range(5), (0, 40, 140, 180, 220), LEVELS, strict=True))
    assert shown(path, every=2) == [(0, 0, 10), (2, 140, 110), (4, 220, 210)]
    assert shown(path, every=3, rate=2.0) == [(0, 0, 10), (3, 1500, 160)]


def test_a_still_image_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    plain(60).save(tmp_path / "a.png")
    assert shown(tmp_path / "a.png") == [(0, 0, 60)]


def test_images_have_the_times_of_a_rate(tmp_path: Path) -> None:
    paths = [tmp_path / f"{level}.png" for level in LEVELS]
    for path, level in zip(paths, LEVELS, strict=True):
        plain(level).save(path)
    found = [(f.index, f.time) for f in load_frames(paths, 8, every=2)]
    assert found == [(0, 0.0), (2, 0.2), (4, 0.4)]
    assert [f.time for f in load_frames(paths, 8, rate=25)][1] == pytest.approx(0.04)


def test_what_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="every must be at least 1, got every=0"):
        load_frames(tmp_path, 8, every=0)
    for rate in (0.0, float("nan"), float("inf"), -1.0):
        with pytest.raises(ArgumentError, match="rate must be a positive"):
            load_frames(tmp_path, 8, rate=rate)


def test_damaged_animation(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:-90])
    with pytest.raises(FileError, match="damaged or unreadable"):
        shown(path)


def test_a_video_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "drconv.viz.video", raising=False)
    (tmp_path / "a.mp4").write_bytes(b"no image at all")
    with pytest.raises(DrconvError, match=r"no image that Pillow reads.*there is no av; pip install 'drconv\[viz\]'"):
        shown(tmp_path / "a.mp4")


def test_videos_there_and_back(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV (extra viz) is not installed")
    from drconv.viz.video import VideoWriter

    path = tmp_path / "a.mp4"
    with path.open("wb+") as stream:
        writer = VideoWriter(stream)
        for time, level in zip((0, 0.04, 0.14, 0.18, 0.3), LEVELS, strict=True):
            writer.add(np.full((16, 24, 3), level, np.uint8), time)
        writer.close()
        assert not stream.closed
    found = shown(path)
    assert [(index, time) for index, time, _ in found] == [(0, 0), (1, 40), (2, 140), (3, 180), (4, 300)]
    np.testing.assert_allclose([level for *_, level in found], LEVELS, atol=3)
    assert [index for index, *_ in shown(path, every=2)] == [0, 2, 4]
    for spoilt in (path.read_bytes()[:-200], b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n"):
        path.write_bytes(spoilt)
        with pytest.raises(FileError, match=r"video (cannot be read|holds no frame)"):
            shown(path)


def test_the_palette_has_every_colour_of_a_region_and_they_are_kept() -> None:
    palette = clip_palette()
    assert palette.shape == (256, 3)
    colors = np.rint(255 * region_colors(16)).astype(np.uint8)[None]
    np.testing.assert_array_equal(palette[indexed(colors)], colors)
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    np.testing.assert_array_equal(palette[indexed(ends)], ends)


def test_dithering_keeps_the_mean_colour() -> None:
    for color in ((90, 14, 201), (127, 128, 40)):
        pixels = np.full((32, 40, 3), color, np.uint8)
        np.testing.assert_allclose(clip_palette()[indexed(pixels)].mean((0, 1)), color, atol=1.5)


def test_gif_shows_each_frame_as_written_at_its_time() -> None:
    frames = RNG.integers(0, 256, (4, 9, 11, 3), dtype=np.uint8)
    frames[2] = frames[1]  # nothing changes
    frames[3] = frames[2]
    frames[3, 4, 5:7] = 255 - frames[3, 4, 5:7]
    stream = BytesIO()
    writer = GifWriter(stream)
    for time, frame in zip((0, 0.05, 0.25, 0.251), frames, strict=True):
        writer.add(frame, time)
    writer.close()
    with Image.open(stream) as image:
        assert image.n_frames == 4
        assert image.info["loop"] == 0
        for index, frame in enumerate(frames):
            image.seek(index)
            np.testing.assert_array_equal(np.asarray(image.convert("RGB")), clip_palette()[indexed(frame)])
            assert image.info["duration"] == (50, 200, 20, 20)[index]


@pytest.mark.parametrize("size", [(7, 5), (40, 300), (300, 40), (301, 301)], ids=str)
def test_canvas_shows_photo_and_regions(size: tuple[int, int]) -> None:
    canvas = ClipCanvas(size, "a.rather.long.name" * 9, 20, title="title " * 40, notes=["note " * 60])
    photo, mask = np.full((*size, 3), 100, np.uint8), RNG.integers(0, 20, (4, 3))
    frame = canvas.draw(photo, mask, "caption " * 60)
    assert frame.shape[0] % 2 == frame.shape[1] % 2 == 0
    (top, left), (_, right) = canvas._corners
    height, width = canvas.panel
    assert (frame[top : top + height, left : left + width] == 100).all()
    for (u, v), region in np.ndenumerate(mask):
        pixel = frame[top + int((u + 0.5) * height / 4), right + int((v + 0.5) * width / 3)]
        np.testing.assert_allclose(pixel, 50 + 127.5 * region_colors(20)[region], atol=1)
    # Between the panels and around them nothing is drawn.
    assert (frame[top : top + height, left + width : right] == 255).all()
    assert (frame[:, -4:] == 255).all()
    assert (frame[-2:] == 255).all()
    other = canvas.draw(photo, mask, "other")
    changed = np.nonzero((frame != other).any((1, 2)))[0]
    assert changed.min() >= top + height, "only the caption"


def test_what_does_not_fit_the_canvas() -> None:
    canvas = ClipCanvas((8, 8), "a", 2, title="")
    with pytest.raises(ArgumentError, match=r"size \[8, 8\], got \[8, 9, 3\]"):
        canvas.draw(np.zeros((8, 9, 3), np.uint8), np.zeros((1, 1), np.int64), "")
    with pytest.raises(ArgumentError, match="hold 0 to 1, got 2 to 2"):
        canvas.draw(np.zeros((8, 8, 3), np.uint8), np.full((1, 1), 2), "")
    with pytest.raises(ArgumentError, match="needs pixels and regions"):
        ClipCanvas((0, 8), "a", 2, title="")
