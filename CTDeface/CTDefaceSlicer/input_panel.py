"""Step 1 of the CTDeface panel: the head CT."""

from slicer.i18n import tr as _

from .shared import hints, nodes
from .shared.step_panel import StepPanel
from .tasks import Task


class InputPanel(StepPanel):
    """The widgets of the step, and what they do."""

    def __init__(self, panel):
        super().__init__(panel)
        self.ui.loadSampleButton.connect("clicked()", self.onLoadSample)

    def problem(self):
        """What is missing or wrong with the input volume, in one sentence."""
        volumeNode = self.parameters.inputVolume
        return _("Load a head CT, or press Load sample.") if volumeNode is None else nodes.ctProblem(volumeNode)

    def update(self, problem):
        """Enable what can be done now, and show what is missing."""
        ui, isLoading = self.ui, self.panel.task is Task.SAMPLE
        ui.loadSampleButton.enabled = self.panel.isFree
        ui.loadSampleButton.visible = isLoading or self.parameters.inputVolume is None
        ui.loadSampleButton.text = _("Making a phantom head…") if isLoading else _("Load sample")
        ui.inputProgressBar.visible = isLoading
        problem = "" if isLoading else problem
        hints.show(ui.inputHintLabel, problem, problem if self.parameters.inputVolume is not None else "")

    def preselect(self, volumeNodes=None):
        """Choose the first CT, of the scene or of those given, that is no result, when none is chosen."""
        if self.parameters is None or self.parameters.inputVolume is not None:
            return
        volumeNode = next((n for n in nodes.offeredCTs(volumeNodes) if not self.logic.isResult(n)), None)
        if volumeNode is not None:
            self.parameters.inputVolume = volumeNode

    def onLoadSample(self):
        def done(volumeNode):
            self.parameters.inputVolume = volumeNode

        self.panel.run(Task.SAMPLE, self.logic.loadSample, done)
