"""Run code as a process of its own would, without waiting for its imports.

A server imports what nearly all code here begins with and does nothing else. What is to be run becomes a fork of it, so
it finds nothing set, registered, opened or drawn from the random numbers. Not for what imports themselves do.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["Fresh", "Running"]

ROOT = Path(__file__).parent.parent


class Running:
    """A forked process, used like `subprocess.Popen`."""

    def __init__(self, server: "Fresh", pid: int, out: Path, err: Path) -> None:
        self.server, self.pid, self.out, self.err = server, pid, out, err
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.server.ask(poll=self.pid)
        return self.returncode

    def send_signal(self, number: int) -> None:
        # Its number is no other process's before `poll` has collected it.
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        deadline, pause = time.monotonic() + timeout, 0.005
        while self.poll() is None:
            if time.monotonic() > deadline:
                os.kill(self.pid, 9)
                raise TimeoutError(f"not done after {timeout} s; stderr: {self.err.read_text()}")
            time.sleep(pause)
            pause = min(2 * pause, 0.1)
        return self.out.read_text(), self.err.read_text()

    def finish(self) -> str:
        """Wait until it has ended well, and return what it wrote to stdout."""
        out, err = self.communicate()
        assert self.returncode == 0, err
        return out


class Fresh:
    """Start processes, with the environment of this one but for what is given."""

    def __init__(self) -> None:
        self._files = tempfile.TemporaryDirectory()
        self._count = 0
        # One thread, so that a fork loses none.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.fresh"], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def ask(self, **question: object) -> Any:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def start(self, code: str, cwd: Path = ROOT, without: tuple[str, ...] = (), **variables: str) -> Running:
        """Run code as `python -c` does; `without` names variables to unset."""
        return self._start(cwd, without, variables, code=code)

    def module(self, name: str, *arguments: object, cwd: Path = ROOT, **variables: str) -> Running:
        """Run a module as `python -m` does."""
        return self._start(cwd, (), variables, module=name, arguments=[str(argument) for argument in arguments])

    def team(self, count: int, name: str, *arguments: object, cwd: Path = ROOT) -> None:
        """Run a module in several processes that know of each other, as `torchrun` does, and wait for them."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        variables = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
        for member in [self.module(name, *arguments, cwd=cwd, **variables, **rank) for rank in ranks]:
            member.finish()

    def _start(self, cwd: Path, without: tuple[str, ...], variables: dict[str, str], **what: object) -> Running:
        self._count += 1
        out, err = (Path(self._files.name) / f"{self._count}.{kind}" for kind in ("out", "err"))
        out.touch()
        err.touch()
        environment = {name: value for name, value in os.environ.items() if name not in without} | variables
        pid = self.ask(out=str(out), err=str(err), cwd=str(cwd), environment=environment, **what)
        return Running(self, pid, out, err)

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()
        self._files.cleanup()


def _serve() -> dict[str, Any]:
    """Fork for every question and answer it; return it in the forked process."""
    for line in sys.stdin:
        question: dict[str, Any] = json.loads(line)
        if "poll" in question:
            pid, status = os.waitpid(question["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                return question
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    os._exit(0)


def _become(question: dict[str, Any]) -> None:
    for number, path in ((0, os.devnull), (1, question["out"]), (2, question["err"])):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    # As in a terminal, also where the tests run in the background of a shell, which lets them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(question["environment"])
    os.chdir(question["cwd"])
    main = sys.modules["__main__"] = ModuleType("__main__")
    if "code" in question:
        sys.argv, sys.path[0] = ["-c"], ""
        exec(compile(question["code"], "<string>", "exec"), vars(main))
    else:
        sys.argv, sys.path[0] = [question["module"], *question["arguments"]], question["cwd"]
        runpy.run_module(question["module"], run_name="__main__", alter_sys=True)


def _end(question: dict[str, Any]) -> int:
    """Do what is asked and return the exit code, as the interpreter does."""
    try:
        _become(question)
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        sys.stderr.write(f"{stop.code}\n")
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    import torch  # noqa: F401

    import drconv
    import drconv.viz

    for name in drconv.__all__:
        getattr(drconv, name)
    gc.freeze()
    code = _end(_serve())
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # To take down all that was imported would take longer than most of what is run.
    os._exit(code)
