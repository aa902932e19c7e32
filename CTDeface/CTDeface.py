import os

import numpy as np
import qt
import slicer
from CTDefaceSlicer.batch_panel import BatchPanel
from CTDefaceSlicer.deface_panel import DefacePanel
from CTDefaceSlicer.export_panel import ExportPanel
from CTDefaceSlicer.further_panel import FurtherPanel
from CTDefaceSlicer.input_panel import InputPanel
from CTDefaceSlicer.keep_panel import KeepPanel
from CTDefaceSlicer.logic import CTDefaceLogic
from CTDefaceSlicer.preview_panel import PreviewPanel
from CTDefaceSlicer.segmentation_panel import SegmentationPanel
from CTDefaceSlicer.shared import nodes, views
from CTDefaceSlicer.shared.shortcuts import Shortcuts
from CTDefaceSlicer.shared.task_panel import TaskPanel
from CTDefaceSlicer.tasks import Task
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest

HOMEPAGE = "https://github.com/CTDeface/SlicerCTDeface"
UPDATE_DELAY_MSEC = 400
"""The preview follows when nothing was changed for that long."""


class CTDeface(ScriptedLoadableModule):
    """Replaces the face in a head CT: segment, preview in 3D, correct, deface, export."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("CTDeface")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Utilities")]
        self.parent.dependencies = ["Cameras", "Segmentations", "SubjectHierarchy", "VolumeRendering"]
        self.parent.contributors = ["CTDeface contributors"]
        self.parent.helpText = _(
            "<p>Replaces the face in head CTs by another skin, so that they can be shared for research.</p>"
            "<p>Work through the panel from top to bottom. Each step says what is missing before it can run, and "
            "everything explains itself when the mouse rests on it. To try things out, press <i>Load sample</i>.</p>"
            "<p>Look at every result before you share it. Names and other entries in DICOM headers stay, unless they "
            "are cleaned in the Export step.</p>"
            '<p><a href="{homepage}">Tutorial with pictures, and what CTDeface does not do</a></p>'
        ).format(homepage=HOMEPAGE)
        self.parent.acknowledgementText = _(
            "CTDeface is free software under the Apache License 2.0. It is for research; it is no medical device. "
            "The trained models that it can use are the work of others, under licences of their own."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)
        slicer.app.connect("startupCompleted()", views.registerLayout)


def registerSampleData():
    """Offer the phantom in the Sample Data module. It is made on the spot; nothing is downloaded."""
    import SampleData

    thumbnail = os.path.join(os.path.dirname(__file__), "Resources", "Icons", "HeadPhantom.png")
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="CTDeface",
        sampleName=_("Head CT phantom"),
        uris="",
        fileNames="CTDefacePhantom.nrrd",
        nodeNames="CTDefacePhantom",
        thumbnailFileName=thumbnail,
        customDownloader=downloadSample,
    )


def downloadSample(source):
    """Make the phantom and show it, as the Sample Data module does with what it downloads."""
    logic = CTDefaceLogic()
    try:
        with slicer.util.WaitCursor():
            volumeNode = logic.loadSample()
    finally:
        logic.process.stop()
    views.showInSlices(volumeNode, fit=True)
    return [volumeNode]


class CTDefaceWidget(TaskPanel):
    """The panel. Each step shows what is missing before it can run; all work is done by the logic."""

    GIVE_WAY = (Task.PREVIEW, Task.EXPECT)
    SHOWN_CLASSES = ("vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode")
    CHOICES = ("inputVolume", "faceMask", "keptSegmentation", "defacedVolume")
    LIBRARIES = ("CTDefaceLib", "CTDefaceSlicer")

    def __init__(self, parent=None):
        TaskPanel.__init__(self, parent)
        self._volume = None  # the input volume that mask and result belong to
        self._result = None  # the result that Export and the side-by-side views were made ready for
        self._isInputNew = False  # whether the input was chosen and not shown yet
        self._observed = []  # segmentations whose edits are followed

    # Life of the panel

    def setup(self):
        TaskPanel.setup(self)
        self.logic = CTDefaceLogic()
        self._updateTimer = qt.QTimer()
        self._updateTimer.setSingleShot(True)
        self._updateTimer.setInterval(UPDATE_DELAY_MSEC)
        self._updateTimer.connect("timeout()", self.onIdle)
        self.inputPanel = InputPanel(self)
        self.segmentationPanel = SegmentationPanel(self)
        self.previewPanel = PreviewPanel(self)
        self.keepPanel = KeepPanel(self)
        self.furtherPanel = FurtherPanel(self)
        self.defacePanel = DefacePanel(self)
        self.exportPanel = ExportPanel(self)
        self.batchPanel = BatchPanel(self.ui, self.logic, self.batchParameters)
        self._shortcuts = Shortcuts(
            {
                "F6": lambda: self.ui.segmentButton.click(),
                "F7": lambda: self.ui.defaceButton.click(),
                "F8": self.previewPanel.onToggle,
                "F9": self.previewPanel.onNextView,
            }
        )
        self.observeScene()

    def cleanup(self):
        self._shortcuts.remove()
        self.batchPanel.stop()
        self.previewPanel.endEditing()
        TaskPanel.cleanup(self)
        self.logic.batchProcess.stop()

    def enter(self):
        self._shortcuts.install()
        self.previewPanel.endEditing()
        self.showScene()
        self.segmentationPanel.method.refresh()  # something may have been installed meanwhile
        self.showInput()
        self.updateSoon()

    def exit(self):
        self._shortcuts.remove()
        self._updateTimer.stop()
        self.leave()

    def stop(self):
        TaskPanel.stop(self)
        self._updateTimer.stop()

    def onSceneStartClose(self, caller, event):
        TaskPanel.onSceneStartClose(self, caller, event)
        self.previewPanel.endEditing()
        self.exportPanel.forgetPaths()

    def successor(self, name, node):
        volumeNode = self.parameterNode.inputVolume
        if name == "faceMask":
            return self.logic.maskOf(volumeNode, without=node)
        return self.logic.resultOf(volumeNode, without=node) if name == "defacedVolume" else None

    def onNodesGone(self):
        self.logic.removeOrphans()
        self.updateGUI()
        self.updateSoon()

    def preselect(self, volumeNodes=None):
        self.inputPanel.preselect(volumeNodes)

    # The choices

    def onParameterNodeSet(self):
        parameters = self.parameterNode
        self._volume = parameters.inputVolume if parameters is not None else None
        self._result = parameters.defacedVolume if parameters is not None else None
        self._isInputNew = False
        self.observeSegmentations()

    def onParametersChanged(self, caller=None, event=None):
        if self.parameterNode.inputVolume is not self._volume:
            self.onInputChanged()
        if self.parameterNode.defacedVolume is not self._result:
            self.onResultChanged()
        self.observeSegmentations()
        if self.parameterNode.segmenter != self.segmentationPanel.method.name:
            self.segmentationPanel.method.show(self.parameterNode.segmenter)
        self.previewPanel.setSkinShift()
        self.updateGUI()
        self.updateSoon()

    def onInputChanged(self):
        """Go on with the mask and the result that the new input volume has, or with none."""
        parameters = self.parameterNode
        self._volume = parameters.inputVolume
        self.errors = {}
        self.giveWay()
        with slicer.util.NodeModify(parameters):
            parameters.faceMask = self.logic.maskOf(self._volume)
            parameters.defacedVolume = self.logic.resultOf(self._volume)
            parameters.showAfter = False
            parameters.keptSegmentation = None  # what was drawn on one patient is nothing of another one
            for name in ("keptSegmentIDs", "addedSeries", "leftOutSeries"):
                setattr(parameters, name, [])
        self._isInputNew = True
        if self._volume is not None:
            self.showInput()
        else:  # perhaps since it is on its way out of the scene, which must not be changed meanwhile
            qt.QTimer.singleShot(0, self.showInput)

    def showInput(self):
        """Show the input in the views once it is chosen, as soon as the module is open."""
        if self._isInputNew and self.parameterNode is not None and self.parent.isEntered:
            self._isInputNew = False
            self.previewPanel.showInput()

    def onResultChanged(self):
        """Make the export and the views ready for another result, or for none."""
        self._result = self.parameterNode.defacedVolume
        self.furtherPanel.forget()
        self.exportPanel.propose()
        qt.QTimer.singleShot(0, self.previewPanel.showResult)

    def observeSegmentations(self):
        """Follow what is done by hand to the chosen mask, and to what must stay."""
        parameters, kinds = self.parameterNode, slicer.vtkSegmentation
        chosen = [parameters.faceMask, parameters.keptSegmentation] if parameters is not None else []
        chosen = [node for node in dict.fromkeys(chosen) if node is not None]
        if chosen == self._observed:
            return
        for event in (
            kinds.SourceRepresentationModified,
            kinds.SegmentAdded,
            kinds.SegmentRemoved,
            kinds.SegmentModified,
        ):
            for node in self._observed:
                self.removeObserver(node, event, self.onSegmentationModified)
            for node in chosen:
                self.addObserver(node, event, self.onSegmentationModified)
        self._observed = chosen

    def onSegmentationModified(self, caller, event):
        self.updateSoon()

    def currentResult(self):
        """The preview, or the result, that was made from exactly the present choices; None if there is none."""
        parameters = self.parameterNode
        if parameters.inputVolume is None or parameters.faceMask is None:
            return None
        return self.logic.findResult(*parameters.madeFrom())

    @property
    def hasResult(self):
        """Whether the chosen result was made from the chosen input."""
        return not self.inputPanel.problem() and not self.resultProblem()

    @property
    def isResultPresent(self):
        """Whether the chosen result was made from exactly the chosen input, and the present mask and choices."""
        parameters = self.parameterNode
        return (
            self.hasResult
            and parameters.faceMask is not None
            and self.logic.isMadeWith(parameters.defacedVolume, *parameters.madeFrom())
        )

    def resultProblem(self):
        """Why the chosen result is none of the chosen input, in one sentence; an empty text when it is one."""
        result, volumeNode = self.parameterNode.defacedVolume, self.parameterNode.inputVolume
        if not self.logic.isResult(result):
            return _("Deface the volume first (step 5).")
        original = self.logic.originalOf(result)
        if original is None:
            return _("The volume that this result was made from is no longer in the scene.")
        if original is not volumeNode:
            return _("This result was made from “{name}”: choose that volume in step 1, or another result.").format(
                name=original.GetName()
            )
        return ""

    def batchParameters(self):
        """The choices for a batch: those of the removal, and the segmenter with its own."""
        method = self.segmentationPanel.method
        return {"segmenter": method.name, **method.choice(), **self.parameterNode.defaceParameters()}

    # What the panel shows

    def updateGUI(self):
        """Enable what can be done now, and show at each step what is missing."""
        if self.parameterNode is None:
            return
        problem = self.inputPanel.problem()
        noInput = _("Choose a CT volume first (step 1).") if problem else ""
        noMask = _("Segment the face first (step 2).") if self.parameterNode.faceMask is None else ""
        self.inputPanel.update(problem)
        self.segmentationPanel.update(noInput)
        self.previewPanel.update(noInput or noMask)
        self.keepPanel.update()
        self.furtherPanel.update()
        self.defacePanel.update(noInput)
        self.exportPanel.update()
        self._showSteps(not problem, not (noInput or noMask))

    def _showSteps(self, hasInput, hasMask):
        """Open the steps that can run, mark those that are done, and lead to the button that comes next."""
        show, isPresent = self.steps.show, self.isResultPresent and not self.furtherPanel.left()
        show("inputCollapsibleButton", True, hasInput)
        show("segmentCollapsibleButton", hasInput, hasMask)
        show("previewCollapsibleButton", hasMask)
        show("correctCollapsibleButton", hasMask)
        show("defaceCollapsibleButton", hasInput, isPresent)
        show("exportCollapsibleButton", self.logic.hasResults(), self.exportPanel.isDone)
        self.steps.lead(self._nextButton(hasInput, isPresent))

    def _nextButton(self, hasInput, isPresent):
        """Name of the button that the usual way leads to; None while the user has to wait, or is done."""
        if not (hasInput and self.isFree):
            return None
        if isPresent:
            return "exportButton" if self.ui.exportButton.enabled and not self.exportPanel.isDone else None
        if self.ui.defaceButton.enabled:
            return "defaceButton"
        return self.segmentationPanel.method.nextButton

    def updateSoon(self):
        """Bring the views and the expected time up to date once nothing has changed for a moment."""
        if self.parent.isEntered:
            self._updateTimer.start()

    def onIdle(self):
        """Do what makes the panel up to date, as far as nothing else runs."""
        self.updateGUI()
        self.previewPanel.refresh()
        if not self.busy:
            self.segmentationPanel.updateExpectation()

    def log(self, text):
        self.ui.logTextEdit.appendPlainText(text)

    def onTaskFailed(self, task):
        if task not in self.GIVE_WAY:
            self.updateSoon()


class CTDefaceTest(ScriptedLoadableModuleTest):
    """The work of the panel on the phantom, without a mouse; *Reload and Test* and ctest run it inside Slicer."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_phantom()

    def test_phantom(self):
        self.delayDisplay("Making the phantom")
        logic = CTDefaceLogic()
        try:
            volumeNode = logic.loadSample({"matrix": (128, 128), "spacing": (2.0, 2.0, 2.0)})
            self.delayDisplay("Segmenting the face")
            maskNode = logic.segmentFace(volumeNode)
            mask = nodes.faceMask(maskNode, volumeNode)
            self.assertEqual(maskNode.GetSegmentation().GetNumberOfSegments(), 1)
            self.assertGreater(mask.sum(), 0)
            self.delayDisplay("Defacing")
            before = slicer.util.arrayFromVolume(volumeNode).copy()
            result = logic.deface(volumeNode, maskNode)
            after = slicer.util.arrayFromVolume(result)
            report = logic.report(result)
            self.assertEqual(report["intracranial_voxels_touched"], 0)
            self.assertGreater(report["replaced_ml"], 100)
            self.assertTrue(np.array_equal(before, slicer.util.arrayFromVolume(volumeNode)))
            self.assertGreater((after != before)[(mask > 0) & (before > 0)].mean(), 0.9)
        finally:
            logic.process.stop()
        self.delayDisplay("Test passed")
