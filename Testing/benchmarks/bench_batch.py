"""Batches: killed again and again, throughput, and many scans.

    python Testing/benchmarks/bench_batch.py killed --scans 200 --kills 30 --places process workers dask
    python Testing/benchmarks/bench_batch.py full --scans 50
    python Testing/benchmarks/bench_batch.py throughput --scans 24
    python Testing/benchmarks/bench_batch.py many --scans 50 500 5000
    python Testing/benchmarks/bench_batch.py gallery --scans 5000

``killed`` defaces coarse heads in a mix of formats, 20 bad ones among them, and ends the run, or one of its workers,
by SIGKILL at random moments, most of them while scans are worked on; in the end the results have to be those of a batch
that nobody disturbed. ``full`` does the same scans on a disk that is
full again and again; it has to be root to mount one. ``many`` takes a scan for done without looking at it, since it
measures what the batch itself costs. ``gallery`` opens a page of so many scans in Chromium.
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
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT / folder) for folder in ("CTDeface", "CTDefaceEval", "Testing")]

import batch_cases  # noqa: E402
import chromium  # noqa: E402
import gallery_cases  # noqa: E402
import processes  # noqa: E402
from CTDefaceLib import batch  # noqa: E402
from CTDefaceLib.batch.job import WORK_FOLDER  # noqa: E402
from CTDefaceLib.batch.runners import RUNNERS, Place  # noqa: E402
from CTDefaceLib.processes import processors  # noqa: E402
from dask_cluster import dask_cluster  # noqa: E402
from peak_memory import peak_bytes  # noqa: E402

DASK_OWN = "dask-scratch-space"  # Dask keeps its locks in it
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def killed(folder: Path, scans: int, kills: int, places: list[str], every: int) -> Iterator[dict]:
    """A batch of `scans` good ones and the bad ones at each place, with that many kills; figures and problems.

    The results of each `every`-th six good scans, which are one of each format, are compared with undisturbed ones.
    """
    source = folder / "in"
    expected = batch_cases.make_archive(source, scans)
    before = batch_cases.hashes(source)
    compared, undisturbed = folder / "compared", folder / "undisturbed"
    for patient in source.glob("Patient *"):
        if int(patient.name.split()[1]) // 2 % every == 0:
            shutil.copytree(patient, compared / patient.name)
    run = subprocess.run(_command(compared, undisturbed, "--workers", "2"), env=ENVIRONMENT, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    right = batch_cases.hashes(undisturbed, ".nii.gz")
    for place in places:
        (folder / place).mkdir()
        yield _killed_at(place, folder / place, source, expected, before, right, kills)


def _command(source: Path, output: Path, *where: str) -> list[str]:
    """A batch whose results are always the same: one seed, and one secret for all of an archive."""
    same = ["--seed", "1", "--secret", str(source.with_name("secret.key")), "--no-gallery"]
    return [sys.executable, "-m", "CTDefaceLib", "batch", str(source), str(output), *where, *same]


def _killed_at(
    place: str, folder: Path, source: Path, expected: dict, before: dict, right: dict, kills: int, seed: int = 0
) -> dict:
    chance = random.Random(seed)
    output, private, temporary = folder / "out", folder / "out-private", folder / "tmp"
    temporary.mkdir()
    environment = {**ENVIRONMENT, "TMPDIR": str(temporary)}
    start = time.monotonic()
    finished, problems = {}, []
    with contextlib.ExitStack() as stack:
        if place == "dask":
            address, cluster = stack.enter_context(dask_cluster(folder, environment))
            where, boss = ["--scheduler", address], cluster
        else:
            where, boss = ["--workers", "0" if place == "process" else "2"], None
        of_run = of_worker = at_work = runs = 0
        while True:
            run = subprocess.Popen(
                _command(source, output, *where), env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True,
            )  # fmt: skip
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
                problems += _touched(finished, output)
            errors = run.communicate()[1]
            if run.returncode in (0, 3):
                break
            assert run.returncode == -signal.SIGKILL, errors
    problems += _touched(finished, output)
    results = batch_cases.hashes(output, ".nii.gz")
    problems += [f"{name}: not as an undisturbed batch makes it" for name in right if results.get(name) != right[name]]
    problems += batch_cases.problems(expected, source, output, private, before)
    if of_run + of_worker < kills:
        problems.append(f"only {of_run + of_worker} kills: too few scans for more")
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
        "at the end": dict(Counter(row["status"] for row in rows)),
        "the same as undisturbed": f"{sum(results.get(name) == right[name] for name in right)} of {len(right)}",
        "temporary files left": [str(path) for path in temporary.rglob("*") if DASK_OWN not in path.parts],
        "problems": problems,
    }


def _touched(finished: dict[Path, tuple], output: Path) -> list[str]:
    """Results that are not what they were when they were first seen; `finished` remembers them."""
    now = {path: path.stat() for path in output.rglob("*.nii.gz") if WORK_FOLDER not in path.parts}
    marks = {path: (stat.st_ino, stat.st_mtime_ns, stat.st_size) for path, stat in now.items()}
    found = [f"{path.name}: touched after it was finished" for path in finished if finished[path] != marks.get(path)]
    finished.update(marks)
    return found


def _attempts(private: Path) -> int:
    """How often a scan was begun."""
    with contextlib.suppress(sqlite3.Error):
        return sum(row["attempts"] for row in batch_cases.records(private).values())
    return 0


def full(folder: Path, scans: int) -> Iterator[dict]:
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
    yield {"scans": len(expected), "times full": len(sentences), "said": said, "problems": problems}


def throughput(folder: Path, scans: int, matrix: int) -> Iterator[dict]:
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
    for workers, threads in ((1, 1), (1, None), (2, 1)):
        ended, cpu = [], _cpu_seconds()
        output = folder / f"out {workers} {threads}"
        batch.run(
            source, output, workers=workers, threads=threads, gallery=False,
            report=lambda event, ended=ended: ended.append(time.monotonic()) if event["event"] == "ended" else None,
        )  # fmt: skip
        first = workers  # until then the workers start
        rate = 3600.0 * (len(ended) - first) / (ended[-1] - ended[first - 1])
        yield {
            "workers": workers,
            "threads each": threads or processors(),
            "per hour": round(rate),
            "CPU s each, with the start of the workers": round((_cpu_seconds() - cpu) / scans, 2),
        }


def many(folder: Path, scans: int, workers: int) -> Iterator[dict]:
    """Seconds for each scan and memory of the parent, planning and gallery included."""
    source = folder / "in"
    source.mkdir()
    for number in range(scans):
        (source / f"{number}.nii").write_bytes(number.to_bytes(4, "little") * (16 + number % 500))
    place = Place.PROCESSES if workers else Place.HERE
    runner = RUNNERS[place]
    RUNNERS[place] = partial(runner, run=batch_cases.touched)
    try:
        moments, memory = [time.monotonic()], []

        def report(event):
            if event["event"] in ("planned", "ended"):
                moments.append(time.monotonic())
            if event["event"] == "planned" or len(moments) % 50 == 0:
                memory.append(_megabytes())

        batch.run(source, folder / "out", workers=workers, report=report)
        end = time.monotonic()
    finally:
        RUNNERS[place] = runner
    each = [b - a for a, b in zip(moments[2:], moments[3:])]
    tenth = max(1, len(each) // 10)
    yield {
        "scans": scans,
        "workers": workers,
        "planning s": round(moments[1] - moments[0], 2),
        "ms each, first tenth": round(1000 * sum(each[:tenth]) / tenth, 2),
        "ms each, last tenth": round(1000 * sum(each[-tenth:]) / tenth, 2),
        "summing up s": round(end - moments[-1], 2),
        "parent MB, planned": memory[0],
        "parent MB, end": memory[-1],
        "parent MB, most": round(peak_bytes() / 1e6),
    }


def gallery(folder: Path, scans: int) -> Iterator[dict]:
    """Seconds until the page is there and drawn, and until it has followed what its user does."""
    rows = [gallery_cases.row(n, status="done" if n % 50 else "failed") for n in range(scans)]
    path, seconds = gallery_cases.make_gallery(folder / "gallery", rows, range(scans)), {}
    drawn = "Promise.all([...document.querySelectorAll('.row img')].map(image => image.decode())).then(() => 1)"

    def timed(what: str, *actions: Callable[[], object]) -> None:
        start = time.monotonic()
        for action in actions:
            action()
        page.js(drawn)
        seconds[what] = round(time.monotonic() - start, 2)

    with chromium.Page(folder) as page:
        timed("opened", lambda: page.open(path))
        timed("sorted by time", lambda: page.click("#sort-seconds"))
        timed("sorted by status", lambda: page.click("#sort-sentence"))
        timed("found", lambda: page.press("/"), lambda: page.call("Input.insertText", text="failed"), page.settle)
        timed("decided", lambda: page.press("Escape", "s"))
        timed("at the end", lambda: page.press("End"))
        assert page.js("shown.length") == sum(row["status"] == "failed" for row in rows)
        assert page.js("document.querySelectorAll('.row').length") < 30
        heap = page.js("performance.memory.usedJSHeapSize")
        yield {"scans": scans, "seconds": seconds, "script's MB": round(heap / 1e6), "problems": page.problems()}


def _cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _megabytes() -> int:
    with open("/proc/self/statm", encoding="utf-8") as file:
        return round(int(file.read().split()[1]) * resource.getpagesize() / 1e6)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["killed", "full", "throughput", "many", "gallery"])
    parser.add_argument("--scans", type=int, nargs="+", default=[200])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--places", nargs="+", default=["process", "workers", "dask"])
    parser.add_argument("--every", type=int, default=1, help="compare that share of the results with undisturbed ones")
    parser.add_argument("--matrix", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    if args.what == "killed":
        jobs = [partial(killed, scans=args.scans[0] - 20, kills=args.kills, places=args.places, every=args.every)]
    elif args.what == "full":
        jobs = [partial(full, scans=args.scans[0] - 20)]
    elif args.what == "throughput":
        jobs = [partial(throughput, scans=args.scans[0], matrix=args.matrix)]
    elif args.what == "gallery":
        jobs = [partial(gallery, scans=scans) for scans in args.scans]
    else:
        jobs = [partial(many, scans=scans, workers=args.workers) for scans in args.scans]
    failed = False
    for job in jobs:
        folder = Path(tempfile.mkdtemp(prefix="ctdeface-bench-"))
        try:
            for figures in job(folder):
                print(json.dumps(figures, indent=1, ensure_ascii=False), flush=True)
                failed |= bool(figures.get("problems") or figures.get("temporary files left"))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
