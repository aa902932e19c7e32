"""The choices of a defacing."""

from __future__ import annotations

from dataclasses import dataclass

from .segmenters import Choice

UNREPORTED = ("segmenter", "weights", "label", "device", "seed")
"""Parameters that are not in a report's list: they name places, stand elsewhere in it, or would undo the work."""

WEAK_FILLS = {
    "constant": "A constant fill marks the region for everybody: use the air fill to share the volume.",
    "percentile": "A percentile fill is one value and marks the region: use the air fill to share the volume.",
    "blur": "A blurred face keeps its rough shape: use the air fill to share the volume.",
}
"""What is said of a fill that is weaker than air."""


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
        Remove the mask itself, but for the intracranial space: no margin, no seal, bone as well. The outline of what
        was removed is then the face.
    margin_mm: float
        Remove this much more around the face mask, in mm.
    keep_bone: bool
        Leave facial bone; weaker, since a face can be estimated from its bones.
    sealed: bool
        Reach through the air in front of the face and to a random depth; without it the outline of what was removed
        is the face.
    fill: str
        ``"air"``, ``"constant"``, ``"percentile"`` or ``"blur"``, see :func:`CTDefaceLib.removal.fill.fill_region`.
    constant, percentile, blur_mm: float
        HU, percentile and mm of those fills.
    seed: int or None
        Seed of depth and noise; None draws a new one, which nobody then knows.
    """

    segmenter: str = "builtin"
    weights: str = ""
    label: str = ""
    device: str = "auto"
    as_is: bool = False
    margin_mm: float = 0.0
    keep_bone: bool = False
    sealed: bool = True
    fill: str = "air"
    constant: float = -1000.0
    percentile: float = 10.0
    blur_mm: float = 10.0
    seed: int | None = None

    @property
    def choice(self) -> Choice:
        """What the segmenter is told."""
        return Choice(self.weights, self.label, self.device)

    @property
    def cut_is_random(self) -> bool:
        """Whether a second defacing with the same choices cuts elsewhere."""
        return self.seed is None and self.sealed and not self.as_is

    @property
    def weaknesses(self) -> list[str]:
        """One sentence for each choice that leaves more of the face than the defaults do."""
        warnings = [WEAK_FILLS[self.fill]] if self.fill in WEAK_FILLS else []
        if self.as_is:
            warnings.append("The face mask was used as it is: the outline of what was removed is the face.")
            return warnings
        if not self.sealed:
            warnings.append("The region is not sealed: the outline of what was removed is the face.")
        if self.keep_bone:
            warnings.append("Facial bone was kept: a face can be estimated from it.")
        return warnings
