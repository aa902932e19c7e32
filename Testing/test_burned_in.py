"""Text that is burned into the pixels: found where it is, and nothing passed on where it cannot be told."""

import os

import batch_cases
import dicom_files
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from batch_cases import head
from CTDefaceLib import batch
from CTDefaceLib.batch import Choices
from CTDefaceLib.batch.status import Status
from CTDefaceLib.commands.main import main
from CTDefaceLib.dicom import burned_in
from CTDefaceLib.errors import InputError
from CTDefaceLib.volume_io import read_ct

TOP = (slice(2, 10), slice(4, 60))
"""Where a text stands in a slice of the coarse head."""


@pytest.fixture
def reader(monkeypatch):
    """A reader for tests: takes any white bar at the top for a name."""
    looked = []

    def read(picture):
        looked.append(picture.shape)
        return [("DOE JANE", 0.9)] if (picture[TOP] == 255).all() else [("0000", 0.99), ("R", 0.9), ("dio", 0.7)]

    monkeypatch.setattr(burned_in, "check_reader", lambda: None)
    monkeypatch.setattr("CTDefaceLib.dicom.deface.check_reader", lambda: None)
    monkeypatch.setattr("CTDefaceLib.batch.running.check_reader", lambda: None)
    monkeypatch.setattr(burned_in, "reader", lambda: read)
    return looked


def series(folder, number=None, **tags):
    """The head as a series, with something like a text in one slice."""
    hu = sitk.GetArrayFromImage(head())
    if number is not None:
        hu[number][TOP] = 3071
    return dicom_files.write_series(folder, batch_cases.like(hu), **tags)


def run(*args):
    return main([str(arg) for arg in args])


def test_every_slice_is_looked_at_and_the_headers_say_so(tmp_path, reader):
    files = series(tmp_path / "in")
    assert run("deface", tmp_path / "in", tmp_path / "out", "--no-text", "--headers", "ps315") == 0
    rows, columns = head().GetSize()[1::-1]
    assert len(reader) >= len(files) and set(reader) == {(rows, columns, 3)}
    for path in (tmp_path / "out").iterdir():
        header = pydicom.dcmread(path)
        assert header.BurnedInAnnotation == "NO" and header.PatientIdentityRemoved == "YES"
        assert "113101" in [item.CodeValue for item in header.DeidentificationMethodCodeSequence]


@pytest.mark.parametrize("case", ["text", "said", "the reader fails"])
def test_what_cannot_be_passed_on_is_refused(tmp_path, capfd, reader, monkeypatch, case):
    series(tmp_path / "in", 7 if case == "text" else None, BurnedInAnnotation="YES" if case == "said" else "NO")
    if case == "the reader fails":
        monkeypatch.setattr(burned_in, "reader", lambda: lambda picture: 1 / 0)
    assert run("deface", tmp_path / "in", tmp_path / "out", "--no-text") == 1
    sentence = {"text": "slice 8 of", "said": "images say", "the reader fails": "could not be told"}[case]
    assert sentence in capfd.readouterr().err
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.slow
def test_in_a_batch(tmp_path, reader):
    series(tmp_path / "in" / "with", 3)
    dicom_files.write_series(tmp_path / "in" / "without", batch_cases.another(1))
    choices = Choices(ending=".dicom", no_text=True)
    assert batch.run(tmp_path / "in", tmp_path / "out", choices=choices, gallery=False).counts == {
        Status.DONE: 1, Status.REFUSED: 1
    }  # fmt: skip
    with pytest.raises(InputError, match="Text is looked for in DICOM series only"):
        batch.run(tmp_path / "in", tmp_path / "volumes", choices=Choices(no_text=True), gallery=False)


def test_text_in_values_of_any_size(reader):
    """An MR has far larger values than a CT, which would all be white in the windows of one."""
    values = 10_000 + 8 * sitk.GetArrayFromImage(head()).astype(np.int32)
    burned_in.refuse_text(batch_cases.like(values), in_hounsfield=False)
    values[7][TOP] = values.max()
    with pytest.raises(InputError, match="slice 8 of"):
        burned_in.refuse_text(batch_cases.like(values), in_hounsfield=False)
    burned_in.refuse_text(batch_cases.like(np.full_like(values, 5)), in_hounsfield=False)


def test_without_the_packages_it_is_said_at_once(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(burned_in, "PACKAGES", ("no_such_package",))
    series(tmp_path / "in")
    assert run("deface", tmp_path / "in", tmp_path / "out", "--no-text") == 1
    assert "pip install ctdeface[text]" in capfd.readouterr().err and os.listdir(tmp_path) == ["in"]
    with pytest.raises(SystemExit):
        run("deface", tmp_path / "in", tmp_path / "out.nii.gz", "--no-text")


@pytest.mark.slow
def test_the_real_reader():
    """Names of eight pixels and more are found, and a head without any is passed."""
    pytest.importorskip("rapidocr", reason="pip install ctdeface[text]")
    pytest.importorskip("onnxruntime", reason="pip install ctdeface[text]")
    drawing = pytest.importorskip("PIL.ImageDraw")
    from PIL import Image, ImageFont

    fine = sitk.Expand(head()[:, :, 20:24], (4, 4, 1), sitk.sitkLinear)
    burned_in.refuse_text(fine)
    hu = sitk.GetArrayFromImage(fine)
    for height in (9, 14, 20):
        picture = Image.new("L", hu.shape[:0:-1], 0)
        drawing.Draw(picture).text((6, 6), "DOE JANE 4711-0815", fill=255, font=ImageFont.load_default(height))
        marked = hu.copy()
        marked[1][np.array(picture) > 128] = 3071
        with pytest.raises(InputError, match="slice 2 of 4"):
            burned_in.refuse_text(batch_cases.like(marked, fine))


@pytest.mark.slow
def test_the_real_reader_passes_a_real_head(real_data):
    """Whose teeth, holder and rings it reads, too: as 00000 and, unsure of it, as dio and 010."""
    pytest.importorskip("rapidocr", reason="pip install ctdeface[text]")
    pytest.importorskip("onnxruntime", reason="pip install ctdeface[text]")
    for name, slices in (("head_ct_brain_fov.nii.gz", slice(1, 5)), ("head_ct_full_face_lowres.nii.gz", slice(26, 30))):
        burned_in.refuse_text(read_ct(real_data(name))[:, :, slices])
