"""Step 5 of the CTDeface panel: what takes the place of the face, and the result, a new volume beside the original."""

import qt
import slicer
from slicer.i18n import tr as _

from .logic import AS_SEGMENTED
from .parameters import Fill, Strength
from .shared import hints
from .shared.step_panel import StepPanel
from .tasks import Task

ASK_OVERLAP_ML = 0.1
"""From this much of a mask made by hand inside the skull on, the panel asks before it defaces."""


class DefacePanel(StepPanel):
    """The widgets of the step, and what they do."""

    def __init__(self, panel):
        super().__init__(panel)
        self.ui.defaceButton.connect("clicked()", self.onDeface)
        self.ui.compareButton.connect("clicked()", self.panel.previewPanel.showSideBySide)

    def update(self, missing):
        """Enable what can be done now, and show what is missing."""
        ui, panel, parameters = self.ui, self.panel, self.parameters
        isRunning = self.isRunning
        if not missing and parameters.faceMask is None and not panel.segmentationPanel.method.isReady:
            missing = _("Get the method of step 2 ready, or choose another one there.")
        for widget in (ui.strengthComboBox, ui.marginSlider, ui.depthSpinBox):
            widget.enabled = not parameters.asIs
        self._explain(ui.fillComboBox, Fill, parameters.fill)
        self._explain(ui.strengthComboBox, Strength, parameters.strength)
        ui.defaceButton.text = _("Cancel") if isRunning else _("&Deface")
        ui.defaceButton.enabled = isRunning or (panel.isFree and not missing)
        ui.defaceProgressBar.visible = isRunning
        ui.compareButton.enabled = panel.hasResult
        hints.show(ui.defaceHintLabel, missing, panel.errors.get(Task.DEFACE, ""))

    @property
    def isRunning(self):
        """Whether the CT or a further series is being defaced."""
        return self.panel.task in (Task.DEFACE, Task.FURTHER)

    @staticmethod
    def _explain(comboBox, choices, chosen):
        """Let a combo box, and each of its entries, say what the choice means."""
        comboBox.toolTip = chosen.explanation()
        for index, choice in enumerate(choices):
            comboBox.setItemData(index, choice.explanation(), qt.Qt.ToolTipRole)

    def onDeface(self):
        panel, parameters = self.panel, self.parameters
        if self.isRunning:
            panel.cancel()
            return
        madeFrom = parameters.madeFrom()

        def done(result):
            self._publish(result, parameters, madeFrom[0])

        result = panel.currentResult()
        if result is not None:
            panel.errors.pop(Task.DEFACE, None)
            with slicer.util.tryWithErrorDisplay(_("The volume could not be defaced.")):
                done(result)
            panel.updateGUI()
        elif panel.task is Task.PREVIEW and panel.previewPanel.madeFrom == madeFrom:
            panel.takeOver(Task.DEFACE, done, self.ui.defaceProgressBar)
            panel.updateGUI()
        elif parameters.faceMask is None:
            panel.run(Task.DEFACE, self._segmentFirst, done, self.ui.defaceProgressBar)
        else:
            panel.run(
                Task.DEFACE,
                lambda **callbacks: self.logic.preview(*madeFrom, **callbacks),
                done,
                self.ui.defaceProgressBar,
            )

    def _segmentFirst(self, progress, done, failed):
        """Find the face with the method of step 2 and replace it, as one task; the mask can be corrected afterwards."""
        parameters, volumeNode = self.parameters, self.parameters.inputVolume

        def segmented(maskNode):
            if parameters.inputVolume is volumeNode:
                parameters.faceMask = maskNode
            choices = parameters.defaceParameters(), parameters.kept()
            callbacks = {"progress": second, "done": done, "failed": failed}
            self.panel.goOn(lambda: self.logic.preview(volumeNode, maskNode, *choices, **callbacks), failed)

        def first(fraction, text):
            progress(fraction / 2, text)

        def second(fraction, text):
            progress((1 + fraction) / 2, text)

        self.panel.segmentationPanel.starter()(progress=first, done=segmented, failed=failed)

    def _publish(self, preview, parameters, volumeNode):
        """Make a preview the result, if the user agrees, and show it where its volume is still the chosen one."""
        if not self._confirm(self.logic.report(preview)):
            self.panel.errors[Task.DEFACE] = _("Not defaced. Correct the mask in step 4.")
            return
        result = self.logic.publish(preview)
        self.panel.log(_("Replaced {ml:.0f} mL.").format(ml=self.logic.report(result)["replaced_ml"]))
        if parameters.inputVolume is volumeNode:
            parameters.defacedVolume = result
            if self.panel.parent.isEntered:
                self.panel.previewPanel.showSideBySide()
            if self.panel.isResultPresent:
                self.panel.furtherPanel.start()

    def _confirm(self, report):
        """Ask when a mask made by hand reaches into the skull: nothing in there is replaced, whatever was painted."""
        overlap = report["mask_intracranial_ml"]
        if overlap < ASK_OVERLAP_ML or report["mask"] == AS_SEGMENTED:
            return True
        return slicer.util.confirmYesNoDisplay(
            _(
                "The face mask covers {ml:.1f} mL of the space inside the skull. That part stays as it is: "
                "nothing inside the skull is ever replaced.\n\nDeface with the rest of the mask?"
            ).format(ml=overlap)
        )
