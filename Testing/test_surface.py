"""The new skin: it joins the old one, knows nothing of the face, and passes outside what stays."""

from functools import cache

import numpy as np
import pytest
import SimpleITK as sitk
from coarse_phantoms import case, mask_of, scan, voxels
from CTDefaceLib.anatomy.face_map import head_cylinder
from CTDefaceLib.anatomy.grids import values_at
from CTDefaceLib.anatomy.hounsfield import HALFWAY_HU
from CTDefaceLib.parameters import DEPTH_MM
from CTDefaceLib.phantom import Label
from CTDefaceLib.removal.fill import fill_region
from CTDefaceLib.removal.surface import EDGE_MM, face_surface, membrane, outline_of
from phantom_cases import CASES
from scipy import ndimage

NODES = (40, 50)
NO_FLOOR = np.full(NODES, -1e9)
FACES = [name for name, p in CASES.items() if p.field_of_view != "orbits"]


def disc(middle, radius, nodes=NODES):
    height, angle = np.indices(nodes)
    return np.hypot(height - middle[0], angle - middle[1]) < radius


# ---------------------------------------------------------------------------------------------------------- the sheet


@pytest.mark.parametrize(
    "unknown",
    [disc((20, 25), 11), disc((20, 25), 12) & ~disc((20, 25), 4), disc((10, 12), 6) | disc((28, 36), 7)],
    ids=["whole", "with a hole", "islands"],
)
def test_a_sheet_continues_a_slope(unknown):
    height, angle = np.indices(NODES)
    plane = 3.0 + 0.4 * height - 0.7 * angle
    sheet = membrane(np.where(unknown, 1e3, plane), ~unknown, unknown, NO_FLOOR)
    assert np.abs(sheet - plane).max() < 1e-2


def test_a_sheet_starts_with_the_slope_of_what_it_continues():
    unknown = disc((20, 25), 13)
    height, _ = np.indices(NODES)
    values = 0.05 * (height - 20.0) ** 2
    sheet = membrane(values, ~unknown, unknown, NO_FLOOR)
    bend = np.abs(np.diff(sheet, 2, axis=0))[4:-4]
    assert bend.max() < 4 * 0.1, "no crease: a second difference of 0.1 is the bowl's own"


def test_a_sheet_is_free_where_nothing_is_known():
    unknown = np.zeros(NODES, bool)
    unknown[:20, 10:40] = True
    known = ~unknown
    known[:8] = False  # the volume ends there
    values = np.where(known, 5.0, -900.0)
    assert np.abs(membrane(values, known, unknown, NO_FLOOR)[unknown] - 5.0).max() < 1e-2


def test_a_sheet_with_nothing_around_it_is_level():
    unknown = disc((20, 25), 11)
    sheet = membrane(np.full(NODES, 7.0), np.zeros(NODES, bool), unknown, NO_FLOOR)
    assert np.abs(sheet[unknown] - 7.0).max() < 1e-3


def test_a_sheet_lies_on_its_floor_without_a_ledge():
    unknown = disc((20, 25), 15)
    floor = 4.0 * np.exp(-(((np.indices(NODES) - np.reshape((20, 25), (2, 1, 1))) / 4.0) ** 2).sum(axis=0)) - 0.5
    sheet = membrane(np.zeros(NODES), ~unknown, unknown, floor)
    assert (sheet > floor - 0.1)[unknown].all()
    assert sheet.max() == pytest.approx(3.5, abs=0.2)
    assert np.abs(np.diff(sheet, axis=0)).max() < 1.1 * np.abs(np.diff(floor, axis=0)).max()


def test_an_outline_keeps_large_holes_and_islands():
    covered = (disc((20, 25), 16) & ~disc((20, 25), 6)) | disc((4, 4), 4)
    covered[20, 12] = False
    inside = outline_of(covered) > 0
    assert not inside[20, 25] and inside[20, 12] and inside[4, 4]
    assert (inside == covered).mean() > 0.93


# ------------------------------------------------------------------------------------------------------ a head's skin


@pytest.mark.slow
@pytest.mark.parametrize("name", FACES)
def test_the_new_skin_joins_the_old_one_without_a_step(name):
    s = case(name)
    surface, filled = s.surface(), fill_region(s.image, s.region(), s.surface(), seed=0)
    steps = np.arange(4.0, -4.1, -0.25)
    along = values_at(filled, s.cylinder.points(surface.skin[..., None] + steps))
    skin = steps[np.argmax(along > HALFWAY_HU, axis=-1)]
    seen = s.cylinder.skin_in_view & (np.abs(surface.outline) < 12.0)
    inside, outside = (skin[seen & side] for side in (surface.outline > 2.0, surface.outline < -2.0))
    assert abs(np.median(inside) - np.median(outside)) <= 0.3
    assert np.percentile(np.abs(inside), 90) < 0.8


@pytest.mark.parametrize("name", FACES)
def test_no_new_skin_below_what_stays(name):
    s = case(name)
    surface = s.surface()
    well_inside = surface.outline > EDGE_MM
    assert (s.cylinder.head.guard[s.cylinder.near] > -3.0)[_at_the_skin(s, surface, well_inside)].all()


def _at_the_skin(s, surface, rays):
    """Voxels of the work grid that are near, in a millimetre or two under the new skin of some rays."""
    return (np.abs(s.cylinder.radius - s.cylinder.spread(surface.skin) + 1.5) < 1.5) & (
        s.cylinder.spread(rays.astype(float)) > 0.99
    )


@cache
def other_faces():
    """A head's CT, and the same with another nose, other lips and brows: up to 15 mm more and less."""
    s = case("neck")
    index = np.stack(np.meshgrid(*(np.arange(n) for n in s.hu.shape), indexing="ij")[::-1], axis=-1)
    place = index * s.image.GetSpacing() + s.image.GetOrigin()
    changed = [s.hu.copy(), s.hu.copy()]
    for name in ("nose_tip", "upper_lip", "nasion"):
        at = np.array(s.phantom.landmarks[name])
        ball = np.linalg.norm(place - at, axis=-1) < 15.0
        changed[0][ball & (s.hu < 0)] = 40
        changed[1][ball] = -1000
    images = []
    for hu in changed:
        image = sitk.GetImageFromArray(hu)
        image.CopyInformation(s.image)
        images.append(image)
    return s, images


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1], ids=["more", "less"])
def test_the_new_skin_knows_nothing_of_the_face(which):
    """Head, eyes and chin are found anew in each."""
    s, images = other_faces()
    image = images[which]
    own = face_surface(s.image, s.face, s.cylinder, depth_mm=DEPTH_MM["standard"])
    other = face_surface(image, s.face, head_cylinder(image), depth_mm=DEPTH_MM["standard"])
    inside = own.outline > 0
    assert np.abs(other.skin - own.skin)[inside].max() < 1.0
    region = s.region()
    one, two = (voxels(fill_region(scan, region, own, seed=1)).astype(float) for scan in (s.image, image))
    deep = ndimage.binary_erosion(voxels(region) > 0, iterations=3)
    edge = np.abs(one - two)[deep]
    assert np.median(edge) < 15 and np.percentile(edge, 99) < 100


def test_any_mask_outlines_a_new_skin():
    s = case("frontal")
    height = np.arange(s.hu.shape[0])[:, None, None] * np.ones(s.hu.shape)
    nose = s.image.TransformPhysicalPointToIndex(s.phantom.landmarks["nose_tip"])[::-1]
    face = voxels(s.face) > 0
    ring = face & (np.linalg.norm((np.indices(s.hu.shape) - np.reshape(nose, (3, 1, 1, 1))) * 2.0, axis=0) > 28.0)
    upper = face & (height > nose[0])
    for painted in (ring, upper):
        surface = face_surface(s.image, mask_of(painted, s.image), s.cylinder, depth_mm=DEPTH_MM["standard"])
        assert np.isfinite(surface.skin).all()
        kept = surface.outline < -6.0
        far = np.abs(surface.skin - s.cylinder.skin)[kept & s.cylinder.skin_in_view]
        assert np.median(far) < 2.0, "the own one outside"
        assert (surface.outline > 0).any()


def test_below_a_chin_the_new_skin_goes_on_to_the_neck():
    """As steep as the edge of a chin is, it would go on as a snout."""
    s = scan(person=300, yaw=2.0, pitch=1.0, roll=-1.0)
    surface = face_surface(s.image, s.face, s.cylinder, depth_mm=DEPTH_MM["standard"])
    inside, skin = surface.outline > 0, s.cylinder.skin
    middle = skin.shape[1] // 2
    assert skin[inside[:, middle].argmax(), middle] < skin[:, middle].max() - 40.0, "it ends at the neck"
    assert (surface.skin - skin)[inside & s.cylinder.skin_in_view].max() < 20.0


def test_a_brain_that_bulges_through_the_skull_stays():
    s = case("craniectomy")
    head = s.cylinder.head
    assert head.skull_gaps == 1
    assert case("frontal").cylinder.head.skull_gaps == 0
    gap = head.in_gaps & ~head.intracranial
    assert gap.sum() * 27 > 5000
    painted = mask_of((voxels(s.face) > 0) | s.labelled(Label.SOFT, Label.INTRACRANIAL), s.image)
    surface = face_surface(s.image, painted, s.cylinder, depth_mm=40.0)
    assert not ((surface.reach > 0) & (head.in_gaps | head.intracranial)).any()
