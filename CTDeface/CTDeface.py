import importlib.util
import os

import numpy as np
import qt
import slicer
import vtk
from CTDefaceLib.errors import Cancelled, CTDefaceError
from CTDefaceSlicer import database
from CTDefaceSlicer.batch_panel import BatchPanel
from CTDefaceSlicer.logic import AS_SEGMENTED, CTDefaceLogic
from CTDefaceSlicer.parameters import ExportKind, Headers
from CTDefaceSlicer.segmenter_panel import SegmenterPanel
from CTDefaceSlicer.shared import hints, nodes, views
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

HOMEPAGE = "https://github.com/CTDeface/SlicerCTDeface"
PREVIEW_DELAY_MSEC = 400
GIVE_WAY = ("preview", "expect")
"""Tasks that give way to what the user starts."""
ASK_OVERLAP_ML = 0.1
"""From this much of a mask made by hand inside the skull on, the panel asks before it defaces."""


class CTDeface(ScriptedLoadableModule):
    """Removes the face from a head CT: segment, preview in 3D, correct, deface, export."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("CTDeface")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Utilities")]
        self.parent.dependencies = ["Cameras", "Segmentations", "SubjectHierarchy", "VolumeRendering"]
        self.parent.contributors = ["CTDeface contributors"]
        self.parent.helpText = _(
            "<p>Removes the face from head CTs, so that they can be shared for research.</p>"
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


class CTDefaceWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel. Each step says what is missing before it can run; all work is done by the logic."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._guiTag = None
        self._observedMask = None
        self._volume = None  # the input volume that mask and result belong to
        self._task = ""  # what runs in the background: sample, expect, download, segment, preview, deface or export
        self._whenDone = None  # what to do with its result
        self._bar = None  # where its progress is shown
        self._previewOf = None  # the volume, mask and choices that the running preview is made from
        self._errors = {}  # of the last try, by step

    # Life of the panel

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/CTDeface.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = CTDefaceLogic()

        self._previewTimer = qt.QTimer()
        self._previewTimer.setSingleShot(True)
        self._previewTimer.setInterval(PREVIEW_DELAY_MSEC)
        self._previewTimer.connect("timeout()", self.onIdle)

        ui = self.ui
        ui.loadSampleButton.connect("clicked()", self.onLoadSample)
        ui.segmentButton.connect("clicked()", self.onSegment)
        ui.beforeRadioButton.connect("clicked()", self.onBefore)
        ui.afterRadioButton.connect("clicked()", self.onAfter)
        ui.frontButton.connect("clicked()", self.onFront)
        ui.leftButton.connect("clicked()", self.onLeft)
        ui.rightButton.connect("clicked()", self.onRight)
        ui.editButton.connect("clicked()", self.onEdit)
        ui.defaceButton.connect("clicked()", self.onDeface)
        ui.compareButton.connect("clicked()", self.onCompare)
        ui.exportPathLineEdit.connect("currentPathChanged(QString)", self.onExportPathChanged)
        ui.exportFolderPathLineEdit.connect("currentPathChanged(QString)", self.onExportPathChanged)
        ui.exportButton.connect("clicked()", self.onExport)
        ui.evaluateButton.connect("clicked()", self.onEvaluate)
        self.segmenterPanel = SegmenterPanel(ui, self.logic, self.onSegmenterChanged, self.run)
        self.batchPanel = BatchPanel(ui, self.logic, self.batchParameters)

        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodeAdded)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)
        self.setParameterNode(self.logic.getParameterNode())

    def cleanup(self):
        self.stop()
        self.logic.batchProcess.stop()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        self.showScene()
        self.segmenterPanel.look()  # something may have been installed meanwhile
        self._previewTimer.start()

    def exit(self):
        self._previewTimer.stop()
        self.leave()

    def leave(self):
        """End the idle background process once the module is left: no use for it then, and it holds the volume."""
        if not self.parent.isEntered and not self._task:
            self.logic.process.stop()

    def onSceneStartClose(self, caller, event):
        self.stop()
        self.ui.exportPathLineEdit.currentPath = self.ui.exportFolderPathLineEdit.currentPath = ""
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.showScene()

    def onSceneStartImport(self, caller, event):
        self.setParameterNode(None)  # selectors whose node is not there yet must not tell so to the parameters

    def onSceneEndImport(self, caller, event):
        if self.parent.isEntered:
            self.showScene()

    def showScene(self):
        """Show the choices that the scene holds; choose the first CT where none is chosen."""
        if self._parameterNode is None:
            self.setParameterNode(self.logic.getParameterNode())
        else:
            self.onParametersChanged()
        self.preselectVolume()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, caller, event, node):
        if not self.parent.isEntered:
            return
        if node is not None and node.GetClassName() == "vtkMRMLScalarVolumeNode":
            qt.QTimer.singleShot(0, lambda: self.preselectVolume([node]))  # its voxels come after it

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller, event, node):
        isVolume = node is not None and node.GetClassName() == "vtkMRMLScalarVolumeNode"
        if isVolume and not slicer.mrmlScene.IsClosing():
            qt.QTimer.singleShot(0, self.logic.removeOrphans)

    def stop(self):
        """Drop what runs in the background."""
        self.logic.process.stop()
        self._previewTimer.stop()
        self._task = ""
        self._errors = {}

    def setParameterNode(self, parameterNode):
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
        self._parameterNode = parameterNode
        self._volume = parameterNode.inputVolume if parameterNode is not None else None
        self.observeMask()
        if parameterNode is not None:
            # As connectGui(), which does not return the tag that disconnectGui() needs (Slicer up to 5.12)
            names = {widget.property("SlicerParameterName"): widget for widget in vars(self.ui).values()}
            self._guiTag = parameterNode.connectParametersToGui({name: names[name] for name in names if name})
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
            self.onParametersChanged()

    def preselectVolume(self, volumeNodes=None):
        """Choose the first CT, of the scene or of those given, when none is chosen."""
        if self._parameterNode is None or self._parameterNode.inputVolume is not None:
            return
        for volumeNode in volumeNodes or slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
            isOffered = volumeNode.GetClassName() == "vtkMRMLScalarVolumeNode" and not volumeNode.GetHideFromEditors()
            if isOffered and volumeNode.GetScene() and not nodes.ctProblem(volumeNode):
                self._parameterNode.inputVolume = volumeNode
                views.showInSlices(volumeNode, fit=True)
                return

    def batchParameters(self):
        """The choices for a batch: those of the removal, and the segmenter with what it is told."""
        panel = self.segmenterPanel
        return {"segmenter": panel.name, **panel.choice(), **self._parameterNode.defaceParameters()}

    # What the panel shows

    def onParametersChanged(self, caller=None, event=None):
        parameters = self._parameterNode
        if parameters.inputVolume is not self._volume:
            self.onInputChanged()
        self.observeMask()
        if parameters.segmenter != self.segmenterPanel.name:
            self.segmenterPanel.show(parameters.segmenter)
        for volumeNode in (parameters.inputVolume, self.afterVolume()):
            views.setSkinShift(volumeNode, parameters.skinShift)
        self.updateGUI()
        if self.parent.isEntered:
            self._previewTimer.start()

    def onInputChanged(self):
        """Go on with the mask and the result that the new input volume has, or with none."""
        parameters = self._parameterNode
        self._volume = parameters.inputVolume
        self._errors = {}
        if self._task in GIVE_WAY:
            self.logic.process.stop()
            self._task = ""
        with slicer.util.NodeModify(parameters):
            parameters.faceMask = self.logic.maskOf(self._volume)
            parameters.defacedVolume = self.logic.resultOf(self._volume)

    def observeMask(self):
        maskNode = self._parameterNode.faceMask if self._parameterNode is not None else None
        if maskNode is self._observedMask:
            return
        event = slicer.vtkSegmentation.SourceRepresentationModified
        if self._observedMask is not None:
            self.removeObserver(self._observedMask, event, self.onMaskModified)
        self._observedMask = maskNode
        if maskNode is not None:
            self.addObserver(maskNode, event, self.onMaskModified)

    def onMaskModified(self, caller, event):
        if self.parent.isEntered:
            self._previewTimer.start()

    def inputProblem(self):
        """What is missing or wrong with the input volume, in one sentence."""
        volumeNode = self._parameterNode.inputVolume
        return _("Load a head CT, or press Load sample.") if volumeNode is None else nodes.ctProblem(volumeNode)

    def afterVolume(self):
        """The volume that shows what will remain, or None; it may be out of date while the preview is made."""
        parameters = self._parameterNode
        if parameters is None or parameters.inputVolume is None:
            return None
        return self.currentResult() or self.logic.previewVolume(parameters.inputVolume)

    def currentResult(self):
        """The preview, or the result, that was made from exactly the present choices; None if there is none."""
        parameters = self._parameterNode
        if parameters.inputVolume is None or parameters.faceMask is None:
            return None
        return self.logic.findResult(parameters.inputVolume, parameters.faceMask, parameters.defaceParameters())

    def updateGUI(self):
        """Enable what can be done now, and say at each step what is missing."""
        parameters, ui, task = self._parameterNode, self.ui, self._task
        if parameters is None:
            return
        problem = self.inputProblem()
        missing = _("Choose a CT volume first (step 1).") if problem else ""
        if not missing and parameters.faceMask is None:
            missing = _("Segment the face first (step 2).")
        isFree = task in ("", *GIVE_WAY)

        ui.loadSampleButton.enabled = isFree
        ui.loadSampleButton.text = _("Making a phantom head…") if task == "sample" else _("Load sample")
        self.say(ui.inputHintLabel, problem if task != "sample" else "", parameters.inputVolume is not None)

        isBusy = task in ("segment", "download")
        ui.segmentButton.text = _("Cancel") if isBusy else _("Segment face")
        ui.segmentButton.enabled = isBusy or (isFree and not problem and self.segmenterPanel.isReady)
        ui.segmentProgressBar.visible = isBusy
        self.segmenterPanel.update(isFree)
        self.say(ui.expectedTimeLabel, "" if problem else self.expectedTime(), error="expect")
        failed = "download" if "download" in self._errors else "segment"
        self.say(ui.segmentHintLabel, _("Choose a CT volume first (step 1).") if problem else "", error=failed)

        ui.previewFrame.enabled = not missing
        for widget in (ui.marginSlider, ui.sealedCheckBox, ui.keepBoneCheckBox):
            widget.enabled = not parameters.asIs
        ui.beforeRadioButton.checked = not parameters.showAfter
        ui.afterRadioButton.checked = parameters.showAfter
        ui.previewProgressBar.visible = task == "preview"
        self.say(ui.previewHintLabel, missing, error="preview")
        self.showReport({} if missing else self.logic.report(self.currentResult()))

        ui.editButton.enabled = not missing and isFree
        self.say(ui.correctHintLabel, missing)

        ui.defaceButton.text = _("Cancel") if task == "deface" else _("Deface")
        ui.defaceButton.enabled = task == "deface" or (isFree and not missing)
        ui.defaceProgressBar.visible = task == "deface"
        ui.compareButton.enabled = parameters.defacedVolume is not None and not problem
        self.say(ui.defaceHintLabel, missing, error="deface")

        missing = _("Deface the volume first (step 5).") if parameters.defacedVolume is None else ""
        ui.evaluateButton.enabled = not missing and not problem
        missing = missing or self.exportProblem()
        ui.exportButton.text = _("Exporting…") if task == "export" else _("Export")
        ui.exportButton.enabled = not missing and isFree
        isFile = parameters.exportKind is ExportKind.FILE
        isFolder = parameters.exportKind is ExportKind.FOLDER
        for widget, isShown in (
            (ui.exportPathLabel, isFile),
            (ui.exportPathLineEdit, isFile),
            (ui.exportFolderLabel, isFolder),
            (ui.exportFolderPathLineEdit, isFolder),
            (ui.headersLabel, not isFile),
            (ui.headersComboBox, not isFile),
            (ui.retainLabel, not isFile and parameters.headers is Headers.PS315),
            (ui.retainFrame, not isFile and parameters.headers is Headers.PS315),
        ):
            widget.visible = isShown
        self.say(ui.exportHintLabel, missing, error="export")

    def exportProblem(self):
        """What is missing before the result can be exported, in one sentence."""
        kind = self._parameterNode.exportKind
        if kind is ExportKind.FILE:
            return "" if self.ui.exportPathLineEdit.currentPath else _("Choose a file name.")
        if not database.isFromDatabase(self._parameterNode.inputVolume):
            return _("Only a volume that was loaded from Slicer's DICOM database can be exported as DICOM.")
        if kind is ExportKind.FOLDER and not self.ui.exportFolderPathLineEdit.currentPath:
            return _("Choose an empty folder, or the name of a new one.")
        return ""

    def say(self, label, text, isError=False, error=None):
        """Show a hint, or in its place the error of the last try of that step."""
        hints.show(label, self._errors.get(error, text), isError or error in self._errors)

    def showReport(self, report):
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
        self.ui.reportLabel.text = "\n".join(lines)
        self.ui.reportLabel.visible = bool(lines)
        self.say(self.ui.warningLabel, "\n".join(report.get("warnings", [])), isError=True)

    # Tasks in the background

    def run(self, task, start, done, bar=None):
        """Start one of the logic's long methods; the panel shows that it runs and, when it ends, what came out."""

        def onProgress(fraction, text):
            if self._bar is not None:
                self._bar.value = round(100 * fraction)
                self._bar.format = f"{text} … %p%"
            self.ui.logTextEdit.appendPlainText(text)

        def onDone(result):
            self._task = ""
            with slicer.util.tryWithErrorDisplay(_("The result could not be shown.")):
                self._whenDone(result)
            self.updateGUI()
            qt.QTimer.singleShot(0, self.leave)

        def onFailed(error):
            failed, self._task = self._task, ""
            self.ui.logTextEdit.appendPlainText(str(error))
            if not isinstance(error, Cancelled):
                self._errors[failed] = str(error)
            self.updateGUI()
            if self.parent.isEntered and failed not in GIVE_WAY:
                self._previewTimer.start()
            qt.QTimer.singleShot(0, self.leave)

        if self._task in GIVE_WAY:
            self.logic.process.stop()
        self.takeOver(task, done, bar)
        with slicer.util.tryWithErrorDisplay(_("The task could not be started.")):
            try:
                start(progress=onProgress, done=onDone, failed=onFailed)
            except CTDefaceError as error:
                onFailed(error)
            except Exception:
                self._task = ""
                raise
            finally:
                self.updateGUI()

    def takeOver(self, task, done, bar=None):
        """Make what runs, or is about to, the given task."""
        self._task, self._whenDone, self._bar = task, done, bar
        self._errors.pop(task, None)
        if bar is not None:
            bar.value = 0
            bar.format = "%p%"

    def onIdle(self):
        """Do what makes the panel up to date, as far as nothing else runs."""
        self.updatePreview()
        if not self._task:
            self.updateExpectation()

    def updateExpectation(self):
        """Find out how long the chosen model will take on the volume, which loads it as well."""
        parameters, panel = self._parameterNode, self.segmenterPanel
        if parameters is None or self.inputProblem() or not panel.isReady:
            return
        volumeNode = parameters.inputVolume
        key = nodes.fingerprint(volumeNode)
        if not panel.startExpecting(key):
            return

        def start(**callbacks):
            self.logic.expect(volumeNode, panel.name, panel.choice(), **callbacks)

        def done(report):
            panel.onExpected(key, report)
            self._previewTimer.start()

        self.run("expect", start, done)

    def expectedTime(self):
        """How long the segmentation will take, about, in one sentence; an empty text when nobody knows."""
        seconds = self.segmenterPanel.expectation(nodes.fingerprint(self._parameterNode.inputVolume))
        if self._task == "expect":
            return _("Finding out how long it will take…")
        if seconds is None:
            return ""
        if seconds < 100:
            return _("It will take about {seconds:.0f} s.").format(seconds=max(1, seconds))
        return _("It will take about {minutes:.0f} min.").format(minutes=seconds / 60)

    def updatePreview(self):
        """Bring what the views show up to date with mask and choices; compute it first where it is not there yet."""
        parameters = self._parameterNode
        if parameters is None or self._task or parameters.faceMask is None or self.inputProblem():
            return
        volumeNode, maskNode = parameters.inputVolume, parameters.faceMask
        if self.currentResult() is not None:
            self.showPreview()
            return
        choices = parameters.defaceParameters()
        self._previewOf = volumeNode, maskNode, choices
        self.run(
            "preview",
            lambda **callbacks: self.logic.preview(volumeNode, maskNode, choices, **callbacks),
            lambda result: self.onPreviewDone(),
            self.ui.previewProgressBar,
        )

    def onPreviewDone(self):
        if self.parent.isEntered:  # else the views belong to another module now
            self.showPreview()
            self._previewTimer.start()  # the choices may have changed meanwhile

    def showPreview(self):
        """Show before or after in 3D and in the slices, unless original and result are shown side by side."""
        parameters = self._parameterNode
        before, after = parameters.inputVolume, self.afterVolume()
        if before is None or parameters.faceMask is None:
            return
        if views.isSideBySide():
            if parameters.defacedVolume is not None and views.rendering(parameters.defacedVolume) is None:
                self.onCompare()  # the scene was saved like this, without the renderings
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

    # What the user presses

    def onLoadSample(self):
        def done(volumeNode):
            self._parameterNode.inputVolume = volumeNode
            views.showInSlices(volumeNode, fit=True)

        self.run("sample", self.logic.loadSample, done)

    def onSegment(self):
        if self._task in ("segment", "download"):
            self.logic.process.cancel()
            return
        parameters = self._parameterNode
        volumeNode, segmenter, choice = parameters.inputVolume, parameters.segmenter, self.segmenterPanel.choice()
        # An untouched mask is replaced; one that was worked on by hand stays beside the new one.
        maskNode = parameters.faceMask if self.logic.maskMethod(parameters.faceMask) == AS_SEGMENTED else None

        def start(**callbacks):
            self.logic.segmentFace(volumeNode, segmenter, maskNode, choice, **callbacks)

        def done(maskNode):
            if parameters.inputVolume is not volumeNode:
                return
            parameters.faceMask = maskNode  # which starts the preview as well
            parameters.showAfter = False
            qt.QTimer.singleShot(0, lambda: self.showFace(maskNode))  # one by one, so that the window does not freeze

        self.run("segment", start, done, self.ui.segmentProgressBar)

    def showFace(self, maskNode):
        parameters = self._parameterNode
        if self.parent.isEntered and parameters is not None and maskNode is parameters.faceMask:
            self.look("front")
            views.jumpTo(maskNode)

    def onSegmenterChanged(self):
        for task in ("segment", "expect", "download"):
            self._errors.pop(task, None)
        self._parameterNode.segmenter = self.segmenterPanel.name
        self.updateGUI()
        self._previewTimer.start()

    def onBefore(self):
        self._parameterNode.showAfter = False
        views.showThreeDLayout()
        self.showPreview()

    def onAfter(self):
        self._parameterNode.showAfter = True
        views.showThreeDLayout()
        self.showPreview()

    def onFront(self):
        self.look("front")

    def onLeft(self):
        self.look("left")

    def onRight(self):
        self.look("right")

    def look(self, side):
        if not views.isSideBySide():
            views.showThreeDLayout()
            self.showPreview()
        views.lookAt(self._parameterNode.faceMask, side)

    def onEdit(self):
        with slicer.util.tryWithErrorDisplay(_("The Segment Editor could not be opened.")):
            views.showThreeDLayout()
            self._parameterNode.showAfter = False
            self.showPreview()
            self.logic.editMask(self._parameterNode.inputVolume, self._parameterNode.faceMask)

    def onDeface(self):
        if self._task == "deface":
            self.logic.process.cancel()
            return
        parameters = self._parameterNode
        volumeNode, maskNode, choices = parameters.inputVolume, parameters.faceMask, parameters.defaceParameters()

        def done(result):
            if not self.confirmGuard(self.logic.report(result)):
                self._errors["deface"] = _("Not defaced. Correct the mask in step 4.")
                return
            result = self.logic.publish(result)
            if parameters.inputVolume is volumeNode:
                parameters.defacedVolume = result
                if self.parent.isEntered:
                    self.onCompare()

        result = self.currentResult()
        if result is not None:
            self._errors.pop("deface", None)
            with slicer.util.tryWithErrorDisplay(_("The volume could not be defaced.")):
                done(result)
            self.updateGUI()
            return
        if self._task == "preview" and self._previewOf == (volumeNode, maskNode, choices):
            self.takeOver("deface", done, self.ui.defaceProgressBar)
            self.updateGUI()
            return
        self.run(
            "deface",
            lambda **callbacks: self.logic.preview(volumeNode, maskNode, choices, **callbacks),
            done,
            self.ui.defaceProgressBar,
        )

    def confirmGuard(self, report):
        """Ask when a mask made by hand reaches into the skull: nothing in there is removed, whatever was painted."""
        overlap = report["mask_intracranial_ml"]
        if overlap < ASK_OVERLAP_ML or report["mask"] == AS_SEGMENTED:
            return True
        return slicer.util.confirmYesNoDisplay(
            _(
                "The face mask covers {ml:.1f} mL of the space inside the skull. That part stays as it is: "
                "nothing inside the skull is ever removed.\n\nDeface with the rest of the mask?"
            ).format(ml=overlap)
        )

    def onCompare(self):
        parameters = self._parameterNode
        with slicer.util.tryWithErrorDisplay(_("The volumes could not be shown side by side."), waitCursor=True):
            views.showMask(parameters.faceMask, visible=False) if parameters.faceMask is not None else None
            views.showSideBySide(parameters.inputVolume, parameters.defacedVolume, parameters.skinShift)
            face = parameters.faceMask or parameters.inputVolume
            views.lookAt(face, "front")
            qt.QTimer.singleShot(0, lambda: views.jumpTo(face))  # after the slices were fitted to their views

    def onExportPathChanged(self, path):
        self._errors.pop("export", None)
        self.updateGUI()

    def onExport(self):
        if self._parameterNode.exportKind is not ExportKind.FILE:
            self.exportSeries()
            return
        volumeNode, path = self._parameterNode.defacedVolume, self.ui.exportPathLineEdit.currentPath
        overwrite = False
        if os.path.isfile(path):
            question = _("{name} exists already. Replace it?").format(name=os.path.basename(path))
            if not slicer.util.confirmYesNoDisplay(question):
                return
            overwrite = True
        self.run(
            "export",
            lambda **callbacks: self.logic.exportVolume(volumeNode, path, overwrite, **callbacks),
            lambda result: self.ui.logTextEdit.appendPlainText(_("Exported.")),
        )

    def exportSeries(self):
        parameters = self._parameterNode
        volumeNode, retain = parameters.defacedVolume, parameters.retained()
        isFolder = parameters.exportKind is ExportKind.FOLDER
        folder = self.ui.exportFolderPathLineEdit.currentPath if isFolder else None
        if retain is not None and not self.confirmPackage():
            return
        self.run(
            "export",
            lambda **callbacks: self.logic.exportSeries(volumeNode, folder, retain, **callbacks),
            lambda result: self.ui.logTextEdit.appendPlainText(_("Exported.")),
        )

    def confirmPackage(self):
        """Install what cleaning headers needs, if the user agrees; whether it is there now."""
        if importlib.util.find_spec("dicomanonymizer") is not None:
            return True
        question = _("Cleaning headers needs the Python package dicom-anonymizer. Download and install it now?")
        if not slicer.util.confirmOkCancelDisplay(question):
            return False
        with slicer.util.tryWithErrorDisplay(_("The package could not be installed."), waitCursor=True):
            slicer.util.pip_install("dicom-anonymizer>=2.1,<3")
            return True
        return False

    def onEvaluate(self):
        with slicer.util.tryWithErrorDisplay(_("CTDefaceEval could not be opened.")):
            self.logic.evaluate(self._parameterNode.inputVolume, self._parameterNode.defacedVolume)


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
            self.assertGreater(report["removed_ml"], 100)
            self.assertTrue(np.array_equal(before, slicer.util.arrayFromVolume(volumeNode)))
            self.assertFalse(np.array_equal(before, after))
            self.assertLess(after[(mask > 0) & (before > 0)].mean(), -500)
        finally:
            logic.process.stop()
        self.delayDisplay("Test passed")
