import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from drconv.errors import ArgumentError, DrconvError, FileError, UnknownNameError
from drconv.training.choosing import validation_part
from drconv.training.data import TrainingData, load_data
from drconv.training.folder import FolderDataset
from drconv.viz.tensor_pixels import pixels_of

pytest.importorskip("kornia", reason="the extra 'train' is not installed")


def write_image(path: Path, color: tuple[int, int, int], size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Two classes, reddish and bluish, of ten images each; every image has a level of its own."""
    for number in range(10):
        write_image(tmp_path / "red" / f"{number}.png", (250 - 10 * number, 0, 0))
        write_image(tmp_path / "blue" / "deeper" / f"{number}.jpg", (0, 0, 250 - 10 * number))
    return tmp_path


def open_data(spec: object, **arguments: object) -> TrainingData:
    return load_data(str(spec), **{"image_size": 16, "seed": 0, **arguments})  # type: ignore[arg-type]


def paths_of(data: TrainingData) -> tuple[set[Path], set[Path]]:
    assert isinstance(data.train, FolderDataset)
    assert isinstance(data.validation, FolderDataset)
    return {path for path, _ in data.train.files}, {path for path, _ in data.validation.files}


def test_a_folder_is_split_into_parts_without_a_common_image(classes: Path) -> None:
    data = open_data(classes)
    train, validation = paths_of(data)
    assert data.class_names == ("blue", "red")
    assert data.num_classes == 2
    assert not data.has_region_maps
    assert (len(train), len(validation)) == (18, 2)
    assert not train & validation
    assert {path.relative_to(classes).parts[0] for path in validation} == {"red", "blue"}
    assert paths_of(open_data(classes, seed=7)) == (train, validation)


def test_the_split_depends_on_the_class_and_takes_a_tenth() -> None:
    train, held = validation_part(95)
    assert (len(held), sorted(train + held)) == (10, list(range(95)))
    assert validation_part(95, 1)[1] != held
    assert validation_part(2) in (([0], [1]), ([1], [0]))


def test_train_and_val_folders_are_taken_as_they_are(classes: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("split")
    shutil.copytree(classes, root / "train")
    write_image(root / "val" / "red" / "one.png", (9, 0, 0))
    data = open_data(root)
    assert (len(data.train), len(data.validation)) == (20, 1)
    assert data.validation[0].label == data.class_names.index("red")


def test_samples_have_the_color_of_their_class(classes: Path) -> None:
    """Through crop, flip and jitter a red image stays red; its label says so."""
    data = open_data(classes)
    for part in (data.train, data.validation):
        for sample in part:
            assert sample.image.shape == (3, 16, 16)
            assert sample.image.dtype == torch.float32
            assert sample.region_map.shape == (0, 0)
            pixels, _ = pixels_of(sample.image)
            red, _, blue = pixels.mean((0, 1))
            assert data.class_names[sample.label] == ("red" if red > blue else "blue")


def test_the_validation_crop_is_the_middle_and_not_random(tmp_path: Path) -> None:
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[4:60, 20:76] = 255  # what 0.875 of the shorter side shows
    for name in ("a.png", "b.png"):
        (tmp_path / "class").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "class" / name)
    data = open_data(tmp_path, image_size=14)
    pixels, _ = pixels_of(data.validation[0].image)
    assert pixels[1:-1, 1:-1].min() == 255
    assert pixels.min() > 200, "beyond the filter's reach there is black"
    data.validation.set_epoch(1)
    assert (pixels_of(data.validation[0].image)[0] == pixels).all()


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 30, 40, 3), dtype=np.uint8)
    (tmp_path / "class").mkdir()
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / "class" / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("augment", ["none", "light", "standard"])
def test_augmentation_depends_on_seed_epoch_and_index_alone(noisy: Path, augment: str) -> None:
    data = open_data(noisy, augment=augment, image_size=24)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = [sample.image for sample in data.train]
    assert torch.equal(torch.rand(3), expected), "the global generator was moved"
    torch.manual_seed(6)
    again = open_data(noisy, augment=augment, image_size=24)
    assert torch.equal(again.train[3].image, first[3]), "the global generator was read"
    batches = DataLoader(again.train, batch_size=2, num_workers=2)
    assert torch.equal(torch.cat([batch.image for batch in batches]), torch.stack(first))
    data.train.set_epoch(1)
    assert torch.equal(data.train[0].image, first[0]) == (augment == "none")
    other = open_data(noisy, augment=augment, image_size=24, seed=1)
    assert torch.equal(other.train[0].image, first[0]) == (augment == "none")


@pytest.mark.parametrize("augment", ["light", "standard"])
def test_augmentation_does_not_depend_on_the_number_of_threads(tmp_path: Path, augment: str) -> None:
    """Of images so large that PyTorch shares a mean over one among threads, which a loading process has one of."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 400, 500, 3), dtype=np.uint8)
    (tmp_path / "class").mkdir()
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / "class" / f"{number}.png")
    data = open_data(tmp_path, augment=augment, image_size=256)
    before = torch.get_num_threads()
    made = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            images = []
            for epoch in range(3):
                data.train.set_epoch(epoch)
                images.append(data.train[0].image)
            made.append(torch.stack(images))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*made)


def test_augmentation_shows_other_parts_and_mirrors_half(tmp_path: Path) -> None:
    """A ramp from left to right tells where a crop lies and whether it was mirrored."""
    ramp = np.broadcast_to(np.linspace(60, 190, 64).astype(np.uint8)[None, :, None], (48, 64, 3))
    (tmp_path / "class").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(ramp).save(tmp_path / "class" / name)
    train = open_data(tmp_path, augment="light", image_size=16).train
    slopes, means = [], []
    for epoch in range(40):
        train.set_epoch(epoch)
        pixels, _ = pixels_of(train[0].image)
        columns = pixels.mean((0, 2))
        slopes.append(columns[-1] - columns[0])
        means.append(columns.mean())
    assert 8 <= sum(slope < 0 for slope in slopes) <= 32
    assert np.std(means) > 5


def test_smaller_sets_are_always_the_same_images(classes: Path) -> None:
    small = open_data(classes, train_size=5, validation_size=1)
    train, validation = paths_of(small)
    assert (len(train), len(validation)) == (5, 1)
    assert paths_of(open_data(classes, seed=3, train_size=5, validation_size=1)) == (train, validation)
    with pytest.raises(ArgumentError, match="train_size must be 1 to 18"):
        open_data(classes, train_size=19)
    with pytest.raises(ArgumentError, match="validation_size must be 1 to 2"):
        open_data(classes, validation_size=3)


def test_mosaics_by_name() -> None:
    data = open_data("mosaic", train_size=4, validation_size=3)
    assert (len(data.train), len(data.validation)) == (4, 3)
    assert data.has_region_maps
    assert data.num_classes == 26
    assert len(open_data("mosaic").train) == 12_000
    other = open_data("mosaic", seed=1)
    assert torch.equal(other.validation[0].image, data.validation[0].image)
    assert not torch.equal(other.train[0].image, data.train[0].image)
    with pytest.raises(ArgumentError, match="cannot be augmented"):
        open_data("mosaic", augment="light")
    with pytest.raises(UnknownNameError, match="did you mean standard"):
        open_data("mosaic", augment="standrad")


def test_mosaics_with_photos_have_one_class_more() -> None:
    pytest.importorskip("skimage")
    assert open_data("mosaic+photos").class_names[-1] == "photo"


def damage(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("ending", ["cut", "empty", "text"])
def test_a_damaged_image_is_named_when_it_is_read(classes: Path, ending: str) -> None:
    data = open_data(classes, augment="none")
    assert isinstance(data.train, FolderDataset)
    path, _ = data.train.files[0]
    if ending == "cut":
        damage(path)
    else:
        path.write_bytes(b"" if ending == "empty" else b"no image")
    with pytest.raises(FileError, match=path.name):
        data.train[0]
    assert data.train[1].label == 0


def test_a_damaged_image_is_named_through_a_worker(classes: Path) -> None:
    data = open_data(classes, augment="none")
    assert isinstance(data.train, FolderDataset)
    damage(data.train.files[3][0])
    with pytest.raises(FileError, match=data.train.files[3][0].name):
        list(DataLoader(data.train, batch_size=2, num_workers=1))


def test_hidden_files_and_other_files_are_no_images(classes: Path) -> None:
    (classes / "red" / "notes.txt").write_text("x")
    (classes / "red" / ".hidden.png").write_bytes(b"x")
    (classes / ".cache").mkdir()
    assert sum(map(len, paths_of(open_data(classes)))) == 20


def test_a_hidden_folder_inside_a_class_is_left_out(classes: Path) -> None:
    """Such as .ipynb_checkpoints, whose copies would else be on both sides of the split."""
    before = paths_of(open_data(classes))
    write_image(classes / "red" / ".ipynb_checkpoints" / "0-checkpoint.png", (1, 0, 0))
    write_image(classes / "blue" / "deeper" / ".thumbnails" / "small" / "0.png", (0, 0, 1))
    assert paths_of(open_data(classes)) == before


def test_the_listing_is_of_the_files_and_not_of_their_place(
    classes: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """So that training goes on where the same folder lies elsewhere, and not with other files of the same number."""
    listing = open_data(classes).listing
    moved = tmp_path_factory.mktemp("moved") / "data"
    shutil.copytree(classes, moved)
    assert open_data(moved).listing == listing is not None
    (moved / "red" / "3.png").rename(moved / "red" / "13.png")
    assert open_data(moved).listing != listing
    assert open_data("mosaic").listing is None


def no_folder(root: Path) -> Path:
    return root / "absent"


def no_classes(root: Path) -> Path:
    write_image(root / "loose.png", (1, 2, 3))
    return root


def no_images(root: Path) -> Path:
    (root / "red").mkdir()
    (root / "blue").mkdir()
    return root


def one_empty_class(root: Path) -> Path:
    write_image(root / "red" / "1.png", (1, 2, 3))
    (root / "blue").mkdir()
    return root


def one_image_in_a_class(root: Path) -> Path:
    write_image(root / "red" / "1.png", (1, 2, 3))
    return root


def no_val(root: Path) -> Path:
    write_image(root / "train" / "red" / "1.png", (1, 2, 3))
    return root


def class_in_val_alone(root: Path) -> Path:
    for part in ("train/red", "val/red", "val/green"):
        write_image(root / part / "1.png", (1, 2, 3))
    return root


def a_split_by_other_names(root: Path) -> Path:
    for name in ("Train/red/1.png", "Train/red/2.png", "Valid/red/1.png", "Valid/red/2.png"):
        write_image(root / name, (1, 2, 3))
    return root


def empty_class_in_val(root: Path) -> Path:
    for part in ("train/red", "train/blue", "val/red"):
        write_image(root / part / "1.png", (1, 2, 3))
    (root / "val" / "blue").mkdir()
    return root


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (no_folder, "does not exist.*absent"),
        (no_classes, "no class folders"),
        (no_images, "hold no images.*blue, red"),
        (one_empty_class, "blue holds no images"),
        (one_image_in_a_class, r"two images or more.*red"),
        (no_val, "no val/ beside it"),
        (class_in_val_alone, "green in .*val alone"),
        (a_split_by_other_names, "must be called train and val, got Train, Valid"),
        (empty_class_in_val, "val/blue holds no images"),
    ],
)
def test_a_folder_that_cannot_be_trained_on(tmp_path: Path, make: object, words: str) -> None:
    root = make(tmp_path)  # type: ignore[operator]
    with pytest.raises(FileError, match=words):
        open_data(root)


def test_a_missing_package_is_named(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia.augmentation", None)
    monkeypatch.delitem(sys.modules, "drconv.training.augment", raising=False)
    with pytest.raises(DrconvError, match=r"no kornia; pip install 'drconv\[train\]'"):
        open_data(classes)
    assert len(open_data(classes, augment="none").train) == 18


class TestHub:
    """Data sets of the library `datasets`, made here and read from folders; the network is never used."""

    @pytest.fixture(autouse=True)
    def _alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.datasets = pytest.importorskip("datasets", reason="the extra 'train' is not installed")
        monkeypatch.setattr(self.datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

        def refuse(*_: object) -> None:
            raise AssertionError("the network was used")

        monkeypatch.setattr(socket, "getaddrinfo", refuse)

    def saved(self, root: Path, labels: object, *, kind: object = None, parts: tuple[str, ...] = ("train",)) -> str:
        """Write a data set with a red image of level 25 * (1 + row) in every row."""
        datasets = self.datasets
        count = len(labels)  # type: ignore[arg-type]
        for row in range(count):
            write_image(root / "files" / f"{row}.png", (25 * (1 + row), 0, 0))
        features = {"image": datasets.Image()}
        columns = {"image": [str(root / "files" / f"{row}.png") for row in range(count)], "label": labels}
        table = datasets.Dataset.from_dict(columns).cast_column("image", features["image"])
        if kind is not None:
            table = table.cast_column("label", kind)
        datasets.DatasetDict(dict.fromkeys(parts, table)).save_to_disk(root / "saved")
        return f"hf:{root / 'saved'}"

    def test_a_saved_set(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        kind = self.datasets.ClassLabel(names=["dark", "bright"])
        spec = self.saved(tmp_path, [0, 0, 0, 0, 1, 1, 1, 1, 1], kind=kind, parts=("train", "test"))
        capfd.readouterr()
        data = open_data(spec, augment="none")
        assert capfd.readouterr() == ("", "")
        assert data.class_names == ("dark", "bright")
        assert (len(data.train), len(data.validation)) == (9, 9)
        for row, sample in enumerate(data.train):
            pixels, _ = pixels_of(sample.image)
            assert pixels[..., 0].mean() == pytest.approx(25 * (1 + row), abs=1)
            assert sample.label == (row >= 4)
            assert type(sample.label) is int

    def test_a_set_without_validation_is_split(self, tmp_path: Path) -> None:
        data = open_data(self.saved(tmp_path, ["b", "a", "c", "b", "a", "c", "b", "a", "c", "a"][:10]), augment="none")
        assert data.class_names == ("a", "b", "c")
        assert (len(data.train), len(data.validation)) == (9, 1)
        levels = [round(float(pixels_of(s.image)[0][..., 0].mean()) / 25) for s in [*data.train, *data.validation]]
        assert sorted(levels) == list(range(1, 11))
        small = open_data(self.saved(tmp_path / "again", list("ababab")), train_size=2)
        assert len(small.train) == 2

    @pytest.mark.parametrize("name", ["", ":", " "])
    def test_a_set_must_have_a_name(self, name: str) -> None:
        with pytest.raises(FileError, match="must have a name, such as hf:"):
            open_data(f"hf:{name}")

    def test_a_folder_that_the_library_loads(self, tmp_path: Path) -> None:
        for number in range(10):
            for name, color in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
                write_image(tmp_path / "pictures" / name / f"{number}.png", color)
        data = open_data(f"hf:{tmp_path / 'pictures'}", augment="none", train_size=4)
        assert (len(data.train), len(data.validation)) == (4, 2)
        assert data.class_names == ("blue", "red")
        for sample in data.train:
            assert pixels_of(sample.image)[0][..., 0].mean() == pytest.approx(200 * sample.label, abs=1)

    def test_workers_read_it_too(self, tmp_path: Path) -> None:
        data = open_data(self.saved(tmp_path, list("abab")))
        batches = list(DataLoader(data.train, batch_size=3, num_workers=1))
        assert batches[0].image.shape == (3, 3, 16, 16)
        assert torch.equal(batches[0].image, torch.stack([sample.image for sample in data.train]))

    def test_a_damaged_picture_is_named(self, tmp_path: Path) -> None:
        spec = self.saved(tmp_path, list("abab"))
        data = open_data(spec, augment="none")
        table = data.train._table  # type: ignore[attr-defined]
        picture = {"bytes": b"no image", "path": "holiday.jpg"}
        data.train._table = [{**row, "image": picture} for row in table]  # type: ignore[attr-defined]
        with pytest.raises(FileError, match=r"holiday\.jpg in row 1 of the data set"):
            data.train[1]

    @pytest.mark.parametrize(
        ("labels", "parts", "words"),
        [
            ([0, 1, 2], ("test",), "must have a part called train, got test"),
            ([0, 1, None], ("train",), "must have a class, got none"),
        ],
    )
    def test_a_set_that_cannot_be_trained_on(
        self, tmp_path: Path, labels: list[int], parts: tuple[str, ...], words: str
    ) -> None:
        with pytest.raises(DrconvError, match=words):
            open_data(self.saved(tmp_path, labels, parts=parts))

    def test_labels_that_are_missing_by_number(self, tmp_path: Path) -> None:
        kind = self.datasets.ClassLabel(names=["dark", "bright"])
        with pytest.raises(DrconvError, match="must have a class of 2, got -1"):
            open_data(self.saved(tmp_path, [0, 1, -1], kind=kind))

    def test_columns_that_are_not_clear(self, tmp_path: Path) -> None:
        self.datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}).save_to_disk(tmp_path / "texts")
        with pytest.raises(DrconvError, match="must hold the pictures, called image; none of text, label does"):
            open_data(f"hf:{tmp_path / 'texts'}")

    def test_nothing_is_fetched_unless_allowed(self) -> None:
        import huggingface_hub.constants

        before = huggingface_hub.constants.HF_HUB_OFFLINE
        with pytest.raises(FileError, match=r"neither a folder nor in the cache.*--download"):
            open_data("hf:somebody/nothing-of-the-kind")
        assert before == huggingface_hub.constants.HF_HUB_OFFLINE
