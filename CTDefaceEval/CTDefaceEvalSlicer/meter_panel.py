"""Step 2 of the CTDefaceEval panel: the live meter, and what similar means for this head."""

from CTDefaceLib.errors import Cancelled, InputError, NotReadyError
from CTDefaceSlicer.shared import hints, nodes
from CTDefaceSlicer.shared.step_panel import StepPanel

from . import head_views
from .meter import LiveMeter
from .parameters import Picture, modelFolder
from .score_labels import ScoreLabels
from .tasks import Task


class MeterPanel(StepPanel):
    """The widgets of the step, and what they do.

    Attributes
    ----------
    meter: the ``LiveMeter``
    scales: of similarity, by :meth:`scaleKey`; None where it could not be measured
    isModelMissing: whether the face model was not there when it was needed last
    """

    def __init__(self, panel):
        super().__init__(panel)
        self.meter = LiveMeter(self.logic.meterProcess, self._choices, self.onScores, self.onFailed)
        self.scales = {}
        self._scores = ScoreLabels(self.ui, lambda: (self.scales.get(self.scaleKey()), panel.task is Task.SCALE))
        self._key = None  # what the running meter was started for
        self.isModelMissing = False
        self.ui.liveModelButton.connect("clicked()", self.onInstall)
        self.stop()

    def update(self, missing):
        """Show what is missing, and offer the face model where that is."""
        hints.show(self.ui.meterHintLabel, missing, self.error)
        self.ui.liveModelButton.visible = self.isModelMissing
        self.ui.liveModelButton.enabled = self.panel.isFree

    def startOrStop(self):
        """Start or stop the live meter as is chosen."""
        parameters, heads = self.parameters, self.panel.headsPanel
        isSeen = self.panel.parent.isEntered and heads.head is not None and head_views.shownHeads() > 0
        if parameters is None or not (parameters.liveMeter and isSeen):
            self.stop()
            return
        key = heads.key, heads.names(), parameters.picture, parameters.rendering, parameters.faceModel, modelFolder()
        if self._key != key or not self.meter.running:
            self.stop()
            self._key = key
            self.error, self.isModelMissing = "", False
            self.meter.start(heads.names(), heads.head, parameters.picture is Picture.STANDARD)
            self.ui.meterFrame.visible = True
        self.updateScale()

    def stop(self):
        """Score no longer, and show no scores."""
        self.meter.stop()
        self._key = None
        self._scores.show({})
        self.ui.meterFrame.visible = False

    def forget(self):
        """Drop what was measured, and what went wrong."""
        self.scales = {}
        self.error, self.isModelMissing = "", False

    def onModelsChanged(self):
        """Find what was installed: what failed is tried again."""
        self.scales = {key: scale for key, scale in self.scales.items() if scale is not None}
        self.stop()

    def _choices(self):
        return {"model": self.parameters.faceModel.live, "folder": modelFolder()}

    def onScores(self, answer):
        self._scores.show(answer["faces"], answer.get("similarities"), answer["tilted"])

    def onFailed(self, error):
        self.stop()
        if isinstance(error, InputError):  # a new process, which has no skins yet
            self.panel.headsPanel.forget()
            self.panel.headsPanel.showSoon()
        elif not isinstance(error, Cancelled):
            self.error, self.isModelMissing = self.panel.sentence(error), isinstance(error, NotReadyError)
        self.panel.updateGUI()

    def onInstall(self):
        self.panel.modelsPanel.offer(self.parameters.faceModel.live)

    # What similar means

    def scaleKey(self):
        """What a scale belongs to: the voxels of the original, and the face model; None without a volume."""
        parameters = self.parameters
        if parameters is None or parameters.originalVolume is None:
            return None
        return nodes.fingerprint(parameters.originalVolume), parameters.faceModel.live, modelFolder()

    def keepScale(self, evaluation):
        """Keep the scale that an evaluation of the chosen volumes has measured by the way."""
        if evaluation.recogniser in self.parameters.faceModel.all:
            self.scales[self.scaleKey()] = evaluation.scale

    def updateScale(self):
        """Measure in the background what similar means for this head, where that is not known and nothing else runs."""
        parameters, key = self.parameters, self.scaleKey()
        if key in self.scales or self.logic.process.busy or parameters.defacedVolume is None:
            return
        volumeNode = parameters.originalVolume

        def start(**callbacks):
            self.logic.measureScale(volumeNode, key[1], **callbacks)

        def done(scale):
            self.scales[key] = scale
            self.startOrStop()  # other volumes may have been chosen meanwhile
            self.meter.refresh()

        # The meter shows what is wrong with the model.
        self.panel.run(Task.SCALE, start, done, failed=lambda error: done(None))
