"""Hounsfield units that separate one thing from another: each threshold of the libraries stands here, once.

Two values for what sounds like one thing have two names that say what each is for.
"""

from __future__ import annotations

PADDING_HU = -1500.0
"""Below this a value is no measurement: it marks what lies outside the scanner's field of view.

Far below air with its noise, above the -2000 and -3024 with which scanners mark; chosen by eye between them. Marks
above it (-1024, or any value of a resampled volume) are found by :mod:`.field_of_view`.
"""

OUTSIDE_HU = -30000.0
"""Stands, on the work grid, for what lies outside the field of view or the volume.

So low that no average of it with tissue looks like air. When padding was averaged as it is, a forehead cut by a round
field of view opened the brain (184 to 1070 voxels in 7 of 8 coarse phantoms).
"""

BLANK_HU = -3000.0
"""What is stored where nothing was measured: between slices that are missing, beyond the end of another volume.

Below :data:`PADDING_HU`, so that it is read as padding; within int16, unlike :data:`OUTSIDE_HU`.
"""

PURE_AIR_HU = -700.0
"""Below this a voxel holds air alone: no tissue in part, only noise. Chosen by eye; not varied."""

HALFWAY_HU = -500.0
"""Halfway between air (-1000) and water (0): values on both sides show that a volume holds air and a body."""

AIR_HU = -400.0
"""At or below this lies air, where the head is separated from what surrounds it and from its cavities.

Chosen by eye for the work grid, whose voxels at the skin are air in part; not varied.
"""

TISSUE_HU = -300.0
"""Above this lies tissue. Between it and :data:`AIR_HU` lie hair, dressings and foam.

Detectors find most faces on an isosurface at this level, and a beard or a bandage is not counted as skin; until the
skin was taken at it, most of the face below a bandage stayed.
"""

CAVITY_HU = -150.0
"""At or below this lies no intracranial space, but air in part: air cells, sinuses, an opened skull.

Below fat, which has about -100 HU. Chosen by eye; not varied.
"""

SKULL_HU = 220.0
"""Above this lies bone on the work grid, where averaging lowers thin walls. Chosen by eye; not varied."""

BONE_HU = 250.0
"""Above this lies bone on a CT's own grid, a child's too, and little contrast medium. Chosen by eye; not varied."""

FAT_HU = (-150.0, -30.0)
"""Between these lies fat, on the work grid, where it is averaged with what it surrounds. Chosen by eye."""
