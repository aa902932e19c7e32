"""A cohort of synthetic people, two scans each, defaced in three ways, through the study's protocol to a report.

python Testing/benchmarks/bench_cohort.py -o FOLDER [--people 12] [--views quick] [--model dlib-hog]
"""

import argparse
import csv
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("Testing", "CTDeface", "CTDefaceEval")]

import poor_defacings  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from CTDefaceEvalLib.cohort import evaluate_cohort  # noqa: E402
from CTDefaceEvalLib.cohort_table import COLUMNS, read_table  # noqa: E402
from CTDefaceEvalLib.report import write_cohort  # noqa: E402
from CTDefaceEvalLib.views import head_pose  # noqa: E402
from CTDefaceLib.phantom import PhantomParameters, make_phantom  # noqa: E402
from CTDefaceLib.pipeline import DefaceParameters, deface  # noqa: E402

METHODS = {
    "sealed": lambda image, pose: deface(image, DefaceParameters()).image,
    "tissue-exact, constant": poor_defacings.constant_filled,
    "blur of 5 mm": lambda image, pose: poor_defacings.blurred(image, pose, 5.0),
}


def make_volumes(folder, people):
    rows = []
    for person in range(people):
        for scan in range(2):
            names = {method: f"{person}_{scan}_{i}.nrrd" for i, method in enumerate(["original", *METHODS])}
            rows += [(f"P{person}", scan, method, name) for method, name in names.items()]
            if all((folder / name).exists() for name in names.values()):
                continue
            parameters = PhantomParameters(
                person=person, seed=scan, yaw=8.0 * scan, pitch=-6.0 * scan, spacing=(1.6, 1.6, 2.0), matrix=(140, 160)
            )
            image = make_phantom(parameters).image
            pose = head_pose(image)
            sitk.WriteImage(image, str(folder / names["original"]), True)
            for method, make in METHODS.items():
                sitk.WriteImage(make(image, pose), str(folder / names[method]), True)
            print(f"person {person + 1}, scan {scan + 1}", flush=True)
    with open(folder / "table.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--views", default="quick")
    parser.add_argument("--model", default="dlib-hog")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    make_volumes(options.output, options.people)
    for run in ("first", "second, all from the cache"):
        start = time.perf_counter()
        cohort = evaluate_cohort(
            read_table(options.output / "table.csv"),
            options.output / "cache",
            model=options.model,
            views=options.views,
        )
        print(f"{run} run: {time.perf_counter() - start:.1f} s", flush=True)
    write_cohort(cohort, options.output / "cohort.html", overwrite=True)
    for method in cohort.methods:
        for title, results in (("within", method.within), ("against originals", method.against_originals)):
            for protocol, result in results.items():
                print(method.method, method.faces, "faces;", title, protocol, result.auc, result.accuracy)


if __name__ == "__main__":
    main()
