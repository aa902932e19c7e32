"""What is looked at while a scan of a batch is done: pictures for the gallery, and whether a face is still found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..anatomy.grids import values_at
from ..anatomy.hounsfield import OUTSIDE_HU
from ..audits import audited
from ..pipeline import DefaceResult
from ..removal.surface import Surface
from ..study.apply import CT
from .job import Job

ABOVE_MM, BELOW_MM = 20.0, -5.0
"""Where air and soft tissue are looked up in another modality than CT, in mm from the skin. A choice."""


def look_at(job: Job, modality: str, audits: list[dict]) -> Callable[[sitk.Image, DefaceResult], None]:
    """What makes the pictures and the audit of a scan, where its job asks for them.

    Parameters
    ----------
    job: Job
    modality: str
        As in DICOM; the values of others than CT are shown as those of one.
    audits: list of dict
        Gets what the audit finds, see :func:`CTDefaceLib.audits.audited`.

    Returns
    -------
    callable
        Takes a volume and what its defacing made of it.
    """

    def look(image: sitk.Image, result: DefaceResult) -> None:
        if not (job.pictures or job.audit):
            return
        if modality != CT:
            image, result = _like_ct(image, result)
        if job.pictures:
            from .gallery_pictures import write_pictures

            write_pictures(image, result, Path(job.pictures), str(job.scan), job.originals)
        if job.audit:
            audits.append(audited(job.audit, image, result.image))

    return look


def look_away(image: sitk.Image, result: DefaceResult) -> None:
    """As what :func:`look_at` returns, for a scan that has its result already: nothing is made."""


def _like_ct(image: sitk.Image, result: DefaceResult) -> tuple[sitk.Image, DefaceResult]:
    """Another modality with about the values of a CT, for whoever looks at skin: air at -1000 HU, tissue at 40."""
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
