import numpy as np
import qt
import SimpleITK as sitk
import slicer
from CTDefaceEvalLib.face_models import DlibHog
from CTDefaceEvalSlicer import head_views
from CTDefaceEvalSlicer.cohort_panel import CohortPanel
from CTDefaceEvalSlicer.evaluation_panel import EvaluationPanel
from CTDefaceEvalSlicer.head_views import DEFACED, ORIGINAL
from CTDefaceEvalSlicer.heads_panel import HeadsPanel
from CTDefaceEvalSlicer.logic import CTDefaceEvalLogic
from CTDefaceEvalSlicer.meter_panel import MeterPanel
from CTDefaceEvalSlicer.models_panel import ModelsPanel
from CTDefaceEvalSlicer.tasks import Task
from CTDefaceLib.errors import NotReadyError
from CTDefaceLib.phantom import PhantomParameters, make_phantom
from CTDefaceLib.pipeline import deface
from CTDefaceSlicer.shared import nodes
from CTDefaceSlicer.shared.task_panel import TaskPanel
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest

HOMEPAGE = "https://github.com/CTDeface/SlicerCTDeface"


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
            "<p>The first time, step 2 offers to install a face model. Then work through the panel "
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


class CTDefaceEvalWidget(TaskPanel):
    """The panel. Each step shows what is missing before it can run; all work is done by the logic."""

    GIVE_WAY = (Task.SCALE,)
    SHOWN_CLASSES = ("vtkMRMLScalarVolumeNode", "vtkMRMLTableNode", "vtkMRMLPlotChartNode")
    CHOICES = ("originalVolume", "defacedVolume")
    LIBRARIES = ("CTDefaceEvalLib", "CTDefaceEvalSlicer", "CTDefaceLib", "CTDefaceSlicer")

    # Life of the panel

    def setup(self):
        TaskPanel.setup(self)
        self.logic = CTDefaceEvalLogic()
        self.headsPanel = HeadsPanel(self)
        self.meterPanel = MeterPanel(self)
        self.evaluationPanel = EvaluationPanel(self)
        self.cohortPanel = CohortPanel(self)
        self.modelsPanel = ModelsPanel(self.ui, self.onModelsChanged, lambda: self.steps.reveal("modelsHintLabel"))
        slicer.app.connect("aboutToQuit()", self.stop)  # while the views are there still
        layoutManager = slicer.app.layoutManager()
        if layoutManager is not None:
            layoutManager.connect("layoutChanged(int)", self.onLayoutChanged)
        self.observeScene()

    def cleanup(self):
        slicer.app.disconnect("aboutToQuit()", self.stop)
        layoutManager = slicer.app.layoutManager()
        if layoutManager is not None:
            layoutManager.disconnect("layoutChanged(int)", self.onLayoutChanged)
        self.modelsPanel.stop()
        TaskPanel.cleanup(self)

    def enter(self):
        self.showScene()
        self.headsPanel.showSoon()

    def exit(self):
        self.meterPanel.stop()
        self.headsPanel.leave()
        self.giveWay()
        self.leave()

    def stop(self):
        self.meterPanel.stop()
        self.headsPanel.stop()
        TaskPanel.stop(self)
        self.meterPanel.forget()
        self.evaluationPanel.forget()

    def onSceneStartImport(self, caller, event):
        self.meterPanel.stop()
        TaskPanel.onSceneStartImport(self, caller, event)

    def onNodesGone(self):
        """Leave nothing in the panel and the views that belonged to a node that was deleted."""
        head_views.removeOrphans()
        if self.parameterNode is not None:
            self.cohortPanel.setScene(True)
            self.updateGUI()

    def onLayoutChanged(self, layout):
        """Score nothing that nobody sees."""
        if self.meterPanel.meter.running and not head_views.shownHeads():
            qt.QTimer.singleShot(0, self.meterPanel.startOrStop)

    def onModelsChanged(self):
        """Let the processes find what was installed; a sweep that runs is left alone."""
        self.meterPanel.onModelsChanged()
        self.headsPanel.stopMaking()
        if self.isFree:
            self.logic.process.stop()
            self.task = None
        self.headsPanel.showSoon()

    # The choices

    def onParameterNodeSet(self):
        self.cohortPanel.setScene(self.parameterNode is not None)

    def onParametersChanged(self, caller=None, event=None):
        self.headsPanel.error = ""
        self.evaluationPanel.forgetOthers()
        self.updateGUI()
        if self.parent.isEntered:
            self.headsPanel.showSoon()

    def preselect(self, volumeNodes=None):
        self.headsPanel.preselect()

    # What the panel shows

    def updateGUI(self):
        """Enable what can be done now, and show at each step what is missing."""
        if self.parameterNode is None:
            return
        problem = self.headsPanel.problem()
        missing = _("Choose a CT volume first (step 1).") if problem else ""
        self.headsPanel.update(problem)
        self.meterPanel.update(missing)
        self.evaluationPanel.update(missing)
        self.cohortPanel.update()
        self._showSteps(not missing)

    def _showSteps(self, hasVolumes):
        """Open the steps that can run, mark those that are done, and lead to the button that comes next."""
        show, evaluated = self.steps.show, self.evaluationPanel
        show("inputCollapsibleButton", True, hasVolumes)
        show("meterCollapsibleButton", hasVolumes)
        show("sweepCollapsibleButton", hasVolumes, evaluated.outcome is not None)
        hasPair = hasVolumes and self.parameterNode.defacedVolume is not None
        show("attackCollapsibleButton", hasPair, evaluated.wasAttacked)
        show("verdictCollapsibleButton", hasVolumes and evaluated.canReport)
        self.steps.lead(self._nextButton(hasVolumes))

    def _nextButton(self, hasVolumes):
        """Name of the button that the usual way leads to; None while the user has to wait."""
        if not (hasVolumes and self.isFree):
            return None
        if self.meterPanel.isModelMissing:
            return "liveModelButton"
        if self.evaluationPanel.outcome is None:
            return "sweepButton"
        isAlone = self.parameterNode.defacedVolume is None
        return "reportButton" if isAlone or self.evaluationPanel.wasAttacked else "attackButton"

    def sentence(self, error):
        """What went wrong; and where in the panel a face model is to be had."""
        text = TaskPanel.sentence(self, error)
        return f"{text} {_('See step 2.')}" if isinstance(error, NotReadyError) else text

    def onTaskDone(self):
        self.meterPanel.startOrStop()


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
