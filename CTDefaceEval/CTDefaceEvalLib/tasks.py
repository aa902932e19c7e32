"""What CTDefaceEval asks of its background process; see :mod:`CTDefaceLib.tasks`.

Face models are named by ``model``, a key of :data:`.face_models.MODELS`, and ``folder``, where the models of
insightface are, or None.
"""

from __future__ import annotations

from dataclasses import dataclass

from CTDefaceLib.tasks import Volume


@dataclass(frozen=True)
class MakeSkin:
    """Make the skin surfaces of the volume of the job and, where given, of its ``defaced`` version.

    The result is a .npz file with ``"original points"`` and so on, as :func:`.worker.surface_arrays` has them; the
    report the pose of the head, ``axes`` and ``center``, and the names of the ``surfaces``.
    """

    defaced: Volume | None = None


@dataclass(frozen=True)
class Score:
    """Look for a face in pictures of "original", "defaced" and "recovered" head that show the same view.

    The report has the ``faces``, in pixels of the pictures, the ``sizes`` of these, and ``similarities`` of the others
    to the original where they were asked for and that shows a face.

    Attributes
    ----------
    pictures: dict
        Name of a head → .npy file, which the worker removes, with the picture, (n, n, 3) uint8, or with yaw and pitch
        to take it of the surfaces that :class:`MakeSkin` made last.
    embed: bool
        Whether similarities are asked for.
    """

    pictures: dict[str, str]
    model: str
    folder: str | None
    embed: bool = False


@dataclass(frozen=True)
class MeasureScale:
    """Find out what similar means for the volume of the job; the report has the members of ``findings.Scale``."""

    model: str
    folder: str | None


@dataclass(frozen=True)
class Evaluate:
    """Evaluate the volume of the job, and attack its ``defaced`` version where there is one.

    As soon as the defaced volume or a recovery was searched, an event tells the ``subject``, its ``likeness`` (or None)
    and whether it ``gives_away`` the person. The result is a pickled dict with the ``evaluation`` and, as
    ``recovered``, the skin that gives most of the face back; the report has the name of the attack that does, as
    ``recovered``.

    Attributes
    ----------
    models, attacks: list of str
        Keys of :data:`.face_models.MODELS` and :data:`.attacks.ATTACKS`.
    views: str
        Key of :data:`.views.PRESETS`.
    """

    models: list[str]
    folder: str | None
    views: str
    attacks: list[str]
    defaced: Volume | None = None


@dataclass(frozen=True)
class EvaluateCohort:
    """Evaluate many volume files; the result is a pickled :class:`.findings.Cohort`.

    Attributes
    ----------
    rows: list of dict
        Members of :class:`.cohort_table.Row`, with paths as text, an empty one where there are no labels.
    cache: str
        Folder that keeps what was seen of each volume.
    views: str
        Key of :data:`.views.PRESETS`.
    preservation, linkage: bool
        Whether it is measured, too, what each defacing costs, and whether the scans can be linked all the same.
    """

    rows: list[dict[str, str]]
    cache: str
    model: str
    folder: str | None
    views: str
    preservation: bool = False
    linkage: bool = False


@dataclass(frozen=True)
class ListModels:
    """Find out which face models are there; the report has them as ``models``."""

    folder: str | None


@dataclass(frozen=True)
class DownloadModels:
    """Fetch the pack of face models."""
