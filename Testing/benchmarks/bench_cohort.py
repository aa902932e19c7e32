"""A cohort of synthetic people: privacy against preservation, for several ways to deface and to fail at it.

    python Testing/benchmarks/bench_cohort.py -o FOLDER [--people 24] [--views quick] [--model dlib-hog]
        [--methods standard strict …]

Two scans of each person, which differ in noise and pose, and a photo of each: a picture of a third scan, taken by a
camera at 1 m. Leaves the volumes, the table, and the report of the cohort (cohort.html) with identification by three
attackers, what each method costs, and the figure of both. What is there already is not made again.
"""

import argparse
import csv
import sys
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("Testing", "CTDeface", "CTDefaceEval")]

import numpy as np  # noqa: E402
import poor_defacings  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from CTDefaceEvalLib.attacks import posterior_of  # noqa: E402
from CTDefaceEvalLib.cohort import evaluate_cohort  # noqa: E402
from CTDefaceEvalLib.cohort_table import COLUMNS, read_table  # noqa: E402
from CTDefaceEvalLib.detection import picture_of, surface_of  # noqa: E402
from CTDefaceEvalLib.pages import estimate_text  # noqa: E402
from CTDefaceEvalLib.report import write_cohort  # noqa: E402
from CTDefaceEvalLib.views import head_pose  # noqa: E402
from CTDefaceLib.phantom import PhantomParameters, make_phantom  # noqa: E402
from CTDefaceLib.pipeline import DefaceParameters, deface  # noqa: E402
from CTDefaceLib.render import Renderer, write_png  # noqa: E402

PERSON = PhantomParameters(spacing=(1.6, 1.6, 2.0), matrix=(140, 160), holder=False)
PHOTO_SCAN = 2


def ours(**parameters):
    return lambda image, _pose: deface(image, DefaceParameters(**parameters)).image


def coronal_cut(image, pose):
    """All in front of a flat cut 20 mm behind the pose's center, which is 20 mm behind the brow at the orbits."""
    hu = sitk.GetArrayFromImage(image)
    return poor_defacings.with_values(image, np.where(posterior_of(image, pose) < -20.0, -1000, hu))


METHODS = {
    "light": ours(strength="light"),
    "standard": ours(),
    "strict": ours(strength="strict"),
    "standard, face": ours(fill="face"),
    "standard, air": ours(fill="air"),
    "mask as is, constant": ours(as_is=True, fill="constant"),
    "shell of 18 mm, constant": poor_defacings.constant_filled,
    "blur of 5 mm": lambda image, pose: poor_defacings.blurred(image, pose, 5.0),
    "coronal cut": coronal_cut,
}


def scan_of(person, scan):
    yaw, pitch, roll = np.random.default_rng(1000 * person + scan).uniform(-6.0, 6.0, 3)
    return make_phantom(
        replace(PERSON, person=person, seed=scan, yaw=float(yaw), pitch=float(pitch), roll=float(roll))
    ).image


def make_photo(path, person, renderer):
    image = scan_of(person, PHOTO_SCAN)
    skin, pose = surface_of(image), head_pose(image)
    write_png(path, picture_of(renderer, skin, pose, 8.0, 4.0, "head", 400, perspective=True))


def make_volumes(folder, people, methods):
    rows, renderer = [], Renderer()
    for person in range(people):
        photo = folder / f"{person}.png"
        if not photo.exists():
            make_photo(photo, person, renderer)
        rows.append((f"P{person}", 1, "photo", photo.name))
        for scan in range(2):
            names = {
                m: f"{person}_{scan}_{m.replace(', ', '-').replace(' ', '_')}.nrrd" for m in ["original", *methods]
            }
            rows += [(f"P{person}", scan, method, name) for method, name in names.items()]
            missing = [method for method, name in names.items() if not (folder / name).exists()]
            if not missing:
                continue
            image = scan_of(person, scan)
            pose = head_pose(image)
            for method in missing:
                made = image if method == "original" else METHODS[method](image, pose)
                part = folder / f"part_{names[method]}"
                sitk.WriteImage(made, str(part), True)
                part.replace(folder / names[method])
            print(f"person {person + 1}, scan {scan + 1}", flush=True)
    with open(folder / "table.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--views", default="quick")
    parser.add_argument("--model", default="dlib-hog")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    make_volumes(options.output, options.people, options.methods)
    for run in ("first", "second, all from the cache"):
        start = time.perf_counter()
        cohort = evaluate_cohort(
            read_table(options.output / "table.csv"),
            options.output / "cache",
            model=options.model,
            views=options.views,
            with_preservation=True,
        )
        print(f"{run} run: {time.perf_counter() - start:.1f} s", flush=True)
    write_cohort(cohort, options.output / "cohort.html", overwrite=True)
    for method in cohort.methods:
        print(f"\n{method.method}: {method.faces} faces")
        for one in method.identification:
            figures = [
                f"{name} {estimate_text(getattr(one, name), '{:.2f}')}" for name in ("rank1", "auc", "eer", "d_prime")
            ]
            print(f"  {one.threat}, {one.templates}: {', '.join(figures)}")
        for title, results in (("within", method.within), ("against originals", method.against_originals)):
            for protocol, result in results.items():
                print(f"  SVM {title}, {protocol}:", result.auc, result.accuracy)
        print(
            "  " + ", ".join(f"{name} {estimate_text(value, '{:.3f}')}" for name, value in method.preservation.items())
        )


if __name__ == "__main__":
    main()
