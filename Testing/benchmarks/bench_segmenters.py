"""Time TotalSegmentator's face model in the background process against its command and its bare functions.

    python Testing/benchmarks/bench_segmenters.py [--phantoms 5] [--size 128] [--rounds 1]

Run it with a Python that has TotalSegmentator. The weights are the tiny ones of the tests, so that everything around
the network shows: with real weights the network takes most of the time, and the last three rows come together.

- ``command``: ``TotalSegmentator -ta face`` for each scan
- ``api``: ``totalsegmentator(…)`` for each scan, in one process; each call starts processes that import torch again
- ``api, model kept``: the same, with the prediction in the same process by a model that stays loaded
- ``worker``: the background process of CTDeface; it also finds the head and measures the mask
- ``bare``: reading, resampling as TotalSegmentator does, and nnUNetPredictor with a loaded model: nothing else

``first`` is from the start of the process to the first mask, ``each`` the median of the others, ``processor`` the
median of their processor seconds, with those of the processes that were started. The scans of all ways are done in
turn, so that other work on the machine slows all alike; where there is much of it, the processor seconds tell more.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "CTDeface"), str(ROOT / "Testing")]

import SimpleITK as sitk  # noqa: E402

WAYS = ("command", "api", "api, model kept", "worker", "bare")
MODEL = ROOT / "Testing" / "data" / "nnunet" / "Dataset303_face_1559subj"


def serve(way: str) -> None:
    """Segment the scans whose paths come on standard input, and answer with the path of the mask."""
    import numpy as np

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get among the answers
    run = _bare() if way == "bare" else _api(kept=way == "api, model kept")
    for line in sys.stdin:
        path = line.strip()
        np.save(path + ".mask.npy", run(path))
        print("done", file=answers, flush=True)


def _bare():
    import nibabel
    import numpy as np
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from totalsegmentator.resampling import change_spacing

    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(next(MODEL.iterdir())), (0,))

    def run(path: str):
        stored = nibabel.load(path)
        scan = nibabel.as_closest_canonical(stored)
        small = change_spacing(scan, 1.5, order=1, dtype=np.int32)
        found = predictor.predict_single_npy_array(
            np.asarray(small.dataobj, np.float32).T[None],
            {"spacing": [float(s) for s in small.header.get_zooms()[::-1]]},
        )
        labels = nibabel.Nifti1Image(found.T.astype(np.uint8), small.affine)
        labels = change_spacing(labels, target_shape=scan.shape, order=0, dtype=np.uint8, force_affine=scan.affine)
        there = nibabel.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], nibabel.io_orientation(stored.affine))
        return np.asarray(labels.as_reoriented(there).dataobj).T

    return run


def _api(kept: bool):
    import nibabel
    import numpy as np
    from totalsegmentator import nnunet
    from totalsegmentator.python_api import totalsegmentator

    if kept:
        import torch

        predictor = nnunet.nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(next(MODEL.iterdir())), (0,))
        nnunet.nnUNetv2_predict = lambda source, target, *_, **__: predictor.predict_from_files_sequential(
            str(source), str(target)
        )
    return lambda path: (
        np.asarray(totalsegmentator(nibabel.load(path), None, task="face", device="cpu", quiet=True).dataobj).T
    )


class Server:
    """One of the ways, as a process."""

    def __init__(self, way: str, folder: Path):
        self.way, self.folder, self.count = way, folder / way.replace(", ", "-").replace(" ", "-"), 0
        self.folder.mkdir()
        if way == "worker":
            command = [sys.executable, "-m", "CTDefaceLib.worker", str(self.folder)]
        else:
            command = [sys.executable, __file__, "--serve", way]
        self.process = None
        if way != "command":
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT / "CTDeface")},
            )

    def segment(self, path: Path):
        """Mask of a scan, shape (z, y, x)."""
        import numpy as np

        self.count += 1
        if self.way == "command":
            output = self.folder / f"{self.count}.nii.gz"
            program = Path(sys.executable).with_name("TotalSegmentator")
            options = ["-i", str(path), "-o", str(output), "-ta", "face", "--ml", "-d", "cpu", "-q"]
            subprocess.run([str(program), *options], check=True, capture_output=True)
            return sitk.GetArrayFromImage(sitk.ReadImage(str(output))) > 0
        if self.way == "worker":
            return self._by_worker(path)
        self._write(str(path))
        assert self.process.stdout.readline() == "done\n", f"{self.way} failed"
        return np.load(f"{path}.mask.npy") > 0

    def _by_worker(self, path: Path):
        import numpy as np
        from CTDefaceLib import tasks

        image = sitk.ReadImage(str(path))
        geometry = image.GetSpacing(), image.GetOrigin(), image.GetDirection()
        volume = tasks.write_volume(
            sitk.GetArrayViewFromImage(image), self.folder / "image.npy", *geometry, key=str(self.count)
        )
        result = str(self.folder / "result.npy")
        task = tasks.Segment("totalsegmentator", {"device": "cpu"})
        self._write(tasks.to_line(tasks.Job(self.count, task, result, volume)))
        while True:
            answer = tasks.from_line(self.process.stdout.readline(), tasks.ANSWERS)
            if isinstance(answer, tasks.Done):
                return np.load(result) > 0
            assert not isinstance(answer, tasks.Failed), answer

    def processor_seconds(self) -> float:
        """That the process and those that it started and waited for took so far; Linux only."""
        if self.way == "command":
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            return used.ru_utime + used.ru_stime
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def _write(self, line: str) -> None:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def close(self) -> None:
        if self.process:
            self.process.stdin.close()
            self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phantoms", type=int, default=5)
    parser.add_argument("--size", type=int, default=128, help="columns and rows of a scan (256 mm)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each scan is done")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--serve", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
        return
    with tempfile.TemporaryDirectory() as name:
        measure(args, Path(name))


def measure(args: argparse.Namespace, folder: Path) -> None:
    from CTDefaceLib.phantom import PhantomParameters, make_phantom
    from models import dice, make_home

    os.environ["TOTALSEG_HOME_DIR"] = str(make_home(folder / "home"))
    spacing = 256.0 / args.size
    paths = []
    for person in range(args.phantoms):
        parameters = PhantomParameters(person=person, matrix=(args.size, args.size), spacing=(spacing, spacing, 2.0))
        paths.append(folder / f"{person}.nii.gz")
        sitk.WriteImage(make_phantom(parameters).image, str(paths[-1]))
    seconds, masks, servers = {way: [] for way in args.ways}, {}, {}
    processor = {way: [] for way in args.ways}
    for path in paths * args.rounds:
        for way in args.ways:
            start = time.perf_counter()
            if way not in servers:
                servers[way] = Server(way, folder)
            before = servers[way].processor_seconds()
            masks[way, path] = servers[way].segment(path)
            seconds[way].append(time.perf_counter() - start)
            processor[way].append(servers[way].processor_seconds() - before)
    for server in servers.values():
        server.close()

    print(f"{len(paths)} phantoms, {sitk.ReadImage(str(paths[0])).GetSize()} voxels, load {os.getloadavg()[0]:.1f}")
    each = {way: statistics.median(values[1:]) for way, values in seconds.items()}
    work = {way: statistics.median(values[1:]) for way, values in processor.items()}
    for way in args.ways:
        alike = min(dice(masks[way, path], masks[args.ways[-1], path]) for path in paths)
        print(
            f"{way:16s} first {seconds[way][0]:6.2f} s   each {each[way]:6.2f} s   processor {work[way]:6.2f} s   "
            f"all {sum(seconds[way]):7.2f} s   Dice with {args.ways[-1]} {alike:.4f}"
        )
    if "worker" in each:
        for way in args.ways:
            print(f"throughput of the worker, {way} = 1: {sum(seconds[way]) / sum(seconds['worker']):.2f}", end="; ")
            print(f"each scan: {each['worker'] / each[way]:.2f}; processor: {work['worker'] / work[way]:.2f}")


if __name__ == "__main__":
    main()
