"""What runs in a forked process is left to itself, and ends as in a process of its own."""

import signal
from pathlib import Path

import pytest

from tests.fresh import Fresh

ENDS = [
    ("print('said')", 0, "said\n", ""),
    ("import sys; sys.exit()", 0, "", ""),
    ("import sys; print('said'); sys.exit(3)", 3, "said\n", ""),
    ("import sys; sys.exit('why')", 1, "", "why"),
    ("import atexit; atexit.register(print, 'last'); print('said')", 0, "said\nlast\n", ""),
    ("print('said'); 1 / 0", 1, "said\n", "ZeroDivisionError: division by zero"),
    ("import threading; threading.Timer(0.01, print, ['later']).start()", 0, "later\n", ""),
]


@pytest.mark.parametrize(("code", "exit_code", "out", "last"), ENDS, ids=[code for code, *_ in ENDS])
def test_it_ends_as_a_process_does(code: str, exit_code: int, out: str, last: str, fresh: Fresh) -> None:
    run = fresh.start(code)
    said, err = run.communicate()
    assert (run.returncode, said) == (exit_code, out)
    assert err.splitlines()[-1:] == ([last] if last else [])
    if exit_code:
        with pytest.raises(AssertionError):
            run.finish()


def test_nothing_is_left_from_one_to_the_next(tmp_path: Path, fresh: Fresh) -> None:
    code = """
import os, sys, torch, __main__
print(os.getcwd(), os.environ["MINE"], "HOME" in os.environ, hasattr(__main__, "before"), "left" in sys.modules)
print(torch.rand(1))
before = sys.modules["left"] = 1
"""
    runs = [fresh.start(code, cwd=tmp_path, without=("HOME",), MINE="a value") for _ in range(2)]
    said = {run.finish() for run in runs}
    assert len(said) == 1
    assert said.pop().startswith(f"{tmp_path} a value False False False\n")


def test_a_signal_ends_it(fresh: Fresh) -> None:
    run = fresh.start("import time; print('here', flush=True); time.sleep(60)")
    assert run.poll() is None
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL


def test_too_long_is_an_error(fresh: Fresh) -> None:
    with pytest.raises(TimeoutError, match=r"not done after 0\.01 s"):
        fresh.start("import time; time.sleep(60)").communicate(timeout=0.01)


def test_members_of_a_team_know_of_each_other(tmp_path: Path, fresh: Fresh) -> None:
    (tmp_path / "member.py").write_text(
        "import os, sys, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "found = [None] * dist.get_world_size()\n"
        "dist.all_gather_object(found, sys.argv[1] + os.environ['LOCAL_RANK'])\n"
        "assert found == ['x0', 'x1', 'x2'], found\n"
        "dist.destroy_process_group()\n"
    )
    fresh.team(3, "member", "x", cwd=tmp_path)
    with pytest.raises(AssertionError, match="'y0'"):
        fresh.team(3, "member", "y", cwd=tmp_path)
