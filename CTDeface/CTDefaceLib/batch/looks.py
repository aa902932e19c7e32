"""What is looked at while a scan of a batch is done: pictures for the gallery, and whether a face is still found."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from ..dicom.defaced_stack import Look
from ..pipeline import DefaceResult
from ..study.audit import auditing, like_ct
from .job import Job


def look_at(job: Job, modality: str) -> Look:
    """Make the pictures and the audit of what becomes of a scan; the latter goes into its report."""
    audit = auditing(job.audit, modality)

    def look(image: sitk.Image, result: DefaceResult) -> None:
        if job.pictures:
            from .gallery_pictures import write_pictures

            write_pictures(*like_ct(image, result, modality), Path(job.pictures), str(job.scan), job.originals)
        audit(image, result)

    return look
