"""Find and replace the face in a head CT: the library below the CTDeface module, the command line and batches.

    from CTDefaceLib import DefaceParameters, deface, read_ct, write_volume

    image = read_ct("head.nii.gz")
    write_volume(deface(image, DefaceParameters(margin_mm=8)).image, "head_defaced.nii.gz")

These names are loaded when they are first used, so that what needs less of the library stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .pipeline import DefaceParameters, DefaceResult, deface, segment
    from .structures import read_structures
    from .volume_io import Scan, read_ct, read_scan, write_volume

__all__ = [
    "DefaceParameters",
    "DefaceResult",
    "Scan",
    "__version__",
    "deface",
    "read_ct",
    "read_scan",
    "read_structures",
    "segment",
    "write_volume",
]

_MODULES = {
    "DefaceParameters": ".pipeline",
    "DefaceResult": ".pipeline",
    "Scan": ".volume_io",
    "deface": ".pipeline",
    "read_ct": ".volume_io",
    "read_scan": ".volume_io",
    "read_structures": ".structures",
    "segment": ".pipeline",
    "write_volume": ".volume_io",
}
"""Public name → the module that it is loaded from."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
