"""What a signal or a full disk leaves behind: whole files, or none."""

from pathlib import Path

import pytest
from PIL import Image

from drconv.errors import FileError
from drconv_cli.rows import RowsPart, rows_part
from tests.drconv_cli.test_commands import NET
from tests.fresh import Fresh

SIGNALLED = """
import os, signal
class Signalled(Net):
    def forward(self, x):
        self.seen = getattr(self, "seen", 0) + 1
        if self.seen == 4:
            os.kill(os.getpid(), signal.{})
        return super().forward(x)
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_leaves_no_temporary_files(name: str, code: int, tmp_path: Path, fresh: Fresh) -> None:
    (tmp_path / "nets.py").write_text(NET + SIGNALLED.format(name))
    (tmp_path / "photos").mkdir()
    for index in range(6):
        Image.new("RGB", (32, 32), (40 * index, 0, 0)).save(tmp_path / "photos" / f"{index}.png")
    command = ("visualize", "photos", "-m", "nets.py:Signalled", "--size", "32", "-o", "o", "--evidence", "kept")
    run = fresh.module("drconv_cli", *command, "--figures", "none", cwd=tmp_path)
    _, err = run.communicate()
    assert run.returncode == code, err
    assert "Traceback" not in err
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if "drconv" in path.name}
    assert left == set()
    assert not (tmp_path / "kept").exists()
    assert not (tmp_path / "o" / "statistics.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_rows_on_a_full_disk_are_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No space left"):
        RowsPart(Path("/dev/full")).add([(0, "x" * 1_000_000)])
    (tmp_path / ".drconv-rows-0.csv").symlink_to("/dev/full")
    with pytest.raises(FileError, match="No space left"), rows_part(tmp_path, 0) as small:
        small.add([(0, "x")])
    assert list(tmp_path.iterdir()) == []
