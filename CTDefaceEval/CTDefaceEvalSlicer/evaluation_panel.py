"""Steps 3 to 5 of the CTDefaceEval panel: sweep and attack, what they mean, and the report."""

import time

from CTDefaceEvalLib.attacks import ATTACKS
from CTDefaceEvalLib.evaluation_page import COLOUR_OF_LEVEL
from CTDefaceEvalLib.findings import DEFACED, ORIGINAL, Level
from CTDefaceEvalLib.views import PRESETS
from CTDefaceSlicer.shared import hints
from CTDefaceSlicer.shared.step_panel import StepPanel
from slicer.i18n import tr as _

from . import results
from .head_views import LABELS
from .heat_map import HeatMap
from .measures import measures
from .reports import saveReport
from .tasks import Task

DEFACED_FRACTION = 0.2
"""Progress of an evaluation from which on it looks at the defaced head, see ``CTDefaceEvalLib.evaluation``."""
ATTEMPTS = 25
"""About how many surfaces an attack looks at, the original and the defaced head among them: 23 in a phantom."""


class EvaluationPanel(StepPanel):
    """The widgets of the steps, and what they do.

    Attributes
    ----------
    outcome: of the last sweep or attack on the volumes that are chosen, or None
    """

    def __init__(self, panel):
        super().__init__(panel)
        ui, turn = self.ui, panel.headsPanel.turnTo
        self.outcome = None
        self._volumes = None, None  # that the outcome is of
        self._mapped = None  # what the heat maps show
        self._best = None  # of the attack that runs: whether the person was given back, likeness, and by what
        self._secondsEach = 0.0  # what the last sweep took for a picture of the defaced head
        self._maps = {ORIGINAL: HeatMap(ui.originalMapTable, turn), DEFACED: HeatMap(ui.defacedMapTable, turn)}
        ui.sweepButton.connect("clicked()", self.onSweep)
        ui.mapModelComboBox.connect("currentIndexChanged(int)", self.onMapModelChanged)
        ui.attackButton.connect("clicked()", self.onAttack)
        ui.reportButton.connect("clicked()", self.onReport)
        ui.resultsButton.connect("clicked()", self.onResults)

    def forget(self):
        """Drop what came out."""
        self.outcome, self.error = None, ""

    def forgetOthers(self):
        """Drop what came out of other volumes than those that are chosen, before anybody takes it for theirs."""
        if self._volumes != (self.parameters.originalVolume, self.parameters.defacedVolume):
            self.forget()

    def update(self, missing):
        """Enable what can be done now, and show what is missing.

        :param missing: what is missing or wrong with the volumes, in one sentence.
        """
        ui, task, errors, isFree = self.ui, self.panel.task, self.panel.errors, self.panel.isFree
        hasVolumes = not missing
        ui.sweepButton.text = _("Cancel") if task is Task.SWEEP else _("Run sweep")
        ui.sweepButton.enabled = task is Task.SWEEP or (isFree and not missing)
        ui.viewsComboBox.enabled = isFree
        ui.sweepProgressBar.visible = task is Task.SWEEP
        hints.show(ui.sweepHintLabel, missing, errors.get(Task.SWEEP, ""))

        if not missing and self.parameters.defacedVolume is None:
            missing = _("Choose the defaced volume as well (step 1).")
        ui.attackButton.text = _("Cancel") if task is Task.ATTACK else _("Try to recover the face")
        ui.attackButton.enabled = task is Task.ATTACK or (isFree and not missing)
        ui.attackViewsComboBox.enabled = isFree
        ui.attackProgressBar.visible = task is Task.ATTACK
        text = missing or (self._soFar() if task is Task.ATTACK else self._expectedTime())
        hints.show(ui.attackHintLabel, text, errors.get(Task.ATTACK, ""))

        if hasVolumes and self.outcome is None:
            missing = _("Run the sweep (step 3) or the attack (step 4) first.")
        elif hasVolumes:
            missing = ""
        ui.reportButton.enabled = not missing
        ui.resultsButton.enabled = hasVolumes and self._result("summary") is not None
        hints.show(ui.verdictHintLabel, missing, self.error)
        self._showMaps()
        self._showVerdict()

    @property
    def wasAttacked(self):
        """Whether the last outcome comes of attacks."""
        return self.outcome is not None and bool(self.outcome.evaluation.settings.attacks)

    @property
    def canReport(self):
        """Whether something came out, now or before the scene was saved."""
        return self.outcome is not None or self._result("summary") is not None

    def onAnswered(self, event):
        """Show what an attack gave as soon as it was tried; what is most likely to succeed is tried first."""
        found = event["gives_away"], event["likeness"] or 0.0, event["subject"]
        if event["subject"] != DEFACED and (self._best is None or found[:2] > self._best[:2]):
            self._best = found
            self.panel.updateGUI()

    def _soFar(self):
        """What the attack that runs has given until now, in one sentence."""
        if self._best is None:
            return ""
        isGiven, likeness, name = self._best
        if isGiven:
            return _("Already given back, by {name}. What is left to try cannot change that.").format(name=name)
        return _("So far nothing gave the person back. Nearest: {name}, likeness {likeness:.0%}.").format(
            name=name, likeness=likeness
        )

    def _expectedTime(self):
        """How long the attack will take, about, in one sentence; an empty text when no sweep has shown it yet."""
        if self.outcome is None or self.wasAttacked or not self._secondsEach:
            return ""
        seconds = self._secondsEach * len(PRESETS[self.parameters.attackViews.value]) * ATTEMPTS
        return _("It will take about {minutes:.0f} min.").format(minutes=max(1.0, seconds / 60))

    def _result(self, what):
        """The table or chart of a kind that the chosen original has, or None."""
        original = self.parameters.originalVolume
        return results.resultOf(original, what) if original is not None else None

    def onSweep(self):
        self._evaluate(Task.SWEEP, (), self.parameters.views, self.ui.sweepProgressBar)

    def onAttack(self):
        self._evaluate(Task.ATTACK, ATTACKS, self.parameters.attackViews, self.ui.attackProgressBar)

    def _evaluate(self, task, attacks, views, bar):
        """Start a sweep, with attacks or without, or cancel the one that runs."""
        if self.panel.task is task:
            self.panel.cancel()
            return
        parameters = self.parameters
        original, defaced = parameters.originalVolume, parameters.defacedVolume
        key, models, preset = self.logic.headsKey(original, defaced), parameters.faceModel.all, views.value

        self._best = None
        begun = []  # when the defaced head was looked at

        def start(progress, **callbacks):
            def timed(fraction, text):
                if fraction >= DEFACED_FRACTION and not begun:
                    begun.append(time.monotonic())
                progress(fraction, text)

            event = self.onAnswered if attacks else None
            self.logic.evaluate(original, defaced, models, preset, attacks, progress=timed, event=event, **callbacks)

        def done(outcome):
            if begun and not attacks:
                self._secondsEach = (time.monotonic() - begun[0]) / len(PRESETS[preset])
            present = parameters.originalVolume, parameters.defacedVolume
            if present == (original, defaced) and self.logic.headsKey(original, defaced) == key:
                self._volumes = present
                self._take(outcome, original)

        self.panel.run(task, start, done, bar)

    def _take(self, outcome, original):
        """Keep what came out of the chosen volumes, with its numbers as tables; show the face that was won back."""
        self.outcome = outcome
        self.logic.makeResults(outcome.evaluation, original)
        if self.parameters is None:  # while a scene is read
            return
        self.panel.meterPanel.keepScale(outcome.evaluation)
        if outcome.surface is not None:
            self.panel.headsPanel.showRecovered(outcome.surface)

    def _showMaps(self):
        """The heat maps, from the table in the scene."""
        ui, table = self.ui, self._result("views")
        models = results.models(table) if table is not None else []
        ui.mapFrame.visible = bool(models)
        box = ui.mapModelComboBox
        if not models:
            self._mapped = None
            return
        if self._mapped == (table.GetID(), table.GetMTime(), box.currentText):
            return
        if [box.itemText(index) for index in range(box.count)] != models:
            wasBlocked = box.blockSignals(True)
            box.clear()
            box.addItems(models)
            box.blockSignals(wasBlocked)
        isPair = bool(results.facesByView(table, ORIGINAL, models[0]))
        for name, label, widget in (
            (ORIGINAL, ui.originalMapLabel, ui.originalMapTable),
            (DEFACED, ui.defacedMapLabel, ui.defacedMapTable),
        ):
            # A volume alone is evaluated like a defaced one.
            faces = results.facesByView(table, name if isPair else DEFACED, box.currentText)
            label.visible = widget.visible = isPair or name == ORIGINAL
            found, pictures = (sum(cell[i] for cell in faces.values()) for i in (0, 1))
            label.text = _("{name}: a face in {found} of {pictures} pictures").format(
                name=LABELS[name], found=found, pictures=pictures
            )
            self._maps[name].show(faces)
        self._mapped = table.GetID(), table.GetMTime(), box.currentText

    def onMapModelChanged(self, index):
        if self.parameters is not None:
            self._showMaps()

    def _showVerdict(self):
        """What the last sweep or attack means."""
        ui, outcome = self.ui, self.outcome
        verdict = outcome.evaluation.verdict if outcome is not None else None
        isPair = verdict is not None and outcome.evaluation.original is not None
        ui.verdictLevelLabel.visible = ui.verdictLabel.visible = isPair
        ui.attackResultLabel.visible = isPair and bool(outcome.evaluation.settings.attacks)
        lines = [hints.marked(*line, ui.measuresLabel) for line in measures(outcome.evaluation)] if isPair else []
        hints.show(ui.measuresLabel, "<br>".join(lines))
        if not isPair:
            return
        level, sentence = verdict.level, verdict.sentence
        if level is Level.NOT_ALL_TRIED and not outcome.evaluation.settings.attacks:
            sentence += _(" Step 4 tries it.")
        ui.verdictLevelLabel.text = level[0].upper() + level[1:]
        color = COLOUR_OF_LEVEL[level]
        ui.verdictLevelLabel.styleSheet = (
            f"background-color: {color}; color: white; padding: 4px; font-weight: bold; font-size: 14pt;"
        )
        ui.verdictLabel.text = sentence
        found = [finding for finding in verdict.findings if finding.startswith(f"{outcome.recovery}: ")]
        ui.attackResultLabel.text = (
            _("Most like the face: {finding}").format(finding=found[0]) if found else _("Nothing came out.")
        )

    def onReport(self):
        self.attempt(
            lambda: saveReport(self.logic, self.outcome.evaluation, self.parameters.reportPictures),
            _("The report could not be written."),
        )

    def onResults(self):
        self.panel.headsPanel.showResults(self._result("summary"), self._result("similarity") or self._result("by yaw"))
