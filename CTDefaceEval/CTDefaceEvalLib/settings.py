"""What an evaluation is made with."""

from __future__ import annotations

from dataclasses import dataclass

from CTDefaceLib.errors import CTDefaceError

from .attacks import ATTACKS
from .face_models import DEFAULT_MODELS
from .views import ViewGrid, view_grid

RENDERINGS = ("surface", "volume")
"""A surface, the default, or rays cast through the volume, as Slicer also shows a head."""


@dataclass(frozen=True)
class Settings:
    """What an evaluation is made with.

    Attributes
    ----------
    models: tuple of str
        Names of face models, keys of `face_models.MODELS`.
    model_folder: str or None
        Folder of the models that are loaded from one.
    views: str
        Preset of `views.PRESETS`.
    attacks: tuple of str
        Kinds of attack, of `attacks.ATTACKS`.
    rendering: str
        Of `RENDERINGS`.
    perspective: bool
        A camera at 1 m instead of parallel rays.
    """

    models: tuple[str, ...] = DEFAULT_MODELS
    model_folder: str | None = None
    views: str = "default"
    attacks: tuple[str, ...] = ATTACKS
    rendering: str = RENDERINGS[0]
    perspective: bool = False

    @property
    def grid(self) -> ViewGrid:
        """The views of the preset."""
        return view_grid(self.views)

    def check(self) -> None:
        """Raise CTDefaceError for an unknown set of views, attack or rendering."""
        view_grid(self.views)
        unknown = set(self.attacks) - set(ATTACKS)
        if unknown:
            raise CTDefaceError(f"There is no attack called “{unknown.pop()}”; choose of {', '.join(ATTACKS)}.")
        if self.rendering not in RENDERINGS:
            raise CTDefaceError(
                f"There is no rendering called “{self.rendering}”; choose one of {', '.join(RENDERINGS)}."
            )
