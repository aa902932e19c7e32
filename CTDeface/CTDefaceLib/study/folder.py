"""Deface what lies below a DICOM folder: one series, or all series of a patient with one new skin."""

from __future__ import annotations

import os
from typing import Any

from ..audits import check_audit
from ..dicom.deface import deface_series
from ..parameters import DefaceParameters
from ..progress import Progress, silent
from .apply import CT
from .audit import auditing
from .deface import deface_study, read_study


def deface_folder(
    source: str | os.PathLike,
    output: str | os.PathLike,
    parameters: DefaceParameters | None = None,
    *,
    series: str = "",
    audit: str = "",
    progress: Progress = silent,
    **choices: Any,
) -> dict[str, Any]:
    """Deface a study where the folder holds several series and none of them is named, else the one series.

    Parameters
    ----------
    source, output, parameters, series
        As in :func:`.dicom.deface.deface_series`.
    audit: str
        As in :func:`.deface.deface_study`.
    choices
        Its further ones, which are those of :func:`.deface.deface_study` as well.

    Returns
    -------
    dict
        The report of whichever of the two did it; that of a study has ``series`` and ``refused``.

    Raises
    ------
    InputError, NoFaceError, FaceLeftError, OutputError
        As they do.
    """
    tree = None if series else read_study(source, progress)
    if tree and len(tree.series) > 1:
        return deface_study(tree, output, parameters, audit=audit, **choices, progress=progress)
    if audit:
        check_audit(audit)
    if tree and [one.modality for one in tree.series] != [CT]:
        tree = None  # it is read anew, as what takes CT alone reads it
    look = auditing(audit)
    return deface_series(source, output, parameters, series=series, tree=tree, look=look, **choices, progress=progress)
