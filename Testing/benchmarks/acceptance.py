"""Deface many heads and look for what is left of their faces: views found before, after, and after recovery attacks.

    python Testing/benchmarks/acceptance.py -o RESULTS [--cases brain_fov "phantom*"] [--detectors dlib-hog]
        [--views quick] [--attacks "lowered iso" "constant region"] [--parameters '{"margin_mm": 8}'] [--again]

One JSON file per case is written as the numbers come; a second run goes on where the first one stopped. Beside it lie
the defaced volume and pictures. The table is printed at the end, and alone with --table.

Cases: the real heads and the DICOM phantom in ../shared/data (CTDEFACE_TEST_DATA names another folder) where they are
at hand, and the phantom people of Testing/phantom_cases.py.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
for folder in (TESTING, TESTING.parent / "CTDeface", TESTING.parent / "CTDefaceEval"):
    sys.path.insert(0, str(folder))

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from CTDefaceLib.phantom import make_phantom  # noqa: E402
from peak_memory import peak_bytes  # noqa: E402
from phantom_cases import CASES  # noqa: E402

DATA = Path(os.environ.get("CTDEFACE_TEST_DATA", TESTING.parents[1] / "shared" / "data"))
ATTACKS = ("lowered iso", "constant region", "low variance", "high variance")


def real_case(name):
    def make():
        if name.endswith(".zip"):
            with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(DATA / name) as archive:
                archive.extractall(folder)
                reader = sitk.ImageSeriesReader()
                inner = next(path.parent for path in sorted(Path(folder).rglob("*.dcm")))
                reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(inner)))
                return reader.Execute()
        return sitk.ReadImage(str(DATA / name))

    return make


def all_cases():
    """Case name → function that gives the CT, or a phantom with its ground truth."""
    files = {
        "brain_fov": "head_ct_brain_fov.nii.gz",
        "full_face_lowres": "head_ct_full_face_lowres.nii.gz",
        "dicom_phantom": "phantom_ct_dicom.zip",
    }
    cases = {case: real_case(name) for case, name in files.items() if (DATA / name).exists()}
    for name, parameters in CASES.items():
        cases[f"phantom_{name}"] = lambda parameters=parameters: make_phantom(parameters)
    return cases


def deface_child(source, folder, parameters):
    """Deface in a process of its own, so that its peak memory is known; run by --deface-one."""
    from CTDefaceLib.pipeline import DefaceParameters, deface

    image = sitk.ReadImage(source)
    forget_peak()
    before = peak_bytes()
    start = time.perf_counter()
    result = deface(image, DefaceParameters(**json.loads(parameters)))
    seconds = time.perf_counter() - start
    measured = {
        "seconds": seconds,
        "peak_mib": peak_bytes() / 2**20 or None,
        "peak_before_mib": before / 2**20 or None,
        "report": result.report,
    }
    old, new = sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(result.image)
    region = sitk.GetArrayViewFromImage(result.region) > 0
    measured["changed_outside"] = int(np.count_nonzero((old != new) & ~region))
    measured["same_geometry"] = all(
        getattr(image, get)() == getattr(result.image, get)()
        for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelID")
    )
    measured["voxels"] = int(old.size)
    sitk.WriteImage(result.image, str(Path(folder) / "defaced.nrrd"), True)
    sitk.WriteImage(result.region, str(Path(folder) / "region.nrrd"), True)
    (Path(folder) / "deface.json").write_text(json.dumps(measured, default=str), encoding="utf-8")


def forget_peak():
    """Start the high-water mark anew, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


class Case:
    """One case's results on disk, kept as they come."""

    def __init__(self, name, folder, make):
        self.name, self.folder, self.make = name, folder / name, make
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "result.json"
        self.result = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}

    def save(self):
        self.path.write_text(json.dumps(self.result, indent=1), encoding="utf-8")

    def original(self):
        path = self.folder / "original.nrrd"
        if not path.exists():
            made = self.make()
            if not isinstance(made, sitk.Image):
                sitk.WriteImage(made.intracranial, str(self.folder / "intracranial.nrrd"), True)
                made = made.image
            sitk.WriteImage(made, str(path), False)
        return path

    def brain_touched(self):
        """Voxels of the true intracranial space of a phantom in the region, "–" for other heads."""
        truth = self.folder / "intracranial.nrrd"
        if not truth.exists():
            return "–"
        inside, region = (sitk.GetArrayFromImage(sitk.ReadImage(str(p))) for p in (truth, self.folder / "region.nrrd"))
        return int(np.count_nonzero((inside > 0) & (region > 0)))

    def defaced(self, parameters):
        if "deface" not in self.result:
            command = [sys.executable, __file__, "--deface-one", str(self.original()), str(self.folder), parameters]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sentence = (done.stderr.strip().splitlines() or ["no message"])[-1]
                print(f"  not defaced: {sentence}", flush=True)
                self.result["error"] = sentence
                self.save()
                return None
            self.result.pop("error", None)
            self.result["deface"] = json.loads((self.folder / "deface.json").read_text(encoding="utf-8"))
            self.result["deface"]["brain_touched"] = self.brain_touched()
            self.save()
        return self.folder / "defaced.nrrd"


def run_case(case, options, renderer, models):
    from CTDefaceEvalLib import attacks, detection, views
    from CTDefaceLib.render import montage, write_png

    grid = views.view_grid(options.views)
    original = sitk.ReadImage(str(case.original()))
    pose = views.head_pose(original)
    found = case.result.setdefault("found", {}).setdefault(options.views, {})

    def search(name, image, iso=-300.0, region_ml=0.0):
        missing = [model for model in models if model.name not in found.get(name, {})]
        if not missing:
            return
        start = time.perf_counter()
        surface = detection.surface_of(image, iso)
        sightings = detection.find_faces(renderer, surface, pose, grid, missing)
        counts = found.setdefault(name, {"region_ml": region_ml})
        for model in missing:
            counts[model.name] = detection.views_found(sightings, model.name)
        case.save()
        print(f"  {name}: {found[name]}  {time.perf_counter() - start:.0f} s", flush=True)
        if surface.GetNumberOfPoints():
            sides = [
                renderer.picture(surface, yaw, pitch, size=240, axes=pose.axes, center=pose.center, label=label)
                for label, yaw, pitch in ((name, 0, 0), ("", 0, 25), ("", 40, 10), ("", 90, 0))
            ]
            write_png(case.folder / f"{name.replace(',', '').replace(' ', '_')}.png", montage([sides]))

    search("original", attacks.around_head(original, pose))
    path = case.defaced(options.parameters)
    if path is None:
        return
    defaced = sitk.ReadImage(str(path))
    search("defaced", attacks.around_head(defaced, pose))
    for recovery in attacks.recoveries(defaced, pose, tuple(options.attacks)):
        search(recovery.name, recovery.image, recovery.iso, recovery.region_ml)


COLUMNS = (
    *("case", "before", "after", *ATTACKS, "peel"),
    *("removed mL", "% of head", "s", "peak MiB", "bytes/voxel", "brain", "true brain", "outside"),
)


def table(cases, options):
    """Print a line per case: views found before, after, at worst by kind of attack; then volume, time and memory."""
    print(
        f"\nOf {grid_size(options)} views found by {' / '.join(options.detectors)}; –: the attack found nothing to use"
    )
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|")
    for case in cases:
        found = case.result.get("found", {}).get(options.views, {})
        if "error" in case.result:
            cells = [case.name, counts_of([found.get("original", {})], options), case.result["error"]]
        elif "defaced" in found:
            cells = row(case, found, options)
        else:
            continue
        print("| " + " | ".join(cells) + " |")


def row(case, found, options):
    deface = case.result["deface"]
    attacked = {name: counts for name, counts in found.items() if name not in ("original", "defaced")}
    peeled = {name for name in attacked if "peel" in name and not name.endswith("peel 0 mm")}
    groups = [[attacked[name] for name in attacked.keys() - peeled if name.startswith(kind)] for kind in ATTACKS]
    memory = deface["peak_mib"]
    return [
        case.name,
        counts_of([found["original"]], options),
        counts_of([found["defaced"]], options),
        *(counts_of(group, options) for group in groups),
        counts_of([attacked[name] for name in peeled], options),
        f"{deface['report']['removed_ml']:.0f}",
        f"{100 * deface['report']['removed_share']:.0f}",
        f"{deface['seconds']:.1f}",
        f"{memory:.0f}" if memory else "?",
        f"{(memory - deface['peak_before_mib']) * 2**20 / deface['voxels']:.1f}" if memory else "?",
        str(deface["report"]["intracranial_voxels_touched"]),
        str(deface["brain_touched"]),
        str(deface["changed_outside"]),
    ]


def counts_of(group, options):
    """The worst of several results for each detector, as "3/0"."""
    if not group:
        return "–"
    return "/".join(str(max((c[name] for c in group if name in c), default="?")) for name in options.detectors)


def grid_size(options):
    from CTDefaceEvalLib.views import view_grid

    return len(view_grid(options.views))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("acceptance_results"), help="folder of the results")
    parser.add_argument("--cases", nargs="+", default=["*"], help="names or patterns")
    parser.add_argument("--detectors", nargs="+", default=["dlib-hog", "dlib-cnn"])
    parser.add_argument("--views", default="default", help="default, quick or study")
    parser.add_argument("--attacks", nargs="*", default=list(ATTACKS))
    parser.add_argument("--parameters", default="{}", help="DefaceParameters as JSON")
    parser.add_argument("--again", action="store_true", help="deface and measure anew")
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    parser.add_argument("--deface-one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.deface_one:
        deface_child(*options.deface_one)
        return

    chosen = {name: make for name, make in all_cases().items() if any(fnmatch.fnmatch(name, p) for p in options.cases)}
    cases = [Case(name, options.output, make) for name, make in chosen.items()]
    if not options.table:
        from CTDefaceEvalLib.face_models import load_model
        from CTDefaceLib.render import Renderer

        renderer = Renderer()
        models = [load_model(name) for name in options.detectors]
        for case in cases:
            print(case.name, flush=True)
            if options.again:
                original = case.result.get("found", {})
                case.result = {
                    "found": {v: {"original": f["original"]} for v, f in original.items() if "original" in f}
                }
            run_case(case, options, renderer, models)
    table(cases, options)


if __name__ == "__main__":
    main()
