"""Batches: killed again and again, throughput, and many scans.

    python Testing/benchmarks/bench_batch.py killed --scans 200 --kills 30 --places process workers dask
    python Testing/benchmarks/bench_batch.py full --scans 50
    python Testing/benchmarks/bench_batch.py throughput --scans 24
    python Testing/benchmarks/bench_batch.py many --scans 50 500 5000

``killed`` defaces coarse heads in a mix of formats, 20 bad ones among them, and ends the run, or one of its workers,
by SIGKILL at random moments, most of them while scans are worked on. ``full`` does the same scans on a disk that is
full again and again; it has to be root to mount one. ``many`` takes a scan for done without looking at it, since it
measures what the batch itself costs.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT / folder) for folder in ("CTDeface", "CTDefaceEval", "Testing")]

import batch_cases  # noqa: E402
import processes  # noqa: E402
from CTDefaceLib import batch, batch_runners  # noqa: E402
from dask_cluster import dask_cluster  # noqa: E402

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def killed(folder: Path, place: str, scans: int, kills: int, seed: int = 0) -> dict:
    """One batch of `scans` good ones and the bad ones, at one place, with that many kills; figures and problems."""
    chance = random.Random(seed)
    source, output, private = folder / "in", folder / "out", folder / "out-private"
    expected = batch_cases.make_archive(source, scans)
    before = batch_cases.hashes(source)
    temporary = folder / "tmp"
    temporary.mkdir()
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        if place == "dask":
            address, cluster = stack.enter_context(dask_cluster(folder, ENVIRONMENT))
            where, boss = ["--scheduler", address], cluster
        else:
            where, boss = ["--workers", "0" if place == "process" else "2"], None
        command = [sys.executable, "-m", "CTDefaceLib", "batch", str(source), str(output), *where, "--no-gallery"]
        of_run = of_worker = at_work = runs = 0
        while True:
            environment = {**ENVIRONMENT, "TMPDIR": str(temporary)}
            run = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            runs += 1
            begun = _attempts(private)
            while of_run + of_worker < kills and run.poll() is None:
                early = chance.random() < 0.1
                while not early and run.poll() is None and _attempts(private) == begun:
                    time.sleep(0.02)
                time.sleep(chance.uniform(0.0, 2.0))
                workers = [
                    pid for pid in processes.children((boss or run).pid) if "spawn_main" in processes.command_line(pid)
                ]
                if run.poll() is not None:
                    break
                at_work += _attempts(private) > begun
                if workers and chance.random() < 0.5:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(chance.choice(workers), signal.SIGKILL)
                        of_worker += 1
                else:
                    run.send_signal(signal.SIGKILL)
                    run.wait()
                    of_run += 1
            errors = run.communicate()[1]
            if run.returncode in (0, 3):
                break
            assert run.returncode == -signal.SIGKILL, errors
    rows = batch_cases.records(private).values()
    return {
        "place": place,
        "scans": len(expected),
        "killed the run": of_run,
        "killed a worker": of_worker,
        "while a scan was worked on": at_work,
        "starts": runs,
        "seconds": round(time.monotonic() - start),
        "most attempts": max(row["attempts"] for row in rows),
        "temporary files left": [str(path) for path in temporary.rglob("*")],
        "problems": batch_cases.problems(expected, source, output, private, before),
    }


def _attempts(private: Path) -> int:
    """How often a scan was begun."""
    with contextlib.suppress(sqlite3.Error):
        return sum(row["attempts"] for row in batch_cases.records(private).values())
    return 0


def full(folder: Path, scans: int) -> dict:
    """Results and record on a disk that is full again and again; it grows whenever the batch has said so."""
    source, disk = folder / "in", folder / "disk"
    expected = batch_cases.make_archive(source, scans)
    before = batch_cases.hashes(source)
    disk.mkdir()
    kilobytes, sentences = 600, []
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)], check=True)
    try:
        command = [sys.executable, "-m", "CTDefaceLib", "batch", str(source), str(disk / "out"), "--workers", "2"]
        while True:
            run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
            if run.returncode in (0, 3):
                break
            assert run.returncode == 1 and "Traceback" not in run.stderr, run.stderr
            sentences.append(run.stderr.strip().splitlines()[-1])
            kilobytes += 700
            subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(disk)], check=True)
        problems = batch_cases.problems(expected, source, disk / "out", disk / "out-private", before)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    said = {sentence: sentences.count(sentence) for sentence in sorted(set(sentences))}
    return {"scans": len(expected), "times full": len(sentences), "said": said, "problems": problems}


def throughput(folder: Path, scans: int, matrix: int) -> list[dict]:
    """Scans per hour with one and with two workers, after the workers have started; and the processor's time, which
    does not depend on what else the machine does."""
    from CTDefaceLib.phantom import PhantomParameters, make_phantom

    source = folder / "in"
    spacing = (250.0 / matrix,) * 3
    for number in range(min(scans, 4)):
        image = make_phantom(PhantomParameters(person=number, matrix=(matrix, matrix), spacing=spacing)).image
        for copy in range(number, scans, 4):
            image[0, 0, 0] = copy - 1000  # no two are the same
            batch_cases.write(source / f"{copy}.nii", image)
    figures = []
    for workers, threads in ((1, 1), (1, None), (2, 1)):
        ended, cpu = [], _cpu_seconds()
        output = folder / f"out {workers} {threads}"
        batch.run(
            source, output, workers=workers, threads=threads, gallery=False,
            tell=lambda event, ended=ended: ended.append(time.monotonic()) if event["event"] == "ended" else None,
        )  # fmt: skip
        first = workers  # until then the workers start
        rate = 3600.0 * (len(ended) - first) / (ended[-1] - ended[first - 1])
        figures.append(
            {
                "workers": workers,
                "threads each": threads or batch_runners.processors(),
                "per hour": round(rate),
                "CPU s each, with the start of the workers": round((_cpu_seconds() - cpu) / scans, 2),
            }
        )
    return figures


def many(folder: Path, scans: int, workers: int) -> dict:
    """Seconds for each scan and memory of the parent, planning and gallery included."""
    source = folder / "in"
    source.mkdir()
    for number in range(scans):
        (source / f"{number}.nii").write_bytes(number.to_bytes(4, "little") * (16 + number % 500))
    runner = batch_runners.in_worker_processes if workers else batch_runners.in_process
    setattr(batch_runners, runner.__name__, partial(runner, run=batch_cases.touched))
    try:
        moments, memory = [time.monotonic()], []

        def tell(event):
            if event["event"] in ("planned", "ended"):
                moments.append(time.monotonic())
            if event["event"] == "planned" or len(moments) % 50 == 0:
                memory.append(_megabytes())

        batch.run(source, folder / "out", workers=workers, tell=tell)
        end = time.monotonic()
    finally:
        setattr(batch_runners, runner.__name__, runner)
    each = [b - a for a, b in zip(moments[2:], moments[3:])]
    tenth = max(1, len(each) // 10)
    return {
        "scans": scans,
        "workers": workers,
        "planning s": round(moments[1] - moments[0], 2),
        "ms each, first tenth": round(1000 * sum(each[:tenth]) / tenth, 2),
        "ms each, last tenth": round(1000 * sum(each[-tenth:]) / tenth, 2),
        "summing up s": round(end - moments[-1], 2),
        "parent MB, planned": memory[0],
        "parent MB, end": memory[-1],
        "parent MB, most": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _megabytes() -> int:
    with open("/proc/self/statm") as file:
        return round(int(file.read().split()[1]) * resource.getpagesize() / 1e6)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["killed", "full", "throughput", "many"])
    parser.add_argument("--scans", type=int, nargs="+", default=[200])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--places", nargs="+", default=["process", "workers", "dask"])
    parser.add_argument("--matrix", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    if args.what == "killed":
        jobs = [partial(killed, place=place, scans=args.scans[0] - 20, kills=args.kills) for place in args.places]
    elif args.what == "full":
        jobs = [partial(full, scans=args.scans[0] - 20)]
    elif args.what == "throughput":
        jobs = [partial(throughput, scans=args.scans[0], matrix=args.matrix)]
    else:
        jobs = [partial(many, scans=scans, workers=args.workers) for scans in args.scans]
    failed = False
    for job in jobs:
        folder = Path(tempfile.mkdtemp(prefix="ctdeface-bench-"))
        try:
            figures = job(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(json.dumps(figures, indent=1), flush=True)
        failed |= isinstance(figures, dict) and bool(figures.get("problems") or figures.get("temporary files left"))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
