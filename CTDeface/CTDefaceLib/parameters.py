"""The choices of a defacing."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from typing import Any

import SimpleITK as sitk

from .errors import InputError
from .files import name_bytes
from .removal.fill import FILLS
from .segmenters import Choice

UNREPORTED = ("segmenter", "weights", "label", "device", "seed", "person_seed")
"""Parameters that are not in a report's list: they name places, stand elsewhere in it, or would undo the work."""

DEPTH_MM = {"light": 10.0, "standard": 12.0, "strict": 18.0}
"""Strength → depth in mm below the new skin.

With *standard* the emptied head is recognised no more often than one whose front is cut off, with a margin, as
``Testing/benchmarks/bench_strength.py`` measures (docs/strength.md). *Light*, whose bones stay, and *strict* are
choices.
"""

KEEP_MARGIN_MM = 2.0
"""What stays around structures that are kept, in mm: about how exact they are drawn. A choice."""

WEAK_FILLS = {
    "constant": "A constant fill marks the region for everybody: use the smooth fill to share the volume.",
    "percentile": "A percentile fill is one value and marks the region: use the smooth fill to share the volume.",
    "blur": "A blurred face keeps its rough shape: use the smooth fill to share the volume.",
}
"""What is said of a fill that is weaker than a smooth head."""


@dataclass(frozen=True)
class DefaceParameters:
    """All choices of a defacing.

    Attributes
    ----------
    segmenter: str
        How the face is found: one of :func:`CTDefaceLib.segmenters.names`.
    weights, label, device: str
        What it is told, see :class:`CTDefaceLib.segmenters.Choice`.
    as_is: bool
        Replace the mask itself, but for the intracranial space, whatever the depth. The outline of what was replaced is
        then the face.
    margin_mm: float
        Move the outline of the face outwards by this much, in mm.
    strength: str
        How much is replaced: ``"light"`` leaves the facial bones, from which a face can be estimated; ``"standard"``
        takes what lies less deep than a depth, bones included; ``"strict"`` goes deeper, and takes the ears.
    depth_mm: float or None
        Depth in mm below the new skin; None takes that of the strength.
    ears: bool or None
        Whether the ears are replaced; None does what the strength does.
    fill: str
        What takes the face's place: ``"smooth"``, ``"face"``, ``"air"``, ``"constant"``, ``"percentile"`` or
        ``"blur"``, see :func:`CTDefaceLib.removal.fill.fill_region`.
    constant, percentile, blur_mm: float
        HU, percentile and mm of those fills.
    keep_margin_mm: float
        What stays around structures that are kept, in mm.
    seed: int or None
        Seed of all that is random; None draws a new one, which nobody then knows.
    person_seed: int or None
        Seed of whose face takes the place, which has to be the same in all scans of a patient; None for ``seed``.

    Raises
    ------
    InputError
        When there is no such strength or fill.
    """

    segmenter: str = "builtin"
    weights: str = ""
    label: str = ""
    device: str = "auto"
    as_is: bool = False
    margin_mm: float = 0.0
    strength: str = "standard"
    depth_mm: float | None = None
    ears: bool | None = None
    fill: str = "smooth"
    constant: float = -1000.0
    percentile: float = 10.0
    blur_mm: float = 10.0
    keep_margin_mm: float = KEEP_MARGIN_MM
    seed: int | None = None
    person_seed: int | None = None

    def __post_init__(self) -> None:
        for name, value, known in (("fill", self.fill, FILLS), ("strength", self.strength, DEPTH_MM)):
            if value not in known:
                raise InputError(f"There is no {name} “{value}”: choose {', '.join(known)}.")

    @property
    def depth(self) -> float:
        """Depth in mm below the new skin."""
        return DEPTH_MM[self.strength] if self.depth_mm is None else self.depth_mm

    @property
    def of_fill(self) -> dict[str, Any]:
        """The choices that :func:`.removal.fill.fill_region` takes."""
        return {name: getattr(self, name) for name in ("fill", "constant", "percentile", "blur_mm", "seed")}

    @property
    def keeps_bone(self) -> bool:
        """Whether facial bone stays."""
        return self.strength == "light"

    @property
    def takes_ears(self) -> bool:
        """Whether the ears are replaced."""
        return self.strength == "strict" if self.ears is None else self.ears

    @property
    def person(self) -> int | None:
        """Seed of whose face takes the place."""
        return self.seed if self.person_seed is None else self.person_seed

    @property
    def choice(self) -> Choice:
        """What the segmenter is told."""
        return Choice(self.weights, self.label, self.device)

    @property
    def weaknesses(self) -> list[str]:
        """One sentence for each choice that leaves more of the face than the defaults do."""
        warnings = [WEAK_FILLS[self.fill]] if self.fill in WEAK_FILLS else []
        if self.as_is:
            warnings.append("The face mask was used as it is: the outline of what was removed is the face.")
            return warnings
        if self.keeps_bone:
            warnings.append("Facial bone was kept: a face can be estimated from it.")
        return warnings


def drawn(parameters: DefaceParameters, secret: bytes, patient: str, image: sitk.Image) -> DefaceParameters:
    """The same choices, with what is random made from a secret (HMAC-SHA-256): the same wherever and whenever it is.

    Parameters
    ----------
    parameters: DefaceParameters
        They stay as they are where they have a seed.
    secret: bytes
        Nobody can tell the fill without it.
    patient: str
        Whose face takes the place follows from this alone.
    image: SimpleITK.Image
        The noise follows from its voxels as well: two scans with one noise would show where it is.
    """
    if parameters.seed is not None:
        return parameters

    def seed(kind: str, what: bytes) -> int:
        digest = hmac.new(secret, name_bytes(f"{kind}\0{patient}\0") + what, "sha256").digest()
        return int.from_bytes(digest[:8], "big")

    voxels = hashlib.sha256(sitk.GetArrayViewFromImage(image).data).digest()
    return replace(parameters, seed=seed("noise", voxels), person_seed=seed("person", b""))
