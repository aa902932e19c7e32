"""Make CTDefaceEvalLib/other_faces.npz: maps of the faces of synthetic people, to compare a new skin with.

    python Testing/make_other_faces.py

For each of PEOPLE the radius in mm of the skin within the face's outline, NaN elsewhere, the distance of the map's axis
behind the brow and the height of the eyes above it. Needed again when the maps' grid or the phantom's shape changes.
"""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / folder) for folder in ("CTDeface", "CTDefaceEval")]

import numpy as np  # noqa: E402
from CTDefaceEvalLib.facial_shape import OTHER_FACES, face_skin  # noqa: E402
from CTDefaceLib.anatomy.face_map import head_cylinder  # noqa: E402
from CTDefaceLib.phantom import PhantomParameters, make_phantom  # noqa: E402

PEOPLE = tuple(range(111, 119))
"""Persons of the phantom; no other test or benchmark makes them."""


def face_of(person: int) -> tuple[np.ndarray, float, float]:
    """Map of the skin, and where it lies."""
    image = make_phantom(PhantomParameters(person=person, spacing=(3.0, 3.0, 3.0), matrix=(75, 88))).image
    cylinder = head_cylinder(image)
    return face_skin(image, cylinder), cylinder.depth_mm, cylinder.landmarks.eye_height


def main() -> None:
    skins, depths, eyes = zip(*(face_of(person) for person in PEOPLE))
    np.savez_compressed(
        OTHER_FACES, skin=np.array(skins, np.float16), depth_mm=np.array(depths), eye_height=np.array(eyes)
    )


if __name__ == "__main__":
    main()
