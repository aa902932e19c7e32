"""Time DICOM series → defaced DICOM series against reading and rewriting the same files with pydicom alone.

    python Testing/benchmarks/bench_dicom.py SERIES_DIR [--repeat 3] [--headers keep]

Each run is a process of its own; the two kinds take turns. Seconds are medians of the work without Python's start and
imports; those of the defacing are also split into reading, finding and removing the face, and writing. Peak memory is
the process's, and also without what the process held before the first file was read.
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

from bench_main_job import ROOT
from peak_memory import peak_bytes

sys.path.insert(0, str(ROOT / "CTDeface"))

import pydicom  # noqa: E402


def run(job: str, source: Path, folder: Path) -> dict:
    """One run in this process: ``"plain"`` or ``"deface"``."""
    from CTDefaceLib.dicom.deface import deface_series

    before, start = peak_bytes(), time.perf_counter()
    moments = {}
    if job == "plain":
        for path in source.rglob("*.dcm"):
            pydicom.dcmread(path).save_as(folder / path.name)
        voxels = sum(path.stat().st_size for path in folder.iterdir()) // 2
    else:
        deface_series(source, folder / "out", progress=lambda part, text: moments.setdefault(text, time.perf_counter()))
        voxels = 0
    end = time.perf_counter()
    first, last = moments.get("Finding the head", start), moments.get("Result ready", start)
    split = {"read": first - start, "face": last - first, "write": end - last} if moments else {}
    return {"seconds": end - start, "peak": peak_bytes(), "before": before, "voxels": voxels, "split": split}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="SERIES_DIR")
    parser.add_argument("--repeat", type=int, default=3)
    for hidden in ("--job", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        print(json.dumps(run(args.job, args.source, Path(args.folder))))
        return
    runs: dict[str, list[dict]] = {"plain": [], "deface": []}
    for _ in range(args.repeat):
        for job in runs:
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, __file__, str(args.source), "--job", job, "--folder", folder]
                runs[job].append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    voxels = runs["plain"][0]["voxels"]
    medians = {job: statistics.median(one["seconds"] for one in found) for job, found in runs.items()}
    for job, found in runs.items():
        peak, own = (max(one["peak"] - extra * one["before"] for one in found) / voxels for extra in (0, 1))
        print(f"{job:8s} {medians[job]:7.2f} s   peak {peak:5.1f} B/voxel, own {own:5.1f} B/voxel")
    print(f"ratio    {medians['deface'] / medians['plain']:7.2f}")
    for part in ("read", "face", "write"):
        seconds = statistics.median(one["split"][part] for one in runs["deface"])
        print(f"  {part:6s} {seconds:7.2f} s   {seconds / medians['plain']:7.2f}")


if __name__ == "__main__":
    main()
