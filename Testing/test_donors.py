"""A synthetic person's face in place of the patient's."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import SimpleITK as sitk
from coarse_phantoms import scan
from CTDefaceLib.anatomy.face_map import head_cylinder
from CTDefaceLib.anatomy.map_grid import HEIGHT_STEP_MM
from CTDefaceLib.parameters import DEPTH_MM
from CTDefaceLib.phantom import PhantomParameters
from CTDefaceLib.pipeline import DefaceParameters, deface
from CTDefaceLib.removal.donors import face_donor
from CTDefaceLib.removal.fill import fill_region
from CTDefaceLib.removal.surface import face_surface
from scipy import ndimage
from stored_phantoms import stored_phantom
from test_surface import other_faces

ADULT = PhantomParameters(3, matrix=(128, 128), spacing=(2.0, 2.0, 2.0), field_of_view="neck", holder=False)


@cache
def cylinder(child=False):
    return head_cylinder(stored_phantom(replace(ADULT, child=child)).image)


@cache
def donor(seed, child=False):
    return face_donor(cylinder(child), seed)


@cache
def defaced(seed):
    return deface(stored_phantom(ADULT).image, DefaceParameters(fill="face", seed=seed))


def voxels(image):
    return sitk.GetArrayViewFromImage(image)


@pytest.mark.slow
def test_a_seed_draws_a_person():
    first, again, other = donor(5), face_donor(cylinder(), 5), donor(6)
    assert first.person == again.person != other.person
    np.testing.assert_array_equal(first.skin, again.skin)
    assert len({first.person, other.person, *(face_donor(cylinder(), None).person for _ in range(2))}) == 4


def test_a_child_gets_the_face_of_a_child():
    assert donor(5, child=True).child
    assert not donor(5).child


def test_eyes_and_chin_come_to_those_of_the_patient():
    own = cylinder().landmarks
    adopted = replace(own, skin=donor(5).skin, skin_in_view=np.ones_like(own.skin_in_view))
    assert adopted.eye_height == pytest.approx(own.eye_height, abs=6.0)
    assert adopted.chin_height == pytest.approx(own.chin_height, abs=6.0)


def test_the_skin_beside_a_narrow_chin_is_not_drawn_in():
    """Where the donor's jaw is still there and the patient's is not, their skins are far apart beside the outline."""
    s = scan(person=301)
    face = face_donor(s.cylinder, 12)
    surface = face_surface(s.image, s.face, s.cylinder, depth_mm=DEPTH_MM["standard"], donor=face)
    moved = surface.skin - face.skin
    around = s.cylinder.skin_in_view & (surface.outline < 0) & (surface.outline > -30)
    assert (moved[surface.outline > 0] - np.median(moved[around])).min() > -10.0


@pytest.mark.slow
def test_the_same_seed_is_the_same_face_and_another_is_another():
    first, other = defaced(1), defaced(2)
    again = deface(stored_phantom(ADULT).image, DefaceParameters(fill="face", seed=1))
    np.testing.assert_array_equal(voxels(first.image), voxels(again.image))
    inside = first.surface.outline > 20.0
    assert np.abs(first.surface.skin - other.surface.skin)[inside].mean() > 1.5


def test_the_donor_has_bone_and_air_below_its_skin():
    result = defaced(1)
    filled = voxels(result.image)[(voxels(result.region) > 0) & (voxels(result.image) > -500)]
    assert (filled > 300).mean() > 0.05
    assert (np.abs(filled - 50) < 40).mean() > 0.1
    assert (np.abs(filled + 90) < 60).mean() > 0.1


def test_what_is_not_in_the_region_stays_and_values_stay_in_range():
    scan, result = stored_phantom(ADULT), defaced(1)
    before, after, region = voxels(scan.image), voxels(result.image), voxels(result.region) > 0
    np.testing.assert_array_equal(before[~region], after[~region])
    assert before.min() <= after.min() and after.max() <= before.max()
    assert not (region & (voxels(scan.intracranial) > 0)).any()
    assert result.report["intracranial_voxels_touched"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1], ids=["more", "less"])
def test_the_new_face_knows_nothing_of_the_patients(which):
    s, images = other_faces()
    image, changed = images[which], head_cylinder(images[which])
    marks = [(c.landmarks.eye_height, c.landmarks.chin_height) for c in (s.cylinder, changed)]
    assert np.abs(np.subtract(*marks)).max() <= HEIGHT_STEP_MM
    face = face_donor(s.cylinder, 1)
    own = face_surface(s.image, s.face, s.cylinder, depth_mm=DEPTH_MM["standard"], donor=face)
    other = face_surface(image, s.face, changed, depth_mm=DEPTH_MM["standard"], donor=face)
    assert np.abs(other.skin - own.skin)[own.outline > 0].max() < 1.0
    region = s.region()
    one, two = (voxels(fill_region(scan, region, own, fill="face", seed=1)).astype(float) for scan in (s.image, image))
    deep = ndimage.binary_erosion(voxels(region) > 0, iterations=3)
    change = np.abs(one - two)[deep]
    assert np.median(change) < 15 and np.percentile(change, 99) < 100
