"""The grid of the maps over the face: heights and angles about the head's long axis, and radii along each ray.

Maps are numpy arrays of shape (heights, angles). Filters over them count in their steps.
"""

from __future__ import annotations

import numpy as np

HEIGHT_STEP_MM = 3.0
"""Step of the maps in mm along the axis, that of the work grid."""

ANGLE_STEP_DEG = 3.0
"""Step of the maps in degrees about the axis: 4 to 5 mm on the skin of an adult."""

RADIUS_STEP_MM = 2.0
"""Step of the samples along a ray in mm; the skin is found to one of them."""

HEIGHTS = np.arange(-180.0, 79.0, HEIGHT_STEP_MM)
"""Millimetres above the brow: from below any chin to below the crown, which is no face."""

ANGLES = np.arange(-135.0, 136.0, ANGLE_STEP_DEG)
"""Degrees about the long axis; 0 is anterior, positive to the head's left. They end well behind the ears."""

RADII = np.arange(16.0, 170.0, RADIUS_STEP_MM)
"""Millimetres from the long axis: from within any head to beyond any nose."""
