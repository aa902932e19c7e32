"""The real phantom series through the tools that others read DICOM with: they see no difference but the face."""

import json
import os
import re
import subprocess
import urllib.request
import zipfile

import dicom_files
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from coarse_phantoms import scan
from CTDefaceLib.dicom.deface import deface_series
from CTDefaceLib.pipeline import DefaceParameters
from dicom_servers import orthanc, tool
from test_dicom import assert_defaced, by_place

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def series(real_data, tmp_path_factory):
    """Folders of the real phantom series and of its defaced counterpart."""
    folder = tmp_path_factory.mktemp("phantom")
    zipfile.ZipFile(real_data("phantom_ct_dicom.zip")).extractall(folder / "in")
    report = deface_series(folder / "in", folder / "out", DefaceParameters(fill="air"))
    assert report["files"] == 209
    assert all("Eyes and nose could not be found" in w for w in report["warnings"]), "a plaster head has no nasal air"
    return next((folder / "in").rglob("*.dcm")).parent, folder / "out"


def assert_same_volume_but_air(before, after):
    assert before.shape == after.shape
    changed = before != after
    assert 0.01 < changed.mean() < 0.5 and after[changed].max() < -400


def test_pydicom(series):
    assert_defaced(*series, least_share=0.01)


def test_simpleitk(series):
    before, after = (sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))) for folder in series)
    for get in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize", "GetPixelID"):
        assert getattr(before, get)() == getattr(after, get)()
    assert_same_volume_but_air(*map(sitk.GetArrayFromImage, (before, after)))


def test_dcm2niix(series, tmp_path):
    program = tool("dcm2niix")
    for folder, name in zip(series, ("before", "after")):
        subprocess.run([program, "-o", tmp_path, "-f", name, folder], check=True, capture_output=True)
    before, after = (sitk.ReadImage(str(tmp_path / f"{name}.nii")) for name in ("before", "after"))
    for get in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize"):
        assert getattr(before, get)() == getattr(after, get)()
    assert_same_volume_but_air(*map(sitk.GetArrayFromImage, (before, after)))


def complaints(program, path):
    """What dciodvfy says of a file, without values; elements and modules that it names are none."""
    result = subprocess.run([program, path], capture_output=True, text=True, errors="replace")
    lines = (result.stdout + result.stderr).splitlines()
    return {
        re.sub("(?<!Element=)(?<!Module=)<[^>]*>|[0-9.]{20,}", "", line)
        for line in lines
        if line.startswith(("Error", "Warning"))
    }


def test_dciodvfy_finds_nothing_new(series):
    program = tool("dciodvfy")
    before, after = map(by_place, series)
    for key in list(before)[::16]:
        new = complaints(program, after[key].filename) - complaints(program, before[key].filename)
        assert not new


def test_dciodvfy_finds_nothing_new_in_multi_frame_images(tmp_path):
    program = tool("dciodvfy")
    (tmp_path / "in").mkdir()
    dicom_files.write_multi_frame(tmp_path / "in" / "one.dcm", scan(field_of_view="upper_lip").image)
    deface_series(tmp_path / "in", tmp_path / "out")
    new = complaints(program, tmp_path / "out" / "IM00001.dcm") - complaints(program, tmp_path / "in" / "one.dcm")
    assert not [line for line in new if line.startswith("Error")]


@pytest.fixture(scope="module")
def cleaned(series, tmp_path_factory):
    """Folder of the defaced counterpart with cleaned headers."""
    pytest.importorskip("dicomanonymizer", reason="pip install ctdeface[dicom]")
    folder = tmp_path_factory.mktemp("cleaned") / "out"
    deface_series(series[0], folder, retain=[])
    return folder


def identifying(dataset):
    """Texts of a dataset that must not come back: names, dates, UIDs and what private elements hold."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from identifying(item)
            continue
        private = element.tag.is_private and not element.tag.is_private_creator
        named = re.match("Patient(Name|ID|BirthDate)|Institution|Station|Study(Date|Desc|Instance)", element.keyword)
        if private or named or element.VR == "UI":
            for value in element.value if element.VM > 1 else [element.value]:
                text = value[:64] if isinstance(value, bytes) else str(value).encode()
                if len(text) >= 6 and not text.startswith(b"1.2.840.10008"):
                    yield text


def test_nothing_of_the_original_headers_comes_back(series, cleaned):
    texts = {text for one in by_place(series[0]).values() for text in identifying(one)}
    assert len(texts) > 209
    for path in cleaned.iterdir():
        content = path.read_bytes()
        header = content[: content.rindex(b"\xe0\x7f\x10\x00")]
        assert not [text for text in texts if text in header]


def test_dciodvfy_finds_no_error_in_cleaned_headers(series, cleaned):
    program = tool("dciodvfy")
    before, after = map(by_place, (series[0], cleaned))
    for key in list(before)[::32]:
        new = complaints(program, after[key].filename) - complaints(program, before[key].filename)
        assert not [line for line in new if line.startswith("Error")]


def test_orthanc_takes_the_series_and_gives_it_back(series, tmp_path):
    program = tool("storescu")
    modalities = {"test": ["CTDEFACE", "127.0.0.1", 1]}
    with orthanc(tmp_path, DicomAlwaysAllowStore=False, DicomModalities=modalities) as (dicom, http):
        send = [program, "-aet", "CTDEFACE", "-aec", "ORTHANC", "-xi", "+sd", "127.0.0.1", str(dicom), series[1]]
        subprocess.run(send, check=True, capture_output=True, timeout=60)

        def ask(path):
            return urllib.request.urlopen(f"http://127.0.0.1:{http}{path}", timeout=60).read()

        instances = json.loads(ask("/instances"))
        assert len(json.loads(ask("/series"))) == 1 and len(instances) == len(os.listdir(series[1]))
        sent = {one.SOPInstanceUID: one for one in by_place(series[1]).values()}
        for number in instances:
            (tmp_path / "back.dcm").write_bytes(ask(f"/instances/{number}/file"))
            back = pydicom.dcmread(tmp_path / "back.dcm")
            assert back == sent[back.SOPInstanceUID]
            assert np.array_equal(back.pixel_array, sent[back.SOPInstanceUID].pixel_array)
