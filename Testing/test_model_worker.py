"""The background process and batches with a trained model: kept loaded, cancelled, killed, without room."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import processes
import pytest
import SimpleITK as sitk
from coarse_phantoms import scan, voxels
from models import CTA_DEFACE, PLACEHOLDER, dice, make_home

resource = pytest.importorskip("resource", reason="limits of processes are POSIX")
for needed in ("torch", "nnunetv2"):
    pytest.importorskip(
        needed, reason="needs PyTorch and nnU-Net: pip install 'ctdeface[nnunet]'", exc_type=ImportError
    )

from CTDefaceLib import batch, tasks  # noqa: E402
from CTDefaceLib.errors import CTDefaceError  # noqa: E402
from CTDefaceLib.pipeline import DefaceParameters, segment  # noqa: E402
from CTDefaceLib.processes import end_process_group  # noqa: E402
from CTDefaceLib.volume_io import write_volume  # noqa: E402

pytestmark = pytest.mark.skipif(not processes.PROC.is_dir(), reason="looks at processes in /proc")
CPU = dict(weights=str(CTA_DEFACE), device="cpu")
SEGMENT = tasks.Segment("cta-deface", CPU)


class Worker:
    """A background process, in the working directory that it would have in Slicer."""

    def __init__(self, folder: Path, **environment: str):
        folder.mkdir()
        self.folder, self.count = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "CTDefaceLib.worker", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        )
        assert self.read().pid == self.process.pid

    def read(self):
        return tasks.from_line(self.process.stdout.readline(), tasks.ANSWERS)

    def send(self, task, image: sitk.Image) -> None:
        self.count += 1
        geometry = image.GetSpacing(), image.GetOrigin(), image.GetDirection()
        path = self.folder / f"image{self.count}.npy"
        volume = tasks.write_volume(voxels(image), path, *geometry, key=str(self.count))
        job = tasks.Job(self.count, task, str(self.folder / f"result{self.count}.npy"), volume)
        self.process.stdin.write(tasks.to_line(job) + "\n")
        self.process.stdin.flush()

    def answers(self):
        """What it says until the job has ended."""
        while True:
            answer = self.read()
            yield answer
            if not isinstance(answer, tasks.Progress):
                return

    def mask(self) -> np.ndarray:
        return np.load(self.folder / f"result{self.count}.npy") > 0

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def started(tmp_path):
    """Starts workers; afterwards none of their processes is left."""
    workers = []

    def start(name="wörker", **environment):
        workers.append(Worker(tmp_path / name, **environment))
        return workers[-1]

    yield start
    for one in workers:
        if one.process.poll() is None:
            one.close()
        assert not processes.with_argument(str(one.folder)) and not one.folder.exists()


def test_one_scan_after_the_other_with_progress_in_tiles(started):
    one = started()
    for person in (0, 1):
        image = scan(person=person).image
        one.send(SEGMENT, image)
        answers = list(one.answers())
        assert answers[-1].report["mask_ml"] > 50, answers[-1]
        assert any(answer.text.startswith("Tile 2 of ") for answer in answers[:-1])
        here, _ = segment(image, "cta-deface", **CPU)
        assert dice(one.mask(), voxels(here) > 0) == 1
    assert processes.children(one.process.pid) == []


def test_totalsegmentator_in_the_worker(started, tmp_path):
    pytest.importorskip("totalsegmentator", reason="needs TotalSegmentator: pip install 'ctdeface[totalsegmentator]'")
    home = make_home(tmp_path / "home", send_usage_stats=True)
    one = started(TOTALSEG_HOME_DIR=str(home))
    one.send(tasks.Expect("totalsegmentator", {"device": "cpu"}), scan().image)
    expected = list(one.answers())[-1].report
    assert expected["seconds"] > 0 and expected["devices"][-1][0] == "cpu"
    one.send(tasks.Segment("totalsegmentator", {"device": "cpu"}), scan().image)
    said = list(one.answers())
    assert said[-1].report["model"]["dataset"] == "Dataset303_face_1559subj" and PLACEHOLDER not in repr(said)
    assert json.loads((home / "config.json").read_text())["send_usage_stats"] is True, "left as it is"
    left = {path.name for path in one.folder.iterdir()}
    assert {name for name in left if not name.startswith("torchinductor")} == {"result2.npy"}
    (home / "config.json").unlink()
    one.send(tasks.Segment("totalsegmentator", {"device": "cpu"}), scan().image)
    last = list(one.answers())[-1]
    assert last.kind == "NotReadyError" and "licence key" in last.sentence


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_a_worker_that_is_stopped_leaves_nothing(end, started, tmp_path):
    one = started()
    one.send(SEGMENT, sitk.Expand(scan().image, [2, 2, 2]))
    for answer in one.answers():
        if answer.text.startswith("Tile"):
            break
    if end == "closed":
        one.process.stdin.close()
    else:
        end_process_group(one.process.pid)
        shutil.rmtree(one.folder)  # as the panel does
    one.process.wait(20)
    assert not one.folder.exists() and not processes.with_argument(str(one.folder))
    one.process.stdout.close()
    one.process.stderr.close()


def test_one_that_runs_out_of_memory_says_so_or_dies_and_the_next_one_works(started):
    one = started("small")
    one.send(SEGMENT, scan().image)
    assert isinstance(list(one.answers())[-1], tasks.Done)
    used = int((processes.PROC / str(one.process.pid) / "statm").read_text().split()[0]) * resource.getpagesize()
    room = used + 400 * 2**20  # the next scan, 64 × larger, needs more
    resource.prlimit(one.process.pid, resource.RLIMIT_AS, (room, room))
    one.send(SEGMENT, sitk.Expand(scan().image, [4, 4, 4]))
    try:
        last = list(one.answers())[-1]
        assert last.kind == "MemoryError" and "not enough memory" in last.sentence
    except json.JSONDecodeError:
        one.process.wait(10)
        shutil.rmtree(one.folder)
    other = started("next")
    other.send(SEGMENT, scan().image)
    assert isinstance(list(other.answers())[-1], tasks.Done)


def test_a_full_disk_is_one_sentence(started):
    one = started()
    resource.prlimit(one.process.pid, resource.RLIMIT_FSIZE, (1000, 1000))
    one.send(SEGMENT, scan().image)
    last = list(one.answers())[-1]
    assert last.kind == "OutputError" and "could not be written" in last.sentence


def test_a_batch_whose_folder_of_weights_is_missing_does_not_begin(tmp_path):
    (tmp_path / "in").mkdir()
    write_volume(scan().image, tmp_path / "in" / "a.nii.gz")
    parameters = DefaceParameters("cta-deface", str(tmp_path / "none"))
    with pytest.raises(CTDefaceError, match="not there"):
        batch.run(tmp_path / "in", tmp_path / "out", parameters)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_batch(tmp_path):
    (tmp_path / "in").mkdir()
    for person in (0, 1):
        write_volume(scan(person=person).image, tmp_path / "in" / f"{person}.nii.gz")
    weights = shutil.copytree(CTA_DEFACE, tmp_path / "Jane Doe" / CTA_DEFACE.name)
    parameters = DefaceParameters("cta-deface", str(weights), device="cpu")
    summary = batch.run(tmp_path / "in", tmp_path / "out", parameters, workers=1, gallery=False)
    assert summary.all_done and sum(summary.counts.values()) == 2
    shared = [path for path in (tmp_path / "out").rglob("*.json")]
    assert len(shared) == 3
    for path in shared:
        assert "Jane" not in path.read_text()
    reports = [json.loads(path.read_text()) for path in shared if path.name != batch.SUMMARY]
    assert all(report["method"] == "cta-deface" and report["model"]["folds"] == ["all"] for report in reports)
    again = batch.run(tmp_path / "in", tmp_path / "out", DefaceParameters("cta-deface", str(weights)), gallery=False)
    assert again.counts == summary.counts, "another device is no other choice"


def test_interrupting_the_command_leaves_nothing(tmp_path):
    write_volume(sitk.Expand(scan().image, [2, 2, 2]), tmp_path / "head.nii")
    (tmp_path / "temporary").mkdir()
    command = ["deface", "head.nii", "out.nii", "--segmenter", "cta-deface", "--weights", str(CTA_DEFACE)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path / "temporary")}
    process = subprocess.Popen(
        [sys.executable, "-m", "CTDefaceLib", *command], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
    )
    processes.wait_for(lambda: "libtorch" in _maps(process.pid))
    time.sleep(4)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    process.stderr.close()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["head.nii", "temporary"]
    assert not processes.with_argument(str(tmp_path))


def _maps(pid: int) -> str:
    try:
        return (processes.PROC / str(pid) / "maps").read_text()
    except OSError:
        return ""
