"""Time the main job step by step against a plain SimpleITK read and write of the same volume.

    python Testing/benchmarks/bench_main_job.py [CT] [--repeat 3] [--processor]

The CT is a file or a folder with one DICOM series; without one, a synthetic head of 512×512×209 voxels stands in. Each
run is a process of its own. Seconds are medians: of the clock, or, with --processor, of all processors together with
one thread in use, which a busy machine changes little. The ratio is that of the job without reading and writing to
plain reading and writing. Peak memory is the process's, with Python and the libraries in it, and also without what the
process held before the volume was read. The last rows do the same on half and a quarter of the voxels.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "CTDeface"))

import SimpleITK as sitk  # noqa: E402
from CTDefaceLib.processes import THREADS  # noqa: E402
from peak_memory import peak_bytes  # noqa: E402

STEPS = ("read", "segment", "refine", "fill", "write")


JOBS = {"plain": "plain SimpleITK", "smooth": "CTDeface", "face": "CTDeface, a face"}


def run(job: str, source: Path, shrink: int, folder: Path, clock: Callable[[], float]) -> dict:
    """One run in this process: ``"plain"``, or a fill."""
    from CTDefaceLib.anatomy.face_map import head_cylinder
    from CTDefaceLib.parameters import DEPTH_MM
    from CTDefaceLib.removal.donors import face_donor
    from CTDefaceLib.removal.fill import fill_region
    from CTDefaceLib.removal.region import removal_region
    from CTDefaceLib.removal.surface import face_surface
    from CTDefaceLib.segmenters.builtin import segment_face
    from CTDefaceLib.volume_io import read_ct, write_volume

    start, before = clock(), peak_bytes()
    seconds = {}

    def done(step: str) -> None:
        nonlocal start
        seconds[step], start = clock() - start, clock()

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
        donor = face_donor(cylinder) if job == "face" else None
        surface = face_surface(image, mask, cylinder, depth_mm=DEPTH_MM["standard"], donor=donor)
        region = removal_region(image, surface)
        done("refine")
        defaced = fill_region(image, region, surface, fill=job)
        done("fill")
        write_volume(defaced, output, overwrite=True)
        done("write")
    return {"seconds": seconds, "peak": peak_bytes(), "before": before, "voxels": image.GetNumberOfPixels()}


def measure(job: str, source: Path, shrink: int, args: argparse.Namespace) -> dict:
    """Medians over processes of their own."""
    runs, repeat = [], args.repeat
    environment = {**os.environ, **(dict.fromkeys(THREADS, "1") if args.processor else {})}
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, str(source), "--job", job, "--shrink", str(shrink), "--folder", folder]
            command += ["--processor"] * args.processor
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            runs.append(json.loads(done.stdout))
    seconds = {step: statistics.median(run["seconds"][step] for run in runs) for step in runs[0]["seconds"]}
    return {**runs[0], "seconds": seconds, "peak": max(run["peak"] for run in runs)}


def row(name: str, result: dict, plain: dict) -> str:
    cells = [f"{result['seconds'][step]:7.2f}" if step in result["seconds"] else "      –" for step in STEPS]
    middle = sum(result["seconds"].get(step, 0.0) for step in ("segment", "refine", "fill"))
    peak, own = (bytes_ / result["voxels"] for bytes_ in (result["peak"], result["peak"] - result["before"]))
    ratio = middle / sum(plain["seconds"].values())
    times = f"{' '.join(cells)} {middle:12.2f} {ratio:5.2f}"
    return f"{name:24s} {result['voxels'] / 1e6:6.1f} {times} {peak:10.1f} {own:9.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", type=Path, metavar="CT")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--processor", action="store_true", help="time of processors, not of the clock")
    for hidden in ("--job", "--shrink", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        clock = time.process_time if args.processor else time.perf_counter
        print(json.dumps(run(args.job, args.source, int(args.shrink), Path(args.folder), clock)))
        return
    with tempfile.TemporaryDirectory() as folder:
        source = args.source
        if source is None:
            from CTDefaceLib.phantom import PhantomParameters, make_phantom

            source = Path(folder) / "phantom.nrrd"
            parameters = PhantomParameters(field_of_view="neck", matrix=(512, 512), spacing=(0.98, 0.98, 1.5))
            sitk.WriteImage(make_phantom(parameters).image, str(source), True)
        header = " ".join(f"{step:>7s}" for step in STEPS) + f" {'seg+ref+fill':>12s} {'ratio':>5s}"
        print(f"{'':24s} {'Mvox':>6s} {header} {'peak B/vox':>10s} {'own B/vox':>9s}")
        plain = measure("plain", source, 1, args)
        print(row(JOBS["plain"], plain, plain))
        for job, shrink in (("smooth", 1), ("smooth", 2), ("smooth", 4), ("face", 1)):
            name = JOBS[job] + ("" if shrink == 1 else f", 1/{shrink} of it")
            print(row(name, measure(job, source, shrink, args), plain), flush=True)


if __name__ == "__main__":
    main()
