import enum
import os
import pickle
from dataclasses import dataclass

import numpy as np
import qt
import SimpleITK as sitk
import slicer
import vtk
from CTDefaceEvalLib import worker
from CTDefaceEvalLib.attacks import ATTACKS
from CTDefaceEvalLib.cohort import Cohort
from CTDefaceEvalLib.cohort_table import check_table, read_table
from CTDefaceEvalLib.evaluation import Evaluation, Scale
from CTDefaceEvalLib.face_models import (
    DEFAULT_MODELS,
    DlibHog,
    FaceNet,
    InsightFace,
    OpenCvHaar,
)
from CTDefaceEvalLib.report import COLOUR_OF_LEVEL, check_report, write_cohort, write_evaluation
from CTDefaceEvalLib.views import PRESETS
from CTDefaceEvalSlicer import head_views, results
from CTDefaceEvalSlicer.cohort_panel import CohortPanel, pairsIn
from CTDefaceEvalSlicer.head_views import DEFACED, ORIGINAL, RECOVERED
from CTDefaceEvalSlicer.heat_map import HeatMap
from CTDefaceEvalSlicer.meter import LiveMeter
from CTDefaceEvalSlicer.models_panel import ModelsPanel, modelFolder
from CTDefaceEvalSlicer.reports import saveReport
from CTDefaceLib.errors import Cancelled, CTDefaceError, InputError, NotReadyError
from CTDefaceLib.phantom import PhantomParameters, make_phantom
from CTDefaceLib.pipeline import deface
from CTDefaceSlicer import nodes
from CTDefaceSlicer.process import BackgroundProcess
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

SHOW_DELAY_MSEC = 200


class CTDefaceEval(ScriptedLoadableModule):
    """Measures whether the face in a head CT can still be found, recognised or recovered."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("CTDeface Evaluation")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Utilities")]
        self.parent.dependencies = ["CTDeface"]  # CTDefaceEvalLib imports CTDefaceLib
        self.parent.contributors = ["CTDeface contributors"]
        self.parent.helpText = _(
            "Shows a head CT before and after defacing side by side, scores how well a face is found and recognised "
            "while you turn the head, and tries to recover the face from the defaced volume."
        )


class Rendering(enum.Enum):
    """How a head is drawn."""

    SURFACE = "surface"
    VOLUME = "volume"

    def label(self):
        return {Rendering.SURFACE: _("Skin surface (fast)"), Rendering.VOLUME: _("Volume rendering")}[self]


class Picture(enum.Enum):
    """Which pictures the live meter scores."""

    SEEN = "seen"
    STANDARD = "standard"

    def label(self):
        return {Picture.SEEN: _("What the views show"), Picture.STANDARD: _("Standard rendering")}[self]


class FaceModel(enum.Enum):
    """Which face models look at the pictures."""

    DLIB = "dlib"
    INSIGHTFACE = "insightface"
    FACENET = "facenet"
    HAAR = "haar"

    def label(self):
        return {
            FaceModel.DLIB: _("dlib"),
            FaceModel.INSIGHTFACE: _("insightface"),
            FaceModel.FACENET: _("MTCNN and FaceNet"),
            FaceModel.HAAR: _("OpenCV Haar (advice only)"),
        }[self]

    @property
    def live(self):
        """The model of the live meter."""
        return self.all[0]

    @property
    def all(self):
        """The models of sweeps and attacks."""
        return {
            FaceModel.DLIB: DEFAULT_MODELS,
            FaceModel.INSIGHTFACE: (InsightFace.name,),
            FaceModel.FACENET: (FaceNet.name,),
            FaceModel.HAAR: (OpenCvHaar.name,),
        }[self]


class Views(enum.Enum):
    """From how many sides a sweep looks at the heads."""

    DEFAULT = "default"
    QUICK = "quick"
    STUDY = "study"

    def label(self):
        text = {Views.DEFAULT: _("Default"), Views.QUICK: _("Quick"), Views.STUDY: _("As in the study")}[self]
        return _("{name} ({number} pictures)").format(name=text, number=len(PRESETS[self.value]))


@parameterNodeWrapper
class CTDefaceEvalParameterNode:
    """Every choice of the panel. It is saved with the scene; file names are not, since they may name a patient."""

    originalVolume: vtkMRMLScalarVolumeNode
    defacedVolume: vtkMRMLScalarVolumeNode
    rendering: Rendering = Rendering.SURFACE
    liveMeter: bool = True
    picture: Picture = Picture.SEEN
    faceModel: FaceModel = FaceModel.DLIB
    views: Views = Views.DEFAULT
    reportPictures: bool = True
    cohortViews: Views = Views.STUDY


@dataclass
class Outcome:
    """Attributes
    ----------
    evaluation: a ``CTDefaceEvalLib.evaluation.Evaluation``
    recovery: name of the attack that gives most of the face back; empty when none was tried or none gave anything
    surface: the skin that it gives, as ``head_views.showSurface`` takes it, or None
    """

    evaluation: Evaluation
    recovery: str
    surface: dict | None


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
        self._outcome = None  # of the last sweep or attack on these volumes
        self._mapped = None  # what the heat maps show
        self._scales = {}  # of similarity, by volume and model
        self._errors = {}  # of the last try, by step

    # Life of the panel

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/CTDefaceEval.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = CTDefaceEvalLogic()
        self.meter = LiveMeter(self.logic.meterProcess, self.meterChoices, self.onScores, self.onMeterFailed)

        self._showTimer = qt.QTimer()
        self._showTimer.setSingleShot(True)
        self._showTimer.setInterval(SHOW_DELAY_MSEC)
        self._showTimer.connect("timeout()", self.showHeads)

        ui = self.ui
        ui.showButton.connect("clicked()", self.onShow)
        ui.frontButton.connect("clicked()", self.onFront)
        ui.sweepButton.connect("clicked()", self.onSweep)
        ui.mapModelComboBox.connect("currentIndexChanged(int)", self.onMapModelChanged)
        ui.attackButton.connect("clicked()", self.onAttack)
        ui.reportButton.connect("clicked()", self.onReport)
        ui.resultsButton.connect("clicked()", self.onResults)
        self.maps = {
            "original": HeatMap(ui.originalMapTable, self.look),
            "defaced": HeatMap(ui.defacedMapTable, self.look),
        }

        self.cohortPanel = CohortPanel(
            ui, self.logic, lambda: self._parameterNode, self.run, lambda: self._task, self.showResults
        )
        self.modelsPanel = ModelsPanel(ui, self.onModelsChanged)

        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodeAdded)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)
        self.setParameterNode(self.logic.getParameterNode())

    def cleanup(self):
        self.stop()
        self.modelsPanel.stop()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        self.setParameterNode(self.logic.getParameterNode())
        self.preselectVolumes()
        self._showTimer.start()

    def exit(self):
        self._showTimer.stop()
        self.stopMeter()
        self.logic.meterProcess.stop()  # no use for it now, and it holds the skins
        self._showing = None
        if self._task in ("", "scale"):
            self.logic.process.stop()
            self._task = ""
        self._isShown = False
        if head_views.shownHeads() and self._layoutBefore is not None:
            slicer.app.layoutManager().setLayout(self._layoutBefore)

    def onSceneStartClose(self, caller, event):
        self.stop()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        self.setParameterNode(self.logic.getParameterNode())

    def onSceneEndImport(self, caller, event):
        self.setParameterNode(self.logic.getParameterNode())
        self.preselectVolumes()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, caller, event, node):
        isVolume = node is not None and node.GetClassName() == "vtkMRMLScalarVolumeNode"
        if isVolume and self.parent.isEntered:
            qt.QTimer.singleShot(0, self.preselectVolumes)  # its voxels come after it

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller, event, node):
        isVolume = node is not None and node.GetClassName() == "vtkMRMLScalarVolumeNode"
        if isVolume and not slicer.mrmlScene.IsClosing():
            qt.QTimer.singleShot(0, head_views.removeOrphans)

    def stop(self):
        """Drop what runs in the background, and what it was for."""
        self._showTimer.stop()
        self.stopMeter()
        self.logic.process.stop()
        self.logic.meterProcess.stop()
        self._task = ""
        self._heads = self._showing = self._outcome = None
        self._scales, self._errors = {}, {}

    def setParameterNode(self, parameterNode):
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
        self._parameterNode = parameterNode
        self.cohortPanel.setScene(parameterNode is not None)
        if parameterNode is not None:
            self._guiTag = parameterNode.connectGui(self.ui)
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
            and not self.logic.problemOf(node)
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
            problem = self.logic.problemOf(node) if node is not None else ""
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
        parameters, ui = self._parameterNode, self.ui
        if parameters is None:
            return
        problem = self.inputProblem()
        missing = _("Choose a CT volume first (step 1).") if problem else ""
        ui.showButton.enabled = ui.frontButton.enabled = not problem
        self.say(ui.inputHintLabel, problem or (_("Making the skin surface…") if self._showing else ""), error="show")

        self.say(ui.meterHintLabel, missing, error="meter")
        ui.meterFrame.visible = self.meter.running

        task = self._task
        isFree = task in ("", "scale")  # which gives way to what the user starts
        ui.sweepButton.text = _("Cancel") if task == "sweep" else _("Run sweep")
        ui.sweepButton.enabled = task == "sweep" or (isFree and not problem)
        ui.viewsComboBox.enabled = isFree
        ui.sweepProgressBar.visible = task == "sweep"
        self.say(ui.sweepHintLabel, missing, error="sweep")

        if not missing and parameters.defacedVolume is None:
            missing = _("Choose the defaced volume as well (step 1).")
        ui.attackButton.text = _("Cancel") if task == "attack" else _("Try to recover the face")
        ui.attackButton.enabled = task == "attack" or (isFree and not missing)
        ui.attackProgressBar.visible = task == "attack"
        self.say(ui.attackHintLabel, missing, error="attack")

        outcome = self._outcome
        if not missing and outcome is None:
            missing = _("Run the sweep (step 3) or the attack (step 4) first.")
        ui.reportButton.enabled = not missing
        ui.resultsButton.enabled = not problem and results.resultOf(parameters.originalVolume, "summary") is not None
        self.say(ui.verdictHintLabel, missing, error="report")
        self.showMaps()
        self.showVerdict()
        self.cohortPanel.update(self._errors.get("cohort", ""))

    def say(self, label, text, isError=False, error=None):
        """Show a hint, or in its place the error of the last try of that step."""
        isError = isError or error in self._errors
        label.text = self._errors.get(error, text)
        label.styleSheet = "color: #c0392b;" if isError else ""
        label.visible = bool(label.text)

    # The heads in the views

    def showHeads(self):
        """Bring the views up to date with the choices; the skins are made first where they are not there yet."""
        parameters = self._parameterNode
        if parameters is None or not self.parent.isEntered:
            return
        if self.inputProblem():
            self._heads = self._outcome = None
            self.stopMeter()
            head_views.removeSurfaces()
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
            self._heads = self._outcome = None
            head_views.removeSurfaces()
        self._showing = key
        with slicer.util.tryWithErrorDisplay(_("The heads could not be shown.")):
            try:
                self.logic.findHeads(*volumeNodes, done=onDone, failed=onFailed)
            except CTDefaceError as error:
                onFailed(error)
        self.updateGUI()

    def drawHeads(self):
        """Show the heads by the rendering that is chosen, and watch them; at first, bring up their layout."""
        if not self._isShown:
            self.onShow()
            return
        parameters = self._parameterNode
        volumeNodes = {ORIGINAL: parameters.originalVolume, DEFACED: parameters.defacedVolume}
        with slicer.util.RenderBlocker():
            head_views.showHeads(self.names(), volumeNodes, parameters.rendering is Rendering.VOLUME)
        self.updateMeter()
        self.updateGUI()

    def onShow(self, yaw=0.0, pitch=0.0):
        """Show the heads side by side, whatever the layout was, from the front or another side."""
        if self._heads is None:
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

        def onFailed(error):
            self._task = ""
            if not isinstance(error, Cancelled):
                self._errors[task] = self.sentence(error)
            self.updateGUI()

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

    # Sweep and attack

    def onSweep(self):
        self.evaluate("sweep", (), self.ui.sweepProgressBar)

    def onAttack(self):
        self.evaluate("attack", ATTACKS, self.ui.attackProgressBar)

    def evaluate(self, task, attacks, bar):
        """Start a sweep, with attacks or without, or cancel the one that runs."""
        if self._task == task:
            self.logic.process.cancel()
            return
        parameters = self._parameterNode
        original, defaced = parameters.originalVolume, parameters.defacedVolume
        key, models, preset = self.logic.headsKey(original, defaced), parameters.faceModel.all, parameters.views.value

        def start(**callbacks):
            self.logic.evaluate(original, defaced, models, preset, attacks, **callbacks)

        def done(outcome):
            present = parameters.originalVolume, parameters.defacedVolume
            if present == (original, defaced) and self.logic.headsKey(original, defaced) == key:
                self.onEvaluated(outcome)

        self.run(task, start, done, bar)

    def onEvaluated(self, outcome):
        """Show what a sweep or an attack has found."""
        parameters = self._parameterNode
        self._outcome = outcome
        self.logic.makeResults(outcome.evaluation, parameters.originalVolume)
        key = self.scaleKey()
        if outcome.evaluation.recogniser in parameters.faceModel.all:
            self._scales[key] = outcome.evaluation.scale
        if outcome.surface is not None and self._heads is not None:
            head_views.showSurface(RECOVERED, outcome.surface, parameters.defacedVolume)
            if self.parent.isEntered:
                self.onShow(*head_views.sideSeen(self._heads[1]))

    def showMaps(self):
        """The heat maps, from the table in the scene."""
        ui, parameters = self.ui, self._parameterNode
        table = results.resultOf(parameters.originalVolume, "views") if parameters.originalVolume is not None else None
        ui.mapFrame.visible = table is not None
        box = ui.mapModelComboBox
        mapped = (table.GetID(), table.GetMTime(), box.currentText) if table is not None else None
        if table is None or mapped == self._mapped:
            return
        models = results.models(table)
        if [box.itemText(index) for index in range(box.count)] != models:
            wasBlocked = box.blockSignals(True)
            box.clear()
            box.addItems(models)
            box.blockSignals(wasBlocked)
        isPair = bool(results.facesByView(table, "original", models[0]))
        for name, label, widget in (
            ("original", ui.originalMapLabel, ui.originalMapTable),
            ("defaced", ui.defacedMapLabel, ui.defacedMapTable),
        ):
            # A volume alone is evaluated like a defaced one.
            faces = results.facesByView(table, name if isPair else "defaced", box.currentText)
            label.visible = widget.visible = isPair or name == "original"
            found, pictures = (sum(cell[i] for cell in faces.values()) for i in (0, 1))
            label.text = _("{name}: a face in {found} of {pictures} pictures").format(
                name=head_views.LABELS[name], found=found, pictures=pictures
            )
            self.maps[name].show(faces)
        self._mapped = table.GetID(), table.GetMTime(), box.currentText

    def onMapModelChanged(self, index):
        self.showMaps()

    def showVerdict(self):
        """What the last sweep or attack means."""
        ui, outcome = self.ui, self._outcome
        verdict = outcome.evaluation.verdict if outcome is not None else None
        isPair = verdict is not None and outcome.evaluation.subject("original") is not None
        ui.verdictLevelLabel.visible = ui.verdictLabel.visible = isPair
        ui.attackResultLabel.visible = isPair and bool(outcome.evaluation.settings.attacks)
        if not isPair:
            return
        level, sentence, color = verdict.level, verdict.sentence, COLOUR_OF_LEVEL[verdict.level]
        if level == "none of these" and not outcome.evaluation.settings.attacks:
            level, color = _("not found, not recognised"), COLOUR_OF_LEVEL["not evaluable"]
            sentence = _("In these views. Whether the face can be recovered was not tried yet (step 4).")
        ui.verdictLevelLabel.text = level[0].upper() + level[1:]
        ui.verdictLevelLabel.styleSheet = f"color: {color}; font-weight: bold; font-size: 14pt;"
        ui.verdictLabel.text = sentence
        found = [finding for finding in verdict.findings if finding.startswith(f"{outcome.recovery}: ")]
        ui.attackResultLabel.text = (
            _("Most like the face: {finding}").format(finding=found[0]) if found else _("Nothing came out.")
        )

    # Report, tables and plots

    def onReport(self):
        self._errors.pop("report", None)
        with slicer.util.tryWithErrorDisplay(_("The report could not be written."), waitCursor=True):
            try:
                saveReport(self.logic, self._outcome.evaluation, self._parameterNode.reportPictures)
            except CTDefaceError as error:
                self._errors["report"] = str(error)
        self.updateGUI()

    def onResults(self):
        owner = self._parameterNode.originalVolume
        chart = results.resultOf(owner, "similarity") or results.resultOf(owner, "by yaw")
        self.showResults(results.resultOf(owner, "summary"), chart)

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
        if not (parameters.liveMeter and isSeen):
            self.stopMeter()
            return
        choices = parameters.picture, parameters.rendering, parameters.faceModel, modelFolder()
        key = self._heads[0], self.names(), choices
        if self._meterKey != key or not self.meter.running:
            self.stopMeter()
            self._meterKey = key
            self._errors.pop("meter", None)
            self.meter.start(self.names(), self._heads[1] if parameters.picture is Picture.STANDARD else None)
        self.updateScale()

    def stopMeter(self):
        self.meter.stop()
        self._meterKey = None
        self.showScores({})

    def onModelsChanged(self):
        """Let the processes find what was installed; a sweep that runs is left alone."""
        self.stopMeter()
        self.logic.meterProcess.stop()
        if self._task in ("", "scale"):
            self.logic.process.stop()
            self._task = ""
        self._showTimer.start()

    def meterChoices(self):
        return {"model": self._parameterNode.faceModel.live, "folder": modelFolder()}

    def onScores(self, answer):
        self.showScores(answer["faces"], answer.get("similarities"))

    def onMeterFailed(self, error):
        self._meterKey = None
        if isinstance(error, InputError):  # a new process, which has no skins yet
            self._heads = None
            self._showTimer.start()
        elif not isinstance(error, Cancelled):
            self._errors["meter"] = self.sentence(error)
        self.updateGUI()

    def showScores(self, faces, similarities=None):
        """What the meter found last; the similarity stays until it is measured again."""
        ui = self.ui
        for name, title, label in (
            (ORIGINAL, ui.originalScoreTitleLabel, ui.originalScoreLabel),
            (DEFACED, ui.defacedScoreTitleLabel, ui.defacedScoreLabel),
            (RECOVERED, ui.recoveredScoreTitleLabel, ui.recoveredScoreLabel),
        ):
            title.visible = label.visible = name in faces
            face = faces.get(name)
            label.text = _("face found, score {score:.2f}").format(score=face["score"]) if face else _("no face found")
            color = "" if name == ORIGINAL else "color: #c0392b;" if face else "color: #2e6b34;"
            label.styleSheet = f"{color} font-weight: bold;"
        if not faces or not faces.get(ORIGINAL):
            similarities = {}
        if similarities is not None:
            self.showSimilarities(similarities)

    def showSimilarities(self, similarities):
        """How similar the other faces are to the original's, and what that means on the scan's own scale."""
        scale = self._scales.get(self.scaleKey()) if similarities else None
        lines = []
        for name, value in similarities.items():
            line = _("{name}: {value:.2f}").format(name=head_views.LABELS[name], value=value)
            if scale is not None and scale.threshold is not None:
                line += " – " + (_("like the same head") if value > scale.threshold else _("like another head"))
            lines.append(line)
        if lines and scale is None:
            lines.append(_("measuring what similar means for this head…") if self._task == "scale" else "")
        elif lines:
            same, other = np.median(scale.same_head or [np.nan]), np.median(scale.other_heads or [np.nan])
            lines.append(_("usual here: same head {same:.2f}, other heads {other:.2f}").format(same=same, other=other))
        self.ui.similarityTitleLabel.visible = self.ui.similarityLabel.visible = bool(lines)
        self.ui.similarityLabel.text = "\n".join(line for line in lines if line)

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
            self.meter.refresh()

        def onFailed(error):
            self._task = ""  # the meter says what is wrong with the model

        self._task = "scale"
        self.logic.measureScale(parameters.originalVolume, key[1], done=onDone, failed=onFailed)


class CTDefaceEvalLogic(ScriptedLoadableModuleLogic):
    """Everything the panel does, with nodes as arguments and without any window.

    The long methods wait for their result and return it. With ``done`` given they return at once, and later call
    ``done(result)`` or ``failed(error)``, and ``progress(fraction, text)`` meanwhile.
    """

    def __init__(self, parent=None):
        ScriptedLoadableModuleLogic.__init__(self, parent)
        self.process = BackgroundProcess(worker)
        self.meterProcess = BackgroundProcess(worker)  # of its own, so that the meter goes on while a sweep runs

    def getParameterNode(self):
        return CTDefaceEvalParameterNode(super().getParameterNode())

    def problemOf(self, volumeNode):
        """Why the volume is not a CT that can be evaluated, in one sentence; an empty text when it is one."""
        return nodes.ctProblem(volumeNode)

    def checkVolume(self, volumeNode):
        """Raise InputError with the sentence of :meth:`problemOf` when there is one."""
        problem = self.problemOf(volumeNode)
        if problem:
            raise InputError(problem)

    def defacedOf(self, volumeNode):
        """The latest volume that CTDeface made of another one, or None."""
        made = [
            node
            for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
            if node.GetNodeReference("CTDeface.original") is volumeNode and not node.GetHideFromEditors()
        ]
        return made[-1] if made else None

    def headsKey(self, originalNode, defacedNode=None):
        """A value that changes with the volumes and where they are."""
        return [
            (node.GetID(), nodes.fingerprint(node), nodes.volumeGeometry(node), node.GetTransformNodeID())
            for node in (originalNode, defacedNode)
            if node is not None
        ]

    def findHeads(self, originalNode, defacedNode=None, **callbacks):
        """Find the head, and make the skin surfaces that the views show. Returns where it is, a ``head_views.Head``."""

        def finish(report, path):
            for node in volumeNodes.values():
                self._checkPresent(node)
            with np.load(path) as arrays:
                for name, node in volumeNodes.items():
                    parts = {part: arrays[f"{name} {part}"] for part in ("points", "normals", "triangles")}
                    head_views.showSurface(name, parts, node)
            return head_views.headOf(originalNode, report["axes"], report["center"])

        volumeNodes = {ORIGINAL: originalNode}
        self.checkVolume(originalNode)
        message = None
        if defacedNode is not None:
            self.checkVolume(defacedNode)
            volumeNodes[DEFACED] = defacedNode
            message = self.meterProcess.volumeMessage("defaced", defacedNode)
        self.meterProcess.start("skin", originalNode, finish, defaced=message, suffix=".npz", **callbacks)
        return self._result(self.meterProcess, callbacks)

    def measureScale(self, originalNode, model=DlibHog.name, **callbacks):
        """What similar means for a scan: cosines of pairs of pictures of this head, and of it and other heads.

        Returns a ``CTDefaceEvalLib.evaluation.Scale``.
        """
        self.checkVolume(originalNode)
        self.process.start(
            "scale",
            originalNode,
            lambda report, path: Scale(**report),
            model=model,
            folder=modelFolder(),
            **callbacks,
        )
        return self._result(self.process, callbacks)

    def evaluate(
        self, originalNode, defacedNode=None, models=DEFAULT_MODELS, preset="default", attacks=(), **callbacks
    ):
        """Look for a face in a volume or in a pair of volumes from every side, and attack the defaced one.

        :param models: names of face models, keys of ``CTDefaceEvalLib.face_models.MODELS``.
        :param preset: key of ``CTDefaceEvalLib.views.PRESETS``.
        :param attacks: of ``CTDefaceEvalLib.attacks.ATTACKS``.
        :return: an ``Outcome``.
        """

        def finish(report, path):
            for node in (originalNode, defacedNode):
                if node is not None:
                    self._checkPresent(node)
            with open(path, "rb") as file:  # which our own process has just written
                result = pickle.load(file)
            surface = result["recovered"]
            isSomething = surface is not None and len(surface["points"]) > 0
            return Outcome(result["evaluation"], report["recovered"], surface if isSomething else None)

        self.checkVolume(originalNode)
        message = None
        if defacedNode is not None:
            self.checkVolume(defacedNode)
            message = self.process.volumeMessage("defaced", defacedNode)
        self.process.start(
            "evaluate",
            originalNode,
            finish,
            defaced=message,
            models=list(models),
            folder=modelFolder(),
            views=preset,
            attacks=list(attacks),
            **callbacks,
        )
        return self._result(self.process, callbacks)

    def detectability(self, volumeNode, models=DEFAULT_MODELS, preset="default"):
        """From how many sides a face is found in a volume. Returns a ``CTDefaceEvalLib.evaluation.Evaluation``.

        Parameters as in :meth:`evaluate`.
        """
        return self.evaluate(volumeNode, None, models, preset).evaluation

    def compare(self, originalNode, defacedNode, models=DEFAULT_MODELS, preset="default", attacks=ATTACKS):
        """Whether the face can still be found, recognised or recovered from a defaced volume.

        Parameters as in :meth:`evaluate`. Returns a ``CTDefaceEvalLib.evaluation.Evaluation``; its ``verdict`` has the
        answer in words.
        """
        return self.evaluate(originalNode, defacedNode, models, preset, attacks).evaluation

    def evaluateCohort(self, table, model=DlibHog.name, preset="study", cache=None, **callbacks):
        """Evaluate many scans by the study's protocol. Returns a ``CTDefaceEvalLib.cohort.Cohort``.

        :param table: path of a CSV table, see ``CTDefaceEvalLib.cohort_table``, or a table node with the columns
            patient, scan, original, defaced and method, which name files, folders with a DICOM series, or volume nodes.
        :param model: name of a face model that tells people apart.
        :param preset: key of ``CTDefaceEvalLib.views.PRESETS``.
        :param cache: folder that keeps what was seen of each volume; without one it is kept as long as this process.
        :raises InputError: if the table is not usable.
        """

        def finish(report, path):
            with open(path, "rb") as file:  # which our own process has just written
                return pickle.load(file)

        if hasattr(table, "GetTable"):
            folder = self.process.makeFolder()
            rows = check_table([self._withFiles(pair, folder) for pair in pairsIn(table)])
        else:
            rows = read_table(table)
        self.process.start(
            "cohort",
            finish=finish,
            rows=[{**vars(row), "path": str(row.path.absolute())} for row in rows],
            cache=str(cache or "cohort"),
            model=model,
            folder=modelFolder(),
            views=preset,
            **callbacks,
        )
        return self._result(self.process, callbacks)

    @staticmethod
    def _withFiles(pair, folder):
        """A line of a cohort's table with files in place of the volume nodes that it names."""
        for role in ("original", "defaced"):
            node = slicer.mrmlScene.GetNodeByID(pair[role]) or slicer.mrmlScene.GetFirstNodeByName(pair[role])
            if pair[role] and node is not None and node.IsA("vtkMRMLScalarVolumeNode"):
                path = os.path.join(folder, f"{node.GetID()}-{nodes.fingerprint(node)}.nrrd")
                if not os.path.exists(path):
                    sitk.WriteImage(nodes.imageFromVolume(node), path)
                pair = {**pair, role: path}
        return pair

    def makeResults(self, evaluation, volumeNode):
        """Put the numbers of an evaluation into tables of the scene, and its curves into plots.

        :return: the tables by surface and by picture, and the charts by yaw and of similarity (or None).
        """
        name = volumeNode.GetName()
        return (
            *results.evaluationTables(evaluation, name, volumeNode),
            *results.evaluationCharts(evaluation, name, volumeNode),
        )

    def writeReport(self, evaluation, path, pictures=True, overwrite=False):
        """Write the report of an evaluation or of a cohort: a web page, and every number as CSV and JSON beside it.

        :param pictures: put pictures of the head into it, which show the face.
        :raises OutputError: if the files exist and ``overwrite`` is not set, or cannot be written.
        """
        check_report(path, overwrite)
        write = write_cohort if isinstance(evaluation, Cohort) else write_evaluation
        write(evaluation, path, pictures=pictures, overwrite=overwrite)

    @staticmethod
    def _result(process, callbacks):
        return None if callbacks.get("done") else process.wait()

    @staticmethod
    def _checkPresent(volumeNode):
        if slicer.mrmlScene.GetNodeByID(volumeNode.GetID()) is not volumeNode:
            raise InputError(_("The volume was removed from the scene meanwhile."))


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
                self.assertGreater(len(evaluation.subject("defaced").scores(DlibHog.name)), 4)
                self.assertEqual(logic.makeResults(evaluation, original)[0].GetNumberOfRows(), 1)
        finally:
            logic.process.stop()
            logic.meterProcess.stop()
        self.delayDisplay("Test passed")
