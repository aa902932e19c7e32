"""Look at the processes of this machine, where it has /proc."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from pathlib import Path

PROC = Path("/proc")


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:  # it ended meanwhile
        return ""


def children(pid: int) -> list[int]:
    """Processes that a process started, and what those started."""
    started: dict[int, list[int]] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        fields = _read(stat).rpartition(")")[2].split()
        if fields:
            started.setdefault(int(fields[1]), []).append(int(stat.parent.name))

    def below(one: int) -> list[int]:
        return [each for child in started.get(one, ()) for each in (child, *below(child))]

    return below(pid)


def command_line(pid: int) -> str:
    return _read(PROC / str(pid) / "cmdline").replace("\0", " ")


def with_argument(text: str) -> list[int]:
    """Processes in whose command line a text stands."""
    return [int(path.name) for path in PROC.glob("[0-9]*") if text in command_line(int(path.name))]


def is_alive(pid: int) -> bool:
    fields = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()
    return bool(fields) and fields[0] != "Z"


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until the condition holds; fails when it still does not after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so within {seconds:.0f} s: {source(condition)}"
        time.sleep(0.02)


def source(function: Callable) -> str:
    """The lines that a function is written in, for a message."""
    try:
        return inspect.getsource(function).strip()
    except OSError:
        return repr(function)
