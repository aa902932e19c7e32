"""Of step 5 of the CTDeface panel: further series of the same head, which get the face of the CT."""

from CTDefaceLib.errors import Cancelled
from slicer.i18n import tr as _

from . import study
from .sequences import sequenceOf
from .shared import hints
from .shared.check_table import CheckTable, Row
from .shared.step_panel import StepPanel
from .tasks import Task


class FurtherPanel(StepPanel):
    """The widgets, and what they do."""

    def __init__(self, panel):
        super().__init__(panel)
        self._refused = {}  # why a series was refused, by its ID
        self._isOpen = False
        self._table = CheckTable(self.ui.furtherTable, [_("Series"), _("What happens")], self.onTicked)
        self.ui.furtherCollapsibleButton.connect("contentsCollapsed(bool)", lambda _isCollapsed: self._table.fit())

    def forget(self):
        """Drop what went wrong: there is another result, or none."""
        self._refused = {}

    def update(self):
        """Show the other volumes of the scene, those that go along ticked, and what becomes of each."""
        ui, volumeNode = self.ui, self.parameters.inputVolume
        others = study.furtherVolumes(volumeNode, self.logic.isResult) if volumeNode is not None else []
        self._table.show([self._row(other) for other in others])
        ui.furtherCollapsibleButton.visible = bool(others)
        ticked = self.ticked()
        if bool(ticked) is not self._isOpen:
            self._isOpen = bool(ticked)
            ui.furtherCollapsibleButton.collapsed = not self._isOpen
        ui.furtherCollapsibleButton.text = (
            _("Further series ({count})").format(count=len(ticked)) if ticked else _("Further series")
        )
        unsure = [other for other in ticked if not study.isSamePatient(volumeNode, other)]
        hint = _("The scene does not say that all of these are of one patient: make sure that they are.")
        hints.show(ui.furtherHintLabel, hint if unsure else "")

    def _row(self, other):
        way, name = study.wayTo(self.parameters.inputVolume, other), self._nameOf(other)
        if way is study.Way.NOT_TAKEN:
            return Row(other.GetID(), name, None, way.explanation())
        isTicked, result = other in self.ticked(), self._resultOf(other)
        if isTicked and result is not None:
            return Row(other.GetID(), name, True, _("Done: {name}").format(name=result.GetName()), True)
        if isTicked and other.GetID() in self._refused:
            return Row(other.GetID(), name, True, self._refused[other.GetID()], False)
        return Row(other.GetID(), name, isTicked, way.explanation())

    def _nameOf(self, other):
        """Name of a volume, with how many time points there are where it shows those of a sequence."""
        sequence = sequenceOf(other)
        if sequence is None:
            return other.GetName()
        count = sequence.GetNumberOfDataNodes()
        isInput = other is self.parameters.inputVolume
        text = _("{name}: all {count} time points") if isInput else _("{name} ({count} time points)")
        return text.format(name=other.GetName(), count=count)

    def ticked(self):
        """The volumes that go along: those of the same patient, and what the user has changed of that."""
        parameters = self.parameters
        volumeNode, added, out = parameters.inputVolume, list(parameters.addedSeries), list(parameters.leftOutSeries)
        if volumeNode is None:
            return []
        return [
            other
            for other in study.furtherVolumes(volumeNode, self.logic.isResult)
            if (other in added or (study.isSamePatient(volumeNode, other) and other not in out))
            and study.wayTo(volumeNode, other) is not study.Way.NOT_TAKEN
        ]

    def left(self):
        """Those that have no result with the face of the present one, and were not refused."""
        return [
            other for other in self.ticked() if self._resultOf(other) is None and other.GetID() not in self._refused
        ]

    def _resultOf(self, other):
        """What came out of another volume with the face of the present result, or None."""
        result = self.parameters.defacedVolume if self.panel.isResultPresent else None
        made = self.logic.furtherResults(result)
        return next((node for node in made if self.logic.originalOf(node) is other), None)

    def onTicked(self, nodeID, isTicked):
        """Let a volume go along, or no longer."""
        parameters = self.parameters
        other = next(
            (one for one in study.furtherVolumes(parameters.inputVolume, self.logic.isResult) if one.GetID() == nodeID),
            None,
        )
        if other is None:
            return
        changed = "addedSeries" if not study.isSamePatient(parameters.inputVolume, other) else "leftOutSeries"
        isListed = isTicked == (changed == "addedSeries")
        listed = [one for one in getattr(parameters, changed) if one not in (None, other)]
        self._refused.pop(nodeID, None)
        setattr(parameters, changed, [*listed, other] if isListed else listed)

    def start(self):
        """Give all that go along the face of the present result, one after the other, in the background."""
        self.forget()
        left, madeFrom = self.left(), self.parameters.madeFrom()
        if left:
            starts = [self._startOf(other, *madeFrom) for other in left]
            self.panel.run(Task.FURTHER, self.panel.inTurn(starts), self.onDone, self.ui.defaceProgressBar)

    def _startOf(self, other, volumeNode, maskNode, choices, kept):
        """What gives another volume the face; that it is refused does not end the task."""

        def start(progress, done, failed):
            def refused(error):
                if isinstance(error, Cancelled):
                    failed(error)
                else:
                    self._refused[other.GetID()] = self.panel.sentence(error)
                    done(None)

            callbacks = {"progress": progress, "done": done, "failed": refused}
            self.panel.goOn(
                lambda: self.logic.defaceFurther(volumeNode, maskNode, other, choices, kept, **callbacks), refused
            )

        return start

    def onDone(self, _results):
        self.panel.log(_("Further series done"))
        self.panel.updateSoon()
