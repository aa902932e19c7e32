"""What the live meter has found, in words in the panel."""

import numpy as np
from CTDefaceSlicer.shared import hints
from slicer.i18n import tr as _

from .head_views import DEFACED, LABELS, ORIGINAL, RECOVERED


class ScoreLabels:
    """The labels of step 2.

    :param ui: widgets of the panel by name.
    :param scale: called for what is known of the scan's scale of similarity: an ``findings.Scale``, or None, and
        whether it is being measured.
    """

    def __init__(self, ui, scale):
        self._ui, self._scale = ui, scale

    def show(self, faces, similarities=None, tilted=()):
        """Show what was found last; the similarity stays until it is measured again.

        :param faces: by head, None where there is no face.
        :param similarities: to the original, by head.
        :param tilted: heads that are tilted so far that not to find a face proves nothing.
        """
        ui = self._ui
        for name, title, label in (
            (ORIGINAL, ui.originalScoreTitleLabel, ui.originalScoreLabel),
            (DEFACED, ui.defacedScoreTitleLabel, ui.defacedScoreLabel),
            (RECOVERED, ui.recoveredScoreTitleLabel, ui.recoveredScoreLabel),
        ):
            title.visible = label.visible = name in faces
            face = faces.get(name)
            if face:
                label.text = _("face found, score {score:.2f}").format(score=face["score"])
            else:
                label.text = _("tilted: turn it upright") if name in tilted else _("no face found")
            isNeutral = name == ORIGINAL or (name in tilted and not face)
            color = "" if isNeutral else f"color: {hints.errorColor(label) if face else hints.goodColor(label)};"
            label.styleSheet = f"{color} font-weight: bold;"
        if not faces.get(ORIGINAL):
            similarities = {}
        if similarities is not None:
            self._showSimilarities(similarities)

    def _showSimilarities(self, similarities):
        """How similar the other faces are to the original's, and what that means on the scan's own scale."""
        scale, isMeasured = self._scale()
        lines = []
        for name, value in similarities.items():
            line = _("{name}: {value:.2f}").format(name=LABELS[name], value=value)
            if scale is not None and scale.threshold is not None:
                line += " – " + (_("like the same head") if value > scale.threshold else _("like another head"))
            lines.append(line)
        if lines and scale is None and isMeasured:
            lines.append(_("measuring what similar means for this head…"))
        elif lines and scale is not None:
            same, other = np.median(scale.same_head or [np.nan]), np.median(scale.other_heads or [np.nan])
            lines.append(_("usual here: same head {same:.2f}, other heads {other:.2f}").format(same=same, other=other))
        ui = self._ui
        ui.similarityTitleLabel.visible = ui.similarityLabel.visible = bool(lines)
        ui.similarityLabel.text = "\n".join(lines)
