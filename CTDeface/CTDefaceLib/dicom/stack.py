"""The voxels of a DICOM stack in Hounsfield units, and the way to a regular grid, where they lie on none, and back.

Tilted and uneven stacks are defaced in their true geometry: the region is made on a regular grid that is interpolated
from the slices, and each slice then takes its part of that region. The slices themselves are never resampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import SimpleITK as sitk

from ..anatomy.hounsfield import BLANK_HU
from ..errors import InputError
from ..progress import Progress, silent
from .decoding import UNDECODED, pixels_of
from .files import Slice, bits_of, read_dataset
from .tree import Stack

if TYPE_CHECKING:
    import pydicom

PLACE_TOLERANCE_MM = 0.1
"""How far a slice may lie from its place in an even stack: positions are often rounded to a tenth of a millimetre."""

PLACE_TOLERANCE = 0.1
"""… or this share of the spacing: thick slices are placed less exactly."""

TILT_TOLERANCE_DEGREES = 0.25
"""Up to this the slices count as straight: a head of 200 mm is then sheared by less than a millimetre."""

LARGEST_GAP_MM = 20.0
"""Between neighbouring slices; across more, what lies between cannot be guessed (1.5 times the usual gap can)."""

AS_DICOM = "write DICOM instead (a folder as output, or --format .dicom of a batch), which keeps the slices as they are"
"""What helps where a volume file cannot hold what a series does."""


@np.errstate(over="ignore", invalid="ignore")
def read_stack(stack: Stack, progress: Progress = silent) -> sitk.Image:
    """The slices in Hounsfield units, one after the other; int16 where that holds them, else int32 or float32.

    The geometry is that of the first slice, with the mean distance of slices where :func:`is_regular`; elsewhere it
    is not true.
    """
    dtype = _type_of(stack)
    hu: np.ndarray = np.empty((len(stack.slices), *stack.size[::-1]), dtype)
    places: dict[str, list[int]] = {}
    for index, piece in enumerate(stack.slices):
        places.setdefault(piece.path, []).append(index)
    for number, (path, indices) in enumerate(places.items()):
        if number % 20 == 0:
            progress(number / len(places), "Reading")
        words, header = stored_words(path)
        for index in indices:
            piece = stack.slices[index]
            if words.shape[1:] != hu.shape[1:] or piece.frame >= len(words):
                raise InputError(UNDECODED)
            values: np.ndarray = stored_values(words[piece.frame], header).astype(dtype, copy=False)
            if piece.slope != 1:
                values = values * dtype(piece.slope)
            np.add(values, dtype(piece.intercept), out=hu[index])
    if dtype == np.int32 and hu.min() >= -(2**15) and hu.max() < 2**15:
        hu = hu.astype(np.int16)
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing([*stack.spacing, mean_gap(stack) if is_regular(stack) else usual_gap(stack)])
    image.SetOrigin(stack.slices[0].position)
    image.SetDirection(stack.axes.T.ravel().tolist())
    return image


def _type_of(stack: Stack) -> type:
    """The smallest type that holds all values that the slices can have, and all steps on the way to them."""
    steps = [n for s in stack.slices for v in (s.low, s.high) for n in (v * s.slope, v * s.slope + s.intercept)]
    steps += [n for s in stack.slices for n in (s.slope, s.intercept)]
    ends = [v * s.slope + s.intercept for s in stack.slices for v in (s.low, s.high)]
    if not all(float(n).is_integer() for n in steps) or max(map(abs, steps)) >= 2**31:
        return np.float32
    small = -(2**15) <= min(ends) and max(ends) < 2**15 and max(abs(s.slope) for s in stack.slices) < 2**15
    return np.int16 if small else np.int32


def stored_words(path: str) -> tuple[np.ndarray, pydicom.Dataset]:
    """Pixels of a file as they are stored, shape (frames, rows, columns), writable, and the whole dataset.

    Raises
    ------
    InputError
        When they are compressed and cannot be decoded.
    """
    header = read_dataset(path)
    return words_of(header), header


def words_of(header: pydicom.Dataset) -> np.ndarray:
    """As :func:`stored_words`, of a dataset."""
    try:
        return _words(header)
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:  # of a header that is damaged
        raise InputError(UNDECODED) from error


def _words(header: pydicom.Dataset) -> np.ndarray:
    syntax = header.file_meta.get("TransferSyntaxUID") if "file_meta" in header.__dict__ else None
    frames, rows, columns = int(header.get("NumberOfFrames") or 1), int(header.Rows), int(header.Columns)
    kind = "i" if header.get("PixelRepresentation", 0) else "u"
    dtype = np.dtype(f"{kind}{header.BitsAllocated // 8}")
    if syntax is None or not syntax.is_encapsulated:
        order: Literal["<", ">"] = ">" if syntax is not None and not syntax.is_little_endian else "<"
        count = frames * rows * columns
        pixels = header.get("PixelData")
        if not isinstance(pixels, bytes) or len(pixels) < count * dtype.itemsize:
            raise InputError(UNDECODED)
        words = np.frombuffer(pixels, dtype.newbyteorder(order), count)
        return words.astype(dtype).reshape(frames, rows, columns)
    return pixels_of(header).reshape(frames, rows, columns).astype(dtype, copy=False)


def stored_values(words: np.ndarray, header: pydicom.Dataset) -> np.ndarray:
    """The values in stored words: what other bits a word holds (old overlays) is left out."""
    allocated, stored, high = bits_of(header)
    if stored == allocated:
        return words
    if words.dtype.kind == "i":
        return (words << (allocated - 1 - high)) >> (allocated - stored)
    return (words >> (high + 1 - stored)) & ((1 << stored) - 1)


def to_words(hu: np.ndarray, piece: Slice, header: pydicom.Dataset, dtype: np.dtype) -> np.ndarray:
    """Words that store values in Hounsfield units: rounded, within the allowed range, and not the padding value."""
    values = np.clip(np.rint((hu.astype(np.float64) - piece.intercept) / piece.slope), piece.low, piece.high)
    if piece.padding is not None:
        low, high = piece.padding
        values[(values >= low) & (values <= high)] = high + 1 if high < piece.high else low - 1
    allocated, stored, high = bits_of(header)
    shift = high + 1 - stored if stored < allocated else 0
    return (values.astype(np.int64) << shift).astype(dtype)


def usual_gap(stack: Stack) -> float:
    """The usual distance of neighbouring slices in mm."""
    gaps = np.diff(stack.along)
    return float(np.median(gaps[gaps > 0.01]))


def mean_gap(stack: Stack) -> float:
    """The distance of neighbouring slices of an even stack in mm; their positions can be rounded."""
    along = stack.along
    return float((along[-1] - along[0]) / (len(along) - 1))


def tilt_degrees(stack: Stack) -> float:
    """By how much the slices are shifted against each other, as the angle of a tilted gantry."""
    shift = stack.positions[-1] - stack.positions[0]
    along = shift @ stack.axes[2]
    return float(np.degrees(np.arctan2(np.linalg.norm(shift - along * stack.axes[2]), along)))


def is_regular(stack: Stack) -> bool:
    """Whether the slices lie on a regular grid, straight and evenly."""
    along, spacing = stack.along, mean_gap(stack)
    off_place = np.abs(along - along[0] - spacing * np.arange(len(along))).max()
    even = np.diff(along).min() > 0.01 and off_place <= max(PLACE_TOLERANCE_MM, PLACE_TOLERANCE * spacing)
    return bool(even and tilt_degrees(stack) <= TILT_TOLERANCE_DEGREES)


def oddities(stack: Stack) -> list[str]:
    """What is odd about the geometry of a stack, for the report.

    Raises
    ------
    InputError
        When so many slices are missing that what lies between cannot be known.
    """
    along = np.unique(np.round(stack.along, 2))
    gaps, usual = np.diff(along), usual_gap(stack)
    if gaps.max() > max(LARGEST_GAP_MM, 1.5 * usual):
        raise InputError(
            f"DICOM slices are missing: {gaps.max():.1f} mm lie between two of them where {usual:.2f} mm are usual; "
            "add the missing slices."
        )
    found = []
    if tilt_degrees(stack) > TILT_TOLERANCE_DEGREES:
        found.append(f"The gantry was tilted by {tilt_degrees(stack):.1f} degrees; the slices stay as they are.")
    if len(along) < len(stack.slices):
        found.append(f"{len(stack.slices) - len(along)} slices lie at the place of another one.")
    if np.abs(gaps - usual).max() > max(PLACE_TOLERANCE_MM, PLACE_TOLERANCE * usual):
        found.append(f"The slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart; some may be missing.")
    return found


def check_regular(stack: Stack) -> None:
    """Refuse a stack that does not lie on a regular grid, which is all that a volume file can hold (InputError)."""
    if is_regular(stack):
        return
    gaps, usual = np.diff(stack.along), usual_gap(stack)
    if gaps.min() < 0.01:
        doubles = int((gaps < 0.01).sum())
        raise InputError(f"{doubles} of the {len(gaps) + 1} DICOM slices lie at the place of another one; {AS_DICOM}.")
    if tilt_degrees(stack) > TILT_TOLERANCE_DEGREES:
        raise InputError(
            f"The gantry was tilted by {tilt_degrees(stack):.1f} degrees, so that the slices do not stack into a "
            f"straight volume; {AS_DICOM}."
        )
    multiples = gaps / usual
    if np.abs(multiples - multiples.round()).max() < 0.2 and multiples.max() > 1.5:
        after = int(multiples.argmax())
        raise InputError(
            f"DICOM slices are missing: {gaps[after]:.2f} mm lie between slices {after + 1} and {after + 2} of "
            f"{len(gaps) + 1} where {usual:.2f} mm are usual; add the missing slices, or {AS_DICOM}."
        )
    raise InputError(
        f"The DICOM slices are unevenly spaced (from {gaps.min():.2f} to {gaps.max():.2f} mm); {AS_DICOM}."
    )


def on_regular_grid(stack: Stack, image: sitk.Image) -> sitk.Image:
    """A regular volume (float32, HU) interpolated from the slices of a tilted or uneven stack.

    Parameters
    ----------
    stack: Stack
    image: SimpleITK.Image
        Its voxels, from :func:`read_stack`.
    """
    hu = sitk.GetArrayViewFromImage(image)
    along, shifts = stack.along, _shifts(stack)
    low, high = np.floor(shifts.min(axis=0)).astype(int), np.ceil(shifts.max(axis=0)).astype(int)
    columns, rows = stack.size + high - low
    heights = np.arange(round((along[-1] - along[0]) / usual_gap(stack)) + 1) * usual_gap(stack) + along[0]
    volume = np.full((len(heights), rows, columns), BLANK_HU, np.float32)
    straight: dict[int, np.ndarray] = {}
    for plane, parts in zip(volume, map(lambda height: _neighbours(along, height), heights)):
        for index in [index for index in straight if index not in [i for i, _ in parts]]:
            del straight[index]
        for index, _ in parts:
            if index not in straight:
                wide = np.full(plane.shape, BLANK_HU, np.float32)
                wide[-low[1] :, -low[0] :][: stack.size[1], : stack.size[0]] = hu[index]
                straight[index] = _shifted(wide, shifts[index], BLANK_HU)
        plane[:] = sum(np.float32(weight) * straight[index] for index, weight in parts)
    grid = sitk.GetImageFromArray(volume)
    grid.SetSpacing([*stack.spacing, usual_gap(stack)])
    grid.SetOrigin((stack.positions[0] + (low * stack.spacing) @ stack.axes[:2]).tolist())
    grid.SetDirection(stack.axes.T.ravel().tolist())
    return grid


def slice_images(stack: Stack) -> Iterator[sitk.Image]:
    """An empty image in the true place of each slice."""
    for piece in stack.slices:
        place = sitk.Image([*stack.size, 1], sitk.sitkUInt8)
        place.SetSpacing([*stack.spacing, 1.0])
        place.SetOrigin(piece.position)
        place.SetDirection(stack.axes.T.ravel().tolist())
        yield place


def to_slices(mask: sitk.Image, stack: Stack) -> np.ndarray:
    """A mask on any grid, as bool on the slices of a stack: where it fills half of a voxel or more."""
    return on_slices(sitk.Cast(mask, sitk.sitkFloat32), stack) >= 0.5


def on_slices(image: sitk.Image, stack: Stack) -> np.ndarray:
    """Values of an image on any grid on the slices of a stack, linear, 0 beyond it."""
    planes = [
        sitk.GetArrayFromImage(sitk.Resample(image, place, sitk.Transform(), sitk.sitkLinear, 0.0))[0]
        for place in slice_images(stack)
    ]
    return np.array(planes)


def _shifts(stack: Stack) -> np.ndarray:
    """How far each slice lies to the side of the first one, in voxels along columns' and rows' index."""
    aside = stack.positions - stack.positions[0]
    return aside @ stack.axes[:2].T / stack.spacing


def _neighbours(along: np.ndarray, height: float) -> list[tuple[int, float]]:
    """The slices on both sides of a height and their weights; one of them where several lie at one place."""
    above = int(np.clip(np.searchsorted(along, height), 0, len(along) - 1))
    if abs(along[above] - height) < 0.01 or above == 0:
        return [(above, 1.0)]
    below = int(np.searchsorted(along, along[above - 1] - 0.01))  # the first of those at that place
    weight = min(max((along[above] - height) / (along[above] - along[below]), 0.0), 1.0)
    return [(below, weight), (above, 1.0 - weight)]


def _shifted(plane: np.ndarray, shift: np.ndarray, outside: float) -> np.ndarray:
    """A plane moved by voxels along (columns' index, rows' index)."""
    if np.abs(shift).max() < 1e-3:
        return plane
    from scipy import ndimage  # here, since few stacks are tilted and it takes long to import

    return ndimage.shift(plane, shift[::-1], order=1, cval=outside)
