"""Time and memory of a study against those of one of its series, and of many time points against those of few.

    python Testing/benchmarks/bench_study.py [--series 4] [--times 20] [--matrix 256]

Makes a synthetic head as DICOM series with noise of their own, and as NIfTI with time. Each run is a process of its
own.
A study should take the time of one series plus, for each further one, that of reading, filling and writing it; memory
should be that of the largest series or time point.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_main_job import ROOT
from peak_memory import peak_bytes

sys.path[:0] = [str(ROOT / "CTDeface"), str(ROOT / "Testing")]

import dicom_files  # noqa: E402
import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from CTDefaceLib.commands.main import main as ctdeface  # noqa: E402
from CTDefaceLib.phantom import PhantomParameters, make_phantom  # noqa: E402


def noisy(image: sitk.Image, seed: int) -> sitk.Image:
    """The head at another time."""
    rng = np.random.default_rng(seed)
    values = sitk.GetArrayFromImage(image) + rng.normal(0.0, 5.0, image.GetSize()[::-1])
    out = sitk.GetImageFromArray(np.rint(values).astype(np.int16))
    out.CopyInformation(image)
    return out


def make(folder: Path, matrix: int, series: int, times: int) -> None:
    spacing = 256.0 / matrix
    image = make_phantom(PhantomParameters(matrix=(matrix, matrix), spacing=(spacing, spacing, 2.0))).image
    tags = dict(FrameOfReferenceUID="1.2.3", StudyInstanceUID="1.2.4")
    for number in range(1, series + 1):
        dicom_files.write_series(folder / "study" / str(number), noisy(image, number), SeriesNumber=number, **tags)
    for count in (2, times):
        joined = sitk.JoinSeries([noisy(image, number) for number in range(count)])
        sitk.WriteImage(joined, str(folder / f"{count}.nii.gz"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=4)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--matrix", type=int, default=256)
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        start = time.perf_counter()
        status = ctdeface(["deface", *args.job])
        print(json.dumps({"status": status, "seconds": time.perf_counter() - start, "peak": peak_bytes()}))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, args.matrix, args.series, args.times)
        jobs = {
            "one series": (folder / "study" / "1", folder / "one"),
            f"{args.series} series": (folder / "study", folder / "all"),
            "2 time points": (folder / "2.nii.gz", folder / "two.nii.gz"),
            f"{args.times} time points": (folder / f"{args.times}.nii.gz", folder / "many.nii.gz"),
        }
        for what, job in jobs.items():
            command = [sys.executable, __file__, "--job", *map(str, job)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(
                f"{what:16s} {found['seconds']:7.1f} s   peak {found['peak'] / 1e6:6.0f} MB   status {found['status']}"
            )


if __name__ == "__main__":
    main()
