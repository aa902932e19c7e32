"""What belongs together, and in which series of a study the head is seen best: from the headers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..dicom.files import CT
from ..dicom.stack import is_regular, usual_gap
from ..dicom.tree import Series
from ..errors import InputError

ENOUGH_MM = 240.0
"""How much of a head, from the vertex down, shows all of its face: a longer series is not better. A choice."""

ABOUT_MM = 20.0
"""Series that are as long to this count as equally long: the finer one is better then. A choice."""


def patient_of(series: Sequence[Series]) -> str:
    """Whose series these are: the ID of the patient, and of the study where there is none.

    Raises
    ------
    InputError
        When they are of several patients.
    """
    patients = {one.patient or one.study for one in series}
    several = max(len(patients), len(set().union(*(one.issuers for one in series))))
    if several > 1:
        raise InputError(
            f"The folder holds scans of {several} patients, and a study is of one: choose the folder of one "
            "patient, or use ctdeface batch."
        )
    return next(iter(patients))


def best_first(series: Sequence[Series]) -> list[Series]:
    """The CT series in the order in which the head is likely to be seen well in them."""
    return sorted((one for one in series if one.modality == CT), key=series_rank)


def series_rank(series: Series) -> tuple:
    """The :func:`head_rank` of a series."""
    stack = series.stacks[0]
    length = float(stack.along[-1] - stack.along[0])
    return head_rank(
        len(series.stacks) > 1, length, is_regular(stack), usual_gap(stack), stack.spacing, series.number
    )  # fmt: skip


def head_rank(
    several: bool, length_mm: float, regular: bool, gap_mm: float, spacing: Sequence[float], number: int = 0
) -> tuple:
    """The lower, the better a head is likely to be seen in a scan.

    One stack is better than several, a long one than a short one, straight slices than tilted ones, and thin ones than
    thick ones; ``number`` is its place among equal ones.
    """
    return several, -int(min(length_mm, ENOUGH_MM) / ABOUT_MM), not regular, gap_mm, *spacing, number


class _InSpace(Protocol):
    @property
    def frame(self) -> str: ...


def have_one_frame(one: _InSpace, other: _InSpace) -> bool:
    """Whether two scans say that they lie in one frame of reference; one that says nothing lies in none."""
    return one.frame == other.frame and bool(one.frame)
