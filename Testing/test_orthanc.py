"""Orthanc beside CTDeface, as docs/pacs.md describes it: its DICOMweb, and its own hook."""

import json
import os
import sys
import urllib.request
from io import BytesIO
from pathlib import Path

import dicom_files
import pydicom
import pytest
from coarse_phantoms import scan
from CTDefaceLib.commands.main import main
from CTDefaceLib.dicom.write import METHOD
from CTDefaceLib.errors import InputError
from dicom_servers import orthanc, plugin, tool
from processes import wait_for

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).resolve().parents[1]
STUDY, SERIES = "1.2.3.4.5", "1.2.3.4.5.6"


def ask(http: int, path: str) -> bytes:
    return urllib.request.urlopen(f"http://127.0.0.1:{http}{path}", timeout=60).read()


def instances(http: int) -> list[pydicom.Dataset]:
    names = json.loads(ask(http, "/instances"))
    return [pydicom.dcmread(BytesIO(ask(http, f"/instances/{name}/file"))) for name in names]


def post(http: int, path: Path) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{http}/instances", data=path.read_bytes(), method="POST")
    urllib.request.urlopen(request, timeout=60).read()


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("series")
    return dicom_files.write_series(folder, scan().image, StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Port of an Orthanc that speaks DICOMweb."""
    pytest.importorskip("dicomweb_client", reason='pip install "ctdeface[pacs]"')
    speaks = {"Plugins": [plugin("libOrthancDicomWeb.so")], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    with orthanc(tmp_path_factory.mktemp("orthanc"), **speaks) as (_, http):
        yield http


def test_files_go_to_a_dicomweb_server_and_come_back(server, series, tmp_path):
    from CTDefaceLib.pacs.dicomweb import Server, WebError, fetch, store

    address, sent = f"http://127.0.0.1:{server}/dicom-web", []
    store(Server(address), series[:20], sent.append)
    assert sent == series[:20]
    for number, place in enumerate((f"studies/{STUDY}", f"studies/{STUDY}/series/{SERIES}")):
        (folder := tmp_path / str(number)).mkdir()
        assert fetch(f"{address}/{place}", folder) == 20
        back = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, folder.iterdir())}
        assert all(back[one.SOPInstanceUID].PixelData == one.PixelData for one in map(pydicom.dcmread, series[:20]))
    for place in ("", "/studies", f"/studies/{STUDY}/series/{SERIES}/instances/1.2"):
        with pytest.raises(InputError, match="study or series"):
            fetch(address + place, tmp_path)
    with pytest.raises(WebError, match="404"):
        fetch(f"{address}/studies/1.9", tmp_path)
    with pytest.raises(WebError, match="cannot be reached"):
        store(Server("http://127.0.0.1:9/dicom-web"), series[:1])


def test_deface_reads_from_a_server_and_sends_to_it(server, series, tmp_path, monkeypatch, capsys):
    """The defacing itself is that of any folder, so it is left out here."""
    from CTDefaceLib.study import folder as study_folder

    touched = 0

    def deface(source, output, parameters, **_):
        files = sorted(Path(source).iterdir())
        output.mkdir()
        for number, path in enumerate(files):
            image = pydicom.dcmread(path)
            image.SOPInstanceUID, image.DeidentificationMethod = f"1.7.{number}", METHOD
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
            image.save_as(output / f"{number}.dcm")
        return {"warnings": [], "intracranial_voxels_touched": touched, "replaced_ml": 1.0, "seconds": 1.0}

    monkeypatch.setattr(study_folder, "deface_folder", deface)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    address = f"http://127.0.0.1:{server}/dicom-web"
    post(server, series[0])
    before = len(instances(server))
    assert main(["deface", f"{address}/studies/{STUDY}", address]) == 0
    assert len(instances(server)) == 2 * before
    touched = 1
    assert main(["deface", f"{address}/studies/{STUDY}", address]) == 1
    assert "so it was not sent" in capsys.readouterr().err and len(instances(server)) == 2 * before
    with pytest.raises(SystemExit):
        main(["deface", str(series[0].parent), address, "--headers", "ps315"])
    assert "--private" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [], "nothing of the patient stays"


def test_orthanc_defaces_by_itself(series, tmp_path):
    hook = {"Plugins": [plugin("libOrthancPython.so")], "PythonScript": str(CHECKOUT / "docs" / "orthanc_hook.py")}
    command = ["env", f"PYTHONPATH={CHECKOUT / 'CTDeface'}", sys.executable, "-m", "CTDefaceLib"]
    tool("env")
    for name in ("archive", "research"):
        (tmp_path / name).mkdir()
    with orthanc(tmp_path / "research", DicomAet="RESEARCH") as (dicom, research):
        choices = {"Command": command, "Private": str(tmp_path / "private"), "To": "RESEARCH"}
        modalities = {"RESEARCH": ["RESEARCH", "127.0.0.1", dicom]}
        more = {"StableAge": 2, "DicomModalities": modalities, "CTDeface": choices, **hook}
        with orthanc(tmp_path / "archive", **more) as (_, archive):
            for path in series:
                post(archive, path)
            log = tmp_path / "archive" / "log.txt"
            wait_for(lambda: "images were defaced and sent" in log.read_text(), 240)
            wait_for(lambda: len(json.loads(ask(archive, "/instances"))) == len(series))
            made, originals = instances(research), instances(archive)
    assert len(made) == len(originals) == len(series)
    assert all(METHOD in one.DeidentificationMethod for one in made)
    assert not {one.SOPInstanceUID for one in made} & {one.SOPInstanceUID for one in originals}
    assert not any("DeidentificationMethod" in one for one in originals), "the archive keeps what it had"
    assert os.listdir(tmp_path / "private") == ["secret.key"]
