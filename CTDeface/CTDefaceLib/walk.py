"""What lies below a folder: links to folders are followed, and each real folder is there once, whatever leads to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

Problem = Callable[[str, OSError | None], None]
"""Takes a path that was passed over, and why; None for a link that leads up to a folder that it lies in itself."""


def files_below(
    folder: str | os.PathLike, ignore: Iterable[str | os.PathLike] = (), problem: Problem = lambda path, error: None
) -> list[tuple[str, list[str]]]:
    """All folders below a folder, itself among them, each with the names of its files; both sorted.

    A folder that can be reached at its own place is found there, and not by a link. Hidden files and folders
    are passed over; what is no regular file, such as a pipe, is among the files, and must not be opened.

    Parameters
    ----------
    folder: path
    ignore: paths of folders that are not looked into
    problem: callable
        Told of folders that cannot be listed, and of links that lead up.
    """
    top = os.fspath(folder)
    root, ignored = os.path.realpath(top), {os.path.realpath(path) for path in ignore}
    seen = set(ignored)
    found: dict[str, list[str]] = {}
    waiting = [top]

    def cannot(error: OSError) -> None:
        problem(os.fspath(error.filename or top), error)

    while waiting:
        start = waiting.pop(0)
        real = os.path.realpath(start)
        if real in seen or ignored & set(map(str, Path(real).parents)) and start != top:
            continue
        if start != top and Path(real) in Path(root).parents:
            problem(start, None)
            continue
        for here, inner, names in os.walk(start, onerror=cannot):
            real = os.path.realpath(here)
            seen.add(real)
            paths = {name: os.path.join(here, name) for name in sorted(inner) if not name.startswith(".")}
            links = [name for name, path in paths.items() if os.path.realpath(path) != os.path.join(real, name)]
            waiting += [paths[name] for name in links]
            inner[:] = [name for name in paths if name not in links and os.path.join(real, name) not in seen]
            found[here] = sorted(name for name in names if not name.startswith("."))
    return sorted(found.items(), key=lambda item: Path(item[0]).parts)
