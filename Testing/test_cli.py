"""The command line around a stand-in for the pipeline; the end-to-end tests at the bottom use the real one."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import types
from contextlib import suppress
from pathlib import Path

import dicom_files
import numpy as np
import pytest
import SimpleITK as sitk
from CTDefaceLib import __version__
from CTDefaceLib.commands.deface import MASK_WARNING
from CTDefaceLib.commands.main import main
from CTDefaceLib.errors import NoFaceError
from CTDefaceLib.phantom import PhantomParameters
from CTDefaceLib.study import volumes
from stored_phantoms import stored_phantom
from test_volume_io import small_ct

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # as pytest set it, for processes of their own

STAND_IN = """
import dataclasses, time, types
import SimpleITK as sitk

@dataclasses.dataclass
class DefaceParameters:
    segmenter: str = "builtin"
    margin_mm: float = 5.0
    as_is: bool = False
    strength: str = "standard"
    depth_mm: float | None = None
    ears: bool | None = None
    fill: str = "smooth"
    percentile: float = 10.0
    constant: float = -1000.0
    blur_mm: float = 10.0
    keep_margin_mm: float = 2.0
    seed: int | None = None
    choice = None

DefaceResult = types.SimpleNamespace

def deface(image, parameters, mask=None, kept=(), secret=None, patient="", progress=None, cancelled=None):
    calls.append(parameters)
    if delay:
        print("started", flush=True)
    progress(0.5, "Working")
    time.sleep(delay)
    mask = sitk.Cast(image > 200, sitk.sitkUInt8)
    report = dict(replaced_ml=12.0, seconds=0.1, intracranial_voxels_touched=0, warnings=["from the pipeline"])
    return types.SimpleNamespace(image=sitk.Mask(image, mask == 0, -1000), mask=mask, region=mask, report=report)

calls = []
delay = 0
"""


@pytest.fixture
def pipeline(monkeypatch):
    module = types.ModuleType("CTDefaceLib.pipeline")
    exec(STAND_IN, module.__dict__)
    monkeypatch.setattr(volumes, "deface", lambda *args, **choices: module.deface(*args, **choices))
    monkeypatch.setitem(sys.modules, "CTDefaceLib.pipeline", module)
    return module


@pytest.fixture
def scan(tmp_path, monkeypatch):
    """A folder with nothing but head.nii.gz, which is the working directory."""
    folder = tmp_path / "my scäns"
    folder.mkdir()
    monkeypatch.chdir(folder)
    sitk.WriteImage(small_ct(), "head.nii.gz")
    return small_ct()


def run(*args):
    try:
        return main([str(arg) for arg in args])
    except SystemExit as exit:
        return exit.code


def test_defaces_and_reports(pipeline, scan, capfd):
    assert run("deface", "head.nii.gz", "out.nrrd") == 0
    assert sorted(os.listdir()) == ["head.nii.gz", "out.json", "out.nrrd"]
    result = sitk.ReadImage("out.nrrd")
    assert result.GetPixelID() == scan.GetPixelID()
    assert sitk.GetArrayFromImage(result).max() <= 200
    report = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert report["replaced_ml"] == 12
    assert report["warnings"] == ["from the pipeline"]
    out, err = capfd.readouterr()
    assert out == "" and err == "ctdeface: warning: from the pipeline\n"


def test_options_reach_the_pipeline(pipeline, scan):
    assert run("deface", "head.nii.gz", "a.nii") == 0
    assert run("deface", "head.nii.gz", "b.nii", "--margin", 7, "--keep-bone", "--depth", 12, "--seed", 3) == 0
    assert run("deface", "head.nii.gz", "c.nii", "--fill", "percentile", "--percentile", 5) == 0
    assert run("deface", "head.nii.gz", "d.nii", "--fill", "constant", "--constant", -900) == 0
    assert run("deface", "head.nii.gz", "e.nii", "--fill", "blur", "--blur", 4) == 0
    default = pipeline.DefaceParameters()
    changes = [
        {},
        {"margin_mm": 7, "strength": "light", "depth_mm": 12, "seed": 3},
        {"fill": "percentile", "percentile": 5},
        {"fill": "constant", "constant": -900},
        {"fill": "blur", "blur_mm": 4},
    ]
    assert pipeline.calls == [dataclasses.replace(default, **change) for change in changes]


def test_mask_comes_with_a_warning(pipeline, scan, capfd):
    assert run("deface", "head.nii.gz", "out.mha", "--mask", "mask.nii.gz", "--report", "report.json") == 0
    assert sorted(os.listdir()) == ["head.nii.gz", "mask.nii.gz", "out.mha", "report.json"]
    assert set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage("mask.nii.gz")))) == {0, 1}
    assert MASK_WARNING in json.loads(Path("report.json").read_text(encoding="utf-8"))["warnings"]
    assert MASK_WARNING in capfd.readouterr().err


def test_dicom_folder_and_what_the_reader_says(pipeline, scan):
    dicom_files.write_series("Doe Jane", scan, RescaleIntercept=0)
    with np.errstate(all="ignore"):
        assert run("deface", "Doe Jane", "out.nii.gz") == 0
    text = Path("out.json").read_text(encoding="utf-8")
    assert "1024 was subtracted" in json.loads(text)["warnings"][0]
    assert "Doe" not in text and "4711" not in text


@pytest.mark.parametrize(
    "args, words",
    [
        ([], "required"),
        (["deface", "head.nii.gz"], "required"),
        (["deface", "head.nii.gz", "out.png"], "written as"),
        (["deface", "head.nii.gz", "out"], "written as"),
        (["deface", "head.nii.gz", "no folder/out.nii"], "does not exist"),
        (["deface", "head.nii.gz", "head.nii.gz"], "the input itself"),
        (["deface", "head.nii.gz", "head.nii.gz", "--overwrite"], "the input itself"),
        (["deface", "head.nii.gz", "./../my scäns/head.nii.gz", "--overwrite"], "the input itself"),
        (["deface", "head.nii.gz", "link.nii.gz", "--overwrite"], "the input itself"),
        (["deface", "head.nii.gz", "out.nii", "--mask", "link.nii.gz", "--overwrite"], "--mask: This is the input"),
        (["deface", "head.nii.gz", "out.nii", "--mask", "out.nii"], "the same name"),
        (["deface", "head.nii.gz", "out.nii", "--mask", "mask.txt"], "written as"),
        (["deface", "head.nii.gz", "out.nii", "--report", "report.txt"], "must end in .json"),
        (["deface", "head.nii.gz", "out.nii", "--fill", "zero"], "invalid choice"),
        (["deface", "head.nii.gz", "out.nii", "--percentile", "5"], "goes with --fill percentile"),
        (["deface", "head.nii.gz", "out.nii", "--constant", "5"], "goes with --fill constant"),
        (["deface", "head.nii.gz", "out.nii", "--blur", "5"], "--blur: goes with --fill blur"),
        (["deface", "head.nii.gz", "out.nii", "--fill", "percentile", "--percentile", "101"], "between 0 and 100"),
        (["deface", "head.nii.gz", "out.nii", "--margin", "-1"], "between 0 and 50"),
        (["deface", "head.nii.gz", "out.nii", "--margin", "nan"], "between 0 and 50"),
        (["deface", "head.nii.gz", "out.nii", "--seed", "x"], "invalid int"),
        (["deface", "head.nii.gz", "out.nii", "--segmenter", "magic"], "invalid choice"),
        (["enface", "head.nii.gz", "out.nii"], "invalid choice"),
        (["demo", "head.nii.gz"], "cannot be made"),
    ],
)
def test_wrong_usage_ends_with_2_and_changes_nothing(pipeline, scan, capfd, args, words):
    os.symlink("head.nii.gz", "link.nii.gz")
    before = Path("head.nii.gz").read_bytes()
    assert run(*args) == 2
    out, err = capfd.readouterr()
    assert words in err and out == ""
    assert pipeline.calls == []
    assert sorted(os.listdir()) == ["head.nii.gz", "link.nii.gz"]
    assert Path("head.nii.gz").read_bytes() == before


UNUSABLE = {
    "too long": ["x" * 300 + ".nii.gz"], "too long for the report": ["out.nii", "--report", "x" * 251 + ".json"],
    "a device": ["CON.nii.gz"], "a device as mask": ["out.nii", "--mask", "aux.nii"],
    "a device as report": ["out.nii", "--report", "lpt1.x.json"], "a space": ["out.nii.gz "], "a dot": ["out.nii.gz."],
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_written_is_said_before_the_work_in_one_line(pipeline, scan, capfd, name):
    assert run("deface", "head.nii.gz", *UNUSABLE[name]) == 2
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1 and "usage:" not in err and "Traceback" not in err
    assert pipeline.calls == [] and os.listdir() == ["head.nii.gz"]


def lock(monkeypatch, folder):
    """Play a folder that nobody may write into; root may everywhere."""
    real = os.open

    def refuse(path, flags, *args, **more):
        if Path(path).parent.name == folder and flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, *args, **more)

    os.mkdir(folder)
    monkeypatch.setattr(os, "open", refuse)


def test_a_locked_folder_is_noticed_before_the_work(pipeline, scan, capfd, monkeypatch):
    lock(monkeypatch, "locked")
    assert run("deface", "head.nii.gz", "locked/out.nii.gz", "--report", "report.json") == 2
    err = capfd.readouterr().err
    assert "OUT: Nothing can be written there: Permission denied" in err and len(err.splitlines()) == 1
    assert pipeline.calls == [] and os.listdir("locked") == []


@pytest.mark.parametrize("taken, label", [("out.nii", "OUT"), ("out.json", "report"), ("mask.nii", "--mask")])
def test_nothing_is_overwritten_unless_told(pipeline, scan, capfd, taken, label):
    Path(taken).write_text("precious", encoding="utf-8")
    command = ["deface", "head.nii.gz", "out.nii", "--mask", "mask.nii"]
    assert run(*command) == 2
    assert f"{label}: The output exists already" in capfd.readouterr().err
    assert Path(taken).read_text(encoding="utf-8") == "precious"
    assert run(*command, "--overwrite") == 0
    assert Path(taken).read_bytes()[:8] != b"precious"


def test_scan_that_cannot_be_read_ends_with_1(pipeline, scan, capfd):
    Path("bad.nii.gz").write_bytes(b"no gzip")
    assert run("deface", "bad.nii.gz", "out.nii") == 1
    assert run("deface", "nothing.nii", "out.nii") == 1
    err = capfd.readouterr().err.splitlines()
    assert len(err) == 2 and all(line.startswith("ctdeface: ") for line in err)
    assert sorted(os.listdir()) == ["bad.nii.gz", "head.nii.gz"]


@pytest.mark.parametrize(
    "error, status, words",
    [
        (NoFaceError("No face is in view; nothing was changed."), 1, "No face is in view"),
        (MemoryError(), 1, "not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(143), 143, "terminated"),
    ],
)
@pytest.mark.parametrize("where", ["deface", "write"])
def test_failure_leaves_nothing(pipeline, scan, capfd, monkeypatch, error, status, words, where):
    def fail(*args, **kwargs):
        raise error

    if where == "deface":
        monkeypatch.setattr(pipeline, "deface", fail)
    else:
        monkeypatch.setattr("CTDefaceLib.volume_io.save_volume", fail)
    assert run("deface", "head.nii.gz", "out.nii.gz", "--mask", "mask.nii.gz") == status
    assert words in capfd.readouterr().err
    assert os.listdir() == ["head.nii.gz"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("after", [0.0, 0.1, 0.11, 0.12, 0.14])
def test_stopped_by_a_signal(scan, number, status, after):
    """A real process, stopped while it works (for 0.1 s) or while it writes: all outputs are there or none."""
    process = start("deface", "head.nii.gz", "out.nii.gz", stand_in=STAND_IN + "\ndelay = 0.1")
    process.stdout.readline()
    time.sleep(after)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if os.listdir() == ["head.nii.gz"]:
        assert process.returncode == status and b"Traceback" not in err
    else:
        assert sorted(os.listdir()) == ["head.nii.gz", "out.json", "out.nii.gz"]


def start(*args, stand_in=STAND_IN, **streams):
    """``ctdeface`` in a process of its own, with a stand-in for the pipeline."""
    script = f"""
        import sys, types
        sys.modules["CTDefaceLib.pipeline"] = module = types.ModuleType("CTDefaceLib.pipeline")
        from CTDefaceLib.commands.main import main
        from CTDefaceLib import volume_io
        exec({stand_in!r}, module.__dict__)
        sys.exit(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, args)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    return subprocess.Popen(command, env=ENVIRONMENT, **pipes)


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_progress_shows_on_a_terminal_only(scan):
    import pty

    try:
        ours, theirs = pty.openpty()
    except OSError:
        pytest.skip("this machine has no pseudo-terminals")
    process = start("deface", "head.nii.gz", "out.nii.gz", stderr=theirs)
    assert process.wait(timeout=60) == 0
    assert process.stdout.read() == b""
    shown = os.read(ours, 10000).decode()
    assert " 50% Working" in shown and "Replaced 12 mL in 0.1 s; 0 intracranial voxels touched" in shown


def test_help_teaches(pipeline, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert run("--help") == 0
    assert run("deface", "--help") == 0
    assert run("demo", "--help") == 0
    text = capfd.readouterr().out
    for words in ("examples:", "another skin", "--keep-bone", "CTA-DEFACE", "weakness", "exit status", "default: 5"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 100
    assert text.isascii()


def test_version(pipeline, capfd):
    assert run("--version") == 0
    assert capfd.readouterr().out == f"ctdeface {__version__}\n"


def test_runs_as_a_module():
    shown = subprocess.run([sys.executable, "-m", "CTDefaceLib", "--version"], env=ENVIRONMENT, capture_output=True)
    assert shown.stdout.decode().strip() == f"ctdeface {__version__}"


# --------------------------------------------------------------------------------------------------------- end to end


@pytest.fixture(scope="module")
def ctdeface():
    """Runs ``python -m CTDefaceLib``."""

    def call(*args, **options):
        command = [sys.executable, "-m", "CTDefaceLib", *map(str, args)]
        return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, **options)

    return call


@pytest.mark.slow
def test_demo_shows_a_head_and_no_face(ctdeface, tmp_path):
    folder = tmp_path / "with späces"
    shown = ctdeface("demo", folder)
    assert shown.returncode == 0, shown.stderr
    assert str(folder) in shown.stdout
    assert sorted(os.listdir(folder)) == ["before_after.png", "defaced.json", "defaced.nii.gz", "synthetic_head.nii.gz"]
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "before_after.png"))).astype(int)
    rows, columns, _ = picture.shape
    before, after = picture[: rows // 2], picture[rows // 2 :]
    assert columns > rows > 200 and before.std() > 10 and after.std() > 10
    front = np.s_[: rows // 3, : columns // 3]
    assert np.abs(before[front] - after[front]).mean() > 5
    text = (folder / "defaced.json").read_text()
    report = json.loads(text)
    assert report["intracranial_voxels_touched"] == 0
    assert report["removed_ml"] > 100
    assert str(folder) not in text
    assert report["parameters"].get("seed") is None  # a drawn one would let the fill be subtracted


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A file with a coarse synthetic head."""
    path = tmp_path_factory.mktemp("head") / "head.nii.gz"
    sitk.WriteImage(stored_phantom(PhantomParameters(matrix=(128, 128), spacing=(2.0, 2.0, 3.0))).image, str(path))
    return path


@pytest.mark.slow
def test_demo_runs_twice_and_on_a_scan_that_is_only_read(ctdeface, head, tmp_path):
    before = head.read_bytes()
    for _ in range(2):
        shown = ctdeface("demo", "--ct", head, cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr
        assert "do not share" in shown.stdout
    assert sorted(os.listdir(tmp_path / "ctdeface-demo")) == ["before_after.png", "defaced.json", "defaced.nii.gz"]
    assert head.read_bytes() == before
    assert ctdeface("demo", "--ct", tmp_path / "ctdeface-demo" / "defaced.nii.gz", cwd=tmp_path).returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [[], ["--fill", "percentile", "--strength", "strict"], ["--keep-bone", "--margin", 2]]
)
def test_deface_end_to_end(ctdeface, head, tmp_path, options):
    original = sitk.ReadImage(str(head))
    shown = ctdeface("deface", head, "out.nrrd", "--mask", "mask.nii.gz", *options, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == ""
    assert sorted(os.listdir(tmp_path)) == ["mask.nii.gz", "out.json", "out.nrrd"]
    result, mask = sitk.ReadImage(str(tmp_path / "out.nrrd")), sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    assert result.GetPixelID() == original.GetPixelID() and result.GetSize() == original.GetSize() == mask.GetSize()
    np.testing.assert_allclose(result.GetOrigin(), original.GetOrigin(), atol=1e-3)
    changed = sitk.GetArrayFromImage(result != original)
    assert 0 < changed.sum() < changed.size / 2


def test_no_face_in_view(ctdeface, tmp_path):
    cut = PhantomParameters(field_of_view="above_orbits", matrix=(128, 128), spacing=(2.0, 2.0, 3.0))
    sitk.WriteImage(stored_phantom(cut).image, str(tmp_path / "head.nii"))
    shown = ctdeface("deface", "head.nii", "out.nii", cwd=tmp_path)
    assert shown.returncode == 1 and shown.stdout == "" and len(shown.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == ["head.nii"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("after", [1.0, 1.5, 2.0, 3.0])
def test_real_work_stopped_by_ctrl_c(head, tmp_path, after):
    command = [sys.executable, "-m", "CTDefaceLib", "deface", head, tmp_path / "out.nii.gz"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE)
    with suppress(subprocess.TimeoutExpired):
        process.wait(after)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert sorted(os.listdir(tmp_path)) in ([], ["out.json", "out.nii.gz"])
