"""Fill the region: tissue below the new skin, air above it; or, for comparison, as other tools do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from scipy import ndimage, special

from ..anatomy.grids import Box, bounding_box, box_around, corner_of, sampled, values_at, voxels
from ..anatomy.map_grid import RADII
from ..errors import InputError
from .contrast import DEPTHS_MM, Contrast
from .donors import EDGE_WIDTH_MM
from .surface import Surface, slope
from .texture import Texture, measure, noise_in_slices

FILLS = ("smooth", "face", "air", "constant", "percentile", "blur")

BLEND_MM = (0.3, 1.5, 4.0)
"""Over which the fill turns into what is left, in mm: at the new skin, below it towards air, below it towards tissue.

By eye: with the last at the skin as well, own skin that lies further out leaves lumps.
"""

IN_THE_SKIN = 1.2
"""Depth in voxels from which on a value holds no air. Chosen by eye."""

ENOUGH_RAYS = 20
"""At how many places there has to be soft tissue for a depth to be measured; the one above it stands in."""

DONOR_SOFT_HU, DONOR_OTHER_HU = (-95.0, 55.0), (-300.0, 300.0)
"""Fat and muscle of synthetic persons in HU, and what is left as it is: beyond these lie air and bone."""

SOFT_RANGES_HU = ((-150.0, -40.0), (10.0, 120.0))
"""Between which HU fat and muscle of a patient are looked for."""

FINE_MM = 2.0
"""Voxels larger than this, in mm, are means of several places of a donor. Chosen by eye."""

NEAR_MM = 10.0
"""How far outside the new skin, in mm, a donor's tissue is looked for: a nose is narrower than the map's steps."""

FATTY_HU = -100.0
"""Below this, in HU, a donor's voxels are partly air."""

Inside = Callable[[np.ndarray, int, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Gives, of the depth of all voxels (z, y, x), the number of a slice and which of its voxels (numbers in the order of
memory) are to be filled: the share of tissue, 0 to 1, and the sum of its HU."""


def fill_region(
    image: sitk.Image,
    region: sitk.Image,
    surface: Surface | None = None,
    *,
    fill: str = "smooth",
    constant: float = -1000.0,
    percentile: float = 10.0,
    blur_mm: float = 10.0,
    seed: int | None = None,
    contrast: Contrast | None = None,
) -> sitk.Image:
    """Fill a region of a CT, or of another image of the head.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units; it is not changed.
    region: SimpleITK.Image
        Mask on the same grid; what is not in it stays bit-identical.
    surface: Surface, optional
        The new skin, for ``"smooth"`` and ``"face"``, which needs one with a donor: all is air without it.
    fill: str
        ``"smooth"``: below the new skin layers like those of this patient beside the face, above it air, both with this
        scanner's noise. ``"face"``: the same with what the donor of the new skin has below its own. ``"air"``:
        nothing but that air. ``"constant"`` and ``"percentile"`` (what CTA-DEFACE does with p = 10): one value, so that
        everybody can find the region. ``"blur"``: the face smoothed, which keeps its rough shape.
    constant: float
        HU for ``"constant"``, clipped to the range of the volume.
    percentile: float
        Percentile of the whole volume for ``"percentile"``.
    blur_mm: float
        Standard deviation in mm for ``"blur"``.
    seed: int, optional
        Seed of the noise; drawn anew when None. Who knows it can tell the fill from a scan.
    contrast: Contrast, optional
        How an image that is no CT shows air and tissue, from :func:`CTDefaceLib.removal.contrast.contrast_of`. A face
        is not filled in then: there are layers of soft tissue below the same new skin.

    Returns
    -------
    SimpleITK.Image
        Filled copy with the same data type, geometry and range of values.

    Raises
    ------
    InputError
        When ``fill`` is none of these.
    """
    if fill not in FILLS:
        raise InputError(f"There is no fill “{fill}”: choose {', '.join(FILLS)}.")
    box = bounding_box(region)
    if box is None:
        return sitk.Image(image)
    is_ct, contrast = contrast is None, contrast or Contrast()
    whole = sitk.GetArrayViewFromImage(image)
    here = voxels(region, box) > 0
    values = voxels(image, box).copy()
    if fill in ("smooth", "face", "air"):
        rng = np.random.default_rng(seed)
        air = measure(whole, box, rng, contrast.air)
        if surface is None or fill == "air":
            _fill_with_air(values, here, air, rng)
        else:
            brain = box_around(surface.cylinder.head.intracranial, surface.cylinder.head, image)
            tissue = measure(whole, brain or box, rng, contrast.tissue)
            if fill == "smooth" or surface.donor is None or not is_ct:
                inside: Inside = _layers(skin_layers(image, surface, contrast), contrast.sharpness_mm)
            else:
                inside = _face(surface, image, box, soft_levels(image, surface))
            _fill_with_head(values, here, image, box, surface, inside, air, tissue, contrast.airy, rng)
        values[here] = np.clip(values[here], whole.min(), whole.max())
    elif fill == "blur":
        values[here] = _cast(_blurred(image, box, blur_mm)[here], values.dtype)
    else:
        value = (
            np.percentile(whole, percentile) if fill == "percentile" else np.clip(constant, whole.min(), whole.max())
        )
        values[here] = _cast(value, values.dtype)
    part = sitk.GetImageFromArray(values)
    del values, here  # the most memory of a defacing is taken here
    return sitk.Paste(image, part, part.GetSize(), destinationIndex=[side.start for side in box])


def skin_layers(image: sitk.Image, surface: Surface, contrast: Contrast | None = None) -> np.ndarray:
    """Usual values of the soft tissue beside the face at ``DEPTHS_MM`` below the skin."""
    low, high = (contrast or Contrast()).soft
    beside = _beside_the_face(image, surface)
    within = beside[(beside > low) & (beside < high)]
    layers, usual = np.empty(len(DEPTHS_MM)), float(np.median(within)) if len(within) else 0.0
    for number, at_depth in enumerate(beside.T):
        soft = at_depth[(at_depth > low) & (at_depth < high)]
        usual = layers[number] = float(np.median(soft)) if len(soft) > ENOUGH_RAYS else usual
    shallow = int(np.searchsorted(DEPTHS_MM, IN_THE_SKIN * min(image.GetSpacing())))
    layers[:shallow] = layers[min(shallow, len(layers) - 1)]  # air in part
    return ndimage.gaussian_filter1d(layers, 1.0, mode="nearest")


def soft_levels(image: sitk.Image, surface: Surface) -> list[float]:
    """Usual values in HU of fat and of muscle beside the face; a donor's own where too little is in view."""
    beside = _beside_the_face(image, surface)
    levels = []
    for usual, (low, high) in zip(DONOR_SOFT_HU, SOFT_RANGES_HU):
        soft = beside[(beside > low) & (beside < high)]
        levels.append(float(np.median(soft)) if len(soft) > 200 else usual)
    return levels


def _beside_the_face(image: sitk.Image, surface: Surface) -> np.ndarray:
    """Values in HU at ``DEPTHS_MM`` below the skin beside the face, shape (rays, depths)."""
    cylinder = surface.cylinder
    beside = cylinder.skin_in_view & (surface.outline < -3.0) & (surface.outline > -30.0)
    radius = surface.skin[..., None] - slope(surface.skin)[..., None] * DEPTHS_MM
    return values_at(image, cylinder.points(np.maximum(radius, RADII[0]))[beside])


def _fill_with_air(values: np.ndarray, here: np.ndarray, air: Texture, rng: np.random.Generator) -> None:
    """Put air into ``values`` where ``here`` is true."""
    table = _cast(air.table(), values.dtype)
    for index, (noise,) in noise_in_slices((air,), here, rng):
        where = np.flatnonzero(here[index])
        values[index].put(where, table[_steps(noise.take(where))])


def _fill_with_head(
    values: np.ndarray,
    here: np.ndarray,
    image: sitk.Image,
    box: Box,
    surface: Surface,
    inside: Inside,
    air: Texture,
    tissue: Texture,
    airy: float,
    rng: np.random.Generator,
) -> None:
    """Put tissue and air into ``values``, those of a part of a CT, where ``here`` is true."""
    head = surface.cylinder.head
    below, reach = (sampled(function, head, image, box) for function in (surface.below, surface.reach))
    table, rough = air.table().astype(np.float32), np.float32(tissue.deviation)
    for index, (air_noise, tissue_noise) in noise_in_slices((air, tissue), here, rng):
        where = np.flatnonzero(here[index])
        depth, scanned = below[index].take(where), values[index].take(where).astype(np.float32)
        cover, fresh = inside(below, index, where)
        noise = rough * tissue_noise.take(where) * cover
        fresh += (1.0 - cover) * table[_steps(air_noise.take(where))]
        width = np.clip(depth, BLEND_MM[0], np.where(scanned > airy, BLEND_MM[2], BLEND_MM[1]))
        share = np.clip(reach[index].take(where) / width, 0.0, 1.0)
        share *= share * (3.0 - 2.0 * share)
        out = scanned + share * (fresh - scanned) + np.sqrt(1.0 - (1.0 - share) ** 2) * noise
        values[index].put(where, _cast(out, values.dtype))


def _layers(layers: np.ndarray, sharpness_mm: float) -> Inside:
    """Layers of soft tissue."""

    def inside(below: np.ndarray, index: int, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        depth = below[index].take(where)
        cover = special.ndtr(depth / np.sqrt(sharpness_mm**2 + _across_a_voxel(below, index).take(where) / 12.0))
        return cover, cover * np.interp(depth, DEPTHS_MM, layers).astype(np.float32)

    return inside


def _face(surface: Surface, image: sitk.Image, box: Box, levels: list[float]) -> Inside:
    """What the donor of the new skin has below its own; ``levels`` are the HU of this patient's fat and muscle."""
    assert surface.donor is not None
    donor = sitk.GetArrayViewFromImage(surface.donor.image)
    places = surface.donor.places(surface.cylinder, surface.skin)
    head = surface.cylinder.head
    corner, spacing = np.array(corner_of(image, box)), np.array(image.GetSpacing())
    first = head.to_index(corner)
    step = (head.to_index(corner + np.reshape(image.GetDirection(), (3, 3)).T * spacing[:, None]) - first).T
    counts = np.ceil(spacing / FINE_MM).astype(int)
    shifts = [(np.array(number) + 0.5) / counts - 0.5 for number in np.ndindex(*counts)]
    known = [DONOR_OTHER_HU[0], *DONOR_SOFT_HU, DONOR_OTHER_HU[1]]
    wanted = [DONOR_OTHER_HU[0], *levels, DONOR_OTHER_HU[1]]

    def inside(below: np.ndarray, index: int, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        near = below[index].take(where) > -NEAR_MM
        y, x = np.divmod(where[near], below.shape[2])
        voxels_here = np.stack([x, y, np.full(len(x), index)], axis=-1)
        hu = np.full(len(near), -1000.0, np.float32)
        hu[near] = np.mean([at(voxels_here + shift) for shift in shifts], axis=0) if len(x) else -1000.0
        matched = np.where(np.abs(hu) < DONOR_OTHER_HU[1], np.interp(hu, known, wanted).astype(np.float32), hu)
        sharp = np.sqrt(Contrast.sharpness_mm**2 + _across_a_voxel(below, index).take(where) / 12.0)
        cover = special.ndtr(_within(hu) / sharp) / special.ndtr(_within(FATTY_HU) / sharp)
        cover = np.minimum(cover, 1.0).astype(np.float32)
        return cover, cover * np.maximum(matched, FATTY_HU).astype(np.float32)

    def at(place: np.ndarray) -> np.ndarray:
        on_work_grid = (place @ step.T + first)[:, ::-1].T
        there = [ndimage.map_coordinates(p, on_work_grid, order=1, mode="nearest") for p in places]
        return ndimage.map_coordinates(donor, there, output=np.float32, order=1, mode="nearest")

    return inside


def _within(hu: np.ndarray | float) -> np.ndarray:
    """How far in mm within a donor's tissue a place near air lies, by its value in HU on a ramp between both."""
    return np.minimum((hu + 1000.0) / 1045.0 - 0.5, 0.5) * EDGE_WIDTH_MM


def _across_a_voxel(below: np.ndarray, index: int) -> np.ndarray:
    """Square of how much a depth in mm changes across the voxels of a slice."""
    along = below[min(index + 1, len(below) - 1)] - below[max(index - 1, 0)]
    along *= 1.0 / max(min(index + 1, len(below) - 1) - max(index - 1, 0), 1)
    across = np.zeros_like(along)
    for axis, size in enumerate(along.shape):
        if size > 1:
            across += np.gradient(below[index], axis=axis) ** 2
    return along**2 + across


def _steps(noise: np.ndarray) -> np.ndarray:
    """Where in the table of a texture noise lies."""
    return np.clip((noise + 5.0) * (4095 / 10.0), 0, 4095).astype(np.int16)


def _blurred(image: sitk.Image, box: tuple[slice, ...], blur_mm: float) -> np.ndarray:
    around = [int(np.ceil(3.0 * blur_mm / spacing)) for spacing in image.GetSpacing()]
    wide = tuple(slice(max(side.start - n, 0), side.stop + n) for side, n in zip(box, around))
    part = sitk.Cast(
        image[tuple(slice(a.start, min(a.stop, n)) for a, n in zip(wide, image.GetSize()))], sitk.sitkFloat32
    )
    for axis, size in enumerate(part.GetSize()):
        if size >= 4:
            part = sitk.RecursiveGaussian(part, blur_mm, False, sitk.RecursiveGaussianImageFilter.ZeroOrder, axis)
    offset = [side.start - w.start for side, w in zip(box, wide)]
    inner = tuple(slice(a, a + side.stop - side.start) for a, side in zip(offset, box))
    return sitk.GetArrayFromImage(part[inner])


def _cast(values: np.ndarray | float, dtype: np.dtype) -> np.ndarray:
    """Values in the volume's data type, rounded and clipped to what it can hold."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return np.asarray(values).astype(dtype)
