"""Steps 3 and 4 of the CTDeface panel: how the result will look, and the mask corrected by hand."""

import qt
import slicer
from CTDefaceLib.removal.check import LITTLE_SKIN, MUCH_TISSUE
from slicer.i18n import tr as _

from .keep_panel import costOf
from .shared import hints, nodes, views
from .shared.step_panel import StepPanel
from .shared.steps import NEXT_STYLE
from .tasks import Task


def summary(report):
    """What matters of a report, in lines: whether each is as it should be (None: nobody can say) and its text."""
    touched, covered = report["intracranial_voxels_touched"], report["facial_skin_covered"]
    yield touched == 0, _("Brain untouched") if touched == 0 else _("Brain: {n} voxels changed").format(n=touched)
    yield covered >= LITTLE_SKIN, _("Facial skin covered {share:.0%}").format(share=covered)
    yield (
        None if report["replaced_share"] <= MUCH_TISSUE else False,
        _("Replaced {ml:.0f} mL, {share:.0%} of the head's tissue").format(
            ml=report["replaced_ml"], share=report["replaced_share"]
        ),
    )
    if report["skull_gaps"]:
        yield None, _("Gaps in the skull: {count}").format(count=report["skull_gaps"])
    for name, kept in report.get("kept", {}).items():
        yield None, _("{name} kept: {cost}").format(name=name, cost=costOf(kept))


def numbers(report):
    """All numbers of a report, in lines."""
    return (
        _("Replaced: {ml:.1f} mL").format(ml=report["replaced_ml"]),
        _("Share of the head's tissue: {share:.1%}").format(share=report["replaced_share"]),
        _("Facial skin covered: {share:.1%}").format(share=report["facial_skin_covered"]),
        _("Face mask: {ml:.1f} mL, {inside:.1f} mL of it inside the skull").format(
            ml=report["mask_ml"], inside=report["mask_intracranial_ml"]
        ),
        _("Voxels of the brain changed: {count}").format(count=report["intracranial_voxels_touched"]),
        _("Gaps in the skull: {count}").format(count=report["skull_gaps"]),
    )


class PreviewPanel(StepPanel):
    """The widgets of the steps, and what they do.

    Attributes
    ----------
    madeFrom: what the running preview is made from, see ``CTDefaceParameterNode.madeFrom``
    """

    def __init__(self, panel):
        super().__init__(panel)
        self.madeFrom = None
        self._wayBack = None  # the button in the Segment Editor that leads back
        self._side = "front"  # of views.SIDES
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
        ui.beforeRadioButton.checked = not parameters.showAfter
        ui.afterRadioButton.checked = parameters.showAfter
        ui.previewProgressBar.visible = self.panel.task is Task.PREVIEW
        hints.show(ui.previewHintLabel, missing, self.panel.errors.get(Task.PREVIEW, ""))
        self._showReport({} if missing else self.logic.report(self.panel.currentResult()))
        ui.editButton.enabled = not missing and self.panel.isFree
        hints.show(ui.correctHintLabel, missing)

    def _showReport(self, report):
        """What matters of the preview, as a short list, with all numbers in its tool tip; the warnings below."""
        label = self.ui.reportLabel
        lines = [hints.marked(isGood, text, label) for isGood, text in summary(report)] if report else []
        hints.show(label, "<br>".join(lines))
        label.toolTip = "\n".join(numbers(report)) if report else _("What the present choices replace.")
        hints.show(self.ui.warningLabel, "", "\n".join(report.get("warnings", [])))

    def afterVolume(self):
        """The volume that shows how the result will look, or None; it may be out of date while the preview is made."""
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
        if parameters is None or self.panel.busy or self.panel.inputPanel.problem():
            return
        if parameters.faceMask is None or self.panel.currentResult() is not None:
            self.show()
            return
        self.madeFrom = madeFrom = parameters.madeFrom()

        def start(**callbacks):
            self.logic.preview(*madeFrom, **callbacks)

        def done(result):
            self.panel.log(_("Preview ready"))
            if self.panel.parent.isEntered:  # else the views belong to another module now
                self.show()
                self.panel.updateSoon()  # the choices may have changed meanwhile

        self.panel.run(Task.PREVIEW, start, done, self.ui.previewProgressBar)

    def show(self):
        """Show the input, before or after, in 3D and in the slices; side by side, the pair that the titles name."""
        parameters = self.parameters
        before, mask, result = parameters.inputVolume, parameters.faceMask, parameters.defacedVolume
        if views.isSideBySide():
            if result is not None and not self.panel.resultProblem():
                if not views.compares(before, result):
                    self.showSideBySide()
                return
            views.showThreeDLayout()
        isCT = not self.panel.inputPanel.problem()
        after = self.afterVolume() if isCT and mask is not None else None
        isAfter = parameters.showAfter and after is not None
        shown = after if isAfter else before
        if after is not None and after.GetHideFromEditors():  # nobody but the panel can move it along
            after.SetAndObserveTransformNodeID(before.GetTransformNodeID())
        if isCT and mask is not None:
            nodes.updateFaceSurface(mask, before)
        with slicer.util.RenderBlocker():
            views.keepRenderings(*(node for node in (before, after, result) if isCT and node is not None))
            for node in (before, after, result):
                if node is not shown:
                    views.hideSkin(node)
            if isCT:
                views.renderSkin(shown, parameters.skinShift)
            views.showInSlices(shown)
            self._showMask(mask if isCT and not isAfter else None)
            self.panel.keepPanel.show()

    def _showMask(self, shown):
        """Show a face mask in the views, and no other; with None, none."""
        for maskNode in {*self.logic.masks(), self.parameters.faceMask} - {None}:
            views.showMask(maskNode, visible=maskNode is shown)

    def showInput(self):
        """Show the input that was just chosen wherever another one was shown: layout, slices, 3D, from the front."""
        parameters = self.parameters
        views.leaveSideBySide()
        self.show()
        if parameters.inputVolume is None:
            return
        views.showInSlices(parameters.inputVolume, fit=True)
        face = parameters.faceMask or parameters.inputVolume
        views.lookAt(face, "front")
        views.jumpTo(face)

    def showResult(self):
        """Let side-by-side views follow when another result is chosen, or none."""
        if self.parameters is not None and self.panel.parent.isEntered and views.isSideBySide():
            self.show()

    def showSideBySide(self):
        """Show the original and the result side by side, from the front."""
        parameters = self.parameters
        with slicer.util.tryWithErrorDisplay(_("The volumes could not be shown side by side."), waitCursor=True):
            self._showMask(None)
            self.panel.keepPanel.show()
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
        self._side = side

    def onBefore(self):
        self._choose(showAfter=False)

    def onAfter(self):
        self._choose(showAfter=True)

    def _choose(self, showAfter):
        self.parameters.showAfter = showAfter
        views.showThreeDLayout()
        self.show()

    def onNextView(self):
        """Turn the views to the side that comes after the one that a button or this has chosen last."""
        if not self.ui.previewFrame.enabled:
            return
        sides = list(views.SIDES)
        self.lookFrom(sides[(sides.index(self._side) + 1) % len(sides)])

    def onToggle(self):
        """Show after in place of before, or before in place of after."""
        if self.ui.previewFrame.enabled:
            self._choose(showAfter=not self.parameters.showAfter)

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
            self._offerWayBack()

    def _offerWayBack(self):
        """Put a button above the Segment Editor that leads back to this module."""
        self.endEditing()
        button = self._wayBack = qt.QPushButton(_("Back to CTDeface"))
        button.toolTip = _("Go back to CTDeface. The mask stays as you have edited it, and the preview follows.")
        button.styleSheet = NEXT_STYLE
        button.connect("clicked()", lambda: slicer.util.selectModule(self.panel.moduleName))
        slicer.util.getModuleWidget("SegmentEditor").layout.insertWidget(0, button)

    def endEditing(self):
        """Take the way back out of the Segment Editor."""
        if self._wayBack is not None:
            self._wayBack.visible = False
            self._wayBack.deleteLater()
            self._wayBack = None
