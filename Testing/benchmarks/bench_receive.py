"""A DICOM node between dcmtk's storescu and Orthanc, on loopback: killed again and again, and throughput.

    python Testing/benchmarks/bench_receive.py killed --studies 50 --kills 20
    python Testing/benchmarks/bench_receive.py throughput --studies 12 --matrix 256

``killed`` sends small synthetic studies, some with two series, some with a scout, some without a head, while at random
moments the node, the sender or the receiver ends by SIGKILL, or the disk of the node is full (as root, to mount one). A
sender goes on with the study that it was at until every image of it was taken. In the end every image has to lie at the
receiver, defaced and once, or in quarantine; nothing at the receiver may be undefaced; and without its quarantine the
node must hold nothing of any patient. ``throughput`` compares with ``ctdeface batch`` on the same studies.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT / folder) for folder in ("CTDeface", "CTDefaceEval", "Testing")]

import dicom_files  # noqa: E402
import numpy as np  # noqa: E402
import pydicom  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from coarse_phantoms import scan  # noqa: E402
from CTDefaceLib.dicom.pseudonyms import Pseudonyms  # noqa: E402
from CTDefaceLib.dicom.write import METHOD  # noqa: E402
from CTDefaceLib.pacs.hashes import name_of  # noqa: E402
from CTDefaceLib.pacs.queue import QUARANTINE  # noqa: E402
from CTDefaceLib.pacs.record import State, read_record  # noqa: E402
from CTDefaceLib.private import read_secret  # noqa: E402
from dicom_servers import free_port, start_orthanc  # noqa: E402
from processes import wait_for  # noqa: E402
from pydicom.uid import generate_uid  # noqa: E402

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
QUIET_SECONDS = 4
DISK_MEGABYTES = 200
PEOPLE = 4


def make_studies(folder: Path, count: int, plain: bool = False, matrix: int = 128) -> list[Path]:
    """Studies of synthetic people: the folder of each. Plain ones have one series of a head."""
    studies, size = [], 256.0 / matrix
    for number in range(count):
        image = scan(person=number % PEOPLE, matrix=(matrix, matrix), spacing=(size, size, 2.0 * size)).image
        tags = dict(
            StudyInstanceUID=generate_uid(),
            FrameOfReferenceUID=generate_uid(),
            PatientID=f"PID{number:04}-0815",
            PatientName=f"Doe{number:04}^Jane",
        )
        study = folder / f"study{number:03}"
        if not plain and number % 5 == 4:  # a phantom of water, which is no head
            image = sitk.Image(image.GetSize(), sitk.sitkInt16) - 1000
            image[30:90, 30:90, 5:50] = 0
        dicom_files.write_series(study / "a", image, SeriesNumber=2, **tags)
        if not plain and number % 3 == 1:
            smooth = sitk.SmoothingRecursiveGaussian(sitk.Cast(image, sitk.sitkFloat32), 1.5)
            dicom_files.write_series(study / "b", sitk.Cast(smooth, sitk.sitkInt16), SeriesNumber=3, **tags)
        if not plain and number % 4 == 2:
            scout = dicom_files.slice_header(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], **tags)
            scout.file_meta.MediaStorageSOPClassUID = scout.SOPClassUID
            scout.file_meta.MediaStorageSOPInstanceUID = scout.SOPInstanceUID
            scout.save_as(study / "scout.dcm", enforce_file_format=True)
        studies.append(study)
    return studies


@dataclass
class Site:
    """The node, the receiver and the sender of a run; each can be killed, and starts again by itself or is started."""

    folder: Path
    workers: int
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in ("node", "dicom", "http")})
    programs: dict[str, subprocess.Popen] = field(default_factory=dict)
    sender: subprocess.Popen | None = None

    @property
    def node(self) -> Path:
        return self.folder / "disk" / "node"

    def start_node(self) -> None:
        log, marker = self.folder / "node.log", f"port {self.ports['node']}"
        before = log.read_text().count(marker) if log.exists() else 0
        command = [
            sys.executable, "-m", "CTDefaceLib", "receive", str(self.node), "--to",
            f"RESEARCH@127.0.0.1:{self.ports['dicom']}", "--port", str(self.ports["node"]), "--quiet",
            str(QUIET_SECONDS), "--workers", str(self.workers), "--keep-free", "20",
        ]  # fmt: skip
        with open(log, "a", encoding="utf-8") as file:
            self.programs["node"] = subprocess.Popen(command, env=ENVIRONMENT, stderr=file)
        wait_for(lambda: log.read_text().count(marker) > before, 180)

    def start_receiver(self) -> None:
        (self.folder / "orthanc").mkdir(exist_ok=True)
        self.programs["receiver"] = start_orthanc(
            self.folder / "orthanc", self.ports["dicom"], self.ports["http"], DicomAet="RESEARCH",
        )  # fmt: skip

    def kill(self, name: str) -> None:
        self.programs[name].kill()
        self.programs[name].wait()

    def send(self, study: Path) -> bool:
        """Whether every image of a study was taken."""
        command = ["storescu", "-aec", "CTDEFACE", "-to", "20", "+sd", "+r", "127.0.0.1", str(self.ports["node"])]
        self.sender = subprocess.Popen([*command, str(study)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self.sender.wait() == 0

    def send_all(self, studies: list[Path]) -> int:
        """Send studies one after the other, each until it was taken: how often one had to be sent again."""
        again = 0
        for study in studies:
            while not self.send(study):
                again += 1
                time.sleep(0.5)
        return again

    def ask(self, path: str) -> bytes:
        return urllib.request.urlopen(f"http://127.0.0.1:{self.ports['http']}{path}", timeout=60).read()

    def settled(self, count: int) -> bool:
        done = (State.FORWARDED, State.QUARANTINED)
        studies = read_record(self.node)
        return len(studies) == count and all(one.state in done for one in studies)


@contextlib.contextmanager
def site(folder: Path, workers: int, small_disk: bool) -> Iterator[Site]:
    there = Site(folder, workers)
    (folder / "disk").mkdir()
    if small_disk:
        options = ["-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs"]
        subprocess.run(["mount", *options, str(folder / "disk")], check=True)
    try:
        there.start_receiver()
        there.start_node()
        yield there
    finally:
        for program in there.programs.values():
            program.terminate()
            program.wait()
        if small_disk:
            time.sleep(1.0)  # the node's processes end with it
            subprocess.run(["umount", "-l", str(folder / "disk")], check=True)


def killed(folder: Path, studies: int, kills: int, workers: int, seed: int) -> Iterator[dict]:
    """What became of all images, and what is wrong with that."""
    chance, sources = random.Random(seed), make_studies(folder / "in", studies)
    has_root = hasattr(os, "geteuid") and os.geteuid() == 0
    what = ["node", "sender", "receiver", *["disk full"] * has_root]
    done: Counter[str] = Counter()
    with site(folder, workers, has_root) as there:
        again: list[int] = []
        sending = threading.Thread(target=lambda: again.append(there.send_all(sources)), daemon=True)
        sending.start()
        for number in range(kills):
            time.sleep(chance.uniform(1.0, 8.0))
            event = what[number % len(what)]
            done[event] += 1
            _disturb(there, event, chance)
        sending.join()
        wait_for(lambda: there.settled(studies), 3600)
        yield {"studies": studies, "killed": dict(done), "sent again": again[0], **_figures(there, sources)}


def _disturb(there: Site, event: str, chance: random.Random) -> None:
    if event == "node":
        there.kill("node")
        there.start_node()
    elif event == "sender" and there.sender:
        there.sender.kill()
    elif event == "receiver":
        there.kill("receiver")
        time.sleep(chance.uniform(1.0, 10.0))
        there.start_receiver()
    elif event == "disk full":
        filler = there.node.parent / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
        time.sleep(chance.uniform(2.0, 8.0))
        filler.unlink()


def _figures(there: Site, sources: list[Path]) -> dict:
    secret = read_secret(there.node / "secret.key")
    pseudonyms, problems = Pseudonyms(secret), Counter()
    originals = [pydicom.dcmread(path) for study in sources for path in sorted(study.rglob("*.dcm"))]
    expected = {pseudonyms.uid(one.SOPInstanceUID): one for one in originals}
    arrived: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    for number in json.loads(there.ask("/instances")):
        image = pydicom.dcmread(BytesIO(there.ask(f"/instances/{number}/file")))
        arrived[image.SOPInstanceUID] += 1
        original = expected.get(image.SOPInstanceUID)
        if original is None or METHOD not in image.get("DeidentificationMethod", ()):
            problems["undefaced at the receiver"] += 1
            continue
        changed[original.StudyInstanceUID] += int((np.asarray(image.pixel_array) != original.pixel_array).sum())
    problems["study at the receiver with its face"] = sum(not count for count in changed.values())
    problems["twice at the receiver"] = sum(count > 1 for count in arrived.values())
    quarantine = {path.stem for path in (there.node / QUARANTINE).rglob("*.dcm")}
    places = Counter(
        (uid in arrived, name_of(secret, "image", original.SOPInstanceUID) in quarantine)
        for uid, original in expected.items()
    )
    problems["nowhere"], problems["in both places"] = places[False, False], places[True, True]
    states = Counter(str(one.state) for one in read_record(there.node))
    why = Counter(path.read_text().split("\n")[0][:70] for path in (there.node / QUARANTINE).glob("*/why.txt"))
    shutil.rmtree(there.node / QUARANTINE)
    left = b"".join(path.read_bytes() for path in there.node.rglob("*") if path.is_file())
    left += (there.folder / "node.log").read_bytes()
    names = {text for one in originals for text in (one.PatientID, str(one.PatientName), one.StudyInstanceUID)}
    names |= {one.SOPInstanceUID for one in originals}
    problems["identifiers left on the disk of the node"] = sum(name.encode() in left for name in names)
    return {
        "images": len(originals),
        "at the receiver, defaced": places[True, False],
        "in quarantine": places[False, True],
        "states": dict(states),
        "why in quarantine": dict(why),
        "bytes left on the disk of the node": len(left),
        "problems": {text: count for text, count in problems.items() if count},
    }


def throughput(folder: Path, studies: int, workers: int, matrix: int) -> Iterator[dict]:
    """Studies per hour of the node and of the batch; and processor time, which does not depend on what else runs."""
    sources = make_studies(folder / "in", studies, plain=True, matrix=matrix)
    start, cpu = time.monotonic(), _cpu_seconds()
    command = [
        sys.executable, "-m", "CTDefaceLib", "batch", str(folder / "in"), str(folder / "out"), "--format", ".dicom",
        "--no-gallery", "--workers", str(workers),
    ]  # fmt: skip
    subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True)
    batch, of_batch = time.monotonic() - start, _cpu_seconds() - cpu
    cpu = _cpu_seconds()
    with site(folder, workers, small_disk=False) as there:
        start = time.monotonic()
        there.send_all(sources)
        sent = time.monotonic() - start
        wait_for(lambda: there.settled(studies), 3600)
        node = time.monotonic() - start
        problems = _figures(there, sources)["problems"]
    yield {
        "studies": studies,
        "workers": workers,
        "batch, s": round(batch, 1),
        "node, s": round(node, 1),
        "of which sending, s": round(sent, 1),
        "of which quiet, s": QUIET_SECONDS,
        "throughput against the batch": round(batch / node, 2),
        "without the quiet time": round(batch / (node - QUIET_SECONDS), 2),
        "CPU s of the batch": round(of_batch, 1),
        "CPU s of node, sender and receiver": round(_cpu_seconds() - cpu, 1),
        "problems": problems,
    }


def _cpu_seconds() -> float:
    """Of processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["killed", "throughput"])
    parser.add_argument("--studies", type=int, default=50)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--matrix", type=int, default=128, help="for throughput; larger ones have more slices, too")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    job = {
        "killed": partial(killed, studies=args.studies, kills=args.kills, workers=args.workers, seed=args.seed),
        "throughput": partial(throughput, studies=args.studies, workers=args.workers, matrix=args.matrix),
    }[args.what]
    folder, failed = Path(tempfile.mkdtemp(prefix="ctdeface-bench-")), False
    try:
        for figures in job(folder):
            print(json.dumps(figures, indent=1, ensure_ascii=False), flush=True)
            failed |= bool(figures["problems"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
