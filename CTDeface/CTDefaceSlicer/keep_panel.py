"""Of step 5 of the CTDeface panel: what must stay, segments of a segmentation that are ticked."""

from CTDefaceLib.structures import is_listed
from slicer.i18n import tr as _

from .kept import drawnOn, segmentsOffered
from .shared import hints, views
from .shared.check_table import CheckTable, Row
from .shared.step_panel import StepPanel


def costOf(kept):
    """What the report of a defacing says of a structure that was kept, in a few words."""
    return _("{ml:.1f} mL, {share:.0%} of it in the face").format(ml=kept["ml"], share=kept["in_region"])


class KeepPanel(StepPanel):
    """The widgets, and what they do."""

    def __init__(self, panel):
        super().__init__(panel)
        self._table = CheckTable(self.ui.keepTable, [_("Stays"), _("Costs")], self.onTicked)
        self._buttons = {
            "nodes": self.ui.keepNodesButton,
            "jaw": self.ui.keepJawButton,
            "orbits": self.ui.keepOrbitsButton,
            "targets": self.ui.keepTargetsButton,
        }  # by the lists of CTDefaceLib.structures
        for listed, button in self._buttons.items():
            button.connect("clicked()", lambda listed=listed: self.onListed(listed))
        self.ui.keepCollapsibleButton.connect("contentsCollapsed(bool)", lambda _isCollapsed: self._table.fit())

    def update(self):
        """Show the segments, those that stay ticked, and what keeping them costs."""
        ui, parameters = self.ui, self.parameters
        segmentationNode = parameters.keptSegmentation
        report = self.logic.report(self.panel.currentResult()).get("kept", {})
        rows = [
            Row(segmentID, name, segmentID in parameters.keptSegmentIDs, costOf(report[name]) if name in report else "")
            for segmentID, name in self._offered()
        ]
        self._table.show(rows)
        for widget in (ui.keepTable, ui.keepMarginLabel, ui.keepMarginSlider, ui.keepListsLabel):
            widget.visible = bool(rows)
        for listed, button in self._buttons.items():
            button.visible = bool(rows)
            button.enabled = bool(set(self._listed(listed)) - set(parameters.keptSegmentIDs))
        ui.keepMarginSlider.enabled = parameters.kept() is not None
        hint, problem = "", ""
        if segmentationNode is not None and not rows:
            problem = _("It has no segment beside the face: choose the segmentation with what must stay.")
        elif segmentationNode is not None:
            volumeNode = drawnOn(segmentationNode)
            if volumeNode not in (None, parameters.inputVolume):
                hint = _("It was drawn on “{name}”: make sure that it lies where it should.").format(
                    name=volumeNode.GetName()
                )
        hints.show(ui.keepHintLabel, hint, problem)

    def _offered(self):
        node = self.parameters.keptSegmentation
        return [] if node is None else segmentsOffered(node, node in self.logic.masks())

    def _listed(self, listed):
        """IDs of the segments whose names are in a usual list."""
        return [segmentID for segmentID, name in self._offered() if is_listed(name, listed)]

    def onTicked(self, segmentID, isTicked):
        """Keep a segment, or no longer."""
        before = {*self.parameters.keptSegmentIDs}
        self._keep(before | {segmentID} if isTicked else before - {segmentID})

    def onListed(self, listed):
        """Keep all segments of a usual list as well."""
        self._keep({*self.parameters.keptSegmentIDs, *self._listed(listed)})

    def _keep(self, segmentIDs):
        """Keep these segments, in the order in which the segmentation has them."""
        self.parameters.keptSegmentIDs = [one for one, _name in self._offered() if one in segmentIDs]

    def show(self):
        """Outline what stays in the slices, and nothing else of its segmentation."""
        node, kept = self.parameters.keptSegmentation, self.parameters.kept()
        if node is not None and node is not self.parameters.faceMask:
            views.showSegments(node, kept.segmentIDs if kept is not None else ())
