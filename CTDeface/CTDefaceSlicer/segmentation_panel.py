"""Step 2 of the CTDeface panel: find the face, with the method that is chosen in its box."""

import qt
from slicer.i18n import tr as _

from .logic import AS_SEGMENTED
from .segmenter_panel import SegmenterPanel
from .shared import hints, nodes, views
from .shared.step_panel import StepPanel
from .tasks import Task


class SegmentationPanel(StepPanel):
    """The widgets of the step, and what they do.

    Attributes
    ----------
    method: the box with the method
    """

    def __init__(self, panel):
        super().__init__(panel)
        self.method = SegmenterPanel(self.ui, self.logic, self.onMethodChanged, panel.run)
        self.ui.segmentButton.connect("clicked()", self.onSegment)

    def update(self, missing):
        """Enable what can be done now, and show what is missing."""
        ui, errors, isFree = self.ui, self.panel.errors, self.panel.isFree
        isRunning = self.panel.task in (Task.SEGMENT, Task.DOWNLOAD)
        ui.segmentButton.text = _("Cancel") if isRunning else _("&Segment face")
        ui.segmentButton.enabled = isRunning or (isFree and not missing and self.method.isReady)
        ui.segmentProgressBar.visible = isRunning
        self.method.update(isFree)
        hints.show(ui.expectedTimeLabel, "" if missing else self.expectedTime(), errors.get(Task.EXPECT, ""))
        hints.show(ui.segmentHintLabel, missing, errors.get(Task.DOWNLOAD) or errors.get(Task.SEGMENT, ""))

    def updateExpectation(self):
        """Find out how long the chosen model will take on the volume, which loads it as well."""
        method = self.method
        if self.parameters is None or self.panel.inputPanel.problem() or not method.isReady:
            return
        volumeNode = self.parameters.inputVolume
        key = nodes.fingerprint(volumeNode)
        if not method.startExpecting(key):
            return

        def start(**callbacks):
            self.logic.expect(volumeNode, method.name, method.choice(), **callbacks)

        def done(report):
            method.onExpected(key, report)
            self.panel.updateSoon()

        self.panel.run(Task.EXPECT, start, done)

    def expectedTime(self):
        """How long the segmentation will take, about, in one sentence; an empty text when nobody knows."""
        seconds = self.method.expectation(nodes.fingerprint(self.parameters.inputVolume))
        if self.panel.task is Task.EXPECT:
            return _("Finding out how long it will take…")
        if seconds is None:
            return ""
        if seconds < 100:
            return _("It will take about {seconds:.0f} s.").format(seconds=max(1, seconds))
        return _("It will take about {minutes:.0f} min.").format(minutes=seconds / 60)

    def starter(self):
        """What finds the face in the chosen volume with the present choices, a function of the callbacks of a task."""
        parameters = self.parameters
        volumeNode, segmenter, choice = parameters.inputVolume, parameters.segmenter, self.method.choice()
        # An untouched mask is replaced; one that was worked on by hand stays beside the new one.
        maskNode = parameters.faceMask if self.logic.maskMethod(parameters.faceMask) == AS_SEGMENTED else None
        return lambda **callbacks: self.logic.segmentFace(volumeNode, segmenter, maskNode, choice, **callbacks)

    def onSegment(self):
        if self.panel.task in (Task.SEGMENT, Task.DOWNLOAD):
            self.panel.cancel()
            return
        parameters, volumeNode = self.parameters, self.parameters.inputVolume

        def done(maskNode):
            if parameters.inputVolume is not volumeNode:
                return
            parameters.faceMask = maskNode  # which starts the preview as well
            parameters.showAfter = False
            qt.QTimer.singleShot(0, lambda: self.showFace(maskNode))  # one by one, so that the window does not freeze

        self.panel.run(Task.SEGMENT, self.starter(), done, self.ui.segmentProgressBar)

    def showFace(self, maskNode):
        """Turn the views to a mask that was just made."""
        if self.panel.parent.isEntered and self.parameters is not None and maskNode is self.parameters.faceMask:
            views.leaveSideBySide()
            self.panel.previewPanel.lookFrom("front")
            views.jumpTo(maskNode)

    def onMethodChanged(self):
        for task in (Task.SEGMENT, Task.EXPECT, Task.DOWNLOAD):
            self.panel.errors.pop(task, None)
        self.parameters.segmenter = self.method.name
        self.panel.updateGUI()
        self.panel.updateSoon()
