"""Whether the face is still found in what became of an image of a study; what is found goes into its report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from ..anatomy.grids import values_at
from ..anatomy.hounsfield import OUTSIDE_HU
from ..audits import audited
from ..dicom.defaced_stack import Look
from ..pipeline import DefaceResult
from ..removal.surface import Surface
from .apply import CT

ABOVE_MM, BELOW_MM = 20.0, -5.0
"""Where air and soft tissue are looked up in another modality than CT, in mm from the skin. A choice."""


def auditing(audit: str, modality: str = CT) -> Look:
    """What puts the audit ``"module:function"`` of an image and its result into its report; nothing without a name."""

    def look(image: sitk.Image, result: DefaceResult) -> None:
        if audit:
            image, result = like_ct(image, result, modality)
            result.report["audit"] = audited(audit, image, result.image, result.bare)

    return look


def like_ct(image: sitk.Image, result: DefaceResult, modality: str) -> tuple[sitk.Image, DefaceResult]:
    """Another modality with about the values of a CT, for whoever looks at skin: air at -1000 HU, tissue at 40."""
    if modality == CT:
        return image, result
    air, tissue = (_usual(image, result.surface, mm) for mm in (ABOVE_MM, BELOW_MM))
    slope = 1040.0 / (tissue - air or 1.0)

    def shown(one: sitk.Image) -> sitk.Image:
        hu = (sitk.Cast(one, sitk.sitkFloat32) - air) * slope - 1000.0
        return sitk.Cast(sitk.Clamp(hu, lowerBound=-1024, upperBound=3000), sitk.sitkInt16)

    return shown(image), replace(result, image=shown(result.image))


def _usual(image: sitk.Image, surface: Surface, mm: float) -> float:
    """The usual value so far from the skin beside the face; 0 where that is out of view."""
    beside = surface.cylinder.skin_in_view & (surface.outline < 0.0)
    values = values_at(image, surface.cylinder.points(surface.skin + mm)[beside])
    values = values[values > OUTSIDE_HU]
    return float(np.median(values)) if len(values) else 0.0
