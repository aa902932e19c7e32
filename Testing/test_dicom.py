"""DICOM series in, DICOM series out: what is read, what is written, what is left out."""

import json
import os
import shutil
import struct
from contextlib import suppress
from pathlib import Path

import dicom_files
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from coarse_phantoms import scan, voxels
from CTDefaceLib.commands.main import main
from CTDefaceLib.dicom import decoding
from CTDefaceLib.dicom.deface import deface_series
from CTDefaceLib.dicom.stack import on_regular_grid, read_stack, to_slices, words_of
from CTDefaceLib.dicom.tree import choose_series, read_tree
from CTDefaceLib.errors import Cancelled, InputError, NoFaceError, OutputError
from CTDefaceLib.pipeline import DefaceParameters
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from test_cli import lock
from test_volume_io import small_ct

SEED = DefaceParameters(fill="air", seed=1)
"""Air, so that what was replaced can be told from what was not."""
LOCALIZER = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


@pytest.fixture(scope="module")
def head():
    return scan(field_of_view="upper_lip", spacing=(2.0, 2.0, 3.0)).image


def by_place(folder):
    """Datasets of a folder by their place and acquisition."""
    found = {}
    for path in sorted(Path(folder).rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        found[tuple(dataset.ImagePositionPatient), str(dataset.get("AcquisitionNumber", ""))] = dataset
    return found


def hu(dataset):
    return words_of(dataset)[0] * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))


def assert_defaced(source, output, least_share=0.02, fill="air"):
    """The same slices in the same places; what changed is air now with that fill, all else is bit-identical."""
    before, after = by_place(source), by_place(output)
    assert before.keys() == after.keys()
    changed = total = 0
    for key, original in before.items():
        defaced = after[key]
        for name in ("ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "BitsStored", "PixelRepresentation",
                     "RescaleSlope", "RescaleIntercept", "InstanceNumber"):  # fmt: skip
            assert original.get(name) == defaced.get(name), name
        assert not defaced.file_meta.TransferSyntaxUID.is_compressed
        other = words_of(original) != words_of(defaced)
        assert fill != "air" or hu(defaced)[other[0]].max(initial=-3000) < -400
        changed += (other[0] & (hu(original) > -300)).sum()
        total += (hu(original) > -300).sum()
    assert changed > least_share * total
    return after


def refusal(*args, **choices):
    with pytest.raises((InputError, NoFaceError, OutputError)) as caught:
        deface_series(*args, **choices)
    sentence = str(caught.value)
    assert sentence.endswith(".") and "\n" not in sentence and "Doe" not in sentence and "4711" not in sentence
    return sentence


# -------------------------------------------------------------------------------------------------- what is written


def test_series_in_series_out(tmp_path, head):
    source, output = tmp_path / "série 1", tmp_path / "defaced ü"
    dicom_files.write_series(source, head, AccessionNumber="A1", BurnedInAnnotation="NO")
    content = {path: path.read_bytes() for path in source.iterdir()}
    report = deface_series(source, output, SEED)
    assert {path: path.read_bytes() for path in source.iterdir()} == content
    assert report["files"] == len(content) == len(os.listdir(output)) and report["left_out"] == []
    assert sorted(os.listdir(tmp_path)) == sorted([source.name, output.name])
    after = assert_defaced(source, output)
    before = next(iter(by_place(source).values()))
    assert len({one.SOPInstanceUID for one in after.values()}) == len(content)
    one = next(iter(after.values()))
    assert one.ImageType[0] == "DERIVED" and one.SeriesDescription == "Head of Jane Doe defaced"
    assert one.SeriesInstanceUID != before.SeriesInstanceUID and one.StudyInstanceUID == before.StudyInstanceUID
    assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID != before.SOPInstanceUID
    assert one.RecognizableVisualFeatures == "NO" and "PatientIdentityRemoved" not in one
    assert one.PatientName == "Doe^Jane" and one.BurnedInAnnotation == "NO" and one.AccessionNumber == "A1"
    assert [item.CodeValue for item in one.DeidentificationMethodCodeSequence] == ["113102"]
    assert "CTDeface" in one.DeidentificationMethod and "CTDeface" in one.DerivationDescription
    assert one.DerivationCodeSequence[0].CodeValue == "113047"
    sources = {one.SourceImageSequence[0].ReferencedSOPInstanceUID for one in after.values()}
    assert sources == {one.SOPInstanceUID for one in by_place(source).values()}


def test_what_is_there_is_added_to(tmp_path, head):
    from CTDefaceLib.dicom.write import code

    dicom_files.write_series(
        tmp_path / "in", head, DeidentificationMethod="Local rules", DerivationDescription="Averaged",
        ImageType=["DERIVED"], DeidentificationMethodCodeSequence=[code("113100", "Basic Profile")],
        IconImageSequence=[code("1", "x")], DigitalSignaturesSequence=[code("1", "x")],
    )  # fmt: skip
    deface_series(tmp_path / "in", tmp_path / "out", SEED)
    one = next(iter(by_place(tmp_path / "out").values()))
    assert one.DeidentificationMethod[0] == "Local rules" and "CTDeface" in one.DeidentificationMethod[1]
    assert [item.CodeValue for item in one.DeidentificationMethodCodeSequence] == ["113100", "113102"]
    assert one.DerivationDescription.startswith("Averaged; Face replaced")
    assert one.ImageType == ["DERIVED", "PRIMARY", "AXIAL"]
    assert "IconImageSequence" not in one and "DigitalSignaturesSequence" not in one


def test_features_are_called_gone_only_after_the_checks(tmp_path, head):
    dicom_files.write_series(tmp_path / "in", head)
    report = deface_series(tmp_path / "in", tmp_path / "out", DefaceParameters(fill="blur", seed=1))
    assert report["warnings"]
    one = next(iter(by_place(tmp_path / "out").values()))
    assert "RecognizableVisualFeatures" not in one and "DeidentificationMethodCodeSequence" not in one
    assert one.ImageType[0] == "DERIVED" and "CTDeface" in one.DeidentificationMethod


def test_text_in_the_pixels_is_said(tmp_path, head):
    dicom_files.write_series(tmp_path / "in", head, BurnedInAnnotation="YES")
    report = deface_series(tmp_path / "in", tmp_path / "out", SEED)
    assert "burned into" in report["notes"][0]
    assert next(iter(by_place(tmp_path / "out").values())).BurnedInAnnotation == "YES"


@pytest.mark.slow
def test_secret_makes_the_same_uids_in_every_run(tmp_path, head):
    dicom_files.write_series(tmp_path / "in", head)
    runs = {}
    for name, secret in (("a", b"s" * 32), ("b", b"s" * 32), ("c", None), ("d", None)):
        deface_series(tmp_path / "in", tmp_path / name, SEED, secret=secret)
        runs[name] = {one.SOPInstanceUID for one in by_place(tmp_path / name).values()}
        runs[name] |= {one.SeriesInstanceUID for one in by_place(tmp_path / name).values()}
        assert all(uid.startswith("2.25.") and len(uid) < 64 for uid in runs[name])
    assert runs["a"] == runs["b"]
    assert not runs["a"] & runs["c"] and not runs["c"] & runs["d"]


# ------------------------------------------------------------------------------------------------------ what is read

STORED = {
    "signed": dict(PixelRepresentation=1, RescaleIntercept=0),
    "12 bits": dict(BitsStored=12, HighBit=11),
    "slope": dict(RescaleSlope=0.5, RescaleIntercept=-1024),
    "padding": dict(PixelPaddingValue=0),
    "range of padding": dict(PixelPaddingValue=0, PixelPaddingRangeLimit=200),
}


@pytest.mark.parametrize("name", STORED)
def test_ways_to_store(tmp_path, head, name):
    tags = STORED[name]
    slope, intercept = tags.get("RescaleSlope", 1), tags.get("RescaleIntercept", -1024)
    paths = dicom_files.write_series(tmp_path / "in", head, **tags)
    low, high = (-(2**15), 2**15 - 1) if tags.get("PixelRepresentation") else (0, 2 ** tags.get("BitsStored", 16) - 1)
    for path, plane in zip(paths, voxels(head)):
        words = np.clip(np.rint((plane - intercept) / slope), low, high)
        dicom_files.change(path, PixelData=words.astype("<i2" if low else "<u2").tobytes())
        dataset = pydicom.dcmread(path)
        dataset.add_new("SmallestImagePixelValue", "SS" if low else "US", 3)
        dataset.save_as(path)
    deface_series(tmp_path / "in", tmp_path / "out", SEED)
    after = assert_defaced(tmp_path / "in", tmp_path / "out")
    for one in after.values():
        words = words_of(one)
        assert words.min() >= low and words.max() <= high
        assert one.SmallestImagePixelValue == words.min()


@pytest.mark.slow
@pytest.mark.parametrize("limits", [(24, 24), (24, 40), (40, 0)])
def test_values_of_the_fill_are_never_the_padding(tmp_path, head, limits):
    dicom_files.write_series(tmp_path / "in", head, PixelPaddingValue=limits[0], PixelPaddingRangeLimit=limits[1])
    deface_series(tmp_path / "in", tmp_path / "out", SEED)
    before, after = by_place(tmp_path / "in"), by_place(tmp_path / "out")
    for key, one in after.items():
        new = words_of(one)[words_of(one) != words_of(before[key])]
        assert not ((new >= min(limits)) & (new <= max(limits))).any()


@pytest.mark.slow
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("value", [-2000, 63536])
def test_padding_around_the_field_of_view(tmp_path, head, syntax, value):
    """Signed pixels with -2000 outside a circle; some scanners write that number as an unsigned one."""
    paths = dicom_files.write_series(tmp_path / "in", head, PixelRepresentation=1)
    y, x = np.indices(voxels(head).shape[1:])
    outside = np.hypot(y - y.mean(), x - x.mean()) > 60
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.PixelData = np.where(outside, -2000, words_of(dataset)[0]).astype("<i2").tobytes()
        dataset.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)
        dataset.save_as(path)
        dicom_files.change_syntax(path, syntax)
    stack = choose_series(read_tree(tmp_path / "in")).stacks[0]
    assert {piece.padding for piece in stack.slices} == {(-2000, -2000)}
    report = deface_series(tmp_path / "in", tmp_path / "out", SEED)
    assert report["facial_skin_covered"] > 0.8 and report["intracranial_voxels_touched"] == 0
    assert_defaced(tmp_path / "in", tmp_path / "out")


def test_rescale_of_each_slice(tmp_path, head):
    paths = dicom_files.write_series(tmp_path / "in", head)
    for path in paths[::3]:
        words = words_of(pydicom.dcmread(path)).astype(int)
        dicom_files.change(
            path, RescaleSlope=2, RescaleIntercept=-1100, PixelData=((words - 1024 + 1100) // 2).astype("<u2").tobytes()
        )
    deface_series(tmp_path / "in", tmp_path / "out", SEED)
    assert_defaced(tmp_path / "in", tmp_path / "out")


def test_bits_beside_the_value_stay(tmp_path, head):
    """Old files keep overlays in the bits that the value does not use."""
    paths = dicom_files.write_series(tmp_path / "in", head, BitsStored=12, HighBit=11)
    for path in paths:
        words = np.minimum(words_of(pydicom.dcmread(path)), 4095)
        words[:, ::7] |= 0x8000
        dicom_files.change(path, PixelData=words.astype("<u2").tobytes())
    deface_series(tmp_path / "in", tmp_path / "out", SEED)
    before, after = by_place(tmp_path / "in"), by_place(tmp_path / "out")
    kept = [(words_of(before[key]) == words_of(after[key])).mean() for key in before]
    assert 0.5 < np.mean(kept) < 1 and min(kept) > 0.3


def test_lost_intercept(tmp_path, head):
    dicom_files.write_series(tmp_path / "in", head, RescaleIntercept=None, RescaleSlope=None)
    report = deface_series(tmp_path / "in", tmp_path / "out", SEED)
    assert "1024 was subtracted" in report["notes"][0]
    before, after = by_place(tmp_path / "in"), by_place(tmp_path / "out")
    changed = [words_of(after[key])[words_of(after[key]) != words_of(before[key])] for key in before]
    assert np.concatenate(changed).max() < 600


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [-20.0, 14.0])
def test_tilted_gantry(tmp_path, degrees):
    head = scan().image
    dicom_files.write_series(tmp_path / "in", dicom_files.sheared(head, degrees), tilt_degrees=degrees)
    report = deface_series(tmp_path / "in", tmp_path / "out", SEED)
    assert f"tilted by {abs(degrees):.1f} degrees" in report["notes"][0]
    assert report["intracranial_voxels_touched"] == 0 and report["facial_skin_covered"] > 0.8
    assert_defaced(tmp_path / "in", tmp_path / "out")


UNEVEN = {
    "two spacings": lambda n: [*np.arange(0, n, 2.0), *np.arange(n, 2 * n, 5.0)],
    "slices missing": lambda n: np.delete(np.arange(0, 2 * n, 2.0), [20, 33, 34]),
    "jitter": lambda n: np.arange(0, 2 * n, 2.0) + np.random.default_rng(2).uniform(-0.5, 0.5, n),
    "one slice twice": lambda n: np.sort([*np.arange(0, 2 * n, 2.0), 40.0]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", UNEVEN)
def test_uneven_slices(tmp_path, name):
    head = scan().image
    heights = UNEVEN[name](head.GetSize()[2])
    slices = dicom_files.sheared(head, heights=heights)
    dicom_files.write_series(tmp_path / "in", slices, heights=heights)
    report = deface_series(tmp_path / "in", tmp_path / "out", SEED)
    assert report["notes"] and report["files"] == len(heights)
    assert report["intracranial_voxels_touched"] == 0 and report["facial_skin_covered"] > 0.8
    if name != "one slice twice":
        assert_defaced(tmp_path / "in", tmp_path / "out")


TURNED = np.reshape(sitk.Euler3DTransform((0, 0, 0), 0.1, -0.15, 0.2).GetMatrix(), (3, 3))


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [-20.0, 0.0, 14.0])
def test_regular_grid_shows_what_the_slices_show(tmp_path, degrees):
    """A point of the head is at the same place of the patient on the slices and on the grid made of them."""
    head = sitk.Image(scan(matrix=(128, 160), spacing=(2.0, 1.6, 2.0)).image)
    head.SetDirection(TURNED.ravel().tolist())
    heights = np.sort(np.random.default_rng(3).uniform(0, 2.0 * head.GetSize()[2], head.GetSize()[2]))
    dicom_files.write_series(
        tmp_path, dicom_files.sheared(head, degrees, heights), tilt_degrees=degrees, heights=heights
    )
    stack = choose_series(read_tree(tmp_path)).stacks[0]
    grid = on_regular_grid(stack, read_stack(stack))
    back = sitk.Resample(grid, head, sitk.Transform(), sitk.sitkLinear, -3000)
    inside = (voxels(back) > -1500) & (voxels(head) > -1500)
    assert inside.mean() > 0.6
    assert np.abs(voxels(back) - voxels(head))[inside].mean() < 60
    bone = sitk.Cast(grid > 300, sitk.sitkUInt8)
    there = to_slices(bone, stack)
    slices = voxels(read_stack(stack))
    assert (slices[there] > 100).mean() > 0.9 and there[slices > 1200].mean() > 0.8


@pytest.mark.slow
def test_head_that_lies_askew_in_uneven_slices(tmp_path):
    head = sitk.Image(scan(matrix=(128, 160), spacing=(2.0, 1.6, 2.0)).image)
    head.SetDirection(TURNED.ravel().tolist())
    heights = [*np.arange(0, 80, 2.0), *np.arange(80, 2 * head.GetSize()[2], 3.0)]
    dicom_files.write_series(
        tmp_path / "in", dicom_files.sheared(head, 12.0, heights), tilt_degrees=12, heights=heights
    )
    report = deface_series(tmp_path / "in", tmp_path / "out", SEED)
    assert report["intracranial_voxels_touched"] == 0 and report["facial_skin_covered"] > 0.8
    assert_defaced(tmp_path / "in", tmp_path / "out")


@pytest.mark.slow
def test_several_acquisitions_in_a_series(tmp_path, head):
    first = dicom_files.write_series(tmp_path / "in" / "a", head, SeriesInstanceUID="1.2.3", AcquisitionNumber=1)
    study = str(pydicom.dcmread(first[0]).StudyInstanceUID)
    dicom_files.write_series(
        tmp_path / "in" / "b", head + 3, SeriesInstanceUID="1.2.3", StudyInstanceUID=study, AcquisitionNumber=2
    )
    tree = read_tree(tmp_path / "in")
    assert [len(stack.slices) for stack in choose_series(tree).stacks] == [head.GetSize()[2]] * 2
    deface_series(tmp_path / "in", tmp_path / "out", SEED)
    assert_defaced(tmp_path / "in", tmp_path / "out")


@pytest.mark.slow
def test_scans_one_after_the_other_without_a_number_of_their_acquisition(tmp_path, head):
    """Slices of two times are told apart by their own numbers, so that neither goes into the volume of the other."""
    first = dicom_files.write_series(tmp_path / "in" / "a", head, SeriesInstanceUID="1.2.3")
    study = str(pydicom.dcmread(first[0]).StudyInstanceUID)
    later = dicom_files.write_series(tmp_path / "in" / "b", head + 3, SeriesInstanceUID="1.2.3", StudyInstanceUID=study)
    for number, path in enumerate(later, head.GetSize()[2] + 1):
        dicom_files.change(path, InstanceNumber=number)
    stacks = choose_series(read_tree(tmp_path / "in")).stacks
    assert [{Path(piece.path).parent.name for piece in stack.slices} for stack in stacks] == [{"a"}, {"b"}]
    report = deface_series(tmp_path / "in", tmp_path / "out", SEED)
    assert report["files"] == 2 * head.GetSize()[2] and not report["notes"]


@pytest.mark.parametrize("slices", [1, 4, 40])
def test_scans_of_many_acquisitions_are_one_stack(tmp_path, head, slices):
    """Scanners that step from place to place count each step as an acquisition."""
    for number, path in enumerate(dicom_files.write_series(tmp_path, head)):
        dicom_files.change(path, AcquisitionNumber=1 + number // slices)
    assert [len(stack.slices) for stack in choose_series(read_tree(tmp_path)).stacks] == [head.GetSize()[2]]


def test_multi_frame(tmp_path, head):
    (tmp_path / "in").mkdir()
    dicom_files.write_multi_frame(tmp_path / "in" / "one.dcm", head)
    report = deface_series(tmp_path / "in", tmp_path / "out", SEED)
    assert report["files"] == 1
    before = pydicom.dcmread(tmp_path / "in" / "one.dcm")
    after = pydicom.dcmread(next((tmp_path / "out").iterdir()))
    assert after.PerFrameFunctionalGroupsSequence == before.PerFrameFunctionalGroupsSequence
    shared = after.SharedFunctionalGroupsSequence[0]
    assert shared.CTImageFrameTypeSequence[0].FrameType[0] == after.ImageType[0] == "DERIVED"
    source = shared.DerivationImageSequence[0].SourceImageSequence[0]
    assert source.ReferencedSOPInstanceUID == before.SOPInstanceUID != after.SOPInstanceUID
    evidence = after.SourceImageEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.SeriesInstanceUID == before.SeriesInstanceUID != after.SeriesInstanceUID
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
    changed = words_of(before) != words_of(after)
    assert words_of(after)[changed].max() < -400 and 0.02 < changed.mean() < 0.5


def test_other_byte_order_and_syntax(tmp_path, head):
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

    paths = dicom_files.write_series(tmp_path / "in", head)
    for number, path in enumerate(paths):
        syntax = (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)[number % 3]
        if syntax == ExplicitVRBigEndian:
            dicom_files.change(path, PixelData=words_of(pydicom.dcmread(path)).astype(">u2").tobytes())
        dicom_files.change_syntax(path, syntax)
    deface_series(tmp_path / "in", tmp_path / "out", SEED)
    after = assert_defaced(tmp_path / "in", tmp_path / "out")
    assert len({one.file_meta.TransferSyntaxUID for one in after.values()}) == 3


COMPRESSED = ["RLELossless", "JPEGLSLossless", "JPEG2000Lossless", "JPEGLosslessProcess14", "JPEGLosslessProcess14_1"]


@pytest.mark.slow
@pytest.mark.parametrize("syntax", COMPRESSED)
def test_compressed(tmp_path, head, syntax):
    pytest.importorskip("gdcm", reason="pip install ctdeface[dicom]")
    dicom_files.write_series(tmp_path / "plain", head)
    shutil.copytree(tmp_path / "plain", tmp_path / "in")
    for path in (tmp_path / "in").iterdir():
        dicom_files.compress(path, syntax)
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_encapsulated
    deface_series(tmp_path / "in", tmp_path / "out", SEED)
    assert_defaced(tmp_path / "plain", tmp_path / "out")


@pytest.mark.parametrize("syntax", COMPRESSED)
@pytest.mark.parametrize("tags", [{}, dict(PixelRepresentation=1, RescaleSlope=1.2), dict(BitsStored=12, HighBit=11)])
def test_compressed_without_decoders(tmp_path, head, monkeypatch, syntax, tags):
    """In 3D Slicer pydicom has no decoders, but SimpleITK has: the same words come out."""
    pytest.importorskip("gdcm", reason="pip install ctdeface[dicom]")
    path = dicom_files.write_series(tmp_path, head[:, :, 20:21], **tags)[0]
    words = np.minimum(words_of(pydicom.dcmread(path)), 4095)
    dicom_files.change(path, PixelData=words.astype("<u2").tobytes())
    expected = words_of(pydicom.dcmread(path))
    dicom_files.compress(path, syntax)
    without_decoders(monkeypatch, tmp_path)
    with pytest.raises(RuntimeError, match="missing"):
        _ = pydicom.dcmread(path).pixel_array
    assert np.array_equal(words_of(pydicom.dcmread(path)), expected)


def without_decoders(monkeypatch, tmp_path):
    """Take the decoders of compressed pixels from pydicom, here and where they are decoded, which then is here too."""
    from pydicom.pixels import get_decoder

    for syntax in pydicom.uid.AllTransferSyntaxes:
        if syntax.is_encapsulated:
            with suppress(NotImplementedError):
                monkeypatch.setattr(get_decoder(syntax), "_available", {})
    monkeypatch.setattr(decoding, "_decoders", {})
    monkeypatch.setattr(decoding, "interpreter", lambda: str(tmp_path / "none"))


def test_missing_decoder_is_named(tmp_path, head, monkeypatch):
    """Several frames are what SimpleITK cannot decode, as each can have a rescale of its own."""
    (tmp_path / "in").mkdir()
    dicom_files.write_multi_frame(tmp_path / "in" / "one.dcm", head)
    dataset = pydicom.dcmread(tmp_path / "in" / "one.dcm")
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(tmp_path / "in" / "one.dcm")
    without_decoders(monkeypatch, tmp_path)
    assert "pip install ctdeface[dicom]" in refusal(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_compressed_pixels_that_cannot_be_decoded(tmp_path, head):
    paths = dicom_files.write_series(tmp_path / "in", head)
    for path in paths[9:10]:
        dataset = pydicom.dcmread(path)
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8" + b"\0" * 20])
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
        dataset.save_as(path)
    assert "cannot be decoded" in refusal(tmp_path / "in", tmp_path / "out")
    assert os.listdir(tmp_path) == ["in"]


# -------------------------------------------------------------------------------------------------- trees and mixtures


def clutter(folder, head):
    """A study around a series: a scout, reports, captures, another series, and what is no DICOM at all."""
    folder.mkdir(parents=True)
    dicom_files.write_series(folder / "scout", head[:, :, 5:6], ImageType=LOCALIZER, SeriesNumber=1)
    dicom_files.write_document(folder / "dose", "1.2.840.10008.5.1.4.1.1.88.67")
    dicom_files.write_document(folder / "keys", "1.2.840.10008.5.1.4.1.1.88.59")
    dicom_files.write_document(folder / "screen.dcm", "1.2.840.10008.5.1.4.1.1.7", Rows=2, Columns=2, BitsAllocated=8,
                               PixelData=b"1234", SamplesPerPixel=1)  # fmt: skip
    dicom_files.write_document(folder / "matrix", "1.2.840.10008.5.1.4.1.1.66.1")
    dicom_files.write_document(folder / "skin", "1.2.840.10008.5.1.4.1.1.66.5")
    dicom_files.write_document(folder / "head in 3D", "1.2.840.10008.5.1.4.1.1.2", Rows=2, Columns=2, BitsAllocated=8,
                               PixelData=b"123456789012", SamplesPerPixel=3, Modality="CT")  # fmt: skip
    protocol = dicom_files.write_series(folder / "protocol", head[:, :, 5:6], SeriesNumber=501)
    dicom_files.change(protocol[0], ImagePositionPatient=None)
    mr_image = "1.2.840.10008.5.1.4.1.1.4"
    dicom_files.write_series(folder / "mr", head, SOPClassUID=mr_image, Modality="MR", SeriesNumber=9)
    dicom_files.write_series(folder / "test bolus", head[:, :, 5:7], SeriesNumber=2)
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    dicom_files.write_document(folder / "DICOMDIR", "1.2.840.10008.1.3.10")
    (folder / "notes.txt").write_text("no slice")
    (folder / ".hidden").write_bytes(b"DICM")


def test_tree_with_all_kinds_of_files(tmp_path, head):
    clutter(tmp_path / "in", head)
    paths = dicom_files.write_series(tmp_path / "in" / "deep" / "er", head, SeriesNumber=4)
    shutil.copy(paths[3], tmp_path / "in" / "copy of a slice")
    report = deface_series(tmp_path / "in", tmp_path / "out", SEED)
    assert report["left_out"] == [
        "capture in colour (1)", "copy (1)", "dose report (1)", f"image of modality MR ({head.GetSize()[2]})",
        "key object selection (1)", "picture without a place (1)", "registration (1)", "scout (1)",
        "secondary capture (1)", "slice of a stack of too few (2)", "surface segmentation (1)",
    ]  # fmt: skip
    assert_defaced(tmp_path / "in" / "deep", tmp_path / "out")


@pytest.mark.slow
def test_one_of_several_series(tmp_path, head):
    dicom_files.write_series(tmp_path / "in" / "x", head, SeriesNumber=4)
    dicom_files.write_series(tmp_path / "in" / "y", head, SeriesNumber=7)
    n = head.GetSize()[2]
    assert f"2 CT series: series 4 (CT, {n} slices), series 7" in refusal(tmp_path / "in", tmp_path / "out")
    assert "no such series" in refusal(tmp_path / "in", tmp_path / "out", series="5")
    report = deface_series(tmp_path / "in", tmp_path / "out", SEED, series="7")
    assert report["left_out"] == [f"series 4 (CT, {n} slices)"]
    for path in (tmp_path / "in" / "x").iterdir():
        dicom_files.change(path, SeriesNumber=7)
    assert "by its series instance UID (--series)" in refusal(tmp_path / "in", tmp_path / "out 2", series="7")
    uid = str(pydicom.dcmread(path).SeriesInstanceUID)
    assert deface_series(tmp_path / "in", tmp_path / "out 2", SEED, series=uid)["files"] == n
    assert_defaced(tmp_path / "in" / "y", tmp_path / "out")


def test_series_in_one_folder_are_told_apart(tmp_path, head):
    for number in (4, 7):
        for path in dicom_files.write_series(tmp_path / str(number), head + number, SeriesNumber=number):
            (tmp_path / "in").mkdir(exist_ok=True)
            shutil.move(path, tmp_path / "in" / f"{number}{path.name}")
    deface_series(tmp_path / "in", tmp_path / "out", SEED, series="7")
    assert {one.SeriesNumber for one in by_place(tmp_path / "out").values()} == {7}


def test_two_images_of_one_uid(tmp_path, head):
    paths = dicom_files.write_series(tmp_path / "in", head)
    dicom_files.change(paths[3], SOPInstanceUID=pydicom.dcmread(paths[4]).SOPInstanceUID)
    numbers = sorted(1 + sorted(paths).index(path) for path in paths[3:5])
    said = f"differ (numbers {numbers[0]} and {numbers[1]} of the {len(paths)} files by name)"
    assert said in refusal(tmp_path / "in", tmp_path / "out")


def test_a_copy_that_differs_blocks_its_own_series_only(tmp_path, head):
    paths = {n: dicom_files.write_series(tmp_path / "in" / str(n), head, SeriesNumber=n) for n in (4, 7)}
    shutil.copy(paths[4][3], tmp_path / "in" / "copy")
    dicom_files.change(tmp_path / "in" / "copy", InstitutionName="Elsewhere", PatientID="another")
    assert f"of the {2 * len(paths[4]) + 1} files by name" in refusal(tmp_path / "in", tmp_path / "out", series="4")
    report = deface_series(tmp_path / "in", tmp_path / "out", SEED, series="7")
    assert report["files"] == len(paths[7])


@pytest.mark.parametrize("cut", [3, 140, 400, 0.5, -1])
def test_damaged_file_in_the_middle(tmp_path, head, cut):
    paths = dicom_files.write_series(tmp_path / "in", head)
    content = paths[9].read_bytes()
    paths[9].write_bytes(content[: int(cut * len(content)) if 0 < cut < 1 else cut])
    assert "truncated or damaged" in refusal(tmp_path / "in", tmp_path / "out")
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("content", [b"", b"\0" * 5000, b"\0" * 128 + b"DICM", b"?" * 5000])
def test_file_without_sense_in_the_middle(tmp_path, head, content):
    paths = dicom_files.write_series(tmp_path / "in", head)
    paths[9].write_bytes(content)
    assert "truncated or damaged" in refusal(tmp_path / "in", tmp_path / "out")
    if content.strip(b"\0") != content:
        paths[9].rename(tmp_path / "in" / "1.2.345")
        assert "truncated or damaged" in refusal(tmp_path / "in", tmp_path / "out")
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("name", ["SOPInstanceUID", "SeriesInstanceUID"])
def test_slice_that_belongs_nowhere(tmp_path, head, name):
    paths = dicom_files.write_series(tmp_path / "in", head)
    dicom_files.change(paths[9], **{name: None})
    assert "truncated or damaged" in refusal(tmp_path / "in", tmp_path / "out")
    assert os.listdir(tmp_path) == ["in"]


def test_header_that_cannot_be_written(tmp_path, head, monkeypatch):
    dicom_files.write_series(tmp_path / "in", head)

    def fail(*args, **choices):
        raise struct.error("odd")

    monkeypatch.setattr(pydicom.Dataset, "save_as", fail)
    assert "cannot be written" in refusal(tmp_path / "in", tmp_path / "out")
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_files_without_preamble(tmp_path, head, syntax):
    """Old files begin with the group of the file, or with that of the image."""
    (tmp_path / "in").mkdir()
    for path in dicom_files.write_series(tmp_path / "whole", head):
        dicom_files.change_syntax(path, syntax)
        length = pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength
        bare = syntax == ImplicitVRLittleEndian
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes()[132 + bare * (12 + length) :])
    report = deface_series(tmp_path / "in", tmp_path / "out", SEED)
    assert report["files"] == head.GetSize()[2]
    assert_defaced(tmp_path / "whole", tmp_path / "out")


def test_file_that_cannot_be_read(tmp_path, head):
    paths = dicom_files.write_series(tmp_path / "in", head)
    paths[9].unlink()
    try:
        paths[9].symlink_to(tmp_path / "gone")
    except OSError:
        pytest.skip("this user may not make links")
    assert "cannot be read" in refusal(tmp_path / "in", tmp_path / "out")
    assert os.listdir(tmp_path) == ["in"]


def test_gap_that_hides_too_much(tmp_path):
    head = scan().image
    heights = np.array([*np.arange(0, 60, 2.0), *np.arange(100, 160, 2.0)])
    dicom_files.write_series(tmp_path / "in", dicom_files.sheared(head, heights=heights), heights=heights)
    assert "42.0 mm lie between" in refusal(tmp_path / "in", tmp_path / "out")


def test_no_face_and_no_series(tmp_path, head):
    dicom_files.write_series(tmp_path / "in", sitk.Cast(head * 0 - 1000, sitk.sitkInt16))
    assert refusal(tmp_path / "in", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert "no DICOM images" in refusal(tmp_path / "empty", tmp_path / "out")


def test_output_that_is_there(tmp_path, head):
    dicom_files.write_series(tmp_path / "in", head)
    assert "not empty" in refusal(tmp_path / "in", tmp_path / "in")
    assert "does not exist" in refusal(tmp_path / "in", tmp_path / "no" / "where")


@pytest.mark.parametrize("fails_at", ["Reading", "Filling the region", "Writing"])
def test_nothing_is_left_of_what_ends_early(tmp_path, head, fails_at):
    dicom_files.write_series(tmp_path / "in", head)

    def stop(fraction, text):
        if text == fails_at:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        deface_series(tmp_path / "in", tmp_path / "out", SEED, progress=stop)
    assert os.listdir(tmp_path) == ["in"]


# ---------------------------------------------------------------------------------------------------- the command


def run(*args):
    try:
        return main([str(arg) for arg in args])
    except SystemExit as exit:
        return exit.code


def test_command(tmp_path, head, capsys):
    dicom_files.write_series(tmp_path / "in", head, SeriesNumber=4)
    dicom_files.write_document(tmp_path / "in" / "dose", "1.2.840.10008.5.1.4.1.1.88.67")
    assert run("deface", tmp_path / "in", tmp_path / "out", "--secret", tmp_path / "key") == 0
    assert "left out: dose report (1)" in capsys.readouterr().err
    report = (tmp_path / "out.json").read_text()
    assert json.loads(report)["files"] == head.GetSize()[2]
    assert "Doe" not in report and "4711" not in report
    assert_defaced(tmp_path / "in", tmp_path / "out", fill="smooth")
    assert run("deface", tmp_path / "in", tmp_path / "out") == 2
    assert run("deface", tmp_path / "in", tmp_path / "out2", "--mask", tmp_path / "m.nrrd") == 2
    assert run("deface", tmp_path / "in", tmp_path / "out3", "--series", "5") == 1
    assert sorted(os.listdir(tmp_path)) == ["in", "key", "out", "out.json"]


@pytest.mark.parametrize("output", ["x" * 300, "CON", "out.", "out ", "no folder/out", "taken", "locked/out"])
def test_what_cannot_be_written_is_said_before_the_work_in_one_line(tmp_path, monkeypatch, capsys, output):
    monkeypatch.chdir(tmp_path)
    dicom_files.write_series("series", small_ct())
    Path("taken.json").touch()  # the report of "taken" is there
    lock(monkeypatch, "locked")
    monkeypatch.setattr("CTDefaceLib.dicom.deface.deface_series", lambda *args, **choices: pytest.fail("work was done"))
    assert run("deface", "series", output) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "usage:" not in err
    assert sorted(os.listdir()) == ["locked", "series", "taken.json"] and os.listdir("locked") == []
