"""NIfTI files: how they say where their voxels lie, what is refused, and that it stands in the result as it was."""

import gzip
import itertools
import re
import struct
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from CTDefaceLib import batch
from CTDefaceLib.batch.status import Status
from CTDefaceLib.commands.main import main
from CTDefaceLib.errors import InputError
from CTDefaceLib.nifti import EXTENSION, HEADERS, MAGIC, read_nifti, write_nifti
from CTDefaceLib.nifti_geometry import geometry_of, is_orientation
from CTDefaceLib.phantom import PhantomParameters
from CTDefaceLib.pipeline import DefaceParameters
from CTDefaceLib.study.volumes import find_face
from CTDefaceLib.volume_io import read_ct, read_scan, read_stored, write_volume
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from stored_phantoms import stored_phantom
from test_volume_io import assert_same_volume, directions, small_ct, values

LETTERS = [a + b + c for order in itertools.permutations(("RL", "AP", "SI")) for a, b, c in itertools.product(*order)]
PLACED = ("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern", "qoffset", "srow")
"""What a header says of where its voxels lie."""


def save(path, image, header=348, order="<", **fields):
    """Write a volume as NIfTI of either version and byte order, with these fields changed; returns the header."""
    own = geometry_of(image)
    voxels = values(image)
    head = np.zeros((), HEADERS[header].newbyteorder(order))
    head["sizeof_hdr"], head["magic"], head["dim"] = header, MAGIC[header], [3, *image.GetSize(), 1, 1, 1, 1]
    head["datatype"], head["bitpix"] = {"int16": 4, "float32": 16}[voxels.dtype.name], 8 * voxels.itemsize
    head["vox_offset"], head["pixdim"], head["xyzt_units"] = header + 4, own.pixdim, own.units
    head["qform_code"], head["sform_code"] = own.codes
    head["quatern"], head["qoffset"], head["srow"] = own.quatern, own.qoffset, own.srow
    for name, value in fields.items():
        head[name] = value
    content = head.tobytes() + EXTENSION + voxels.astype(voxels.dtype.newbyteorder(order)).tobytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return head


def header_of(path, size=348):
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    return np.frombuffer(content[:size], HEADERS[size], 1)[0]


def rows(image, **changes):
    """The sform of a volume, 3×4, with some numbers changed: a row and a column → a factor or a summand."""
    found = np.array(geometry_of(image).srow)
    for place, change in changes.items():
        index = tuple(int(digit) for digit in place[1:])
        found[index] = found[index] * change if place[0] == "x" else found[index] + change
    return found


def refusal(path, **choices):
    with pytest.raises(InputError) as caught:
        read_ct(path, **choices)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _nothing_of_a_library_on_the_terminal(capfd):
    yield
    shown = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("ctdeface")]
    assert shown == []


# ---------------------------------------------------------------------------------------------------------- is read


@examples(40)
@given(
    direction=directions, header=st.sampled_from(list(HEADERS)), order=st.sampled_from("<>"),
    codes=st.sampled_from([(1, 0), (0, 2), (1, 1), (3, 4)]), ending=st.sampled_from([".nii", ".nii.gz"]),
    units=st.sampled_from([(0, 1.0), (2, 1.0), (1, 1e-3), (3, 1e3), (10, 1.0)]),
)  # fmt: skip
def test_both_versions_byte_orders_and_transforms(tmp_path_factory, direction, header, order, codes, ending, units):
    image = small_ct((7, 6, 5), direction=direction)
    path = tmp_path_factory.mktemp("nifti") / f"v{ending}"
    own, (code, factor) = geometry_of(image), units
    scaled = {name: np.array(getattr(own, name)) * factor for name in ("qoffset", "srow")}
    pixdim = [own.pixdim[0], *np.array(own.pixdim[1:]) * factor]
    save(path, image, header, order, qform_code=codes[0], sform_code=codes[1], xyzt_units=code, pixdim=pixdim, **scaled)
    assert_same_volume(read_ct(path), image, atol=2e-3)


@examples(40)
@given(direction=directions)
def test_geometry_is_that_of_simpleitk(tmp_path_factory, direction):
    image = small_ct((7, 6, 5), direction=direction)
    folder = tmp_path_factory.mktemp("nifti")
    sitk.WriteImage(image, str(folder / "theirs.nii.gz"))
    assert_same_volume(read_ct(folder / "theirs.nii.gz"), image, atol=2e-3)
    write_volume(image, folder / "ours.nii.gz")
    assert_same_volume(sitk.ReadImage(str(folder / "ours.nii.gz")), image, atol=2e-3)
    np.testing.assert_allclose(
        *(np.array(header_of(folder / f"{whose}.nii.gz")["quatern"]) for whose in ("theirs", "ours")), atol=1e-5
    )


@pytest.mark.parametrize("orientation", LETTERS)
def test_orientation_that_is_given(tmp_path, orientation):
    image = small_ct((7, 6, 5))
    save(tmp_path / "v.nii", image, qform_code=0, sform_code=0)
    assert is_orientation(orientation)
    found = read_ct(tmp_path / "v.nii", orientation=orientation)
    assert found.GetSpacing() == pytest.approx(image.GetSpacing())
    towards = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(found.GetDirection())
    assert towards == orientation  # ITK names, as here, where axes lead
    np.testing.assert_array_equal(values(found), values(image))


def test_letters_that_are_no_orientation():
    assert len(set(filter(is_orientation, LETTERS))) == 48
    assert not any(map(is_orientation, ["", "RA", "RASS", "RLS", "XYZ", "RAs"]))


@pytest.mark.parametrize("slope", [0, np.nan])
def test_a_slope_that_is_none(tmp_path, slope):
    save(tmp_path / "v.nii", small_ct(), scl_slope=slope, scl_inter=7)
    assert_same_volume(read_ct(tmp_path / "v.nii"), small_ct())


def test_voxels_behind_an_extension(tmp_path):
    head = save(tmp_path / "v.nii", small_ct(), vox_offset=352 + 32)
    content = (tmp_path / "v.nii").read_bytes()
    extension = b"\1\0\0\0" + struct.pack("<ii", 32, 6) + b"Jane Doe" + b"\0" * 16
    (tmp_path / "v.nii").write_bytes(head.tobytes() + extension + content[352:])
    scan = read_scan(tmp_path / "v.nii")
    assert_same_volume(scan.image, small_ct())
    write_volume(scan.image, tmp_path / "out.nii", geometry=scan.geometry)
    assert b"Jane" not in (tmp_path / "out.nii").read_bytes()


# -------------------------------------------------------------------------------------------- is refused, or chosen


def test_a_file_that_states_no_orientation(tmp_path):
    save(tmp_path / "v.nii.gz", small_ct(), qform_code=0, sform_code=0)
    assert "--orientation" in refusal(tmp_path / "v.nii.gz")
    assert "--orientation" in refusal(tmp_path / "v.nii.gz", form="qform")


WITHOUT = {
    ".nrrd": [(rb"space directions: .*\n", b"spacings: 0.8 0.9 2.5\n"), (rb"space.*: [l(].*\n", b"")],
    ".nhdr": [(rb"space: .*\n", b"space: scanner-xyz\n")],
    ".mha": [(rb"TransformMatrix = .*\n", b"")],
    ".mhd": [(rb"TransformMatrix = .*\n", b"")],
}


@pytest.mark.parametrize("ending", WITHOUT)
def test_other_formats_that_state_no_orientation(tmp_path, ending):
    """As a NIfTI file without codes: refused, unless a person tells, which is noted."""
    image, path = small_ct((7, 6, 5)), tmp_path / f"v{ending}"
    sitk.WriteImage(image, str(path))
    with pytest.raises(InputError, match="leave --orientation out"):
        find_face(path, DefaceParameters(), reading={"orientation": "LPS"})
    for line, other in WITHOUT[ending]:
        path.write_bytes(re.sub(line, other, path.read_bytes()))
    assert "--orientation" in refusal(path)
    with pytest.raises(InputError, match="--orientation"):
        read_stored(path)
    scan = read_scan(path, orientation="RAS")
    assert "RAS (to the right, front, top) was told. No head tells its left from its right" in scan.notes[0]
    expected = small_ct((7, 6, 5), direction=[-1, 0, 0, 0, -1, 0, 0, 0, 1])
    assert scan.image.GetDirection() == read_stored(path, orientation="RAS").GetDirection() == expected.GetDirection()
    assert scan.image.GetSpacing() == pytest.approx(image.GetSpacing())
    np.testing.assert_array_equal(values(scan.image), values(image))


DIFFERING = {
    "other spacing": {"x22": 4 / 3}, "upside down": {"x22": -1.0}, "sheared": {"p12": 0.5}, "shifted": {"p03": 1.0},
    "mirrored": {"x00": -1.0}, "not a number": {"x00": np.nan},
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERING)
def test_two_orientations(tmp_path, name):
    image = small_ct()
    head = save(tmp_path / "v.nii.gz", image, srow=rows(image, **DIFFERING[name]), sform_code=2)
    sentence = "what is no number" if name == "not a number" else "more than a voxel"
    assert sentence in refusal(tmp_path / "v.nii.gz")
    assert_same_volume(read_ct(tmp_path / "v.nii.gz", form="qform"), image)
    if name in ("sheared", "not a number"):
        assert "right angles" in refusal(tmp_path / "v.nii.gz", form="sform")
        return
    chosen = read_ct(tmp_path / "v.nii.gz", form="sform")
    led = np.reshape(chosen.GetDirection(), (3, 3)) * chosen.GetSpacing()
    np.testing.assert_allclose(np.diag([-1, -1, 1]) @ led, head["srow"][:, :3], atol=1e-5)


@pytest.mark.parametrize("change", [{"p03": 0.7}, {"x22": 1.02}, {"p12": 0.06}, {}])
def test_transforms_that_differ_by_less_than_a_voxel(tmp_path, change):
    image = small_ct()
    save(tmp_path / "v.nii.gz", image, srow=rows(image, **change))
    assert_same_volume(read_ct(tmp_path / "v.nii.gz"), image, atol=0.8)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"datatype": 128, "bitpix": 24}, "in colour"), ({"datatype": 32}, "complex"), ({"datatype": 1}, "damaged"),
        ({"dim": [4, 24, 20, 6, 2, 1, 1, 1]}, "2 volumes"), ({"dim": [5, 24, 20, 4, 1, 3, 1, 1]}, "of vectors"),
        ({"dim": [2, 24, 240, 1, 1, 1, 1, 1]}, "single slice"), ({"dim": [3, -1, 20, 12, 1, 1, 1, 1]}, "damaged"),
        ({"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]}, "truncated"), ({"dim": [9, 24, 20, 12, 1, 1, 1, 1]}, "damaged"),
        ({"dim": [3, 0, 20, 12, 1, 1, 1, 1]}, "empty"), ({"magic": b"ni1"}, "damaged"),
        ({"vox_offset": 1e9}, "truncated"), ({"vox_offset": np.nan}, "damaged"),
        ({"pixdim": [1, 0, 1, 1, 0, 0, 0, 0], "sform_code": 0}, "right angles"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_headers_of_what_is_no_volume(tmp_path, fields, words, ending):
    save(tmp_path / f"v{ending}", small_ct(), **fields)
    assert words in refusal(tmp_path / f"v{ending}")


# --------------------------------------------------------------------------------------- is written as it was


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_both_transforms_are_written_as_they_were(tmp_path, header, ending):
    image = small_ct()
    told = {"descrip": b"Jane Doe", "aux_file": b"Doe", "intent_name": b"Jane", "xyzt_units": 10}
    before = save(tmp_path / f"v{ending}", image, header, srow=rows(image, p12=0.5), sform_code=4,
                  pixdim=[-1, 0.8, 0.9, 2.5, 7, 0, 0, 0], **told)  # fmt: skip
    found, geometry = read_nifti(tmp_path / f"v{ending}", "qform")
    write_nifti(found + 1, tmp_path / f"out{ending}", geometry)
    after = header_of(tmp_path / f"out{ending}", header)
    for name in PLACED:
        np.testing.assert_array_equal(before[name], after[name])
    assert not any(after[name] for name in ("descrip", "aux_file", "intent_name"))
    np.testing.assert_array_equal(values(read_nifti(tmp_path / f"out{ending}", "qform")[0]), values(found) + 1)


@pytest.fixture(scope="module")
def head():
    return stored_phantom(PhantomParameters(matrix=(80, 80), spacing=(3.0, 3.0, 3.0))).image


def run(*args):
    try:
        return main([str(arg) for arg in args])
    except SystemExit as exit:
        return exit.code


def test_the_command_takes_the_choice_and_leaves_the_header(tmp_path, head, capfd):
    told = [tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", "--mask", tmp_path / "mask.nii.gz"]
    before = save(told[0], head, srow=rows(head, x22=4 / 3), sform_code=4)
    assert run("deface", *told) == 1
    assert "--qform or --sform" in capfd.readouterr().err
    assert run("deface", *told, "--qform") == 0
    for path in (told[1], told[3]):
        assert all(np.array_equal(before[name], header_of(path)[name]) for name in PLACED)
    capfd.readouterr()


def test_the_command_takes_an_orientation(tmp_path, head, capfd):
    """A head whose axes lead to right, front and top, in a file that does not say so."""
    turned = sitk.GetImageFromArray(values(head)[:, ::-1, ::-1])
    turned.SetSpacing(head.GetSpacing())
    before = save(tmp_path / "in.nii.gz", turned, qform_code=0, sform_code=0)
    told = ["deface", tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", "--seed", "1"]
    assert run(*told) == 1 and "--orientation" in capfd.readouterr().err
    assert run(*told, "--orientation", "ras") == 0 and "no head tells its left" in capfd.readouterr().err.lower()
    assert all(np.array_equal(before[name], header_of(tmp_path / "out.nii.gz")[name]) for name in PLACED)
    save(tmp_path / "good.nii.gz", head)
    assert run("deface", tmp_path / "good.nii.gz", tmp_path / "same.nii.gz", "--seed", "1") == 0
    both = [values(read_nifti(tmp_path / name, orientation="RAS")[0]) for name in ("out.nii.gz", "same.nii.gz")]
    changed = both[0][:, ::-1, ::-1] != values(head), both[1] != values(head)
    assert (changed[0] & changed[1]).sum() > 0.9 * changed[1].sum() > 1000
    capfd.readouterr()


@pytest.mark.parametrize(
    "options, status, words",
    [
        (["--orientation", "RAS"], 1, "leave --orientation out"),
        (["--orientation", "RLS"], 2, "three letters"),
        (["--qform", "--sform"], 2, "not allowed with"),
        (["--sform"], 1, "has no sform"),
    ],
)
def test_choices_that_a_file_does_not_need(tmp_path, head, capfd, options, status, words):
    save(tmp_path / "in.nii.gz", head, sform_code=0)
    assert run("deface", tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", *options) == status
    said = capfd.readouterr().err
    assert words in said and len(said.splitlines()) == 1
    assert run("deface", tmp_path / "x.nrrd", tmp_path / "out.nii.gz", *options) != 0
    capfd.readouterr()


@pytest.mark.slow
def test_a_batch_takes_the_choices_for_the_files_that_need_them(tmp_path, head):
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "good.nii.gz", head)
    save(tmp_path / "in" / "two.nii.gz", head + 1, srow=rows(head, x22=4 / 3))
    save(tmp_path / "in" / "none.nii.gz", head + 2, sform_code=0, qform_code=0)
    counts = batch.run(tmp_path / "in", tmp_path / "a", gallery=False).counts
    assert counts[Status.REFUSED] == 2
    choices = batch.Choices(form="qform", orientation="LPS")
    counts = batch.run(tmp_path / "in", tmp_path / "b", choices=choices, gallery=False).counts
    assert sum(counts.get(status, 0) for status in (Status.DONE, Status.WARNED)) == 3


@pytest.mark.skipif(sys.byteorder == "big", reason="the header is written for machines of the usual byte order")
def test_a_volume_of_other_formats_gets_both_transforms(tmp_path):
    image = small_ct(direction=[0, 0, 1, 1, 0, 0, 0, 1, 0])
    write_volume(image, tmp_path / "v.nrrd")
    scan = read_scan(tmp_path / "v.nrrd")
    assert scan.geometry is None
    write_volume(scan.image, tmp_path / "v.nii")
    assert_same_volume(read_ct(tmp_path / "v.nii", form="qform"), image, atol=1e-3)
    assert_same_volume(read_ct(tmp_path / "v.nii", form="sform"), image, atol=1e-3)
