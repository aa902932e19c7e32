"""What no defacing takes away: heads are put to the right name by their outer surface and by their sinuses."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import SimpleITK as sitk
from coarse_phantoms import scan, voxels
from CTDefaceEvalLib.identification import ORIGINAL_TO_DEFACED, UNTOUCHED, Estimate, Identification
from CTDefaceEvalLib.linkage import SINUSES, SURFACE, advice, compared, head_print, linked
from CTDefaceLib.errors import Cancelled

PEOPLE = 3


@cache
def head(person, again):
    """A person, lying otherwise and with other noise the second time."""
    return scan(person=person, seed=again, yaw=4.0 * again, roll=3.0 * again)


@cache
def prints():
    """Patient, scan and what is compared of two scans of each person."""
    return [(p, 2 * p + again, head_print(head(p, again).image)) for p in range(PEOPLE) for again in range(2)]


def with_sinuses(s, cells):
    """The head with balls of air, (left, back, up) mm from the brow and a radius each, for all air of its own."""
    values = sitk.GetArrayFromImage(s.image)
    points = np.moveaxis(np.indices(values.shape)[::-1], 0, -1) * s.image.GetSpacing() + s.image.GetOrigin()
    place = (points - s.cylinder.head.brow) @ s.cylinder.head.axes.T
    values[(values < -200) & (place[..., 1] > -8.0) & (np.abs(place[..., :2] - [0, 35]) < 45).all(axis=-1)] = 40
    for *middle, radius in cells:
        values[np.linalg.norm(place - middle, axis=-1) < radius] = -1000
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(s.image)
    return image


@pytest.mark.slow
def test_two_scans_of_a_person_are_linked_by_either():
    surface, sinuses = linked(UNTOUCHED, prints(), prints())
    assert (surface.templates, sinuses.templates) == (SURFACE, SINUSES)
    for one in (surface, sinuses):
        assert (one.threat, one.patients, one.probes, one.missed, one.same_scan) == (UNTOUCHED, PEOPLE, 6, 0, False)
        assert one.rank1.value == 1.0 and one.auc.value == 1.0
    text = advice([surface, sinuses])
    assert text.startswith(
        "This scan may be linked to another CT of the same person, by its outer surface (rank-1 100%"
    )
    assert "too few patients" in text


@pytest.mark.slow
def test_a_head_whose_region_is_emptied_is_still_linked():
    """The least that a defacing leaves; its original is not in the gallery, but another scan of each person is."""
    emptied = []
    for person in range(PEOPLE):
        s = head(person, 0)
        values = np.where(voxels(s.region()) > 0, -1000, s.hu).astype(np.int16)
        image = sitk.GetImageFromArray(values)
        image.CopyInformation(s.image)
        emptied.append((person, 2 * person, head_print(image)))
    surface, _ = linked(ORIGINAL_TO_DEFACED, prints(), emptied)
    assert (surface.probes, surface.missed) == (PEOPLE, 0) and surface.rank1.value == 1.0


@pytest.mark.slow
def test_sinuses_tell_heads_of_the_same_shape_apart():
    first = [(-16, -2, 30, 8), (12, -2, 22, 7), (-9, 42, -6, 9), (8, 45, -2, 6)]
    second = [(-4, -2, 26, 8), (20, -2, 30, 7), (-6, 46, 0, 7), (9, 40, -10, 9)]
    one, again = (head_print(with_sinuses(head(0, number), first)) for number in range(2))
    other = head_print(with_sinuses(head(0, 1), second))
    (away, alike), (other_away, unlike) = compared(one, again), compared(one, other)
    assert max(away, other_away) < 1.0
    assert alike > unlike + 0.3 and alike > 0.8


def test_what_shows_no_head_is_missed_and_nothing_is_compared_with_itself():
    nothing = sitk.Image([20, 20, 20], sitk.sitkInt16) - 1000
    assert head_print(nothing) is None
    heads = [(0, 0, None), *prints()[1:]]
    surface, _ = linked(UNTOUCHED, heads, heads)
    assert surface.missed > 0 and surface.rank1.value < 1.0
    alone = [head for head in prints() if head[1] % 2]
    assert linked(UNTOUCHED, alone, alone) == []
    with pytest.raises(Cancelled):
        linked(UNTOUCHED, heads, heads, lambda: True)


def test_advice_is_given_above_chance_only():
    one = Identification(UNTOUCHED, SURFACE, 24, 48, 0, False, rank1=Estimate(0.9, 0.8, 0.96))
    assert advice([one]) == (
        "This scan can be linked to another CT of the same person, by its outer surface (rank-1 90% of 24 patients)."
    )
    by_chance = dataclasses.replace(one, templates=SINUSES, rank1=Estimate(1.0 / 24, 0.0, 0.1))
    assert advice([by_chance]) == "" == advice([]) and "sinuses" not in advice([one, by_chance])
