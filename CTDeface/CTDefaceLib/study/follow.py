"""What defaces the volumes of a study: the face is found in one of them, and its new skin laid on the others.

Both are called as :func:`.pipeline.deface` is, so that whoever reads and writes volumes needs not know which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import SimpleITK as sitk

from ..anatomy.face_map import Cylinder
from ..parameters import DefaceParameters
from ..pipeline import DefaceResult, deface
from ..removal.keep import Structure
from .apply import CT, Face, apply
from .register import Pose, find_pose


class Lead:
    """Defaces the CT that the face is found in.

    Parameters
    ----------
    secret, patient, kept
        As of :func:`.pipeline.deface`.
    how: callable
        What defaces it: :func:`.pipeline.deface`, or the same with more that it is told.
    cylinder: Cylinder, optional
        Where the head lies in the first of its volumes, where that is known.

    Attributes
    ----------
    face: Face or None
        What was found and made; of several volumes, in the first.
    """

    def __init__(
        self,
        secret: bytes | None = None,
        patient: str = "",
        kept: Sequence[Structure] = (),
        how: Callable[..., DefaceResult] = deface,
        cylinder: Cylinder | None = None,
    ):
        self.face: Face | None = None
        self._cylinder = cylinder
        self._secret, self._patient, self._kept, self._how = secret, patient, kept, how

    def __call__(self, image: sitk.Image, parameters: DefaceParameters, **more: Any) -> DefaceResult:
        """Deface a volume."""
        if self._cylinder is not None:
            more["cylinder"], self._cylinder = self._cylinder, None
        result = self._how(
            image, parameters, kept=self._kept, secret=self._secret, patient=self._patient, **more
        )  # fmt: skip
        self.face = self.face or Face(image, result, parameters, self._secret, self._patient).for_others()
        return result

    def again(self, image: sitk.Image, parameters: DefaceParameters) -> DefaceResult:
        """Deface another time point of the same scan."""
        assert self.face is not None, "the first one comes first"
        return apply(replace(self.face, parameters=parameters), image)


class Follow:
    """Lays the new skin on another image of the same head.

    Parameters
    ----------
    face: Face
        What was found in the CT.
    modality: str
        As in DICOM: CT, MR, PT, …
    at_rest: bool
        Whether it says that it lies in the frame of reference of that CT.
    trusted: bool
        Whether that is taken at its word, as of the scanner's own frame of a PET/CT.
    kept: sequence of Structure
        What must stay in this image alone.
    before: Pose, optional
        Where the head was found to lie in it already.
    is_known: bool
        Whether the head was looked for in the first of its volumes already.

    Attributes
    ----------
    pose: Pose or None
        Where the head was found to lie last; None where that is where it lies in the CT.
    """

    def __init__(
        self,
        face: Face,
        modality: str = CT,
        at_rest: bool = True,
        *,
        trusted: bool = False,
        kept: Sequence[Structure] = (),
        before: Pose | None = None,
        is_known: bool = False,
    ):
        self._is_known = is_known
        self._face, self._modality, self._at_rest, self._trusted = face, modality, at_rest, trusted
        self._kept, self.pose = kept, before

    def find(self, image: sitk.Image) -> None:
        """Find where the head lies in a volume (InputError where it cannot be found)."""
        if self._is_known:
            self._is_known = False
        elif not (self._trusted and self._at_rest):
            self.pose = find_pose(self._face.result.surface, image, self._modality, self._at_rest, self.pose)

    def __call__(self, image: sitk.Image, parameters: DefaceParameters, **more: Any) -> DefaceResult:
        """Find where the head lies in a volume, and deface it there."""
        self.find(image)
        return self.again(image, parameters, **more)

    def again(self, image: sitk.Image, parameters: DefaceParameters, **more: Any) -> DefaceResult:
        """Deface another time point, where the head lay in the last one."""
        face = replace(self._face, parameters=parameters)
        return apply(face, image, self._modality, self.pose, kept=self._kept, **more)
