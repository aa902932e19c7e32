"""Scans as an archive holds them, good ones and bad ones of every kind, and what a batch must make of them."""

from __future__ import annotations

import hashlib
import re
import shutil
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

import dicom_files
import numpy as np
import SimpleITK as sitk
from CTDefaceLib.batch.job import WORK_FOLDER, Job, Outcome
from CTDefaceLib.batch.status import FINISHED, Status
from CTDefaceLib.phantom import PhantomParameters
from stored_phantoms import stored_phantom

GOOD = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", "dicom")
COARSE = {"matrix": (80, 80), "spacing": (3.0, 3.0, 3.0)}


@cache
def head(field_of_view: str = "head") -> sitk.Image:
    return stored_phantom(PhantomParameters(field_of_view=field_of_view, **COARSE)).image


def another(number: int) -> sitk.Image:
    """The head with other noise, so that no two scans are the same."""
    noise = np.random.default_rng(number).integers(-3, 4, sitk.GetArrayViewFromImage(head()).shape)
    return like(np.clip(sitk.GetArrayFromImage(head()) + noise, -1024, 3000).astype(np.int16))


def like(array: np.ndarray, image: sitk.Image | None = None) -> sitk.Image:
    result = sitk.GetImageFromArray(array)
    result.CopyInformation(image or head())
    return result


def write(path: Path, image: sitk.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), path.suffix != ".nii")


def cut(path: Path, share: float = 0.4) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def _cut_volume(folder: Path, ending: str) -> Path:
    write(folder / f"cut{ending}", head())
    cut(folder / f"cut{ending}")
    return folder / f"cut{ending}"


def _file(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def _volume(folder: Path, name: str, image: sitk.Image) -> Path:
    write(folder / name, image)
    return folder / name


def _dicom(folder: Path, name: str, spoil=lambda files: None, **tags) -> Path:
    spoil(dicom_files.write_series(folder / name, head(), **tags))
    return folder / name


def _two_series(folder: Path) -> Path:
    for _ in range(2):
        files = dicom_files.write_series(folder / "part", head()[:, :, :3])
        for file in files:
            target = folder / "two series" / f"{len(list((folder / 'part').parent.rglob('*.dcm')))}-{file.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file, target)
    (folder / "part").rmdir()
    return folder / "two series"


def _values(change) -> sitk.Image:
    return like(change(sitk.GetArrayFromImage(head()).astype(np.float32)))


def _with_nan(hu: np.ndarray) -> np.ndarray:
    hu[5, 5, 5] = np.nan
    return hu


def _wide() -> sitk.Image:
    image = sitk.Image(head())
    image.SetSpacing((0.003, 0.003, 0.003))
    return image


#: kind → (how to write it into a folder, status, what its sentence says)
BAD = {
    "cut .nii.gz": (lambda f: _cut_volume(f, ".nii.gz"), Status.REFUSED, "truncated"),
    "cut .nii": (lambda f: _cut_volume(f, ".nii"), Status.REFUSED, "truncated"),
    "cut .nrrd": (lambda f: _cut_volume(f, ".nrrd"), Status.REFUSED, "truncated"),
    "cut .mha": (lambda f: _cut_volume(f, ".mha"), Status.REFUSED, "truncated"),
    "empty file": (lambda f: _file(f, "empty.nii.gz", b""), Status.REFUSED, "truncated"),
    "no volume": (lambda f: _file(f, "letter.nrrd", b"Dear colleague,"), Status.REFUSED, "truncated"),
    "header alone": (lambda f: _file(f, "alone.mhd", _header_alone()), Status.REFUSED, "truncated"),
    "no face in view": (lambda f: _volume(f, "high.nii.gz", head("above_orbits")), Status.NO_FACE, "No face"),
    "an MR by its values": (
        lambda f: _volume(f, "mr.nii.gz", _values(lambda v: (v > -500) * 200)),
        Status.REFUSED,
        "export",
    ),
    "not a number": (lambda f: _volume(f, "nan.nrrd", _values(_with_nan)), Status.REFUSED, "not a number"),
    "all the same": (lambda f: _volume(f, "flat.mha", _values(np.zeros_like)), Status.REFUSED, "same value"),
    "a single slice": (lambda f: _volume(f, "slice.nii.gz", head()[:, :, :1]), Status.REFUSED, "slice"),
    "in colour": (lambda f: _volume(f, "colour.mha", sitk.Compose([head()] * 3)), Status.REFUSED, "colour"),
    "spacing in metres": (lambda f: _volume(f, "metres.nrrd", _wide()), Status.REFUSED, "mm"),
    "several volumes": (
        lambda f: _volume(f, "four.mha", sitk.JoinSeries([head(), head()])),
        Status.REFUSED,
        "2 volumes",
    ),
    "DICOM, slice missing": (lambda f: _dicom(f, "gap", lambda p: p[10].unlink()), Status.REFUSED, "missing"),
    "DICOM, tilted": (lambda f: _dicom(f, "tilted", tilt_degrees=12.0), Status.REFUSED, "tilted"),
    "DICOM, file cut": (lambda f: _dicom(f, "cut", lambda p: cut(p[3])), Status.REFUSED, "truncated"),
    "DICOM, an MR": (lambda f: _dicom(f, "mr", Modality="MR"), Status.REFUSED, "MR"),
    "DICOM, two series": (_two_series, Status.REFUSED, "too few"),
}


def _header_alone() -> bytes:
    return (
        b"ObjectType = Image\nNDims = 3\nDimSize = 80 80 60\nElementSpacing = 3 3 3\nElementType = MET_SHORT\n"
        b"ElementDataFile = gone.raw\n"
    )


def make_archive(folder: Path, good: int, bad: list[str] | None = None, copies: int = 2) -> dict[str, tuple[str, str]]:
    """Write scans below a folder; returns the status and a part of the sentence that each place must end with."""
    expected = {}
    for number in range(good):
        kind = GOOD[number % len(GOOD)]
        path = folder / f"Patient {number // 3} Müller" / f"head {number}{'' if kind == 'dicom' else kind}"
        if kind == "dicom":
            dicom_files.write_series(path, another(number), PatientID=f"P{number}")
        else:
            write(path, another(number))
        expected[path.relative_to(folder).as_posix()] = Status.DONE, ""
    for number, kind in enumerate(BAD if bad is None else bad):
        make, status, sentence = BAD[kind]
        path = make(folder / f"bad {number}")
        expected[path.relative_to(folder).as_posix()] = status, sentence
    for number in range(copies):
        original = next(
            path for path in sorted(expected) if path.endswith(GOOD[number]) and expected[path][0] == Status.DONE
        )
        copy = folder / "zz copies" / Path(original).name
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / original, copy)
        expected[copy.relative_to(folder).as_posix()] = Status.DOUBLE, "same scan"
    return expected


def touched(job: Job) -> Outcome:
    """Takes a scan for done without looking at it; leaves a result as a real one does."""
    Path(job.output).parent.mkdir(parents=True, exist_ok=True)
    Path(job.output).touch()
    return Outcome(Status.DONE, "", 0.0, {"removed_ml": 500.0, "intracranial_voxels_touched": 0, "warnings": []})


def hashes(folder: Path, ending: str = "") -> dict[str, str]:
    """SHA-256 of every file below a folder whose name ends so."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob(f"*{ending}"))
        if path.is_file()
    }


def records(private: Path) -> dict[str, sqlite3.Row]:
    """The rows of a record by place."""
    with closing(sqlite3.connect(private / "record.sqlite")) as record:
        record.row_factory = sqlite3.Row
        return {row["place"]: row for row in record.execute("SELECT * FROM scan")}


def problems(
    expected: dict[str, tuple[str, str]], source: Path, output: Path, private: Path, before: dict
) -> list[str]:
    """All that is not as it must be after a batch; `before` are the hashes of the source."""
    rows, found = records(private), []
    if hashes(source) != before:
        found.append("an input changed")
    if set(rows) != set(expected):
        found.append(f"scans found and expected differ: {sorted(set(rows) ^ set(expected))}")
    for place, (status, sentence) in expected.items():
        row = rows.get(place)
        if row is None:
            continue
        same_status = row["status"] == status or (status in FINISHED and row["status"] in FINISHED)
        if not same_status or not re.search(sentence, row["sentence"]):
            found.append(f"{place}: {row['status']} ({row['sentence']}) instead of {status} ({sentence})")
        volume, report = output / f"{row['output']}.nii.gz", output / f"{row['output']}.json"
        if (status in FINISHED) != volume.exists() or (status in FINISHED) != report.exists():
            found.append(f"{place}: {'no' if status in FINISHED else 'a'} result, or half of it")
        elif status in FINISHED and (problem := _wrong_result(source / place, volume)):
            found.append(f"{place}: {problem}")
    for folder in (output, private):
        odd = [p for p in folder.rglob("*") if WORK_FOLDER in p.parts or p.name.endswith(".new") or ".part" in p.name]
        found += [f"left behind: {path.relative_to(folder)}" for path in odd]
    results = sum(1 for path in output.rglob("*.nii.gz"))
    if results != sum(status in FINISHED for status, _ in expected.values()):
        found.append(f"{results} results")
    return found


def _wrong_result(source: Path, result: Path) -> str:
    from CTDefaceLib.volume_io import read_ct

    original, defaced = read_ct(source), read_ct(result)
    if original.GetSize() != defaced.GetSize():
        return "another grid"
    changed = sitk.GetArrayViewFromImage(original) != sitk.GetArrayViewFromImage(defaced)
    return "" if 0.01 < changed.mean() < 0.6 else f"{changed.mean():.0%} of the voxels changed"
