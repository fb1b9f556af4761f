"""Evidence folders: written whole or not at all, and read as something that anybody may have written."""

import json
import os
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from drconv.analysis import LayerStatistics, RegionStatistics, statistics_from_dict
from drconv.analysis.agreement import LabelAgreement
from drconv.analysis.filters import FilterStatistics
from drconv.analysis.shapes import ShapeStatistics
from drconv.errors import FileError
from drconv.regions import EvidenceWriter, ImageRegions, check_evidence_free, read_evidence
from drconv.viz import region_colors

HOME = "images/000000"
MASK = np.array([[0, 1, 1], [2, 1, 0]])


def made(mask: np.ndarray = MASK, num_regions: int = 4, name: str = "a.b") -> ImageRegions:
    counts = np.bincount(mask.ravel(), minlength=num_regions)
    layer = LayerStatistics(
        name,
        (mask.shape[0], mask.shape[1]),
        tuple(counts.tolist()),
        tuple((counts / mask.size).tolist()),
        (1.5, None) + (2.0,) * (num_regions - 2),
        tuple(tuple(0.1 * (i + j) / num_regions for j in range(num_regions)) for i in range(num_regions)),
    )
    margins = np.linspace(0, 1, mask.size, dtype=np.float32).reshape(mask.shape)
    margins[0, 0] = np.nan
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return ImageRegions("photo.jpg: regions of Net", pixels, RegionStatistics((layer,)), {name: mask}, {name: margins})


def write(folder: Path, regions: ImageRegions, **finish: Any) -> None:
    with EvidenceWriter(folder) as writer:
        found = (regions.pixels, regions.statistics, regions.guided_masks, regions.margins)
        writer.add(0, "some/photo.jpg", None, *found, ["as it was"])
        writer.fail(1, "other.jpg", "it is damaged")
        writer.finish("Net", ["random weights"], **finish)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "evidence", made())
    return tmp_path / "evidence"


def manifest_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    manifest = manifest_of(folder)
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def replace(folder: Path, name: str, data: bytes) -> None:
    """Put other contents into a file, and into the manifest what fits them."""
    (folder / name).write_bytes(data)
    change(folder, lambda m: m["files"].update({name: {"size": len(data), "sha256": sha256(data).hexdigest()}}))


def refused(folder: Path, *words: str) -> None:
    with pytest.raises(FileError) as caught:
        read_evidence(folder).load(0)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    for word in words:
        assert word in str(caught.value)


def test_what_is_written_is_read(folder: Path) -> None:
    evidence, regions = read_evidence(folder), made()
    assert (evidence.title, evidence.notes) == ("Net", ("random weights",))
    assert [image.error for image in evidence.images] == [None, "it is damaged"]
    found = evidence.load(0)
    assert found.statistics == regions.statistics
    assert found.notes == ("as it was",)
    assert found.title == regions.title
    for a, b in ((found.pixels, regions.pixels), (found.guided_masks["a.b"], MASK)):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(found.margins["a.b"], regions.margins["a.b"])
    assert found._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(FileError, match=r"^it is damaged$"):
        evidence.load(1)


def test_the_manifest_says_what_the_maps_are_not(folder: Path) -> None:
    manifest = manifest_of(folder)
    assert (manifest["kind"], manifest["schema"], manifest["torch"]) == ("drconv evidence", 1, torch.__version__)
    said = " ".join(manifest["caveats"])
    assert "not semantic segments" in said
    assert "not causal" in said
    listed = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"manifest.json"}
    assert listed == set(manifest["files"])
    for name, file in manifest["files"].items():
        data = (folder / name).read_bytes()
        assert file == {"size": len(data), "sha256": sha256(data).hexdigest()}


def test_other_tools_can_read_it(folder: Path) -> None:
    with Image.open(folder / HOME / "000-a.b.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), MASK)
        colors = np.asarray(picture.convert("RGB"))
    np.testing.assert_allclose(colors / 255, region_colors(4)[MASK], atol=0.5 / 255)
    with np.load(folder / HOME / "regions.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"a.b/guided_mask", "a.b/margins"}
        assert arrays["a.b/guided_mask"].dtype == np.uint8
        assert arrays["a.b/margins"].dtype == np.float32
    assert "NaN" not in (folder / HOME / "statistics.json").read_text()
    assert json.loads((folder / HOME / "statistics.json").read_text())["layers"][0]["filter_norms"][1] is None


def test_more_regions_than_a_palette_has(tmp_path: Path) -> None:
    regions = made(np.array([[0, 255, 299]]), 300)
    write(tmp_path / "e", regions)
    found = read_evidence(tmp_path / "e").load(0)
    np.testing.assert_array_equal(found.guided_masks["a.b"], [[0, 255, 299]])


def test_names_of_layers_are_no_paths(tmp_path: Path) -> None:
    write(tmp_path / "e", made(name="../x/é" + "y" * 300))
    found = read_evidence(tmp_path / "e").load(0)
    assert list(found.guided_masks) == ["../x/é" + "y" * 300]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e"]


def test_every_part_of_full_statistics_comes_back() -> None:
    layer = made().statistics.layers[0]
    full = LayerStatistics(
        *(getattr(layer, name) for name in list(layer.__dataclass_fields__)[:6]),
        (0.5, None, 0.25, None),
        2,
        ShapeStatistics((1, 2, 1, 0), (2.0, 1.5, 1.0, None), (3, 4, 2, 0), 0.7),
        FilterStatistics(((0.0,) * 4,) * 4, ((1.0, 0.5), (), (2.0,), ()), (1.0, None, 1.0, None), (None,) * 4),
        0.3,
        LabelAgreement(0.2, -0.1, (0, 7), ((1, 2), (3, 0), (0, 0), (0, 0))),
    )
    statistics = RegionStatistics((full, layer))
    assert statistics_from_dict(json.loads(json.dumps(statistics.to_dict()))) == statistics


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_regions", -1),
        ("num_regions", 4.0),
        ("region_share", [0.5]),
        ("region_positions", [1, 1, 1, True]),
        ("filter_norms", [1, 2, 3, "4"]),
        ("filter_norms", [1, 2, 3, 10**400]),
        ("filter_cosines", [[0] * 4] * 3),
        ("unscored", None),
        ("name", None),
        ("grid", {}),
        ("shapes", {}),
        ("filters", []),
        ("labels", {"classes": [1], "table": [[1]] * 3, "nmi": 1, "ari": 1}),
    ],
)
def test_statistics_of_another_kind_are_refused(key: str, value: object) -> None:
    data = made().statistics.to_dict()
    data["layers"][0][key] = value
    with pytest.raises(FileError, match="statistics need"):
        statistics_from_dict(data)


def test_nothing_is_left_of_what_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with EvidenceWriter(tmp_path / "e") as writer:
            regions = made()
            writer.add(0, "a", None, regions.pixels, regions.statistics, regions.guided_masks, regions.margins)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_folder_is_replaced_by_force_if_it_is_one_of_ours(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(FileError, match="exists and is kept; use --force"):
        write(folder, made())
    assert (folder / "manifest.json").read_bytes() == before
    write(folder, made(MASK[:1]), force=True)
    assert read_evidence(folder).load(0).guided_masks["a.b"].shape == (1, 3)
    assert [path.name for path in folder.parent.iterdir()] == ["evidence"]


def test_what_is_not_ours_is_never_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    (folder / "notes.txt").write_text("mine")
    for name, words in (
        ("empty", "no evidence folder"),
        ("file", "no directory"),
        ("evidence", "also holds notes.txt"),
    ):
        with pytest.raises(FileError, match=f"not even with --force.*{words}"):
            check_evidence_free(tmp_path / name, True)
    assert (folder / "notes.txt").exists()


def test_a_link_is_kept_and_what_it_leads_to_is_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    write(tmp_path / "link", made(MASK[:1]), force=True)
    assert (tmp_path / "link").is_symlink()
    assert read_evidence(folder).load(0).guided_masks["a.b"].shape == (1, 3)


def test_changed_or_missing_files_are_found(folder: Path) -> None:
    data = bytearray((folder / HOME / "photo.png").read_bytes())
    data[-1] ^= 1
    (folder / HOME / "photo.png").write_bytes(data)
    refused(folder, "damaged", "photo.png has changed")
    (folder / HOME / "photo.png").write_bytes(data[:-1])
    refused(folder, "photo.png must have")
    (folder / HOME / "photo.png").unlink()
    refused(folder, "photo.png is missing")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot read"),
        ("[" * 200_000, "cannot read"),
        ("[]", "not of kind"),
        ('{"kind": "drconv evidence", "schema": 2}', "has schema 2, and this version of drconv reads 1"),
        ('{"kind": "drconv evidence", "schema": "\\u001b[2J"}', "has schema"),
        ('{"kind": "drconv evidence", "schema": true}', "has schema True"),
        ('{"kind": "drconv evidence", "schema": 1}', "names no files"),
        ('{"kind": "drconv evidence", "schema": 1, "files": {}, "images": NaN}', "NaN"),
        ('{"kind": "drconv evidence", "schema": 1, "files": {}, "images": []}', "names no images"),
    ],
    ids=range(9),
)
def test_other_manifests_are_refused(text: str, words: str, folder: Path) -> None:
    (folder / "manifest.json").write_text(text)
    refused(folder, words)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "images/../../secret", "a//b", "./a", "a\\..\\b", "C:x", "", ".", "a\x1b[2J"]
)
def test_paths_that_leave_the_folder_are_refused(name: str, folder: Path) -> None:
    change(folder, lambda m: m["files"].update({name: {"size": 1, "sha256": "0"}}))
    refused(folder, "no plain path inside the folder")


def test_links_and_pipes_are_refused(folder: Path, tmp_path: Path) -> None:
    photo = folder / HOME / "photo.png"
    photo.rename(tmp_path / "elsewhere.png")
    photo.symlink_to(tmp_path / "elsewhere.png")
    refused(folder, "no regular file of the folder")
    photo.unlink()
    os.mkfifo(photo)
    refused(folder, "no regular file of the folder")
    photo.unlink()
    (tmp_path / "elsewhere.png").rename(photo)
    (folder / "images").rename(tmp_path / "images")
    (folder / "images").symlink_to(tmp_path / "images")
    refused(folder, "no regular file of the folder")


def npz(**arrays: Any) -> bytes:
    data = BytesIO()
    with ZipFile(data, "w", ZIP_DEFLATED) as archive:
        for name, value in arrays.items():
            if isinstance(value, bytes):
                archive.writestr(f"a.b/{name}.npy", value)
                continue
            array = BytesIO()
            np.save(array, value, allow_pickle=True)
            archive.writestr(f"a.b/{name}.npy", array.getvalue())
    return data.getvalue()


MARGINS = np.zeros((2, 3), np.float32)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("it was unpickled",)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no sound .npz"),
        (npz(margins=MARGINS), "must hold"),
        (npz(guided_mask=MASK.astype(np.uint8), margins=MARGINS, more=MARGINS), "must hold"),
        (npz(guided_mask=np.array([[Bomb()]], object), margins=MARGINS), "must be uint8 of [2, 3], got"),
        (npz(guided_mask=np.zeros((2, 4), np.uint8), margins=MARGINS), "must be uint8 of [2, 3], got uint8 of [2, 4]"),
        (npz(guided_mask=MASK, margins=MARGINS), "got int64 of [2, 3]"),
        (npz(guided_mask=np.asfortranarray(MASK.astype(np.uint8)), margins=MARGINS), "C order"),
        (npz(guided_mask=np.zeros((4000, 4000), np.uint8), margins=MARGINS), "more bytes than that"),
        (npz(guided_mask=b"\x93NUMPY\x09\x09", margins=MARGINS), "no sound .npz"),
        (npz(guided_mask=np.full((2, 3), 9, np.uint8), margins=MARGINS), "must be below 4, got 9"),
        (npz(guided_mask=MASK.astype(np.uint8), margins=MARGINS - 1), "must lie in 0 to 1"),
        (npz(guided_mask=MASK.T.reshape(2, 3).astype(np.uint8), margins=MARGINS), "is not the map of a.b"),
        (npz(guided_mask=0 * MASK.astype(np.uint8), margins=MARGINS), "are not those of its map"),
    ],
    ids=range(13),
)
def test_other_arrays_are_refused(data: bytes, words: str, folder: Path) -> None:
    replace(folder, f"{HOME}/regions.npz", data)
    refused(folder, words)


def png(shape: tuple[int, ...]) -> bytes:
    data = BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(data, "png")
    return data.getvalue()


def test_other_pictures_are_refused(folder: Path) -> None:
    for data, words in (
        (png((4000, 4000, 3)), "must be 5x7 of mode RGB, got 4000x4000"),
        (png((5, 7)), "of mode L"),
        (png((5, 7, 3))[:45], "no sound PNG"),
        (b"GIF89a", "no sound PNG"),
    ):
        replace(folder, f"{HOME}/photo.png", data)
        refused(folder, words)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda image: image.update(size=[10**6, 10**6]), "size of the photo"),
        (lambda image: image.update(size=[5, True]), "size of the photo"),
        (lambda image: image["layers"][0].update(grid=[2**20, 2**20]), "grid of a.b"),
        (lambda image: image["layers"][0].update(num_regions=10**9), "1 to 1024 regions"),
        (lambda image: image["layers"][0].update(num_regions=3), "list of 4|not those|is not"),
        (lambda image: image["layers"].append(image["layers"][0]), "once"),
        (lambda image: image["layers"][0].update(name="x\x1b[2J"), "cannot be printed"),
        (lambda image: image["layers"][0].update(map="../../x"), "not among the files"),
        (lambda image: image.update(photo=3), "must be a text"),
        (lambda image: image.update(layers=[]), "names no layers"),
        (lambda image: image.update(image="a\nb"), "cannot be printed"),
        (lambda image: image.update(notes=["x" * 5000]), "text of 1 to 4096 letters"),
    ],
    ids=range(12),
)
def test_entries_that_contradict_the_files_are_refused(edit: Callable[[Any], Any], words: str, folder: Path) -> None:
    change(folder, lambda m: edit(m["images"][0]))
    with pytest.raises(FileError, match=words):
        read_evidence(folder).load(0)
