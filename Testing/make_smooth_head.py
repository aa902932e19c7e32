"""Make CTDefaceLib/removal/smooth_head.npz: the mean head of many synthetic persons, without features.

    python Testing/make_smooth_head.py [--persons 40]

Eyes and chin of each are brought to their mean heights, and its size to the mean size, before the mean is taken.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "CTDeface"))

import numpy as np  # noqa: E402
from CTDefaceLib.anatomy.face_map import head_cylinder  # noqa: E402
from CTDefaceLib.anatomy.map_grid import ANGLES, HEIGHT_STEP_MM, HEIGHTS  # noqa: E402
from CTDefaceLib.phantom import PhantomParameters, make_phantom  # noqa: E402
from CTDefaceLib.removal.donors import SMOOTH, donor_heights  # noqa: E402
from scipy import ndimage, spatial  # noqa: E402


def without_features(skin: np.ndarray, chin: float) -> np.ndarray:
    """A map of the skin without nose, lips and brows, and without a hollow of the eyes: convex down to the chin."""
    smooth = ndimage.gaussian_filter(ndimage.grey_opening(skin, FEATURES), SMOOTHING, mode="nearest")
    above = HEIGHTS > chin
    for column in smooth.T:
        points = np.column_stack([HEIGHTS[above], column[above]])
        low = np.array([[points[0, 0], 0.0], [points[-1, 0], 0.0]])
        corners = spatial.ConvexHull(np.concatenate([points, low])).vertices
        corners = np.sort(corners[corners < len(points)])
        column[above] = np.interp(points[:, 0], points[corners, 0], points[corners, 1])
    return ndimage.gaussian_filter(smooth, SMOOTHING, mode="nearest")


def _eyes(head):
    return head.landmarks.eye_height


def _chin(head):
    return head.landmarks.chin_height


FEATURES, SMOOTHING = (15, 9), (2.0, 3.2)
"""Heights and angles, in steps of the map, of what is taken off; standard deviations that then smooth it.

By eye: 13 and 4.0 took the chin off as well, and with it a part of every jaw.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=int, default=40)
    persons = range(parser.parse_args().persons)
    heads = []
    for person in persons:
        p = PhantomParameters(person, field_of_view="neck", matrix=(128, 128), spacing=(2.0, 2.0, 2.0), holder=False)
        heads.append(head_cylinder(make_phantom(p).image))
    eyes, chin, depth = (np.mean([of(head) for head in heads]) for of in (_eyes, _chin, lambda head: head.depth_mm))
    maps = []
    for head in heads:
        heights = donor_heights(eyes, chin, depth / head.depth_mm, _eyes(head), _chin(head))
        index = np.meshgrid((heights - HEIGHTS[0]) / HEIGHT_STEP_MM, np.arange(len(ANGLES)), indexing="ij")
        skin = ndimage.map_coordinates(head.landmarks.continued_skin, index, order=1, mode="nearest")
        maps.append(skin * depth / head.depth_mm)
    mean = np.mean(maps, axis=0)
    mean = (mean + mean[:, ::-1]) / 2.0
    smooth = without_features(mean, chin)
    np.savez_compressed(SMOOTH, radius=smooth.astype(np.float32), eyes=eyes, chin=chin, depth=depth)
    print(f"{len(heads)} heads: eyes {eyes:.1f}, chin {chin:.1f}, depth {depth:.1f} mm; {SMOOTH.stat().st_size} bytes")


if __name__ == "__main__":
    main()
