"""What is remembered between evaluations: the subjects of one scan in a JSON file, a cohort's volumes in a folder.

Either is of use for the same voxels, settings and version only, and whatever cannot be read is found anew.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.errors import CTDefaceError
from CTDefaceLib.files import replaced, write_whole
from CTDefaceLib.version import __version__

from .findings import Face, Scale, Sighting, Subject, VolumeFaces
from .settings import Settings


class SubjectMemory:
    """The subjects of an evaluation, so that an interrupted one, or one with other attacks, goes on from them.

    Parameters
    ----------
    path: path or None
        The file; without one nothing is remembered.
    images: sequence of sitk.Image
        The volumes that are evaluated.
    settings: Settings

    Attributes
    ----------
    scale: Scale or None
        Of similarity against the synthetic heads.
    """

    def __init__(self, path: str | os.PathLike | None, images: Sequence[sitk.Image], settings: Settings) -> None:
        self._path = Path(path) if path else None
        self._subjects: dict[str, dict[str, Any]] = {}
        self.scale: Scale | None = None
        if self._path is None:
            return
        made_with = {**asdict(settings), "attacks": None}  # what was found in one subject does not depend on the others
        digest = hashlib.sha256(json.dumps([__version__, made_with]).encode())
        for image in images:
            digest.update(np.ascontiguousarray(sitk.GetArrayViewFromImage(image)).data)
        self._key = digest.hexdigest()
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            if stored["key"] == self._key:
                self._subjects = stored["subjects"]
                self.scale = stored["scale"] and Scale(**stored["scale"])
        except (OSError, ValueError, KeyError, TypeError):
            pass

    def recall(self, name: str) -> Subject | None:
        """The subject of a name, if it is remembered."""
        stored = self._subjects.get(name)
        if stored is None:
            return None
        pictures = [base64.b64decode(picture) for picture in stored["pictures"]]
        sightings = [_sighting(row) for row in stored["sightings"]]
        return Subject(stored["name"], stored["kind"], stored["region_ml"], sightings, pictures)

    def keep(self, subject: Subject) -> None:
        """Remember a subject."""
        if self._path is None:
            return
        self._subjects[subject.name] = {
            "name": subject.name,
            "kind": subject.kind,
            "region_ml": subject.region_ml,
            "pictures": [base64.b64encode(picture).decode() for picture in subject.pictures],
            "sightings": [_row(sighting) for sighting in subject.sightings],
        }
        self._write()

    def keep_scale(self, scale: Scale | None) -> None:
        """Remember the scale of similarity; None for one against other heads than the synthetic ones."""
        self.scale = scale
        self._write()

    def forget(self) -> None:
        """Remove the file."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        if self._path is None:
            return
        stored = {"key": self._key, "subjects": self._subjects, "scale": self.scale and asdict(self.scale)}
        write_whole(self._path, json.dumps(stored), private=True)


def _row(sighting: Sighting) -> list:
    face = sighting.face
    landmarks = None if face is None or face.landmarks is None else np.asarray(face.landmarks).tolist()
    embedding = None if sighting.embedding is None else sighting.embedding.tolist()
    return [sighting.model, *sighting.view, face and [face.box, face.score, landmarks], embedding]


def _sighting(row: list) -> Sighting:
    model, yaw, pitch, light, face, embedding = row
    if face is not None:
        (left, top, right, bottom), score, landmarks = face
        points = None if landmarks is None else np.array(landmarks, dtype=np.float32)
        face = Face((left, top, right, bottom), score, points)
    vector = None if embedding is None else np.array(embedding, dtype=np.float32)
    return Sighting(model, yaw, pitch, light, face, vector)


class VolumeMemory:
    """What was found in a cohort's volumes, one file each, by their content and everything that matters.

    Parameters
    ----------
    folder: Path
        Made when missing; CTDefaceError when it cannot be.
    made_with: sequence
        What the pictures were made and searched with, ready for JSON.
    """

    def __init__(self, folder: Path, made_with: Sequence) -> None:
        self._folder, self._made_with = folder, json.dumps([__version__, *made_with])
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CTDefaceError(f"The folder for the cache cannot be made: {error.strerror}.") from error

    def key(self, *paths: Path, attack: str = "") -> str:
        """What the faces of a volume, or of what an attack makes of it, are kept under, with all they depend on."""
        content = [file_digest(path) for path in paths]
        made_with = [self._made_with, content, *([attack] if attack else [])]
        return hashlib.sha256(json.dumps(made_with).encode()).hexdigest()[:32]

    def recall(self, key: str) -> VolumeFaces | None:
        """The faces under a key, if they are remembered."""
        kept = self.recall_arrays(key, [member.name for member in fields(VolumeFaces)])
        return None if kept is None else VolumeFaces(**{**kept, "views": int(kept["views"])})

    def keep(self, key: str, faces: VolumeFaces) -> None:
        """Remember the faces of a volume."""
        self.keep_arrays(key, vars(faces))

    def recall_arrays(self, key: str, names: Iterable[str]) -> dict[str, Any] | None:
        """The arrays of these names under a key, if all are remembered."""
        try:
            with np.load(self._folder / f"{key}.npz", allow_pickle=False) as kept:
                return {name: kept[name] for name in names}
        except (OSError, ValueError, KeyError, EOFError):
            return None

    def keep_arrays(self, key: str, arrays: Mapping[str, Any]) -> None:
        """Remember arrays of a volume."""
        file = self._folder / f"{key}.npz"
        with replaced(file, private=True) as part, open(part, "wb") as stream:
            np.savez_compressed(stream, **arrays)

    def recall_numbers(self, key: str) -> dict[str, Any] | None:
        """The numbers, or lists of them, under a key, if they are remembered."""
        try:
            kept = json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return kept if isinstance(kept, dict) else None

    def keep_numbers(self, key: str, numbers: Mapping[str, Any]) -> None:
        """Remember named numbers of a volume, or lists of them."""
        write_whole(self._folder / f"{key}.json", json.dumps(numbers), private=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, or of all files in a folder."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with open(file, "rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
