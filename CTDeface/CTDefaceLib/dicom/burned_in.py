"""Text that is burned into the pixels: when asked to, a reader of text looks at every image before it is passed on.

The reader is RapidOCR (Apache 2.0), whose package holds its models: nothing is downloaded later, and nothing is sent.
Where it finds text, or where it cannot look, the series is refused: what it took for text may be a part of the patient,
so that nothing is blacked out unseen.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..progress import Progress, silent

WINDOWS_HU = ((-1024.0, 3072.0), (-160.0, 240.0))
"""How the slices of a CT are shown to the reader: all values, where text is as bright as can be, and soft tissue, where
it is not. Lowest and highest value in HU."""

MOST_PERCENT = 99.0
"""Other modalities have values of any size: all of a volume's are shown, and those up to this percentile."""

FEWEST_CHARACTERS = 3
"""Letters and digits of a text, two of which have to differ; fewer are what rings of a skull, teeth and the holder are
read as (Q, 8, 00000), and marks of the side."""

LEAST_SCORE = 0.75
"""How sure (0 to 1) the reader has to be: of names of 8 to 24 pixels' height it is, by 0.82 at least in 179 of 180; of
what it takes for text in heads without any, by 0.70 at most (bench_burned_in.py)."""

PACKAGES = ("rapidocr", "onnxruntime")
MISSING = (
    "Looking for text in the pixels needs the packages rapidocr and onnxruntime, about 200 MB; install them with "
    '"pip install ctdeface[text]". Nothing is downloaded later.'
)
FOUND = (
    "Text is burned into the pixels (slice {} of {}, by their place): nothing was written; black it out, or leave this "
    "series out."
)
SAID = "The images say that text is burned into their pixels, whatever the reader finds: leave this series out."
NOT_READ = "It could not be told whether text is burned into the pixels ({}): nothing was written."

Reader = Callable[[np.ndarray], list[tuple[str, float]]]
"""Takes a picture, uint8 of shape (rows, columns, 3), and gives each text with its score."""


def check_reader() -> None:
    """Refuse to look without the packages (InputError)."""
    if not all(importlib.util.find_spec(name) for name in PACKAGES):
        raise InputError(MISSING)


@cache
def reader() -> Reader:
    """The reader of text, loaded once for a process."""
    check_reader()
    from rapidocr import RapidOCR

    engine = RapidOCR(params={"Global.log_level": "critical"})

    def read(picture: np.ndarray) -> list[tuple[str, float]]:
        found = engine(picture, use_det=True, use_cls=False, use_rec=True)
        return list(zip(found.txts or (), found.scores or ()))

    return read


def refuse_text(image: sitk.Image, said: bool = False, progress: Progress = silent, in_hounsfield: bool = True) -> None:
    """Look at every slice of a volume.

    Parameters
    ----------
    image: SimpleITK.Image
    in_hounsfield: bool
        It is a CT; other modalities have values of any size.
    said: bool
        The headers say that text is burned in.
    progress: callable, optional
        See :mod:`.progress`.

    Raises
    ------
    InputError
        When text stands in a slice, or the headers say so; and when it cannot be told.
    """
    if said:
        raise InputError(SAID)
    slices = sitk.GetArrayViewFromImage(image)
    windows = WINDOWS_HU if in_hounsfield else _windows_of(slices)
    for number, plane in enumerate(slices, 1):
        progress(number / len(slices), "Looking for text")
        try:
            shown = any(
                score >= LEAST_SCORE for low, high in windows for _, score in texts(plane.astype(np.float32), low, high)
            )
        except InputError:
            raise
        except Exception as error:  # whatever a reader does: without it, nothing is passed on
            raise InputError(NOT_READ.format(type(error).__name__)) from error
        if shown:
            raise InputError(FOUND.format(number, len(slices)))


def _windows_of(slices: np.ndarray) -> tuple[tuple[float, float], ...]:
    """How slices of other modalities are shown to the reader: lowest and highest value."""
    low, high = float(slices.min()), float(slices.max())
    return tuple((low, top) for top in (high, float(np.percentile(slices, MOST_PERCENT))) if top > low)


def texts(plane: np.ndarray, low: float, high: float) -> list[tuple[str, float]]:
    """What the reader takes for text in a slice, shown from the lowest to the highest value, and how sure it is."""
    grey = np.clip((plane - low) / (high - low) * 255.0, 0.0, 255.0).astype(np.uint8)
    if grey.min() == grey.max():
        return []
    found = reader()(np.repeat(grey[..., None], 3, axis=2))
    return [(text, score) for text, score in found if _says_something(text)]


def _says_something(text: str) -> bool:
    characters = list(filter(str.isalnum, text))
    return len(characters) >= FEWEST_CHARACTERS and len(set(characters)) > 1
