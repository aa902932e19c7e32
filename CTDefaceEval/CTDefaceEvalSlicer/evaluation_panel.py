"""Steps 3 to 5 of the CTDefaceEval panel: sweep and attack, what they mean, and the report."""

import slicer
from CTDefaceEvalLib.attacks import ATTACKS
from CTDefaceEvalLib.evaluation_page import COLOUR_OF_LEVEL
from CTDefaceEvalLib.findings import DEFACED, ORIGINAL, Level
from CTDefaceLib.errors import CTDefaceError
from slicer.i18n import tr as _

from . import results
from .head_views import LABELS
from .heat_map import HeatMap
from .hints import say
from .reports import saveReport


class EvaluationPanel:
    """The widgets of the steps, and what they do.

    :param ui: widgets of the panel by name.
    :param logic: of the module.
    :param parameters: called for the parameter node.
    :param run: called with the name of the task, what starts it, what to do with its result, and its progress bar.
    :param task: called for what runs in the background.
    :param evaluated: called with what came out of the volumes that are chosen still.
    :param look: called with the yaw and pitch in degrees that the heads are to be turned to.
    :param showResults: called with the table and the chart to show.
    """

    def __init__(self, ui, logic, parameters, run, task, evaluated, look, showResults):
        self._ui, self._logic, self._parameters = ui, logic, parameters
        self._run, self._task, self._evaluated, self._showResults = run, task, evaluated, showResults
        self.outcome = None  # of the last sweep or attack on the volumes that are chosen
        self._mapped = None  # what the heat maps show
        self._error = ""  # of the last report
        self._maps = {ORIGINAL: HeatMap(ui.originalMapTable, look), DEFACED: HeatMap(ui.defacedMapTable, look)}
        ui.sweepButton.connect("clicked()", self.onSweep)
        ui.mapModelComboBox.connect("currentIndexChanged(int)", self.onMapModelChanged)
        ui.attackButton.connect("clicked()", self.onAttack)
        ui.reportButton.connect("clicked()", self.onReport)
        ui.resultsButton.connect("clicked()", self.onResults)

    def forget(self):
        """Drop what came out: other volumes are chosen."""
        self.outcome, self._error = None, ""

    def update(self, missing, errors):
        """Enable what can be done now, and say what is missing.

        :param missing: what is missing or wrong with the volumes, in one sentence.
        :param errors: of the last tries, by task.
        """
        ui, parameters, task = self._ui, self._parameters(), self._task()
        isFree = task in ("", "scale")  # which gives way to what the user starts
        hasVolumes = not missing
        ui.sweepButton.text = _("Cancel") if task == "sweep" else _("Run sweep")
        ui.sweepButton.enabled = task == "sweep" or (isFree and not missing)
        ui.viewsComboBox.enabled = isFree
        ui.sweepProgressBar.visible = task == "sweep"
        say(ui.sweepHintLabel, missing, errors.get("sweep", ""))

        if not missing and parameters.defacedVolume is None:
            missing = _("Choose the defaced volume as well (step 1).")
        ui.attackButton.text = _("Cancel") if task == "attack" else _("Try to recover the face")
        ui.attackButton.enabled = task == "attack" or (isFree and not missing)
        ui.attackProgressBar.visible = task == "attack"
        say(ui.attackHintLabel, missing, errors.get("attack", ""))

        if hasVolumes and self.outcome is None:
            missing = _("Run the sweep (step 3) or the attack (step 4) first.")
        elif hasVolumes:
            missing = ""
        ui.reportButton.enabled = not missing
        ui.resultsButton.enabled = hasVolumes and self._result("summary") is not None
        say(ui.verdictHintLabel, missing, self._error)
        self._showMaps()
        self._showVerdict()

    def _result(self, what):
        """The table or chart of a kind that the chosen original has, or None."""
        original = self._parameters().originalVolume
        return results.resultOf(original, what) if original is not None else None

    def onSweep(self):
        self._evaluate("sweep", (), self._ui.sweepProgressBar)

    def onAttack(self):
        self._evaluate("attack", ATTACKS, self._ui.attackProgressBar)

    def _evaluate(self, task, attacks, bar):
        """Start a sweep, with attacks or without, or cancel the one that runs."""
        if self._task() == task:
            self._logic.process.cancel()
            return
        parameters = self._parameters()
        original, defaced = parameters.originalVolume, parameters.defacedVolume
        key, models, preset = self._logic.headsKey(original, defaced), parameters.faceModel.all, parameters.views.value

        def start(**callbacks):
            self._logic.evaluate(original, defaced, models, preset, attacks, **callbacks)

        def done(outcome):
            present = parameters.originalVolume, parameters.defacedVolume
            if present == (original, defaced) and self._logic.headsKey(original, defaced) == key:
                self.outcome = outcome
                self._logic.makeResults(outcome.evaluation, original)
                self._evaluated(outcome)

        self._run(task, start, done, bar)

    def _showMaps(self):
        """The heat maps, from the table in the scene."""
        ui, table = self._ui, self._result("views")
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
        if self._parameters() is not None:
            self._showMaps()

    def _showVerdict(self):
        """What the last sweep or attack means."""
        ui, outcome = self._ui, self.outcome
        verdict = outcome.evaluation.verdict if outcome is not None else None
        isPair = verdict is not None and outcome.evaluation.original is not None
        ui.verdictLevelLabel.visible = ui.verdictLabel.visible = isPair
        ui.attackResultLabel.visible = isPair and bool(outcome.evaluation.settings.attacks)
        if not isPair:
            return
        level, sentence, color = verdict.level, verdict.sentence, COLOUR_OF_LEVEL[verdict.level]
        if level is Level.NONE_OF_THESE and not outcome.evaluation.settings.attacks:
            level, color = _("not found, not recognised"), COLOUR_OF_LEVEL[Level.NOT_EVALUABLE]
            sentence = _("In these views. Whether the face can be recovered was not tried yet (step 4).")
        ui.verdictLevelLabel.text = level[0].upper() + level[1:]
        ui.verdictLevelLabel.styleSheet = (
            f"background-color: {color}; color: white; padding: 4px; font-weight: bold; font-size: 14pt;"
        )
        ui.verdictLabel.text = sentence
        found = [finding for finding in verdict.findings if finding.startswith(f"{outcome.recovery}: ")]
        ui.attackResultLabel.text = (
            _("Most like the face: {finding}").format(finding=found[0]) if found else _("Nothing came out.")
        )

    def onReport(self):
        self._error = ""
        with slicer.util.tryWithErrorDisplay(_("The report could not be written.")):
            try:
                saveReport(self._logic, self.outcome.evaluation, self._parameters().reportPictures)
            except CTDefaceError as error:
                self._error = str(error)
        say(self._ui.verdictHintLabel, "", self._error)

    def onResults(self):
        self._showResults(self._result("summary"), self._result("similarity") or self._result("by yaw"))
