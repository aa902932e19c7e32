"""What travels with a defaced volume and gives the face away: a mask, a thumbnail, another series in its folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.anatomy.hounsfield import BLANK_HU, HALFWAY_HU, TISSUE_HU
from CTDefaceLib.dicom.tree import tree_of
from CTDefaceLib.dicom.volume import read_volume
from CTDefaceLib.errors import CTDefaceError
from CTDefaceLib.volume_io import IMAGE_IO, read_stored

from .attacks import FILLED_HU, Recovery, joined
from .face_models import FaceModel

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif")
"""Endings of the files that are taken for pictures."""
# What is marked (*) was set by judgement with the first version; no other value is on record.
MOST_LABELS = 300
"""A volume with a larger value than this is no mask; TotalSegmentator has some 120 labels. (*)"""
PICTURE_PIXELS = 400
"""Longer side that pictures are shown to detectors at, pixels: the detectors find faces from 60 to 80 pixels on. (*)"""
SMALLEST_PICTURE = 20
"""Shorter side in pixels below which a picture holds no face. (*)"""
SAME_PATIENT = 0.5
"""Correlation of the tissue from which on another CT in the same place is one of the same patient. (*) The tissue of
two people in the same pose correlates by up to 0.7, so that the place is what decides."""
LOWEST_HU = -2000.0
"""Below this lies what is not covered, or padding. (*)"""
LEAST_TISSUE = 100
"""So many voxels of both, on a grid of some 64 voxels a side, have to be tissue for a comparison. (*)"""


def volumes_beside(defaced_path: str | os.PathLike, defaced: sitk.Image, ignore: Sequence = ()) -> Iterator[Recovery]:
    """Volumes in the folder of a defaced one, as recoveries to search.

    A mask on the same grid is joined with the tissue left; another CT of the same patient in the same place (a volume
    file or a DICOM series in a folder) is searched as it is, and all of them joined with this one, since each may show
    what another lacks. `ignore` names paths that stay here, such as the original. What cannot be read is passed over.
    File names may name the patient, so that none goes into the result.
    """
    masks, scans = 0, []
    for path in _neighbours(Path(defaced_path), ignore):
        for image in _volumes(path):
            if _is_mask(image):
                if image.GetSize() != defaced.GetSize():
                    continue
                masks += 1
                yield _joined(defaced, image, f"mask beside it {masks}")
            elif _same_patient(defaced, image):
                scans.append(image)
                yield Recovery(f"another scan beside it {len(scans)}", "another scan beside it", image)
    if scans:
        yield from joined(defaced, scans)


def pictures_beside(defaced_path: str | os.PathLike, models: Sequence[FaceModel], ignore: Sequence = ()) -> list[str]:
    """One sentence for each picture in the folder of a defaced volume in which a model finds a face."""
    findings = []
    for path in _neighbours(Path(defaced_path), ignore):
        if path.suffix.lower() not in PICTURES:
            continue
        picture = read_picture(path)
        if picture is None:
            continue
        names = [model.name for model in models if model.detect(picture)]
        if names:
            findings.append(f"A picture ({path.suffix.lower()}) beside it shows a face, found by {', '.join(names)}.")
    return findings


def _neighbours(path: Path, ignore: Sequence) -> Iterator[Path]:
    """What lies in the folder of a volume, and in the volume's own where it is a DICOM series."""
    path = path.resolve()
    ignored = {Path(other).resolve() for other in ignore} | {path}
    for neighbour in sorted([*path.parent.iterdir(), *(path.iterdir() if path.is_dir() else ())]):
        if neighbour.resolve() not in ignored:
            yield neighbour


def _volumes(path: Path) -> Iterator[sitk.Image]:
    """The volume of a file, or the CT series in a folder."""
    with contextlib.suppress(CTDefaceError, OSError, RuntimeError):
        if path.is_dir():
            tree = tree_of([str(file) for file in sorted(path.iterdir()) if file.is_file()])
            for series in tree.series:
                with contextlib.suppress(CTDefaceError, OSError, RuntimeError):
                    yield read_volume(tree, series.uid).image
        elif path.name.lower().endswith(tuple(IMAGE_IO)):
            image = read_stored(path, form="sform", orientation="RAS")
            if image.GetDimension() == 3 and image.GetNumberOfComponentsPerPixel() == 1:
                yield image


def _is_mask(image: sitk.Image) -> bool:
    values = sitk.GetArrayViewFromImage(image)
    low, high = float(values.min()), float(values.max())
    return low >= 0 and low < high <= MOST_LABELS and not np.any(values % 1)


def _same_patient(defaced: sitk.Image, image: sitk.Image) -> bool:
    """Whether a volume is a CT whose tissue lies where the defaced one's does."""
    shrunk = sitk.Shrink(defaced, [max(1, n // 64) for n in defaced.GetSize()])
    a = sitk.GetArrayFromImage(shrunk).ravel().astype(float)
    b = sitk.GetArrayFromImage(sitk.Resample(image, shrunk, sitk.Transform(), sitk.sitkLinear, BLANK_HU)).ravel()
    body = (a > TISSUE_HU) & (b > TISSUE_HU)
    if b.max() <= HALFWAY_HU or b[b > LOWEST_HU].min() > HALFWAY_HU or np.count_nonzero(body) < LEAST_TISSUE:
        return False
    return bool(np.corrcoef(a[body], b[body].astype(float))[0, 1] > SAME_PATIENT)


def _joined(defaced: sitk.Image, mask: sitk.Image, name: str) -> Recovery:
    marked = sitk.GetArrayViewFromImage(mask) > 0
    values = np.where(marked, np.float32(FILLED_HU), sitk.GetArrayViewFromImage(defaced).astype(np.float32))
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(defaced)
    return Recovery(
        name, "mask beside it", image, TISSUE_HU, float(marked.sum()) * float(np.prod(mask.GetSpacing())) / 1e3
    )


def read_picture(path: Path) -> np.ndarray | None:
    """A picture as detectors are shown it, (rows, columns, 3) uint8; None of what is no picture or too small a one."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        return None
    pixels = np.atleast_3d(np.squeeze(sitk.GetArrayFromImage(image)))
    if pixels.ndim != 3 or min(pixels.shape[:2]) < SMALLEST_PICTURE:
        return None
    pixels = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1].repeat(3, axis=2)
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels - low) / max(high - low, 1e-6) * 255).astype(np.uint8)
    zoom = PICTURE_PIXELS / max(pixels.shape[:2])
    rows, columns = (max(1, int(n * zoom)) for n in pixels.shape[:2])
    picked = np.ix_(
        np.minimum((np.arange(rows) / zoom).astype(int), pixels.shape[0] - 1),
        np.minimum((np.arange(columns) / zoom).astype(int), pixels.shape[1] - 1),
    )
    return np.ascontiguousarray(pixels[picked])
