import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from drconv.errors import ArgumentError, FileError
from drconv.viz import load_image


@pytest.fixture(autouse=True)
def _silent(recwarn, capfd):
    """No input, good or bad, may make the library warn or print."""
    yield
    assert [str(w.message) for w in recwarn] == []
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def save(tmp_path):
    def write(image, name="image.png", **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return write


def photo(width=40, height=30):
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 6, y * 8, (x + y) * 3], axis=2).astype(np.uint8))


def assert_flat(pixels, color, tolerance=1):
    assert np.abs(pixels.astype(int) - np.array(color)).max() <= tolerance


def png_declaring(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")
    )


def refused(path, size=8):
    with pytest.raises(FileError) as caught:
        load_image(path, size)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


# Good pictures


def test_shapes_types_and_normalisation(save):
    loaded = load_image(save(photo(60, 40)), 20)
    assert loaded.pixels.shape == (20, 30, 3)
    assert loaded.pixels.dtype == np.uint8
    assert loaded.tensor.shape == (1, 3, 20, 30)
    assert loaded.tensor.dtype == torch.float32
    assert loaded.tensor.is_contiguous()
    assert loaded.notes == ()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (torch.from_numpy(loaded.pixels).float() / 255 - mean) / std
    torch.testing.assert_close(loaded.tensor[0].permute(1, 2, 0), expected)


@pytest.mark.parametrize(
    ("old", "new"), [((60, 40), (30, 20)), ((40, 60), (20, 30)), ((7, 7), (20, 20)), ((101, 50), (40, 20))]
)
def test_size_is_the_shorter_side(save, old, new):
    loaded = load_image(save(photo(*old)), 20)
    assert loaded.pixels.shape[:2] == (new[1], new[0])
    assert loaded.tensor.shape[2:] == (new[1], new[0])


def test_pixels_are_untouched_at_their_own_size(save):
    np.testing.assert_array_equal(load_image(save(photo()), 30).pixels, np.asarray(photo()))


def test_shrinking_averages_instead_of_dropping_pixels(save):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    inner = load_image(save(Image.fromarray(stripes)), 8).pixels[:, 2:-2]
    assert_flat(inner, (127, 127, 127), tolerance=6)


def test_one_channel_is_luminance(save):
    loaded = load_image(save(Image.new("RGB", (8, 8), (255, 0, 0))), 8, channels=1)
    assert loaded.tensor.shape == (1, 1, 8, 8)
    assert_flat(loaded.pixels, (76, 76, 76))
    torch.testing.assert_close(loaded.tensor, torch.full((1, 1, 8, 8), (76 / 255 - 0.449) / 0.226))


def test_cmyk(save):
    path = save(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "image.jpg", quality=95)
    assert_flat(load_image(path, 8).pixels, (255, 0, 0), tolerance=8)


@pytest.mark.parametrize("name", ["image.png", "image.tif"])
def test_sixteen_bit_gray_is_scaled_not_clipped(save, name):
    levels = np.array([[0, 0x8080], [0x4040, 0xFFFF]], np.uint16)
    loaded = load_image(save(Image.fromarray(levels), name), 2)
    np.testing.assert_array_equal(loaded.pixels, np.array([[0, 128], [64, 255]], np.uint8)[..., None].repeat(3, 2))
    assert loaded.notes == ("16-bit image: values 0 to 65535 shown as black to white",)


def test_big_endian_sixteen_bit_gray(save):
    image = Image.frombytes("I;16B", (2, 2), np.full((2, 2), 0x8080, ">u2").tobytes())
    assert_flat(load_image(save(image, "image.tif"), 2).pixels, (128, 128, 128), 0)


def test_integer_mode_is_scaled_from_sixteen_bits(save):
    image = Image.fromarray(np.full((4, 4), 0x8080, np.int32))
    assert image.mode == "I"
    assert_flat(load_image(save(image, "image.tif"), 4).pixels, (128, 128, 128), 0)


@pytest.mark.parametrize("value", [-1, 65536])
def test_integers_beyond_sixteen_bits_are_refused(save, value):
    message = refused(save(Image.fromarray(np.full((4, 4), value, np.int32)), "image.tif"))
    assert f"must lie in 0 to 65535, got {value}" in message


def test_float_is_scaled(save):
    levels = np.array([[0, 0.5], [0.25, 1]], np.float32)
    loaded = load_image(save(Image.fromarray(levels), "image.tif"), 2)
    np.testing.assert_array_equal(loaded.pixels[..., 0], [[0, 128], [64, 255]])
    assert loaded.notes == ("float image: values 0 to 1 shown as black to white",)


@pytest.mark.parametrize("value", [-0.5, 1.5, np.nan, np.inf])
def test_float_beyond_one_is_refused(save, value):
    levels = np.array([[0, 1], [0.5, value]], np.float32)
    message = refused(save(Image.fromarray(levels), "image.tif"))
    assert "float image must lie in 0 to 1, got" in message
    assert "rescale it" in message


def test_palette(save):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert_flat(load_image(save(image), 4).pixels, (200, 100, 50), 0)


def test_transparent_palette_entry_is_white(save):
    image = Image.fromarray(np.array([[0, 1], [1, 1]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    loaded = load_image(save(image, transparency=0), 2)
    assert loaded.pixels[0, 0].tolist() == [255, 255, 255]
    assert loaded.pixels[1, 1].tolist() == [200, 100, 50]
    assert loaded.notes == ("transparent parts are shown on white",)


@pytest.mark.parametrize(
    ("mode", "color", "shown"),
    [
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 128), (255, 127, 127)),
        ("LA", (0, 128), (127, 127, 127)),
    ],
)
def test_alpha_is_composited_on_white(save, mode, color, shown):
    loaded = load_image(save(Image.new(mode, (4, 4), color)), 4)
    assert_flat(loaded.pixels, shown)
    assert loaded.notes == ("transparent parts are shown on white",)


def test_full_alpha_needs_no_note(save):
    loaded = load_image(save(Image.new("RGBA", (4, 4), (9, 8, 7, 255))), 4)
    assert_flat(loaded.pixels, (9, 8, 7), 0)
    assert loaded.notes == ()


def test_one_bit(save):
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert load_image(save(image), 1).pixels[0, :, 0].tolist() == [0, 255]


def test_animation_shows_its_first_frame(save):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "lime", "blue")]
    path = save(frames[0], "image.gif", save_all=True, append_images=frames[1:])
    loaded = load_image(path, 4)
    assert_flat(loaded.pixels, (255, 0, 0), 0)
    assert loaded.notes == ("animated image: first of 3 frames used",)


def test_several_pages(save):
    path = save(Image.new("L", (4, 4), 9), "image.tif", save_all=True, append_images=[Image.new("L", (4, 4), 99)])
    loaded = load_image(path, 4)
    assert_flat(loaded.pixels, (9, 9, 9), 0)
    assert loaded.notes == ("file of several images: first of 2 frames used",)


@pytest.mark.parametrize(
    ("orientation", "red", "shape"),
    [(1, (0, 0), (30, 40)), (3, (-1, -1), (30, 40)), (6, (0, -1), (40, 30)), (8, (-1, 0), (40, 30))],
)
def test_exif_orientation(save, orientation, red, shape):
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[..., 2] = 255
    pixels[:8, :8] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = load_image(save(Image.fromarray(pixels), exif=exif), 30).pixels
    assert shown.shape[:2] == shape
    assert shown[red].tolist() == [255, 0, 0]
    assert sum(shown[y, x, 0] > 128 for y in (0, -1) for x in (0, -1)) == 1


def test_one_pixel_is_enlarged(save):
    loaded = load_image(save(Image.new("RGB", (1, 1), (1, 2, 3))), 32)
    assert loaded.pixels.shape == (32, 32, 3)
    assert_flat(loaded.pixels, (1, 2, 3), 0)


def test_wrong_suffix_does_not_matter(save, tmp_path):
    save(photo()).rename(tmp_path / "image.jpg")
    np.testing.assert_array_equal(load_image(tmp_path / "image.jpg", 30).pixels, np.asarray(photo()))


# Bad files


def test_missing_file(tmp_path):
    assert "does not exist" in refused(tmp_path / "none.png")


def test_path_through_a_file(save):
    assert "does not exist" in refused(save(photo()) / "inner.png")


def test_directory(tmp_path):
    assert "must be a regular file, got a directory" in refused(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "got a pipe or device" in refused(tmp_path / "pipe")


def test_impossible_paths():
    assert "null" in refused(Path("a\0b"))
    assert "too long" in refused(Path("a" * 5000))


def test_empty_file(tmp_path):
    path = tmp_path / "image.png"
    path.touch()
    assert "empty (0 bytes)" in refused(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "bmp", "webp"])
def test_truncated_file(save, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise), f"image.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    message = refused(path)
    assert "damaged or unreadable" in message or "not an image of a known format" in message


def test_not_an_image(tmp_path):
    path = tmp_path / "image.png"
    path.write_text("region,share\n0,0.5\n")
    message = refused(path)
    assert "not an image of a known format" in message
    assert "give a PNG" in message


# Pillow only warns about the first and raises for the second.
@pytest.mark.parametrize("side", [10_000, 60_000])
def test_decompression_bomb_is_refused_before_decoding(tmp_path, monkeypatch, side):
    def decode(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    path = tmp_path / "image.png"
    path.write_bytes(png_declaring(side, side))
    message = refused(path)
    assert "at most 89,478,485 pixels" in message
    assert "smaller" in message


def test_bomb_is_refused_where_the_program_lifted_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    path = tmp_path / "image.png"
    path.write_bytes(png_declaring(60_000, 60_000))
    assert "declares 60000 x 60000 pixels" in refused(path)


def test_state_of_pillow_and_warnings_is_kept(save, tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_declaring(10_000, 10_000))
    before = (Image.MAX_IMAGE_PIXELS, list(warnings.filters))
    load_image(save(photo()), 8)
    refused(tmp_path / "bomb.png")
    assert before == (Image.MAX_IMAGE_PIXELS, list(warnings.filters))


def test_permission_denied(save, monkeypatch):
    path = save(photo())
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything, so the system's answer is given by hand

        def denied(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", denied)
    assert "permission denied" in refused(path)


def test_extreme_aspect_names_a_size_that_works(save):
    path = save(Image.new("L", (20000, 3)))
    message = refused(path, 224)
    assert "at most 16,000,000 pixels, got 1493333 x 224" in message
    assert "(20000 x 3)" in message
    assert "--size 48 or less" in message
    assert load_image(path, 48).pixels.shape == (48, 320000, 3)


def test_extreme_aspect_that_no_size_fits(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(png_declaring(20_000_000, 1))
    assert "crop the image" in refused(path, 1)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "bmp", "webp", "ico", "tga", "ppm"])
def test_any_damage_is_a_file_error(save, suffix):
    rng = np.random.default_rng(1)
    path = save(photo(), f"image.{suffix}")
    sound = np.frombuffer(path.read_bytes(), np.uint8)
    outcomes = set()
    for _ in range(40):
        damaged = sound.copy()
        where = rng.integers(0, min(len(sound), 200), 4)
        damaged[where] = rng.integers(0, 256, 4)
        path.write_bytes(damaged.tobytes())
        try:
            outcomes.add(load_image(path, 8).pixels.shape[2])
        except FileError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right, a third one is not
            outcomes.add("refused")
    assert "refused" in outcomes or suffix in {"tga", "ppm"}


def test_decoder_reason_fits_on_one_line(save, monkeypatch):
    def decode(*_):
        raise ValueError("two\nlines")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    assert "(two lines)" in refused(save(photo()))


# Bad arguments


@pytest.mark.parametrize("channels", [0, 2, 4, "3"])
def test_channels(save, channels):
    with pytest.raises(ArgumentError, match=r"channels must be 1 .* or 3 .*, got channels="):
        load_image(save(photo()), 8, channels=channels)


@pytest.mark.parametrize("size", [0, -3, 2.5, True, None])
def test_size(save, size):
    with pytest.raises(ArgumentError, match=r"size must be an integer of at least 1, got size="):
        load_image(save(photo()), size)
