"""Batches on a Dask cluster: workers that are killed, a run that is killed, what the cluster lacks."""

import gc
import os
import shutil
import signal
import subprocess
import sys
import time

import batch_cases
import processes
import pytest
import SimpleITK as sitk
from batch_cases import make_archive, problems
from CTDefaceLib import batch
from CTDefaceLib.batch import cluster as dask_runner
from CTDefaceLib.batch.job import WORK_FOLDER, Job, Outcome
from CTDefaceLib.batch.runner import Resources
from CTDefaceLib.batch.status import FINISHED, Status
from CTDefaceLib.errors import CTDefaceError
from dask_cluster import dask_cluster
from scipy import ndimage

pytest.importorskip("distributed", reason="needs Dask: pip install 'ctdeface[cluster]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not processes.PROC.is_dir(), reason="finds the workers in /proc"),
]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with dask_cluster(tmp_path_factory.mktemp("dask"), ENVIRONMENT) as (address, process):
        yield address, process.pid


@pytest.fixture
def folders(tmp_path):
    """Input, output and private folder."""
    return tmp_path / "my scäns", tmp_path / "out", tmp_path / "out-private"


def start_batch(source, output, address, environment=ENVIRONMENT):
    command = [sys.executable, "-m", "CTDefaceLib", "batch", str(source), str(output), "--scheduler", address]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, "--no-gallery"], env=environment, **pipes)


def kill_at_work(output, pid):
    """SIGKILL, once a scan is worked on."""
    processes.wait_for(lambda: any((output / WORK_FOLDER).glob("*/*")))
    os.kill(pid(), signal.SIGKILL)


def test_a_worker_and_the_run_are_killed_and_it_goes_on(cluster, folders):
    address, boss = cluster
    source, output, private = folders
    expected = make_archive(source, good=5, bad=["cut .nii", "no face in view"], copies=1)
    before = batch_cases.hashes(source)
    run = start_batch(source, output, address)
    kill_at_work(output, lambda: next(p for p in processes.children(boss) if "spawn_main" in processes.command_line(p)))
    kill_at_work(output, lambda: run.pid)
    run.communicate()
    run = start_batch(source, output, address)
    errors = run.communicate()[1]
    assert run.returncode == 3, errors
    assert problems(expected, source, output, private, before) == []


def sleep(job):
    time.sleep(600 * job.scan)
    return Outcome(Status.DONE)


def test_a_scan_that_takes_too_long_is_given_up(cluster, tmp_path):
    jobs = [Job(number, 1, "", "", "", str(tmp_path / "work" / "1"), "run") for number in (0, 1, 0)]
    ended = list(dask_runner.on_dask(jobs, lambda *_: None, Resources(scheduler=cluster[0], timeout=3), run=sleep))
    assert sorted(outcome.status for _, outcome in ended) == [Status.DONE, Status.DONE, Status.TIMED_OUT]
    assert "It took longer than 3 s." in [outcome.sentence for _, outcome in ended]


def test_a_cluster_that_goes_away_is_one_sentence(tmp_path):
    jobs = [Job(number, 1, "", "", "", str(tmp_path / "work" / "1"), "run") for number in (1, 2, 3)]
    with dask_cluster(tmp_path, ENVIRONMENT, workers=1) as (address, process):
        with pytest.raises(CTDefaceError, match="it goes on where it was"):
            list(dask_runner.on_dask(jobs, lambda *_: process.kill(), Resources(scheduler=address), run=sleep))


def test_what_the_cluster_lacks_is_one_sentence(cluster, folders, tmp_path, monkeypatch):
    source, output, _ = folders
    batch_cases.write(source / "a.nii", batch_cases.head())
    monkeypatch.setattr(dask_runner, "__version__", "0.0.0")
    with pytest.raises(CTDefaceError, match="install the same version"):
        batch.run(source, output, scheduler=cluster[0], gallery=False)
    monkeypatch.undo()
    there, nowhere = tmp_path / "out" / "work" / "1", tmp_path / "nowhere" / "a" / "b"
    for work, pictures, name in ((nowhere, there, "output"), (there, nowhere, "private")):
        job = Job(1, 1, "", "", "", str(work), "run", pictures=str(pictures))
        with pytest.raises(CTDefaceError, match=f"do not see the {name} folder"):
            list(dask_runner.on_dask([job], lambda *_: None, Resources(scheduler=cluster[0])))
    with pytest.raises(CTDefaceError, match="cannot be reached") as caught:
        batch.run(source, output, scheduler="nonsense://here", gallery=False)
    clients = [one for one in gc.get_objects() if type(one).__name__ == "Client" and one.status != "closed"]
    assert clients == [], f"{caught.value!r} keeps one whose end can stop the next one's start for ever"


def test_a_cluster_that_only_lets_in_who_has_its_certificate(tmp_path, folders):
    """As the README says: TLS from Dask's own configuration; without it, a sentence."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=dask", "-days", "2"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    tls = {"CA_FILE": certificate, **{f"{role}__{name}": path for role in ("SCHEDULER", "WORKER", "CLIENT")
                                      for name, path in (("CERT", certificate), ("KEY", key))}}  # fmt: skip
    secure = {**ENVIRONMENT, **{f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(path) for name, path in tls.items()}}
    secure["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] = "True"
    source, output, private = folders
    expected = make_archive(source, good=2, bad=[], copies=0)
    before = batch_cases.hashes(source)
    with dask_cluster(tmp_path, secure, "tls://", workers=1) as (address, _):
        assert address.startswith("tls://")
        run = start_batch(source, output, address, {**ENVIRONMENT, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "2s"})
        assert "cannot be reached" in run.communicate()[1] and run.returncode == 1
        run = start_batch(source, output, address, secure)
        assert run.wait() == 0, run.communicate()[1]
    assert problems(expected, source, output, private, before) == []


def test_a_study_has_one_face_on_a_cluster_too(cluster, folders):
    source, output, private = folders
    first = batch_cases.head("upper_lip")
    for number, image in enumerate((first, first + 10), 1):
        batch_cases.write(source / f"sub-1_run-{number}_ct.nii", image)
    batch.run(source, output, choices=batch.Choices(ending=".nii"), scheduler=cluster[0], gallery=False)
    regions = []
    for place, row in batch_cases.records(private).items():
        assert row["status"] in FINISHED, row["sentence"]
        old, new = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (
            source / place, output / f"{row['output']}.nii"
        ))  # fmt: skip
        regions.append(ndimage.binary_closing(old != new, iterations=2))
    assert len(regions) == 2 and (regions[0] ^ regions[1]).sum() < 0.02 * regions[0].sum()
