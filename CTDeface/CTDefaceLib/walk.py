"""What lies below a folder: links to folders are followed, and each real folder is there once, whatever leads to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from .patience import in_time

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
        Told of folders that cannot be listed, or not in time (see :mod:`.patience`), and of links that lead up.
    """
    top = os.fspath(folder)
    root, ignored = os.path.realpath(top), {os.path.realpath(path) for path in ignore}
    seen = set(ignored)
    found: dict[str, list[str]] = {}
    waiting = [top]

    while waiting:
        start = waiting.pop(0)
        real = os.path.realpath(start)
        if real in seen or ignored & set(map(str, Path(real).parents)) and start != top:
            continue
        if start != top and Path(real) in Path(root).parents:
            problem(start, None)
            continue
        here = [start]
        while here:
            folder = here.pop()
            try:
                real, inner, links, names = in_time(_listed, folder)
            except OSError as error:
                problem(folder, error)
                continue
            seen.add(real)
            waiting += [os.path.join(folder, name) for name in links]
            here += [os.path.join(folder, name) for name in inner if os.path.join(real, name) not in seen][::-1]
            found[folder] = names
    return sorted(found.items(), key=lambda item: Path(item[0]).parts)


def _listed(folder: str) -> tuple[str, list[str], list[str], list[str]]:
    """The real path of a folder, and what it holds that is not hidden: folders, links to folders, and other names."""
    real = os.path.realpath(folder)
    with os.scandir(folder) as entries:
        shown = sorted((entry.name, _is_folder(entry)) for entry in entries if not entry.name.startswith("."))
    folders = [name for name, is_folder in shown if is_folder]
    links = [name for name in folders if os.path.realpath(os.path.join(folder, name)) != os.path.join(real, name)]
    inner = [name for name in folders if name not in links]
    return real, inner, links, [name for name, is_folder in shown if not is_folder]


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
