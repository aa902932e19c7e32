"""A stroke study: what its defaced series together show of the face, and what it costs beside one of its series.

    python Testing/benchmarks/bench_study.py [--matrix 256] [--times 20]

Makes a synthetic stroke study (three kernels, a CTA, a tilted thick series, a perfusion, another day turned by 10°, an
MR, and somebody else's series) as DICOM, and a perfusion as NIfTI with time. Each run is a process of its own.

- All series together should show no more of the removed tissue than one of them (at most 0.5 % more), their surfaces
  lie within a voxel of the new skin, and somebody else's series be refused.
- A study should take the time of its head once, plus, for each series, that of reading, filling and writing it; memory
  should be that of its largest series or time point. The same goes for a batch by study, and for time points.
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

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from CTDefaceLib.commands.main import main as ctdeface  # noqa: E402
from CTDefaceLib.dicom.deface import HeaderWriter, write_series  # noqa: E402
from CTDefaceLib.dicom.defaced_stack import DefacedStack  # noqa: E402
from CTDefaceLib.dicom.stack import read_stack  # noqa: E402
from CTDefaceLib.pipeline import DefaceParameters, deface  # noqa: E402
from CTDefaceLib.study.deface import read_study  # noqa: E402
from stroke_study import CTS, OTHER_DAY, STRANGER, StrokeStudy, make_study, series_in, skin_off, still_shown  # noqa: E402

SEED = "1"


def copy(source: str, output: str) -> int:
    """Read and write all series of a study, and nothing else."""
    for number, series in enumerate(read_study(source).series):
        stacks = []
        for stack in series.stacks:
            size = read_stack(stack).GetSize()
            nothing = [np.zeros(0, np.float32)] * size[2]
            stacks.append(DefacedStack(stack, np.zeros(size[::-1], bool), nothing))
        folder = Path(output) / str(number)
        folder.mkdir(parents=True)
        write_series(series, stacks, folder, HeaderWriter(series.uids, None, True, None))
    return 0


def batch(source: str, output: str) -> int:
    return ctdeface(["batch", source, output, "--format", ".dicom", "--workers", "0", "--no-gallery", "--seed", SEED])


JOBS = {"copy": copy, "batch": batch, "deface": lambda *job: ctdeface(["deface", *job, "--seed", SEED])}


def measured(kind: str, source: Path, output: Path) -> dict:
    """One run in a process of its own."""
    command = [sys.executable, __file__, "--job", kind, str(source), str(output)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def told(what: str, found: dict) -> None:
    seconds, busy, peak = found["seconds"], found["busy"], found["peak"] / 1e6
    print(
        f"{what:30s} {seconds:6.1f} s, {busy:6.1f} s of processors   peak {peak:5.0f} MB   status {found['status']}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--matrix", type=int, default=256)
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        start, busy = time.perf_counter(), time.process_time()
        status = JOBS[args.job[0]](*args.job[1:])
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        print(json.dumps({"status": status, "seconds": seconds, "busy": busy, "peak": peak_bytes()}))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = make_study(folder / "study", args.matrix, args.times)
        told("one series", measured("deface", study.folder / "2", folder / "one"))
        told("its reading and writing only", measured("copy", study.folder / "2", folder / "one copy"))
        told("all, read and written only", measured("copy", study.folder, folder / "copy"))
        told(f"all {len(read_study(study.folder).series)} series", measured("deface", study.folder, folder / "all"))
        told("the same as a batch", measured("batch", study.folder, folder / "batch"))
        for count in sorted({2, args.times}):
            slab = study.first[:, :, ::4]
            sitk.WriteImage(
                sitk.JoinSeries([slab + 3 * number for number in range(count)]), str(folder / f"{count}.nii")
            )
            told(f"{count} time points", measured("deface", folder / f"{count}.nii", folder / f"{count}_out.nii"))
        for what, output in (("study", folder / "all"), ("batch", folder / "batch")):
            show(what, study, output)


def show(what: str, study: StrokeStudy, output: Path) -> None:
    """What the series of a result have of the face, and where their skin is."""
    result = deface(study.first, DefaceParameters(seed=int(SEED)))
    outputs = series_in(output)
    if what == "batch":
        del outputs[OTHER_DAY]  # a study of its own there, with a face of its own
    single, together = still_shown(study, result.region, outputs)
    print(f"\n{what}: removed tissue that is still shown")
    for number, share in single.items():
        off = ""
        if number in CTS:
            surface = result.surface.moved(*study.pose_of(number))
            off = f"   skin within {skin_off(outputs[number], surface):.2f} mm (95 %) of the new one"
        print(f"  series {number:2d} {CTS.get(number, ''):12s} {share:8.3%}{off}")
    print(f"  all together          {together:8.3%}, {together - single[2]:.3%} more than one of them")
    print(f"  somebody else's series {'was refused' if STRANGER not in outputs else 'IS THERE'}")


if __name__ == "__main__":
    main()
