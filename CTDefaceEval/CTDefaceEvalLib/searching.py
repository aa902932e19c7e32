"""Where pictures are searched for faces: in this process, or in several.

That is what an evaluation mostly does, a quarter of a second for each picture, and dlib holds Python's lock meanwhile,
so that threads do not help. Answers are the same.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from CTDefaceLib.processes import THREADS, interpreter, processors, started_pool

from .face_models import Face, FaceModel, load_model

MANY_PICTURES = 50
"""Of each surface, from which on further processes are worth their start, which takes two seconds. The default and the
study's views have more, the quick ones less. Judgement."""

ENDS = sys.version_info >= (3, 12)
"""Whether a pool ends when its processes died: before, it may wait for ever (CPython's issue 94777)."""

MOST_PROCESSES = 4
"""However many processors there are: each takes 0.13 GB, and one that draws cannot feed more. Judgement."""

BY_ONE_THREAD = ("dlib-hog", "dlib-cnn")
"""Models that keep one processor busy, and Python's lock. The others use all processors by themselves, or a graphics
card, and are too large to be loaded several times."""

Found = tuple[Face | None, np.ndarray | None]
"""The best face of a picture, and its embedding where one was asked for."""


@dataclass(frozen=True)
class Picture:
    """What a model is to look at, (rows, columns, 3) uint8, and whether it describes the face that it finds.

    Where it finds none, it describes what lies at `place`, if that is given.
    """

    pixels: np.ndarray
    described: bool = False
    place: Face | None = None


Search = Callable[[FaceModel, Picture], Callable[[], Found]]
"""Begins to look at a picture; what it gives is asked for the answer."""


def search_here(model: FaceModel, picture: Picture) -> Callable[[], Found]:
    """Look at a picture at once."""
    found = _looked_at(model, picture)
    return lambda: found


@contextmanager
def searching(pictures: int, model_folder: str | os.PathLike | None = None) -> Iterator[Search]:
    """A :data:`Search` in processes that end with the context; in this one for few pictures of a surface.

    `model_folder` is that of the models that are loaded from one.
    """
    is_possible = ENDS and not multiprocessing.current_process().daemon and os.path.isfile(interpreter())
    if pictures < MANY_PICTURES or processors() == 1 or not is_possible:
        yield search_here
        return
    elsewhere = _Elsewhere(model_folder)
    try:
        yield elsewhere.search
    finally:
        elsewhere.close()


class _Elsewhere:
    """Processes that are started with the first picture; where none can be, or they died, it is looked at here."""

    def __init__(self, model_folder: str | os.PathLike | None) -> None:
        self._folder = model_folder
        self._pool: ProcessPoolExecutor | None = None
        self._are_there = True

    def search(self, model: FaceModel, picture: Picture) -> Callable[[], Found]:
        if model.name not in BY_ONE_THREAD or not self._are_there:
            return search_here(model, picture)
        try:
            if self._pool is None:
                self._pool, _ = started_pool(min(processors(), MOST_PROCESSES), dict.fromkeys(THREADS, "1"))
            begun: Future[Found] = self._pool.submit(_looked_at_by, model.name, self._folder, picture)
        except (OSError, ImportError, RuntimeError):  # the last also when they died
            self._are_there = False
            return search_here(model, picture)

        def answer() -> Found:
            try:
                return begun.result()
            except BrokenProcessPool:  # as where memory is short
                return _looked_at(model, picture)

        return answer

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


_models: dict[tuple[str, str | os.PathLike | None], FaceModel] = {}
"""Of a process that looks at pictures."""


def _looked_at_by(name: str, folder: str | os.PathLike | None, picture: Picture) -> Found:
    if (name, folder) not in _models:
        _models[name, folder] = load_model(name, folder)
    return _looked_at(_models[name, folder], picture)


def _looked_at(model: FaceModel, picture: Picture) -> Found:
    face = next(iter(model.detect(picture.pixels)), None)
    where = face or picture.place
    return face, model.embed(picture.pixels, where) if picture.described and where is not None else None
