"""Segmentations of a defaced head: bodies end at the new skin, and nothing else of what was replaced is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..removal.surface import Surface
from .decoding import UNDECODED, pixels_of
from .defaced_stack import DefacedStack
from .files import LABEL_MAP, plane_of
from .places import grid_of_plane, in_region, reach_and_below
from .write import EXPLICIT_LITTLE_ENDIAN

if TYPE_CHECKING:
    import pydicom

FILLS_THE_FACE = 0.6
"""Share (0 to 1) of the region below the new skin that a structure holds which is the outline of the body. A choice."""


def cut_segments(dataset: pydicom.Dataset, defaced: list[DefacedStack], surfaces: Sequence[Surface]) -> str:
    """Redraw the segments of a body along the new skin, and clear the voxels of all others in the region, in place.

    Returns
    -------
    str
        What was done, for the report; empty for nothing, ``"all"`` when nothing is left.

    Raises
    ------
    InputError
        When its pixels cannot be decoded.
    """
    try:
        frames = pixels_of(dataset).reshape(-1, dataset.Rows, dataset.Columns)
        shared = dataset.SharedFunctionalGroupsSequence[0]
        groups = [[group, shared] for group in dataset.PerFrameFunctionalGroupsSequence]
        drawn = [_Frame(frame, group, defaced, surfaces) for frame, group in zip(frames, groups)]
        numbers = [_segments_in(dataset, frame, group) for frame, group in zip(frames, groups)]
    except Exception as error:  # pydicom meets what it cannot decode with errors of many kinds
        raise InputError(UNDECODED) from error
    bodies = 0
    cleared = sum(frame.clear() for frame in drawn)
    for number in sorted({number for there in numbers for number in there}):
        parts = [(frame, frame.of(value)) for frame, there in zip(drawn, numbers) if (value := there.get(number))]
        inside = sum(np.count_nonzero(frame.reach & frame.below) for frame, _ in parts)
        if sum(np.count_nonzero(old & frame.reach & frame.below) for frame, old in parts) > FILLS_THE_FACE * inside > 0:
            bodies += 1
            for frame, there in zip(drawn, numbers):
                if value := there.get(number):
                    frame.words[frame.reach & frame.below & (frame.words == 0)] = value
    _store(dataset, frames)
    if not frames.any():
        return "all"
    said = [f"segments of a body redrawn along the new skin: {bodies}"] * bool(bodies)
    said += [f"voxels of a segmentation cleared, since they lie in the region: {cleared}"] * bool(cleared)
    return "; ".join(said)


class _Frame:
    """A frame, and where in it the region and the new skin are.

    Attributes
    ----------
    words: numpy.ndarray
        Its values, shape (rows, columns), to be changed; what they were is kept.
    reach, below: numpy.ndarray
        How far the region reaches, and what is below the new skin there; bool.
    """

    def __init__(
        self,
        words: np.ndarray,
        groups: list[pydicom.Dataset],
        defaced: list[DefacedStack],
        surfaces: Sequence[Surface],
    ):
        position, axes, (across, down) = plane_of(groups)
        row, column = np.nonzero(words)
        points = position + np.outer(column * across, axes[0]) + np.outer(row * down, axes[1])
        self.words, self._old = words, words.copy()
        self._inside = np.zeros(words.shape, bool)
        self._inside[row, column] = in_region(points, defaced)
        normal = np.cross(axes[0], axes[1])
        grid = grid_of_plane(position, [*axes, normal], (across, down), words.shape[::-1])
        self.reach, self.below = reach_and_below(grid, surfaces)

    def of(self, value: int) -> np.ndarray:
        """Where a value was; bool."""
        return self._old == value

    def clear(self) -> int:
        """Clear what lies in the region; how many voxels that are."""
        self.words[self._inside] = 0
        return int(self._inside.sum())


def _segments_in(dataset: pydicom.Dataset, frame: np.ndarray, groups: list[pydicom.Dataset]) -> dict[int, int]:
    """Number of each segment in a frame → its value there; of fractional ones that of a voxel that is all in it."""
    if dataset.SOPClassUID == LABEL_MAP:
        return {value: value for value in np.unique(frame[frame > 0]).tolist()}
    for group in groups:
        if "SegmentIdentificationSequence" in group:
            number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            break
    else:
        number = int(dataset.SegmentSequence[0].SegmentNumber)
    return {number: int(dataset.get("MaximumFractionalValue") or 1) if dataset.BitsAllocated > 1 else 1}


def _store(dataset: pydicom.Dataset, frames: np.ndarray) -> None:
    import pydicom

    packed = np.packbits(frames.ravel(), bitorder="little") if dataset.BitsAllocated == 1 else frames
    pixels = packed.astype(packed.dtype.newbyteorder("<"), copy=False).tobytes()
    dataset[0x7FE00010] = pydicom.DataElement(0x7FE00010, "OB" if packed.itemsize == 1 else "OW",
                                              pixels + b"\0" * (len(pixels) % 2))  # fmt: skip
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(EXPLICIT_LITTLE_ENDIAN)
