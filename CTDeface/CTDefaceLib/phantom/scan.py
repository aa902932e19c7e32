"""The scan of a synthetic person with its ground truth."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .parameters import PhantomParameters
from .patient import Patient
from .scanner import Scanner
from .tissues import Label, Slab

_VOXELS_AT_ONCE = 1_500_000
"""Voxels that are painted at once: a few hundred MB. Changes no value."""

_SLABS_AT_ONCE = 4
"""How many slabs of a part of a head are painted at once, by a thread each; they hold a third of that many voxels."""

_LAYER_MM = 1.25
"""Thickness in mm of the layers of which a slice is averaged, at most. Chosen by eye."""


@dataclass(frozen=True)
class Phantom:
    """A synthetic scan.

    Attributes
    ----------
    image: SimpleITK.Image
        int16 HU, LPS axes.
    labels: SimpleITK.Image
        uint8 :class:`.tissues.Label` on the same grid, by the voxel's centre.
    landmarks: dict
        Points in LPS mm: nasion, nose_tip, upper_lip, chin, left_tragus, right_tragus, left_eye, right_eye, vertex,
        occiput; also those outside the field of view.
    axes: numpy.ndarray
        3×3, rows are unit vectors in LPS towards the head's left, back and top.
    parameters: PhantomParameters
        What it was made from.
    """

    image: sitk.Image
    labels: sitk.Image
    landmarks: dict[str, tuple[float, float, float]]
    axes: np.ndarray
    parameters: PhantomParameters

    def mask(self, *labels: Label) -> sitk.Image:
        """Voxels with any of the labels, uint8 0 or 1."""
        array = np.isin(sitk.GetArrayViewFromImage(self.labels), [int(label) for label in labels])
        out = sitk.GetImageFromArray(array.astype(np.uint8))
        out.CopyInformation(self.labels)
        return out

    @property
    def intracranial(self) -> sitk.Image:
        """The space inside the skull, uint8 0 or 1."""
        return self.mask(Label.INTRACRANIAL)

    @property
    def face_skin(self) -> sitk.Image:
        """The skin of the face, uint8 0 or 1."""
        return self.mask(Label.FACE_SKIN)


def make_phantom(parameters: PhantomParameters | None = None) -> Phantom:
    """Make a synthetic head CT; the same parameters always give the same voxels.

    Parameters
    ----------
    parameters: PhantomParameters, optional
        Person, pose, field of view, grid, artefacts; a frontal adult head when None.

    Returns
    -------
    Phantom
        The volume and its ground truth.
    """
    p = parameters or PhantomParameters()
    patient = Patient(p)
    scanner = Scanner(p, patient)
    bottom, top = patient.extent()
    (nx, ny), (sx, sy, sz) = p.matrix, p.spacing
    nz = max(2, round((top - bottom) / sz))
    origin = np.array([-(nx - 1) / 2 * sx, -(ny - 1) / 2 * sy, bottom + sz / 2])
    thickness = p.thickness or sz
    layers = int(np.ceil(thickness / _LAYER_MM)) // 2 * 2 + 1
    offsets = (np.arange(layers) - layers // 2) * (thickness / layers)

    image = np.empty((nz, ny, nx), np.int16)
    labels = np.empty((nz, ny, nx), np.uint8)
    slices_at_once = max(1, _VOXELS_AT_ONCE // (nx * ny * layers))
    for first in range(0, nz, slices_at_once):
        numbers = range(first, min(nz, first + slices_at_once))
        zs = origin[2] + np.array(numbers) * sz
        slab = Slab(p, patient, origin, (zs[:, None] + offsets).ravel())
        slab.paint()
        layered = (len(numbers), layers, ny, nx)
        hu, skin = slab.hu.reshape(layered).mean(1), slab.skin.reshape(layered)[:, layers // 2]
        image[numbers.start : numbers.stop] = scanner.acquire(hu, skin, numbers, zs)
        labels[numbers.start : numbers.stop] = slab.labels.reshape(layered)[:, layers // 2]
    if p.padding is not None:
        labels[:, scanner.outside] = Label.AIR

    landmarks = {name: (float(x), float(y), float(z)) for name, (x, y, z) in patient.landmarks.items()}
    return Phantom(_image(image, p, origin), _image(labels, p, origin), landmarks, patient.rotation.T, p)


def paint_part(patient: Patient, low: np.ndarray, high: np.ndarray, spacing: float, blur: float) -> sitk.Image:
    """Paint the tissues in a part of a head, as a scan without noise, holder and devices would show them.

    Parameters
    ----------
    patient: Patient
        The person in a pose.
    low, high: numpy.ndarray
        Corners of the part in LPS mm, shape (3,).
    spacing: float
        Distance of the voxels in mm along all axes.
    blur: float
        Point spread, standard deviation in mm.

    Returns
    -------
    SimpleITK.Image
        Hounsfield units, float32.
    """
    nx, ny, nz = (int(n) for n in np.ceil((high - low) / spacing).astype(int) + 1)
    p = PhantomParameters(matrix=(nx, ny), spacing=(spacing,) * 3, blur=blur, holder=False)
    zs = low[2] + np.arange(nz) * spacing
    at_once = max(1, _VOXELS_AT_ONCE // (3 * nx * ny))
    hu = np.empty((nz, ny, nx), np.float32)

    def paint(first: int) -> None:
        slab = Slab(p, patient, low, zs[first : first + at_once])
        slab.paint()
        hu[first : first + at_once] = slab.hu

    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()  # one in a batch that fills all processors
    with ThreadPoolExecutor(min(threads, _SLABS_AT_ONCE)) as pool:
        list(pool.map(paint, range(0, nz, at_once)))
    return _image(hu, p, low)


def _image(array: np.ndarray, p: PhantomParameters, origin: np.ndarray) -> sitk.Image:
    out = sitk.GetImageFromArray(array)
    out.SetSpacing([float(v) for v in p.spacing])
    out.SetOrigin([float(v) for v in origin])
    return out
