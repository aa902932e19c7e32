"""A synthetic head CT with its ground truth.

Stands in for a person's scan wherever one is needed and none may be used: `ctdeface demo`, sample data, tests. The head
is modelled by signed distances (`phantom_anatomy`), laid in a scanner (`phantom_patient`), painted tissue by tissue
with partial volume (`phantom_tissues`) and then scanned (`phantom_scanner`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .errors import InputError
from .phantom_patient import Patient
from .phantom_scanner import Scanner
from .phantom_tissues import Label, Slab

_VOXELS_AT_ONCE = 1_500_000

FIELDS_OF_VIEW = ("head", "upper_lip", "orbits", "no_vertex", "neck", "above_orbits")


@dataclass(frozen=True)
class PhantomParameters:
    """What to scan and how.

    Attributes:
        person: number of the person; the same number is the same head.
        seed: seed of the scan (noise, streaks), so that two scans of a person differ.
        child: a child's proportions.
        yaw, pitch, roll: pose in degrees; positive turns the face to the patient's left, lifts the chin, leans the top
            of the head to the patient's left. Made for -30 to 30.
        position: where the middle of the head lies in the field of view, (x, y) in mm from its middle, LPS.
        field_of_view: one of `FIELDS_OF_VIEW`: "head" vertex to chin; "upper_lip" and "orbits" vertex to there;
            "no_vertex" chin to forehead; "neck" vertex to shoulders; "above_orbits" has no face in view.
        matrix: columns and rows.
        spacing: column, row and slice spacing in mm.
        thickness: slice thickness in mm; the slice spacing when None.
        noise: standard deviation in HU at the middle of the head.
        blur: point spread, standard deviation in mm.
        holder: head holder with foam, and the couch below it.
        clip: lowest value stored, in HU.
        padding: value outside the circular field of view in HU, or None for none.
        jaw_open: mouth opening in degrees of jaw rotation, 0 to 20.
        metal: dental metal with streaks, 0 for none, 1 for strong.
        tube: a tube through the mouth into the windpipe.
        craniectomy: a piece of the calvaria is missing.
        contrast: enhanced vessels.
    """

    person: int = 0
    seed: int = 0
    child: bool = False
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    position: tuple[float, float] = (0.0, 0.0)
    field_of_view: str = "head"
    matrix: tuple[int, int] = (256, 256)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    thickness: float | None = None
    noise: float = 8.0
    blur: float = 0.5
    holder: bool = True
    clip: int = -1024
    padding: int | None = None
    jaw_open: float = 0.0
    metal: float = 0.0
    tube: bool = False
    craniectomy: bool = False
    contrast: bool = False

    def __post_init__(self):
        if self.field_of_view not in FIELDS_OF_VIEW:
            raise InputError(f"field_of_view is {self.field_of_view!r}; choose one of {', '.join(FIELDS_OF_VIEW)}.")
        if min(self.matrix) < 8 or min(self.spacing) <= 0:
            raise InputError("matrix must be at least 8 by 8 and spacing positive.")


@dataclass(frozen=True)
class Phantom:
    """A synthetic scan.

    Attributes:
        image: int16 HU, LPS axes.
        labels: uint8 `Label` on the same grid, by the voxel's centre.
        landmarks: points in LPS mm: nasion, nose_tip, upper_lip, chin, left_tragus, right_tragus, left_eye, right_eye,
            vertex, occiput; also those outside the field of view.
        axes: 3×3, rows are unit vectors in LPS towards the head's left, back and top.
        parameters: what it was made from.
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
        return self.mask(Label.INTRACRANIAL)

    @property
    def face_skin(self) -> sitk.Image:
        return self.mask(Label.FACE_SKIN)


def make_phantom(parameters: PhantomParameters | None = None) -> Phantom:
    """Make a synthetic head CT; the same parameters always give the same voxels.

    Args:
        parameters: person, pose, field of view, grid, artefacts; a frontal adult head when None.

    Returns:
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
    layers = int(np.ceil(thickness / 1.25)) // 2 * 2 + 1
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

    landmarks = {name: tuple(float(v) for v in point) for name, point in patient.landmarks.items()}
    return Phantom(_image(image, p, origin), _image(labels, p, origin), landmarks, patient.rotation.T, p)


def _image(array: np.ndarray, p: PhantomParameters, origin: np.ndarray) -> sitk.Image:
    out = sitk.GetImageFromArray(array)
    out.SetSpacing([float(v) for v in p.spacing])
    out.SetOrigin([float(v) for v in origin])
    return out
