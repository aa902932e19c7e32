"""What is looked at while a scan of a batch is done: pictures for the gallery, and whether a face is still found."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from ..dicom.defaced_stack import Look
from ..pipeline import DefaceResult
from ..study.audit import auditing, like_ct
from .job import Job


def look_at(job: Job, modality: str) -> Look:
    """What makes the pictures and the audit of a scan, where its job asks for them.

    Parameters
    ----------
    job: Job
    modality: str
        As in DICOM; the values of others than CT are shown as those of one.

    Returns
    -------
    callable
        Takes a volume and what its defacing made of it; what the audit finds goes into the report of the latter.
    """
    audit = auditing(job.audit, modality)

    def look(image: sitk.Image, result: DefaceResult) -> None:
        if job.pictures:
            from .gallery_pictures import write_pictures

            write_pictures(*like_ct(image, result, modality), Path(job.pictures), str(job.scan), job.originals)
        audit(image, result)

    return look
