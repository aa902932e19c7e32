"""Pictures of the skin surface of a head CT, without a screen.

The surface is made once per volume (:func:`skin_surface`); a :class:`Renderer` keeps one offscreen window and takes
pictures of it from any side. Positions are in mm in the LPS frame of the image.
"""

from .pictures import FRONT_OBLIQUE_SIDE, before_after_picture, montage, png_bytes, write_png
from .renderer import BACKGROUND, LIGHTS, Renderer, camera_side, head_center, set_light
from .skin import SKIN_AMBIENT, SKIN_COLOUR, SKIN_DIFFUSE, skin_surface, skin_volume

__all__ = [
    "BACKGROUND",
    "FRONT_OBLIQUE_SIDE",
    "LIGHTS",
    "SKIN_AMBIENT",
    "SKIN_COLOUR",
    "SKIN_DIFFUSE",
    "Renderer",
    "before_after_picture",
    "camera_side",
    "head_center",
    "montage",
    "png_bytes",
    "set_light",
    "skin_surface",
    "skin_volume",
    "write_png",
]
