"""The method box of step 2 of the CTDeface panel: which segmenter, what it lacks, and what helps."""

import logging

import qt
import slicer
from CTDefaceLib import segmenters, tasks
from CTDefaceLib.errors import CTDefaceError
from CTDefaceLib.segmenters import Action, Choice, Downloadable, Labelled, Status, Trained
from slicer.i18n import tr as _

from .segmenter_install import install
from .shared import hints, paths
from .tasks import Task

SETTINGS = "CTDeface/"
"""Folders of weights and the device are settings of this Slicer: a scene goes to other machines."""

SHORT = {
    Status.READY: "",
    Status.NO_PACKAGE: _("has to be installed"),
    Status.NO_LICENCE: _("needs a licence key"),
    Status.NO_WEIGHTS: _("needs its weights"),
}
AUTOMATIC = ("auto", _("Automatic"))
PROCESSOR = ("cpu", _("cpu: processor"))


class SegmenterPanel:
    """The widgets of the method box, and what they do.

    :param ui: widgets of the panel by name.
    :param logic: of the module.
    :param changed: called when another segmenter is chosen, or its choices change, or something was installed.
    :param run: called with a task, a function that starts it and one for its result, as ``TaskPanel.run``.
    """

    def __init__(self, ui, logic, changed, run):
        self._ui, self._logic, self._changed, self._run = ui, logic, changed, run
        self._names = segmenters.names()
        self._states = {}
        self._devices = [AUTOMATIC, PROCESSOR]  # until the background process has found out which there are
        self._message = ""
        self._expected = {}  # what a segmentation was expected for → seconds
        self._isUpdating = False
        ui.segmenterComboBox.clear()
        for name in self._names:
            ui.segmenterComboBox.addItem(segmenters.module(name).TITLE)
        self._showDevices()
        ui.segmenterComboBox.connect("currentIndexChanged(int)", self.onChosen)
        paths.follow(ui.weightsPathLineEdit, self.onWeights)
        ui.faceLabelComboBox.connect("currentIndexChanged(int)", self.onLabel)
        ui.deviceComboBox.connect("currentIndexChanged(int)", self.onDevice)
        ui.installButton.connect("clicked()", self.onInstall)
        ui.licenceButton.connect("clicked()", self.onLicence)
        ui.licenceLineEdit.connect("returnPressed()", self.onLicence)
        ui.downloadButton.connect("clicked()", self.onDownload)
        ui.importButton.connect("clicked()", self.onImport)
        ui.removeWeightsButton.connect("clicked()", self.onRemoveWeights)
        self.show("builtin")

    @property
    def name(self):
        """Name of the chosen segmenter."""
        return self._names[self._ui.segmenterComboBox.currentIndex]

    @property
    def module(self):
        return segmenters.module(self.name)

    def choice(self):
        """The choices for the chosen segmenter, a dict with the members of Choice that it takes."""
        known = {"weights": self._setting("weights"), "label": self._setting("label"), "device": self._device()}
        return {name: value for name, value in known.items() if name in self.module.OPTIONS}

    @property
    def isReady(self):
        return self._state().status == Status.READY

    @property
    def nextButton(self):
        """Name of the button that helps a method that is not ready, or None."""
        helpful = {
            Action.INSTALL: "installButton",
            Action.ENTER_LICENCE: "licenceButton",
            Action.DOWNLOAD: "downloadButton",
            Action.IMPORT: "importButton",
        }
        return next((button for action, button in helpful.items() if action in self._state().actions), None)

    def show(self, name):
        """Show the box of a segmenter; of the built-in one where there is none of this name."""
        self._isUpdating = True
        name = name if name in self._names else "builtin"
        ui, options = self._ui, segmenters.module(name).OPTIONS
        ui.segmenterComboBox.currentIndex = self._names.index(name)
        ui.weightsPathLineEdit.currentPath = self._setting("weights") if "weights" in options else ""
        for option, widgets in (
            ("weights", (ui.weightsLabel, ui.weightsPathLineEdit)),
            ("label", (ui.faceLabelLabel, ui.faceLabelComboBox)),
            ("device", (ui.deviceLabel, ui.deviceComboBox)),
        ):
            for widget in widgets:
                widget.visible = option in options
        self._isUpdating = False
        self.refresh()

    def refresh(self):
        """Find out again what each segmenter lacks, and show it."""
        self._states.clear()
        self._isUpdating = True
        for index, name in enumerate(self._names):
            short = SHORT[self._state(name).status]
            title = segmenters.module(name).TITLE
            self._ui.segmenterComboBox.setItemText(index, f"{title} ({short})" if short else title)
        self._showLabels()
        self._isUpdating = False
        self.update()

    def update(self, isFree=True):
        """Enable what can be done now, and show what is missing.

        :param isFree: whether nothing else runs.
        """
        ui, state = self._ui, self._state()
        for action, widgets in (
            (Action.INSTALL, (ui.installButton,)),
            (Action.ENTER_LICENCE, (ui.licenceLinkLabel, ui.licenceLineEdit, ui.licenceButton)),
            (Action.DOWNLOAD, (ui.downloadButton,)),
            (Action.IMPORT, (ui.importButton,)),
        ):
            for widget in widgets:
                widget.visible = action in state.actions
                widget.enabled = isFree
        room = self.module.weights_bytes() if isinstance(self.module, Downloadable) else 0
        ui.weightsSizeLabel.text = _("Weights: {size}").format(size=hints.size(room))
        ui.weightsSizeLabel.visible = ui.removeWeightsButton.visible = room > 0
        ui.removeWeightsButton.enabled = isFree
        ui.segmenterActionsFrame.visible = bool({Action.INSTALL, Action.DOWNLOAD, Action.IMPORT} & set(state.actions))
        ui.licenceFrame.visible = Action.ENTER_LICENCE in state.actions
        sentence = hints.withoutPip(state.sentence)
        if Action.ENTER_LICENCE in state.actions:
            sentence = sentence.replace(f" ({self.module.LICENCE})", "")  # it stands below
            text = _("Get a licence key, free for non-commercial use")
            ui.licenceLinkLabel.text = f'<a href="{self.module.LICENCE}">{text}</a>'
        for widget in (ui.segmenterComboBox, ui.weightsPathLineEdit, ui.faceLabelComboBox, ui.deviceComboBox):
            widget.enabled = isFree
        isMissing = bool(sentence) and Action.CHOOSE_FOLDER not in state.actions
        hints.show(ui.stateLabel, sentence, self._message or (sentence if isMissing else ""))
        ui.segmenterComboBox.toolTip = self.module.ABOUT

    # What it takes

    def expectation(self, volumeKey):
        """Seconds that a segmentation of a volume is expected to take with the present choices, or None."""
        return self._expected.get(self._expectationKey(volumeKey))

    def startExpecting(self, volumeKey):
        """Whether it has to be found out how long a segmentation will take; asked once for each set of choices."""
        key = self._expectationKey(volumeKey)
        if key in self._expected or not isinstance(self.module, Trained):
            return False
        self._expected[key] = None
        return True

    def onExpected(self, volumeKey, report):
        """Take what the background process found out: seconds, and the devices there are."""
        self._expected[self._expectationKey(volumeKey)] = report["seconds"]
        self._devices = [AUTOMATIC, *((name, f"{name}: {text}") for name, text in report["devices"])]
        self._isUpdating = True
        self._showDevices()
        self._isUpdating = False

    def _expectationKey(self, volumeKey):
        return volumeKey, self.name, *self.choice().values()

    # What the user does

    def onChosen(self, index):
        if not self._isUpdating and index >= 0:
            self._message = ""
            self.show(self.name)
            self._changed()

    def onWeights(self, path):
        if not self._isUpdating:
            self._message = ""
            self._set("weights", path)
            self._set("label", "")
            self.refresh()
            self._changed()

    def onLabel(self, index):
        if not self._isUpdating and index >= 0:
            self._set("label", self._ui.faceLabelComboBox.currentText)
            self.refresh()
            self._changed()

    def onDevice(self, index):
        if not self._isUpdating and index >= 0:
            slicer.app.settings().setValue(SETTINGS + "device", self._devices[index][0])
            self._changed()

    def onInstall(self):
        self._logic.process.stop()  # it would go on with what it has loaded
        try:
            with slicer.util.WaitCursor():
                self._message = install(self.module)
        except Exception as error:  # an installer of another extension can raise anything
            logging.exception("The installation failed.")
            self._message = str(error)
        self.refresh()
        self._changed()

    def onLicence(self):
        try:
            self.module.save_licence(self._ui.licenceLineEdit.text)
            self._message = ""
        except CTDefaceError as error:
            self._message = str(error)
        self._ui.licenceLineEdit.text = ""
        self.refresh()
        self._changed()

    def onDownload(self):
        question = _("Download {what}? Nothing of your scans is sent.").format(what=self.module.DOWNLOAD)
        if not slicer.util.confirmOkCancelDisplay(question, windowTitle=_("CTDeface")):
            return
        name = self.name

        def start(**callbacks):
            self._logic.process.start(tasks.Download(name), **callbacks)

        self._message = ""
        self._run(Task.DOWNLOAD, start, lambda report: self.refresh(), self._ui.segmentProgressBar)

    def onRemoveWeights(self):
        question = _(
            "Remove the weights of {name} ({size}) from this computer? Other programs that use them there have to do "
            "without them as well. They can be downloaded again."
        ).format(name=self.module.TITLE, size=hints.size(self.module.weights_bytes()))
        if slicer.util.confirmOkCancelDisplay(question, windowTitle=_("CTDeface")):
            self._logic.process.stop()  # it would go on with what it has loaded
            self.module.remove_weights()
            self._message = ""
            self.refresh()
            self._changed()

    def onImport(self):
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), _("Weights of {name}").format(name=self.module.TITLE), "", "*.zip"
        )
        if not path:
            return
        try:
            with slicer.util.WaitCursor():
                self.module.import_weights(path)
            self._message = ""
        except CTDefaceError as error:
            self._message = str(error)
        self.refresh()
        self._changed()

    # Settings and lists

    def _state(self, name=None):
        name = name or self.name
        if name not in self._states:
            choice = Choice(weights=self._setting("weights", name), label=self._setting("label", name))
            self._states[name] = segmenters.module(name).state(choice)
        return self._states[name]

    def _setting(self, option, name=None):
        value = slicer.app.settings().value(f"{SETTINGS}{name or self.name}/{option}")
        return value or ""

    def _set(self, option, value):
        slicer.app.settings().setValue(f"{SETTINGS}{self.name}/{option}", value)

    def _device(self):
        chosen = slicer.app.settings().value(SETTINGS + "device") or AUTOMATIC[0]
        return chosen if chosen in dict(self._devices) else AUTOMATIC[0]

    def _showDevices(self):
        box = self._ui.deviceComboBox
        box.clear()
        for _name, text in self._devices:
            box.addItem(text)
        box.currentIndex = [name for name, _text in self._devices].index(self._device())

    def _showLabels(self):
        """Offer the labels of the chosen model, with the one that is the face chosen where that is clear."""
        box = self._ui.faceLabelComboBox
        box.clear()
        if not isinstance(self.module, Labelled):
            return
        try:
            known = self.module.labels(Choice(**self.choice()))
        except CTDefaceError:
            return
        for label in known:
            box.addItem(label)
        chosen = self._setting("label")
        faces = [label for label in known if label.lower() == "face"] or (known if len(known) == 1 else [])
        box.currentIndex = known.index(chosen) if chosen in known else known.index(faces[0]) if faces else -1
