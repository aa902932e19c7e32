"""Segmented structures: distances against closed forms and a plain search, doses by hand, every way to give them."""

import numpy as np
import pytest
import SimpleITK as sitk
from CTDefaceEvalLib import structures as library
from CTDefaceLib.errors import InputError
from scipy.spatial import cKDTree
from test_keep import circle, drawn

SPACING = np.array([2.0, 1.0, 1.0])  # z, y, x


def ball(radius, middle=(0.0, 0.0, 0.0), size=(40, 60, 60)):
    z, y, x = ((np.arange(n) - n / 2) * step for n, step in zip(size, SPACING))
    return (z[:, None, None] - middle[0]) ** 2 + (y[:, None] - middle[1]) ** 2 + (x - middle[2]) ** 2 <= radius**2


def image_of(array, spacing=SPACING):
    image = sitk.GetImageFromArray(array.astype(np.uint8))
    image.SetSpacing(spacing[::-1].tolist())
    return image


def plainly(first, second):
    """Both directions' distances by a search over all voxels of both surfaces."""
    places = []
    for mask in (first, second):
        grown = np.pad(mask, 1)
        inner = np.ones_like(grown)
        for axis in range(3):
            inner &= np.roll(grown, 1, axis) & np.roll(grown, -1, axis)
        places.append(np.argwhere(mask & ~inner[1:-1, 1:-1, 1:-1]) * SPACING)
    return cKDTree(places[1]).query(places[0])[0], cKDTree(places[0]).query(places[1])[0]


@pytest.mark.parametrize("second", [ball(15.0), ball(19.0), ball(15.0, (4.0, 3.0, 0.0)), ball(4.0, (0.0, 0.0, 20.0))])
def test_distances_are_those_of_a_plain_search(second):
    first = ball(15.0)
    hd95, surface_dice = library.surface_distance(first, second, SPACING)
    there, back = plainly(first, second)
    assert hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), abs=1e-4)
    assert surface_dice == pytest.approx(((there <= 2).sum() + (back <= 2).sum()) / (len(there) + len(back)))


def test_a_ball_in_a_ball_is_as_far_as_their_radii():
    hd95, surface_dice = library.surface_distance(ball(12.0), ball(17.0), SPACING)
    assert hd95 == pytest.approx(5.0, abs=1.0) and surface_dice < 0.05
    assert library.surface_distance(ball(12.0), ball(12.0), SPACING) == (0.0, 1.0)
    volumes = [4.0 / 3.0 * np.pi * radius**3 for radius in (12.0, 17.0)]
    assert library.dice(ball(12.0), ball(17.0)) == pytest.approx(2 * volumes[0] / sum(volumes), abs=0.01)


def test_nothing_and_something():
    nothing = np.zeros((4, 4, 4), bool)
    something = ~nothing
    assert library.surface_distance(nothing, something, SPACING) == (None, 0.0)
    assert library.surface_distance(nothing, nothing, SPACING) == (None, 1.0)
    assert library.dice(nothing, something) == 0.0 and library.dice(nothing, nothing) == 1.0


def test_doses_by_hand():
    doses = np.arange(1000.0)
    assert library.dose_of(doses, 0.001) == (990.0, doses.mean())  # the ten hottest of 0.001 mL
    assert library.dose_of(doses, 0.004)[0] == 998.0 and library.dose_of(doses, 0.1)[0] == 999.0
    assert library.dose_of(doses[:4], 0.001)[0] == 0.0 and library.dose_of(doses[:0], 1.0) is None


def test_what_became_of_each_structure(tmp_path):
    kept, lost, moved = ball(6.0, (0, -15, 0)), ball(6.0, (0, 15, 0)), ball(5.0, (20, 0, 20))
    labels = np.select([kept, lost, moved], [1, 2, 7]).astype(np.uint8)
    after = np.select([kept, np.roll(moved, 3, axis=2)], [1, 7]).astype(np.uint8)
    changed = image_of(lost)
    dose = sitk.GetImageFromArray(np.broadcast_to(np.linspace(0.0, 60.0, 60), labels.shape).astype(np.float32))
    dose.CopyInformation(changed)
    paths = [tmp_path / "before.nii.gz", tmp_path / "after.nii.gz"]
    for path, array in zip(paths, (labels, after)):
        sitk.WriteImage(image_of(array), str(path))
    before, defaced = (library.read_structures(path) for path in paths)
    assert list(before) == ["label 1", "label 2", "label 7"]
    one, two, seven = library.measured(before, changed, defaced, dose)
    voxel_ml = 0.002
    assert one.volume_ml == pytest.approx(kept.sum() * voxel_ml) and one.replaced_ml == 0.0
    assert (one.dice, one.hd95_mm, one.surface_dice) == (1.0, 0.0, 1.0) and one.dose == one.defaced_dose
    assert two.replaced_share == 1.0 and (two.defaced_ml, two.dice, two.hd95_mm) == (0.0, 0.0, None)
    assert two.defaced_dose is None
    assert seven.hd95_mm == pytest.approx(3.0, abs=0.5) and 0.3 < seven.dice < 0.9
    assert seven.defaced_dose[1] - seven.dose[1] == pytest.approx(3 * 60 / 59, abs=0.01)
    alone = library.measured(before, changed)
    assert alone[1].replaced_share == 1.0 and alone[1].dice is None


def test_a_segmentation_on_another_grid_is_brought_onto_the_scans():
    fine = image_of(ball(10.0))
    coarse = sitk.Resample(fine, [30, 30, 20], sitk.Transform(), sitk.sitkNearestNeighbor, fine.GetOrigin(), [2, 2, 4])
    (found,) = library.measured({"ball": lambda: coarse}, fine)
    assert found.volume_ml == pytest.approx(4 / 3 * np.pi, rel=0.1)


def test_a_slicer_segmentation_brings_its_names(tmp_path):
    first, second = ball(8.0), ball(5.0)
    layers = [image_of(np.select([first], [1])), image_of(np.select([second], [1]))]
    image = sitk.Compose(*layers)
    for number, name in enumerate(("Mandible", "Lymph nodes")):
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", "1")
        image.SetMetaData(f"Segment{number}_Layer", str(number))
    sitk.WriteImage(image, str(tmp_path / "s.seg.nrrd"))
    found = library.read_structures(tmp_path / "s.seg.nrrd")
    assert list(found) == ["Mandible", "Lymph nodes"]
    assert sitk.GetArrayFromImage(found["Lymph nodes"]()).sum() == second.sum()


def test_a_folder_of_masks_brings_the_names_of_its_files(tmp_path):
    sitk.WriteImage(image_of(ball(8.0)), str(tmp_path / "mandible.nii.gz"))
    sitk.WriteImage(image_of(ball(5.0) * 255), str(tmp_path / "tongue.nrrd"))
    (tmp_path / "notes.txt").write_text("no mask")
    found = library.read_structures(tmp_path)
    assert list(found) == ["mandible", "tongue"]
    assert sitk.GetArrayFromImage(found["tongue"]()).sum() == ball(5.0).sum()


def test_a_structure_set_is_measured_on_the_grid_of_the_scan(tmp_path):
    """As what must stay, by the same reader: some of its structures by name, and names that come twice."""
    tubes = {
        name: [(circle(np.array([25.0, y, z]), radius, np.eye(3)), "CLOSED_PLANAR") for z in np.arange(20.0, 61.0, 2.0)]
        for name, radius, y in (("PTV 60", 8.0, 20.0), ("Parotid_L", 6.0, 40.0))
    }
    drawn(tmp_path / "rs.dcm", tubes)
    scan = image_of(np.ones((40, 60, 60)))
    changed = sitk.GetArrayFromImage(scan)
    changed[:, 30:] = 0
    found = library.read_structures(tmp_path / "rs.dcm")
    target, gland = library.measured(found, image_of(changed))
    assert (target.name, gland.name) == ("PTV 60", "Parotid_L")
    assert target.volume_ml == pytest.approx(np.pi * 8.0**2 * 42.0 / 1000.0, rel=0.12) and target.replaced_share == 1.0
    assert gland.replaced_share == 0.0
    assert list(library.read_structures(f"{tmp_path / 'rs.dcm'}:targets")) == ["PTV 60"]
    with pytest.raises(InputError, match="has PTV 60, Parotid_L"):
        library.read_structures(f"{tmp_path / 'rs.dcm'}:Brain")


def test_what_is_no_segmentation_ends_in_one_sentence(tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(b"no")
    with pytest.raises(InputError, match="cannot be read"):
        library.read_structures(tmp_path / "x.nii.gz")
    sitk.WriteImage(image_of(np.zeros((4, 4, 4))), str(tmp_path / "empty.nrrd"))
    with pytest.raises(InputError, match="no structure"):
        library.read_structures(tmp_path / "empty.nrrd")
    sitk.WriteImage(sitk.Image([4, 4], sitk.sitkUInt8), str(tmp_path / "flat.nrrd"))
    with pytest.raises(InputError, match="three dimensions"):
        library.read_structures(tmp_path / "flat.nrrd")
    with pytest.raises(InputError, match="dose"):
        library.read_dose(tmp_path / "x.nii.gz")
    (tmp_path / "report.pdf").write_bytes(b"%PDF")
    with pytest.raises(InputError, match="structure set"):
        library.read_structures(tmp_path / "report.pdf")
    with pytest.raises(InputError, match="no file of this name"):
        library.read_structures(tmp_path / "nowhere.nrrd")
