"""Steps 3 and 4 of the CTDeface panel: what will remain of the head, and the mask corrected by hand."""

import qt
import slicer
from slicer.i18n import tr as _

from .shared import hints, nodes, views
from .shared.step_panel import StepPanel
from .tasks import Task


class PreviewPanel(StepPanel):
    """The widgets of the steps, and what they do.

    Attributes
    ----------
    madeFrom: volume, mask and choices that the running preview is made from
    """

    def __init__(self, panel):
        super().__init__(panel)
        self.madeFrom = None
        ui = self.ui
        ui.beforeRadioButton.connect("clicked()", self.onBefore)
        ui.afterRadioButton.connect("clicked()", self.onAfter)
        ui.frontButton.connect("clicked()", self.onFront)
        ui.leftButton.connect("clicked()", self.onLeft)
        ui.rightButton.connect("clicked()", self.onRight)
        ui.editButton.connect("clicked()", self.onEdit)

    def update(self, missing):
        """Enable what can be done now, and show what is missing."""
        ui, parameters = self.ui, self.parameters
        ui.previewFrame.enabled = not missing
        for widget in (ui.marginSlider, ui.sealedCheckBox, ui.keepBoneCheckBox):
            widget.enabled = not parameters.asIs
        ui.beforeRadioButton.checked = not parameters.showAfter
        ui.afterRadioButton.checked = parameters.showAfter
        ui.previewProgressBar.visible = self.panel.task is Task.PREVIEW
        hints.show(ui.previewHintLabel, missing, self.panel.errors.get(Task.PREVIEW, ""))
        self._showReport({} if missing else self.logic.report(self.panel.currentResult()))
        ui.editButton.enabled = not missing and self.panel.isFree
        hints.show(ui.correctHintLabel, missing)

    def _showReport(self, report):
        """The numbers of the preview, and its warnings."""
        lines = []
        if report:
            lines = [
                _("Removed: {ml:.0f} mL, {share:.0%} of the head's tissue").format(
                    ml=report["removed_ml"], share=report["removed_share"]
                ),
                _("Facial skin covered: {share:.0%}").format(share=report["facial_skin_covered"]),
                _("Face mask: {ml:.0f} mL, {inside:.1f} mL of it inside the skull").format(
                    ml=report["mask_ml"], inside=report["mask_intracranial_ml"]
                ),
                _("Intracranial voxels touched: {count}").format(count=report["intracranial_voxels_touched"]),
            ]
        hints.show(self.ui.reportLabel, "\n".join(lines))
        hints.show(self.ui.warningLabel, "", "\n".join(report.get("warnings", [])))

    def afterVolume(self):
        """The volume that shows what will remain, or None; it may be out of date while the preview is made."""
        if self.parameters is None or self.parameters.inputVolume is None:
            return None
        return self.panel.currentResult() or self.logic.previewVolume(self.parameters.inputVolume)

    def setSkinShift(self):
        """Draw the skin of both volumes at the chosen threshold."""
        for volumeNode in (self.parameters.inputVolume, self.afterVolume()):
            views.setSkinShift(volumeNode, self.parameters.skinShift)

    def refresh(self):
        """Bring what the views show up to date with mask and choices; compute it first where it is not there yet."""
        parameters = self.parameters
        if parameters is None or self.panel.busy or parameters.faceMask is None or self.panel.inputPanel.problem():
            return
        if self.panel.currentResult() is not None:
            self.show()
            return
        volumeNode, maskNode, choices = parameters.inputVolume, parameters.faceMask, parameters.defaceParameters()
        self.madeFrom = volumeNode, maskNode, choices

        def start(**callbacks):
            self.logic.preview(volumeNode, maskNode, choices, **callbacks)

        def done(result):
            if self.panel.parent.isEntered:  # else the views belong to another module now
                self.show()
                self.panel.updateSoon()  # the choices may have changed meanwhile

        self.panel.run(Task.PREVIEW, start, done, self.ui.previewProgressBar)

    def show(self):
        """Show before or after in 3D and in the slices, unless original and result are shown side by side."""
        parameters = self.parameters
        before, after = parameters.inputVolume, self.afterVolume()
        if before is None or parameters.faceMask is None:
            return
        if views.isSideBySide():
            if parameters.defacedVolume is not None and views.rendering(parameters.defacedVolume) is None:
                self.showSideBySide()  # the scene was saved like this, without the renderings
            return
        nodes.updateFaceSurface(parameters.faceMask, before)
        isAfter = parameters.showAfter and after is not None
        shown, hidden = (after, before) if isAfter else (before, after)
        with slicer.util.RenderBlocker():
            views.keepRenderings(before, after, parameters.defacedVolume)
            if hidden is not None:
                views.hideSkin(hidden)
            views.renderSkin(shown, parameters.skinShift)
            views.showInSlices(shown)
            for maskNode in self.logic.masks():
                views.showMask(maskNode, visible=maskNode is parameters.faceMask and not isAfter)

    def showSideBySide(self):
        """Show the original and the result side by side, from the front."""
        parameters = self.parameters
        with slicer.util.tryWithErrorDisplay(_("The volumes could not be shown side by side."), waitCursor=True):
            if parameters.faceMask is not None:
                views.showMask(parameters.faceMask, visible=False)
            views.showSideBySide(parameters.inputVolume, parameters.defacedVolume, parameters.skinShift)
            face = parameters.faceMask or parameters.inputVolume
            views.lookAt(face, "front")
            qt.QTimer.singleShot(0, lambda: views.jumpTo(face))  # after the slices were fitted to their views

    def lookFrom(self, side):
        """Turn the 3D views to the face, seen from "front", "left" or "right"."""
        if not views.isSideBySide():
            views.showThreeDLayout()
            self.show()
        views.lookAt(self.parameters.faceMask, side)

    def onBefore(self):
        self._choose(showAfter=False)

    def onAfter(self):
        self._choose(showAfter=True)

    def _choose(self, showAfter):
        self.parameters.showAfter = showAfter
        views.showThreeDLayout()
        self.show()

    def onFront(self):
        self.lookFrom("front")

    def onLeft(self):
        self.lookFrom("left")

    def onRight(self):
        self.lookFrom("right")

    def onEdit(self):
        with slicer.util.tryWithErrorDisplay(_("The Segment Editor could not be opened.")):
            self.onBefore()
            self.logic.editMask(self.parameters.inputVolume, self.parameters.faceMask)
