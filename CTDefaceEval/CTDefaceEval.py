import numpy as np
import qt
import SimpleITK as sitk
import slicer
import vtk
from CTDefaceEvalLib.face_models import DlibHog
from CTDefaceEvalSlicer import head_views, results
from CTDefaceEvalSlicer.cohort_panel import CohortPanel
from CTDefaceEvalSlicer.evaluation_panel import EvaluationPanel
from CTDefaceEvalSlicer.head_views import DEFACED, ORIGINAL, RECOVERED
from CTDefaceEvalSlicer.hints import say
from CTDefaceEvalSlicer.logic import CTDefaceEvalLogic
from CTDefaceEvalSlicer.meter import LiveMeter
from CTDefaceEvalSlicer.models_panel import ModelsPanel
from CTDefaceEvalSlicer.parameters import Picture, Rendering, modelFolder
from CTDefaceEvalSlicer.score_labels import ScoreLabels
from CTDefaceLib.errors import Cancelled, CTDefaceError, InputError, NotReadyError
from CTDefaceLib.phantom import PhantomParameters, make_phantom
from CTDefaceLib.pipeline import deface
from CTDefaceSlicer.shared import nodes
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

HOMEPAGE = "https://github.com/CTDeface/SlicerCTDeface"
SHOW_DELAY_MSEC = 200
SHOWN_KINDS = ("vtkMRMLScalarVolumeNode", "vtkMRMLTableNode", "vtkMRMLPlotChartNode")
"""Classes of the nodes that the panel shows something of."""


class CTDefaceEval(ScriptedLoadableModule):
    """Measures whether the face in a head CT can still be found, recognised or recovered."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("CTDeface Evaluation")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Utilities")]
        self.parent.dependencies = ["CTDeface"]  # CTDefaceEvalLib imports CTDefaceLib
        self.parent.contributors = ["CTDeface contributors"]
        self.parent.helpText = _(
            "<p>Shows a head CT before and after defacing side by side, scores how well a face is found and "
            "recognised while you turn the head, and tries to recover the face from the defaced volume.</p>"
            "<p>The first time, choose a face model in step 7 and press <i>Install</i>. Then work through the panel "
            "from top to bottom. Each step says what is missing before it can run, and everything explains itself "
            "when the mouse rests on it.</p>"
            "<p>That no face was found, recognised or recovered does not prove that nobody can.</p>"
            '<p><a href="{homepage}">Tutorial with pictures</a></p>'
        ).format(homepage=HOMEPAGE)
        self.parent.acknowledgementText = _(
            "CTDeface is free software under the Apache License 2.0. It is for research; it is no medical device. "
            "The face models that it can use are the work of others, under licences of their own."
        )
        slicer.app.connect("startupCompleted()", head_views.registerLayouts)


class CTDefaceEvalWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel. Each step says what is missing before it can run; all work is done by the logic."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._guiTag = None
        self._heads = None  # what the views show: key of the volumes, and where the head is
        self._showing = None  # key of the volumes whose skin is being made
        self._isShown = False  # whether their layout was brought up since the module was entered
        self._layoutBefore = None  # the layout to go back to
        self._meterKey = None  # what the running meter was started for
        self._task = ""  # what runs in the background: scale, sweep, attack or cohort
        self._bar = None  # where its progress is shown
        self._scales = {}  # of similarity, by volume and model; None where it could not be measured
        self._errors = {}  # of the last try: show, meter or a task

    # Life of the panel

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/CTDefaceEval.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = CTDefaceEvalLogic()
        self.meter = LiveMeter(self.logic.meterProcess, self.meterChoices, self.onScores, self.onMeterFailed)
        self.scores = ScoreLabels(self.ui, lambda: (self._scales.get(self.scaleKey()), self._task == "scale"))
        self.stopMeter()

        self._showTimer = qt.QTimer()
        self._showTimer.setSingleShot(True)
        self._showTimer.setInterval(SHOW_DELAY_MSEC)
        self._showTimer.connect("timeout()", self.showHeads)

        ui = self.ui
        ui.showButton.connect("clicked()", self.onShow)
        ui.frontButton.connect("clicked()", self.onFront)
        common = ui, self.logic, lambda: self._parameterNode, self.run, lambda: self._task
        self.evaluationPanel = EvaluationPanel(*common, self.onEvaluated, self.look, self.showResults)
        self.cohortPanel = CohortPanel(*common, self.showResults)
        self.modelsPanel = ModelsPanel(ui, self.onModelsChanged)
        slicer.app.connect("aboutToQuit()", self.stop)  # while the views are there still
        layoutManager = slicer.app.layoutManager()
        if layoutManager is not None:
            layoutManager.connect("layoutChanged(int)", self.onLayoutChanged)

        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodeAdded)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)
        self.setParameterNode(self.logic.getParameterNode())

    def cleanup(self):
        slicer.app.disconnect("aboutToQuit()", self.stop)
        layoutManager = slicer.app.layoutManager()
        if layoutManager is not None:
            layoutManager.disconnect("layoutChanged(int)", self.onLayoutChanged)
        self.stop()
        self.modelsPanel.stop()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        self.showScene()
        self._showTimer.start()

    def exit(self):
        self._showTimer.stop()
        self.stopMeter()
        self.logic.meterProcess.stop()  # no use for it now, and it holds the skins
        self._showing = None
        if self._task == "scale":
            self._task = ""
        self.leave()
        self._isShown = False
        if head_views.shownHeads() and self._layoutBefore is not None:
            slicer.app.layoutManager().setLayout(self._layoutBefore)

    def leave(self):
        """End the idle background process once the module is left: it holds the volumes."""
        if not self.parent.isEntered and not self._task:
            self.logic.process.stop()

    def onSceneStartClose(self, caller, event):
        self.stop()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.showScene()

    def onSceneStartImport(self, caller, event):
        self.stopMeter()
        self.setParameterNode(None)  # selectors whose node is not there yet must not tell so to the parameters

    def onSceneEndImport(self, caller, event):
        if self.parent.isEntered or self._task:
            self.showScene()

    def showScene(self):
        """Show the choices that the scene holds; choose volumes where none are chosen."""
        if self._parameterNode is None:
            self.setParameterNode(self.logic.getParameterNode())
        else:
            self.onParametersChanged()
        if self.parent.isEntered:
            self.preselectVolumes()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, caller, event, node):
        isVolume = node is not None and node.GetClassName() == "vtkMRMLScalarVolumeNode"
        if isVolume and self.parent.isEntered:
            qt.QTimer.singleShot(0, self.preselectVolumes)  # its voxels come after it

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller, event, node):
        if node is not None and node.GetClassName() in SHOWN_KINDS and not slicer.mrmlScene.IsClosing():
            qt.QTimer.singleShot(0, self.onNodesGone)

    def onNodesGone(self):
        """Leave nothing in the panel and the views that belonged to a node that was deleted."""
        head_views.removeOrphans()
        if self._parameterNode is not None:
            self.cohortPanel.setScene(True)
            self.updateGUI()

    def stop(self):
        """Drop what runs in the background, and what it was for."""
        self._showTimer.stop()
        self.stopMeter()
        self.logic.process.stop()
        self.logic.meterProcess.stop()
        self._task = ""
        self._heads = self._showing = None
        self._scales, self._errors = {}, {}
        self.evaluationPanel.forget()

    def setParameterNode(self, parameterNode):
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
        self._parameterNode = parameterNode
        self.cohortPanel.setScene(parameterNode is not None)
        if parameterNode is not None:
            # As connectGui(), which does not return the tag that disconnectGui() needs (Slicer up to 5.12)
            names = {widget.property("SlicerParameterName"): widget for widget in vars(self.ui).values()}
            self._guiTag = parameterNode.connectParametersToGui({name: names[name] for name in names if name})
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
            self.onParametersChanged()

    def preselectVolumes(self):
        """Choose the first pair of an original and what CTDeface made of it, else the first CT, when none is chosen."""
        parameters = self._parameterNode
        if parameters is None or parameters.originalVolume is not None:
            return
        found = [
            node
            for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            if node.GetClassName() == "vtkMRMLScalarVolumeNode"
            and not node.GetHideFromEditors()
            and not nodes.ctProblem(node)
        ]
        original = next((node for node in found if self.logic.defacedOf(node)), found[0] if found else None)
        if original is not None:
            with slicer.util.NodeModify(parameters):
                parameters.originalVolume = original
                parameters.defacedVolume = self.logic.defacedOf(original)

    # What the panel shows

    def onParametersChanged(self, caller=None, event=None):
        self._errors.pop("show", None)
        self.updateGUI()
        if self.parent.isEntered:
            self._showTimer.start()

    def inputProblem(self):
        """What is missing or wrong with the volumes, in one sentence."""
        parameters = self._parameterNode
        if parameters.originalVolume is None:
            return _("Load a head CT, and its defaced version if there is one, or make them with CTDeface.")
        if parameters.defacedVolume is parameters.originalVolume:
            return _("Choose two different volumes, or leave the defaced one empty.")
        for node in (parameters.originalVolume, parameters.defacedVolume):
            problem = nodes.ctProblem(node) if node is not None else ""
            if problem:
                return problem
        return ""

    def names(self):
        """The heads that the views show."""
        names = [ORIGINAL]
        if self._parameterNode.defacedVolume is not None:
            names.append(DEFACED)
            if head_views.surface(RECOVERED) is not None:
                names.append(RECOVERED)
        return names

    def updateGUI(self):
        """Enable what can be done now, and say at each step what is missing."""
        ui = self.ui
        if self._parameterNode is None:
            return
        problem = self.inputProblem()
        missing = _("Choose a CT volume first (step 1).") if problem else ""
        ui.showButton.enabled = ui.frontButton.enabled = not problem
        say(
            ui.inputHintLabel,
            problem or (_("Making the skin surface…") if self._showing else ""),
            self._errors.get("show", ""),
        )
        say(ui.meterHintLabel, missing, self._errors.get("meter", ""))
        self.evaluationPanel.update(missing, self._errors)
        self.cohortPanel.update(self._errors.get("cohort", ""))

    # The heads in the views

    def showHeads(self):
        """Bring the views up to date with the choices; the skins are made first where they are not there yet."""
        parameters = self._parameterNode
        if parameters is None or not self.parent.isEntered:
            return
        if self.inputProblem():
            self._showing = None
            self.logic.meterProcess.stop()
            self.dropHeads()
            self.updateGUI()
            return
        volumeNodes = parameters.originalVolume, parameters.defacedVolume
        key = self.logic.headsKey(*volumeNodes)
        if self._heads is not None and self._heads[0] == key and self.logic.meterProcess.running:
            self.drawHeads()
        elif self._showing != key:
            self.makeHeads(key, volumeNodes)

    def makeHeads(self, key, volumeNodes):
        """Have the skins made in the background and show them."""

        def onDone(head):
            if self._heads is None or self._heads[0] != key:
                self._isShown = False
            self._heads, self._showing = (key, head), None
            with slicer.util.tryWithErrorDisplay(_("The heads could not be shown.")):
                self.drawHeads()

        def onFailed(error):
            self._showing = None
            if not isinstance(error, Cancelled):
                self._errors["show"] = str(error)
            self.updateGUI()

        self.stopMeter()
        self.logic.meterProcess.stop()  # what it does is for other volumes
        if self._heads is not None and self._heads[0] != key:
            self.dropHeads()
        self._showing = key
        with slicer.util.tryWithErrorDisplay(_("The heads could not be shown.")):
            try:
                self.logic.findHeads(*volumeNodes, done=onDone, failed=onFailed)
            except CTDefaceError as error:
                onFailed(error)
        self.updateGUI()

    def dropHeads(self):
        """Show no heads, and forget what came out of their volumes."""
        self.stopMeter()
        self._heads = None
        self.evaluationPanel.forget()
        head_views.removeSurfaces()

    def drawHeads(self):
        """Show the heads by the rendering that is chosen, and watch them; at first, bring up their layout."""
        if not self._isShown:
            self.onShow()
            return
        parameters = self._parameterNode
        if parameters is None:  # while a scene is read
            return
        volumeNodes = {ORIGINAL: parameters.originalVolume, DEFACED: parameters.defacedVolume}
        with slicer.util.RenderBlocker():
            head_views.showHeads(self.names(), volumeNodes, parameters.rendering is Rendering.VOLUME)
        self.updateMeter()
        self.updateGUI()

    def onShow(self, yaw=0.0, pitch=0.0):
        """Show the heads side by side, whatever the layout was, from the front or another side."""
        if self._heads is None or self._parameterNode is None:
            self._showTimer.start()
            return
        with slicer.util.tryWithErrorDisplay(_("The heads could not be shown.")):
            self.stopMeter()
            self.keepLayout()
            self._isShown = True
            head_views.showLayout(len(self.names()))
            self.drawHeads()
            qt.QTimer.singleShot(0, lambda: self.look(yaw, pitch))  # once the new views have their size

    def keepLayout(self):
        """Remember the layout to go back to when the module is left."""
        layoutManager = slicer.app.layoutManager()
        if layoutManager is not None and not head_views.shownHeads():
            self._layoutBefore = layoutManager.layout

    def onLayoutChanged(self, layout):
        """Score nothing that nobody sees."""
        if self.meter.running and not head_views.shownHeads():
            qt.QTimer.singleShot(0, self.updateMeter)

    def onFront(self):
        self.look(0.0, 0.0)

    def look(self, yaw, pitch):
        if self._heads is not None:
            head_views.look(self._heads[1], yaw, pitch)

    @staticmethod
    def sentence(error):
        """What went wrong; and where in the panel a face model is to be had."""
        return f"{error} {_('See step 7.')}" if isinstance(error, NotReadyError) else str(error)

    # Tasks in the background

    def run(self, task, start, done, bar):
        """Start one of the logic's long methods; the panel shows that it runs and, when it ends, what came out."""

        def onProgress(fraction, text):
            self._bar.value = round(100 * fraction)
            self._bar.format = f"{text} … %p%"

        def onDone(result):
            self._task = ""
            with slicer.util.tryWithErrorDisplay(_("The result could not be shown.")):
                done(result)
                self.updateMeter()
            self.updateGUI()
            qt.QTimer.singleShot(0, self.leave)

        def onFailed(error):
            self._task = ""
            if not isinstance(error, Cancelled):
                self._errors[task] = self.sentence(error)
            self.updateGUI()
            qt.QTimer.singleShot(0, self.leave)

        if self._task == "scale":
            self.logic.process.stop()
        self._task, self._bar = task, bar
        self._errors.pop(task, None)
        bar.value = 0
        bar.format = "%p%"
        with slicer.util.tryWithErrorDisplay(_("The task could not be started.")):
            try:
                start(progress=onProgress, done=onDone, failed=onFailed)
            except CTDefaceError as error:
                onFailed(error)
            except Exception:
                self._task = ""
                raise
        self.updateGUI()

    # What came out

    def onEvaluated(self, outcome):
        """Show the face that an attack has won back, and keep the scale of similarity that was measured by the way."""
        parameters = self._parameterNode
        if parameters is None:
            return
        if outcome.evaluation.recogniser in parameters.faceModel.all:
            self._scales[self.scaleKey()] = outcome.evaluation.scale
        if outcome.surface is not None and self._heads is not None:
            head_views.showSurface(RECOVERED, outcome.surface, parameters.defacedVolume)
            if self.parent.isEntered:
                self.onShow(*head_views.sideSeen(self._heads[1]))

    def showResults(self, tableNode, chartNode):
        """Show a table and a chart below the heads."""
        with slicer.util.tryWithErrorDisplay(_("The numbers could not be shown.")):
            self.stopMeter()
            self.keepLayout()
            self._isShown = True
            results.show(tableNode, chartNode, len(self.names()))
            if self._heads is not None:
                side = head_views.sideSeen(self._heads[1])
                self.drawHeads()
                qt.QTimer.singleShot(0, lambda: self.look(*side))  # once the views have their new size

    # Live meter

    def updateMeter(self):
        """Start or stop the live meter as is chosen."""
        parameters = self._parameterNode
        isSeen = self.parent.isEntered and self._heads is not None and head_views.shownHeads() > 0
        if parameters is None or not (parameters.liveMeter and isSeen):
            self.stopMeter()
            return
        choices = parameters.picture, parameters.rendering, parameters.faceModel, modelFolder()
        key = self._heads[0], self.names(), choices
        if self._meterKey != key or not self.meter.running:
            self.stopMeter()
            self._meterKey = key
            self._errors.pop("meter", None)
            self.meter.start(self.names(), self._heads[1] if parameters.picture is Picture.STANDARD else None)
            self.ui.meterFrame.visible = True
        self.updateScale()

    def stopMeter(self):
        self.meter.stop()
        self._meterKey = None
        self.scores.show({})
        self.ui.meterFrame.visible = False

    def onModelsChanged(self):
        """Let the processes find what was installed; a sweep that runs is left alone."""
        self._scales = {key: scale for key, scale in self._scales.items() if scale is not None}
        self.stopMeter()
        self.logic.meterProcess.stop()
        self._showing = None
        if self._task in ("", "scale"):
            self.logic.process.stop()
            self._task = ""
        self._showTimer.start()

    def meterChoices(self):
        return {"model": self._parameterNode.faceModel.live, "folder": modelFolder()}

    def onScores(self, answer):
        self.scores.show(answer["faces"], answer.get("similarities"))

    def onMeterFailed(self, error):
        self.stopMeter()
        if isinstance(error, InputError):  # a new process, which has no skins yet
            self._heads = None
            self._showTimer.start()
        elif not isinstance(error, Cancelled):
            self._errors["meter"] = self.sentence(error)
        self.updateGUI()

    def scaleKey(self):
        parameters = self._parameterNode
        if parameters is None or parameters.originalVolume is None:
            return None
        return nodes.fingerprint(parameters.originalVolume), parameters.faceModel.live, modelFolder()

    def updateScale(self):
        """Measure in the background what similar means for this head, where that is not known and nothing else runs."""
        parameters, key = self._parameterNode, self.scaleKey()
        if key in self._scales or self.logic.process.busy or parameters.defacedVolume is None:
            return

        def onDone(scale):
            self._task = ""
            self._scales[key] = scale
            self.updateMeter()  # other volumes may have been chosen meanwhile
            self.meter.refresh()

        def onFailed(error):
            onDone(None)  # the meter says what is wrong with the model

        self._task = "scale"
        self.logic.measureScale(parameters.originalVolume, key[1], done=onDone, failed=onFailed)


class CTDefaceEvalTest(ScriptedLoadableModuleTest):
    """The heads of a phantom and, where a face model is there, their scores; *Reload and Test* and ctest run it."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_phantom()

    def test_phantom(self):
        self.delayDisplay("Making the phantom")
        coarse = PhantomParameters(matrix=(128, 128), spacing=(2.0, 2.0, 2.0), field_of_view="head")
        image = make_phantom(coarse).image
        geometry = image.GetSpacing(), image.GetOrigin(), image.GetDirection()
        original = nodes.addVolume(sitk.GetArrayViewFromImage(image), *geometry, name="Phantom")
        defaced = nodes.addVolumeLike(original, sitk.GetArrayViewFromImage(deface(image).image), "Phantom defaced")
        logic = CTDefaceEvalLogic()
        try:
            self.delayDisplay("Finding the head")
            head = logic.findHeads(original, defaced)
            self.assertLess(np.abs(head.axes - np.diag([-1.0, -1.0, 1.0])).max(), 0.2)
            for name in (ORIGINAL, DEFACED):
                self.assertGreater(head_views.surface(name).GetPolyData().GetNumberOfPoints(), 1000)
            self.delayDisplay("Looking for faces")
            try:
                evaluation = logic.detectability(original, (DlibHog.name,), "quick")
            except NotReadyError as error:
                self.delayDisplay(str(error))
            else:
                self.assertGreater(len(evaluation.defaced.scores(DlibHog.name)), 4)
                self.assertEqual(logic.makeResults(evaluation, original)[0].GetNumberOfRows(), 1)
        finally:
            logic.process.stop()
            logic.meterProcess.stop()
        self.delayDisplay("Test passed")
