"""Time the main job step by step against a plain SimpleITK read and write of the same volume.

    python Testing/benchmarks/bench_main_job.py [CT] [--repeat 3]

The CT is a file or a folder with one DICOM series; without one, a synthetic head of 512×512×209 voxels stands in. Each
run is a process of its own. Seconds are medians; peak memory is the process's, with Python and the libraries in it,
and also without what the process held before the volume was read. The last rows do the same on half and a quarter of
the voxels.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "CTDeface"))

import SimpleITK as sitk  # noqa: E402
from peak_memory import peak_bytes  # noqa: E402

STEPS = ("read", "segment", "refine", "fill", "write")


def run(job: str, source: Path, shrink: int, folder: Path) -> dict:
    """One run in this process: ``"plain"`` or ``"deface"``."""
    from CTDefaceLib.anatomy.face_map import head_cylinder
    from CTDefaceLib.removal.fill import fill_region
    from CTDefaceLib.removal.region import removal_region
    from CTDefaceLib.removal.surface import face_surface
    from CTDefaceLib.segmenters.builtin import segment_face
    from CTDefaceLib.volume_io import read_ct, write_volume

    start, before = time.perf_counter(), peak_bytes()
    seconds = {}

    def done(step: str) -> None:
        nonlocal start
        seconds[step], start = time.perf_counter() - start, time.perf_counter()

    output = folder / "out.nrrd"
    if job == "plain":
        if source.is_dir():
            names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(source))
            image = sitk.ReadImage(names)
        else:
            image = sitk.ReadImage(str(source))
        done("read")
        sitk.WriteImage(image, str(output), True)
        done("write")
    else:
        image = read_ct(source)
        if shrink > 1:
            image = image[::shrink]
        done("read")
        cylinder = head_cylinder(image)
        mask = segment_face(image, cylinder)
        done("segment")
        surface = face_surface(image, mask, cylinder, depth_mm=10.0)
        region = removal_region(image, surface)
        done("refine")
        defaced = fill_region(image, region, surface)
        done("fill")
        write_volume(defaced, output, overwrite=True)
        done("write")
    return {"seconds": seconds, "peak": peak_bytes(), "before": before, "voxels": image.GetNumberOfPixels()}


def measure(job: str, source: Path, shrink: int, repeat: int) -> dict:
    """Medians over processes of their own."""
    runs = []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, str(source), "--job", job, "--shrink", str(shrink), "--folder", folder]
            runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    seconds = {step: statistics.median(run["seconds"][step] for run in runs) for step in runs[0]["seconds"]}
    return {**runs[0], "seconds": seconds, "peak": max(run["peak"] for run in runs)}


def row(name: str, result: dict) -> str:
    cells = [f"{result['seconds'][step]:7.2f}" if step in result["seconds"] else "      –" for step in STEPS]
    middle = sum(result["seconds"].get(step, 0.0) for step in ("segment", "refine", "fill"))
    peak, own = (bytes_ / result["voxels"] for bytes_ in (result["peak"], result["peak"] - result["before"]))
    return f"{name:22s} {result['voxels'] / 1e6:6.1f} {' '.join(cells)} {middle:9.2f} {peak:11.1f} {own:11.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", type=Path, metavar="CT")
    parser.add_argument("--repeat", type=int, default=3)
    for hidden in ("--job", "--shrink", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        print(json.dumps(run(args.job, args.source, int(args.shrink), Path(args.folder))))
        return
    with tempfile.TemporaryDirectory() as folder:
        source = args.source
        if source is None:
            from CTDefaceLib.phantom import PhantomParameters, make_phantom

            source = Path(folder) / "phantom.nrrd"
            parameters = PhantomParameters(field_of_view="neck", matrix=(512, 512), spacing=(0.98, 0.98, 1.5))
            sitk.WriteImage(make_phantom(parameters).image, str(source), True)
        header = " ".join(f"{step:>7s}" for step in STEPS)
        print(f"{'':22s} {'Mvox':>6s} {header} {'seg+ref+fill':>9s} {'peak B/vox':>8s} {'own B/vox':>8s}")
        print(row("plain SimpleITK", measure("plain", source, 1, args.repeat)))
        for shrink in (1, 2, 4):
            name = "CTDeface" if shrink == 1 else f"CTDeface, 1/{shrink} of it"
            print(row(name, measure("deface", source, shrink, args.repeat)), flush=True)


if __name__ == "__main__":
    main()
