"""From a specification to a model."""

from pathlib import Path

import pytest
from torch import nn

from drconv.errors import ModelError, UnknownNameError
from drconv.models import input_size_of, load_model
from tests.zoo import need

SOURCE = """
from dataclasses import dataclass
from torch import nn

@dataclass
class Settings:
    width: int = 4

def small(): return nn.Conv2d(3, Settings().width, 1)
def none(): return None
def broken(): raise RuntimeError("no weights today\\nsecond line")
def leaving(): raise SystemExit("bye")
instance = nn.Linear(2, 2)
number = 3
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(SOURCE)
    return path


def test_name() -> None:
    assert isinstance(load_model("shufflenet_v2_x0_5"), nn.Module)


def test_file_and_factory(source: Path) -> None:
    assert load_model(f"{source}:small").out_channels == 4


def test_a_module_that_is_there_already(source: Path) -> None:
    assert isinstance(load_model(f"{source}:instance"), nn.Linear)


def test_class_in_an_importable_module() -> None:
    assert isinstance(load_model("torch.nn:ReLU"), nn.ReLU)


def test_module_in_the_current_directory(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source.rename(source.parent / "nets_in_the_current_directory.py")
    monkeypatch.chdir(source.parent)
    monkeypatch.setattr("sys.path", [p for p in __import__("sys").path if p])
    assert load_model("nets_in_the_current_directory:small").in_channels == 3


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("none", "gave a NoneType; expected an nn.Module"),
        ("number", "is a int; expected a function or class"),
        ("broken", "failed: RuntimeError: no weights today"),
        ("leaving", "failed: SystemExit: bye"),
    ],
)
def test_factories_that_give_no_model(source: Path, factory: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_model(f"{source}:{factory}")
    assert "\n" not in str(caught.value)


def test_near_factory_names_are_offered(source: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown factory in .*nets.py 'smal'; did you mean small"):
        load_model(f"{source}:smal")


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("drconv_shuflenet_v2_x0_5", UnknownNameError, "did you mean drconv_shufflenet_v2_x0_5"),
        ("nets.py", ModelError, "names a file but no factory; write nets.py:factory"),
        ("no/such/file.py:small", ModelError, "no file 'no/such/file.py'"),
        ("no_such_package.nets:small", ModelError, "ModuleNotFoundError: No module named 'no_such_package'"),
        (":small", ModelError, "expected module:factory or file.py:factory"),
        ("nets.py:", ModelError, "expected module:factory or file.py:factory"),
    ],
)
def test_bad_specifications(spec: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_model(spec)


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        ("timm:resnet18", (3, 224, 224)),
        ("timm:resnet18.fb_swsl_ig1b_ft_in1k", (3, 224, 224)),
        ("timm:efficientnet_b1", (3, 240, 240)),
        ("torchvision:squeezenet1_1", (3, 224, 224)),
        ("torchvision:lraspp_mobilenet_v3_large", (3, 224, 224)),
        ("mobilefacenet", (3, 112, 112)),
        ("torch.nn:ReLU", (3, 224, 224)),
    ],
)
def test_collections_and_sizes(spec: str, size: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    if spec.startswith(("timm", "torchvision")):
        need(spec.partition(":")[0])
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("nothing is downloaded"))
    assert input_size_of(spec, load_model(spec)) == size


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("timm:resnet81", UnknownNameError, "unknown timm model 'resnet81'; did you mean resnet"),
        ("timm:hf-hub:timm/resnet18.a1_in1k", UnknownNameError, "unknown timm model 'hf-hub:timm/resnet18.a1_in1k'"),
        ("timm:", UnknownNameError, "unknown timm model ''; known: aimv2"),
        ("timm:resnet18.no_such_tag", ModelError, "failed: RuntimeError: Invalid pretrained tag"),
        ("torchvision:resnet81", UnknownNameError, "unknown torchvision model 'resnet81'; did you mean resnet"),
    ],
)
def test_names_that_a_collection_does_not_have(spec: str, error: type[Exception], message: str) -> None:
    need(spec.partition(":")[0])
    with pytest.raises(error, match=message):
        load_model(spec)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (ModuleNotFoundError("No module named 'timm'", name="timm"), "^timm is not installed; pip install timm$"),
        (
            ModuleNotFoundError("No module named 'yaml'", name="yaml"),
            r"^timm cannot be imported \(No module named 'yaml'\); install what it needs, and the release of ",
        ),
        (RuntimeError("operator torchvision::nms does not exist"), r"cannot be imported \(operator torchvision::nms"),
    ],
    ids=["missing", "dependency", "another torch"],
)
def test_a_collection_that_cannot_be_imported(
    failure: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise failure

    monkeypatch.setattr("drconv.models.collection.importlib.import_module", fail)
    with pytest.raises(ModelError, match=message):
        load_model("timm:resnet18")


def test_a_file_with_a_syntax_error(tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text("def small(:\n")
    with pytest.raises(ModelError, match="failed: SyntaxError"):
        load_model(f"{path}:small")


def test_a_file_may_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_the_net.py").write_text("WIDTH = 5\n")
    path = tmp_path / "net.py"
    path.write_text("from torch import nn\nfrom neighbour_of_the_net import WIDTH\nnet = nn.Conv2d(3, WIDTH, 1)\n")
    assert load_model(f"{path}:net").out_channels == 5
