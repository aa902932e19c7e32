"""TotalSegmentator's face model: licence, weights, and, where it is installed, the real thing on tiny weights.

No real licence key is ever used: what is entered is a placeholder of the right length, in a home of the test's own.
"""

import errno
import io
import json
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import SimpleITK as sitk
from coarse_phantoms import scan, voxels
from CTDefaceLib import segmenters
from CTDefaceLib.commands.main import main
from CTDefaceLib.errors import Cancelled, CTDefaceError, InputError, NotReadyError, OutputError
from CTDefaceLib.pipeline import DefaceParameters, deface, segment
from CTDefaceLib.segmenters import Action, Choice, Status, nnunet_runtime, totalsegmentator
from CTDefaceLib.volume_io import write_volume
from models import FACE, PLACEHOLDER, dice, totalsegmentator_says


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty home of TotalSegmentator."""
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "tötal home"))
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
    return tmp_path / "tötal home"


@pytest.fixture
def installed(monkeypatch):
    """As if it were installed."""
    monkeypatch.setattr(nnunet_runtime, "is_installed", lambda: True)
    monkeypatch.setattr(nnunet_runtime, "version", lambda package: (2, 18))


def state():
    return segmenters.module("totalsegmentator").state(Choice())


def weights_of(home):
    return home / "nnunet" / "results" / FACE.name


def give(home, key=PLACEHOLDER, weights=True):
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.json").write_text(json.dumps({"license_number": key, "send_usage_stats": True}))
    if weights:
        shutil.copytree(FACE, weights_of(home))


@pytest.fixture
def zipped(tmp_path):
    return Path(shutil.make_archive(str(tmp_path / "face weights"), "zip", FACE.parent, FACE.name))


def files_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# ------------------------------------------------------------------------------------------------------ what is missing


def test_package_licence_and_weights_are_asked_for_in_this_order(home, installed, monkeypatch):
    assert (state().status, state().actions) == (Status.NO_LICENCE, (Action.ENTER_LICENCE,))
    assert totalsegmentator.LICENCE in state().sentence
    give(home, weights=False)
    assert (state().status, state().actions) == (
        Status.NO_WEIGHTS,
        (Action.DOWNLOAD, Action.IMPORT),
    ) and "230 MB" in state().sentence
    give(home)
    assert state().status == Status.READY
    monkeypatch.setattr(nnunet_runtime, "version", lambda package: (2, 9))
    assert (state().status, state().actions) == (
        Status.NO_PACKAGE,
        (Action.INSTALL,),
    ) and "or newer" in state().sentence


@pytest.mark.parametrize("key", ["", "short", PLACEHOLDER + "0"])
def test_a_key_of_the_wrong_length(key, home, installed):
    give(home, key)
    assert state().status == Status.NO_LICENCE and "18 characters" in state().sentence
    if key:
        assert key not in state().sentence
    with pytest.raises(NotReadyError, match="not valid"):
        deface(scan().image, DefaceParameters("totalsegmentator"))


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_unreadable_settings_are_no_licence(content, home, installed):
    home.mkdir()
    (home / "config.json").write_text(content)
    assert state().status == Status.NO_LICENCE


def test_an_installed_folder_without_its_checkpoint_is_not_ready(home, installed):
    give(home)
    nnunet_runtime.find_model(weights_of(home)).checkpoints[0].unlink()
    assert state().status == Status.NO_WEIGHTS and "damaged" in state().sentence


def test_weights_elsewhere(home, installed, monkeypatch, tmp_path):
    give(home, weights=False)
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(FACE.parent))
    assert state().status == Status.READY


# -------------------------------------------------------------------------------------------------- licence and weights


def test_a_key_is_kept_beside_what_is_there(home, installed):
    totalsegmentator.save_licence(f" {PLACEHOLDER}\n")
    assert state().status == Status.NO_WEIGHTS
    config = json.loads((home / "config.json").read_text())
    assert config["license_number"] == PLACEHOLDER and config["send_usage_stats"] is False
    (home / "config.json").write_text(json.dumps({"totalseg_id": "mine", "send_usage_stats": True}))
    totalsegmentator.save_licence(PLACEHOLDER)
    kept = json.loads((home / "config.json").read_text())
    assert kept == {"totalseg_id": "mine", "send_usage_stats": True, "license_number": PLACEHOLDER}
    assert files_below(home) == ["config.json"]
    if os.name != "nt":
        assert (home / "config.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("key", ["", "short", "x" * 19, "has spaces in it 0", "ümlaut_PLACEHOLDER"])
def test_what_cannot_be_a_key_is_refused(key, home):
    with pytest.raises(InputError, match="18 characters") as raised:
        totalsegmentator.save_licence(key)
    assert not key or key not in str(raised.value)
    assert not home.exists()


def test_a_home_that_cannot_be_written(home):
    home.write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="could not be kept"):
        totalsegmentator.save_licence(PLACEHOLDER)


def test_weights_from_a_file(home, installed, zipped):
    give(home, weights=False)
    totalsegmentator.import_weights(zipped)
    assert state().status == Status.READY
    first = files_below(weights_of(home))
    totalsegmentator.import_weights(zipped)
    assert files_below(weights_of(home)) == first and [p.name for p in weights_of(home).parent.iterdir()] == [FACE.name]


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "other zip", "empty model", "climbing"])
def test_other_files_are_refused_and_leave_what_there_is(kind, home, installed, tmp_path):
    give(home)
    path = tmp_path / "other.zip"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("no zip file")
    elif kind != "missing":
        names = {"other zip": "a.txt", "empty model": f"{FACE.name}/plans.json", "climbing": f"{FACE.name}/../../evil"}
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(names[kind], "{}")
    with pytest.raises(InputError, match="holds no face model"):
        totalsegmentator.import_weights(path)
    assert state().status == Status.READY and not list(tmp_path.rglob("evil"))
    assert [p.name for p in weights_of(home).parent.iterdir()] == [FACE.name]


def test_a_full_disk_leaves_the_weights_that_are_there(home, installed, zipped, monkeypatch):
    give(home)
    before = files_below(home)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(OutputError, match="No space left on device.*make room"):
        totalsegmentator.import_weights(zipped)
    assert files_below(home) == before and state().status == Status.READY


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def typed(monkeypatch):
    def type_in(text):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))

    return type_in


def test_models_lists_all_and_what_helps(home, installed, capsys, monkeypatch):
    monkeypatch.setattr(nnunet_runtime, "devices", lambda: [("cpu", "2 threads")])
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert all(f"{name}: " in text for name in segmenters.names()) and "cpu (2 threads)" in text
    assert "totalsegmentator: licence missing" in text and "-> ctdeface models --licence" in text
    monkeypatch.setattr(nnunet_runtime, "is_installed", lambda: False)
    assert main(["models"]) == 0
    assert "pip install 'ctdeface[totalsegmentator]'" in capsys.readouterr().out


def test_a_key_is_asked_for_and_never_shown(home, installed, capsys, typed, monkeypatch):
    typed(f"{PLACEHOLDER}\n")
    assert main(["models", "--licence"]) == 0
    assert json.loads((home / "config.json").read_text())["license_number"] == PLACEHOLDER
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "x" * 18)
    assert main(["models", "--licence"]) == 0
    assert json.loads((home / "config.json").read_text())["license_number"] == "x" * 18
    typed("wrong\n")
    assert main(["models", "--licence"]) == 1
    printed = capsys.readouterr()
    assert totalsegmentator.LICENCE in printed.err
    assert not any(key in printed.out + printed.err for key in (PLACEHOLDER, "x" * 18, "wrong\n"))


def test_weights_are_downloaded_only_when_agreed(home, installed, capsys, typed, monkeypatch):
    asked = []
    monkeypatch.setattr(totalsegmentator, "download", lambda progress, cancelled: asked.append(1))
    typed("")
    with pytest.raises(SystemExit, match="2"):
        main(["models", "--download"])
    assert "goes with --yes" in capsys.readouterr().err
    for answer, status in (("n\n", 1), ("\n", 1), ("y\n", 0)):
        typed(answer)
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        monkeypatch.setattr("builtins.input", lambda prompt: capsys.readouterr() and sys.stdin.readline())
        assert main(["models", "--download"]) == status
    assert asked == [1]
    assert main(["models", "--download", "--yes"]) == 0 and asked == [1, 1]


def test_the_command_imports_weights(home, installed, zipped, capsys):
    assert main(["models", "--import", str(zipped)]) == 0 and weights_of(home).is_dir()
    assert main(["models", "--import", "none.zip"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["models", "--import", str(zipped), "--segmenter", "builtin"]) == 1
    assert "which one: totalsegmentator" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- the real thing


@pytest.fixture
def real(home, monkeypatch, tmp_path):
    """TotalSegmentator itself, in a throwaway home, with the tiny weights; nothing may go to a network."""
    reason = "needs TotalSegmentator: pip install 'ctdeface[totalsegmentator]'"
    for needed in ("torch", "nnunetv2", "totalsegmentator"):
        pytest.importorskip(needed, reason=reason, exc_type=ImportError)
    import requests

    def refuse(*_, **__):
        raise AssertionError("something was sent")

    monkeypatch.setattr(requests.Session, "request", refuse)
    give(home)
    return home


def test_the_command_gives_what_totalsegmentator_gives(real, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    image = sitk.DICOMOrient(scan().image, "RPI")
    write_volume(image, "head.nrrd")
    settings = (real / "config.json").read_bytes()
    left = {path.name for path in Path(os.environ.get("TMPDIR", "/tmp")).glob("ctdeface-*")}
    assert main("deface head.nrrd out.nii.gz --mask mask.nrrd --segmenter totalsegmentator".split()) == 0
    assert {path.name for path in Path(os.environ.get("TMPDIR", "/tmp")).glob("ctdeface-*")} <= left
    assert (real / "config.json").read_bytes() == settings, "its settings stay as they are"
    text = (tmp_path / "out.json").read_text() + "".join(capfd.readouterr())
    assert PLACEHOLDER not in text and "tötal" not in text
    assert json.loads((tmp_path / "out.json").read_text())["model"]["software"]["TotalSegmentator"]
    mask = voxels(sitk.ReadImage("mask.nrrd")) > 0
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(shutil.copytree(real, tmp_path / "home of its own")))
    config = json.loads((real / "config.json").read_text())
    (tmp_path / "home of its own" / "config.json").write_text(
        json.dumps({**config, "send_usage_stats": False, "totalseg_id": "test", "prediction_counter": 0})
    )
    assert dice(mask, totalsegmentator_says(image)) >= 0.99


@pytest.mark.parametrize("config", [None, {}, {"license_number": "short"}], ids=str)
def test_what_totalsegmentator_says_of_licences_is_one_sentence(config, real, monkeypatch):
    """Also where it notices something that the state did not."""
    if config is None:
        (real / "config.json").unlink()
    else:
        (real / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(segmenters, "check_ready", lambda *_: None)
    with pytest.raises(NotReadyError, match="licence key") as raised:
        segment(scan().image, "totalsegmentator")
    assert "short" not in str(raised.value)


def test_other_ends_of_the_program_are_not_its_errors(real, monkeypatch):
    import totalsegmentator.python_api as api

    monkeypatch.setattr(api, "show_license_info", lambda: sys.exit(143))
    with pytest.raises(SystemExit, match="143"):
        segment(scan().image, "totalsegmentator")
    monkeypatch.setattr(api, "show_license_info", lambda: sys.exit(1))
    with pytest.raises(NotReadyError, match="gave up"):
        segment(scan().image, "totalsegmentator")


def test_weights_that_went_meanwhile(real, monkeypatch):
    monkeypatch.setattr(segmenters, "check_ready", lambda *_: shutil.rmtree(weights_of(real), ignore_errors=True))
    with pytest.raises(CTDefaceError, match="not there"):
        segment(scan().image, "totalsegmentator")


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Path("head.nii.gz").write_bytes(b"no scan"), "truncated, damaged"),
        (lambda: sitk.WriteImage(scan().image[:, :, 5], "head.nii.gz"), "not 3D"),
        (lambda: Path("head.nii.gz").mkdir(), "DICOM|folder"),
        (lambda: None, "no such file"),
    ],
    ids=["damaged", "2D", "folder", "missing"],
)
def test_inputs_that_it_would_stumble_over(make, words, real, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make()
    before = files_below(tmp_path)
    assert main("deface head.nii.gz out.nii.gz --segmenter totalsegmentator".split()) == 1
    error = capsys.readouterr().err
    assert re.search(words, error) and error.count("\n") == 1
    assert files_below(tmp_path) == before


# ---------------------------------------------------------------------------------------------------------- downloading


class Answer:
    """What a server could answer."""

    def __init__(self, content=b"", status=200, json=None):
        self._content, self.status_code, self._json = content, status, json
        self.ok, self.headers = status < 400 and json is None, {"content-length": str(len(content))}

    def raise_for_status(self):
        import requests

        if self.status_code >= 400:
            raise requests.HTTPError(f"{self.status_code} for {PLACEHOLDER}", response=self)

    def json(self):
        return self._json

    def iter_content(self, chunk_size):
        yield from (self._content[start : start + 50_000] for start in range(0, len(self._content), 50_000))


@pytest.fixture
def server(real, monkeypatch):
    """Lets a test choose the answer; remembers what was asked."""
    import requests

    shutil.rmtree(real / "nnunet")
    asked = []

    def answering(answer):
        def post(url, **named):
            asked.append((url, named["json"]))
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(requests, "post", post)
        monkeypatch.setattr(requests, "head", lambda url, timeout: None)
        return asked

    return answering


def download(progress=lambda fraction, text: None, cancelled=lambda: False):
    totalsegmentator.download(progress, cancelled)


def test_the_download(real, server, zipped):
    asked = server(Answer(zipped.read_bytes()))
    told = []
    download(lambda fraction, text: told.append((fraction, text)))
    assert asked[0][1]["license_number"] == PLACEHOLDER and asked[0][1]["task"] == "face"
    assert told[-1][0] == 1.0 and told[-1][1].endswith("MB downloaded") and state().status == Status.READY
    assert files_below(weights_of(real)) == files_below(FACE)


def test_a_cancelled_download_leaves_nothing(real, server, zipped):
    server(Answer(zipped.read_bytes()))
    told = []
    with pytest.raises(Cancelled):
        download(lambda fraction, text: told.append(text), lambda: len(told) > 2)
    assert files_below(real) == ["config.json"] and state().status == Status.NO_WEIGHTS


def test_no_network(real, server):
    import requests

    server(requests.ConnectionError(f"no route, {PLACEHOLDER}"))
    with pytest.raises(CTDefaceError, match="cannot be reached.* import them from their zip file") as raised:
        download()
    assert PLACEHOLDER not in str(raised.value) and files_below(real) == ["config.json"]


@pytest.mark.parametrize(
    "answer, words",
    [
        (Answer(status=403), "refused the licence key"),
        (Answer(status=500), "status 500"),
        (Answer(json={"status": "invalid_license"}), "refused the licence key"),
        (Answer(b"not a zip file"), "damaged"),
    ],
    ids=["403", "500", "invalid", "damaged"],
)
def test_answers_that_are_no_weights(answer, words, real, server):
    server(answer)
    with pytest.raises(CTDefaceError, match=words) as raised:
        download()
    assert PLACEHOLDER not in str(raised.value) and files_below(real) == ["config.json"]


def test_no_download_without_a_key(real, server, zipped):
    asked = server(Answer(zipped.read_bytes()))
    (real / "config.json").unlink()
    with pytest.raises(NotReadyError, match="needs a licence key"):
        download()
    assert not asked


def test_really_no_network(real, monkeypatch):
    """The real request, to where nobody listens."""
    monkeypatch.undo()
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(real))
    shutil.rmtree(real / "nnunet")
    monkeypatch.setattr(totalsegmentator, "SERVER", "https://127.0.0.1:9/")
    with pytest.raises(CTDefaceError, match="cannot be reached"):
        download()
