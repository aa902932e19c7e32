"""Step 1 of the CTDefaceEval panel: the volumes, and their heads side by side in the views."""

import qt
import slicer
from CTDefaceLib.errors import Cancelled, CTDefaceError
from CTDefaceSlicer.shared import hints, nodes, views
from CTDefaceSlicer.shared.step_panel import StepPanel
from slicer.i18n import tr as _

from . import head_views, results
from .head_views import DEFACED, ORIGINAL, RECOVERED
from .parameters import Rendering

SHOW_DELAY_MSEC = 200
"""The views follow when nothing was chosen for that long."""


class HeadsPanel(StepPanel):
    """The widgets of the step, and what they do.

    Attributes
    ----------
    head: where the head is that the views show, a ``head_views.Head``; None where they show none
    key: what is shown, see ``CTDefaceEvalLogic.headsKey``
    """

    def __init__(self, panel):
        super().__init__(panel)
        self.head = self.key = None
        self._making = None  # key of the volumes whose skins are being made
        self._isShown = False  # whether their layout was brought up since the module was entered
        self._layoutBefore = None  # the layout to go back to
        self._showTimer = qt.QTimer()
        self._showTimer.setSingleShot(True)
        self._showTimer.setInterval(SHOW_DELAY_MSEC)
        self._showTimer.connect("timeout()", self.show)
        self.ui.showButton.connect("clicked()", self.onShow)
        self.ui.frontButton.connect("clicked()", self.onFront)

    @property
    def isMaking(self):
        """Whether skins are being made."""
        return self._making is not None

    def problem(self):
        """What is missing or wrong with the volumes, in one sentence."""
        parameters = self.parameters
        if parameters.originalVolume is None:
            return _("Load a head CT, and its defaced version if there is one, or make them with CTDeface.")
        if parameters.defacedVolume is parameters.originalVolume:
            return _("Choose two different volumes, or leave the defaced one empty.")
        for node in (parameters.originalVolume, parameters.defacedVolume):
            problem = nodes.ctProblem(node) if node is not None else ""
            if problem:
                return problem
        return ""

    def update(self, problem):
        """Enable what can be done now, and show what is missing."""
        ui = self.ui
        ui.showButton.enabled = ui.frontButton.enabled = not problem
        ui.inputProgressBar.visible = self.isMaking
        hints.show(ui.inputHintLabel, problem or (_("Making the skin surface…") if self.isMaking else ""), self.error)

    def preselect(self):
        """Choose the first pair of an original and what CTDeface made of it, else the first CT, when none is chosen."""
        parameters = self.parameters
        if parameters is None or parameters.originalVolume is not None:
            return
        found = list(nodes.offeredCTs())
        original = next((node for node in found if self.logic.defacedOf(node)), found[0] if found else None)
        if original is not None:
            with slicer.util.NodeModify(parameters):
                parameters.originalVolume = original
                parameters.defacedVolume = self.logic.defacedOf(original)

    def names(self):
        """The heads that the views show."""
        names = [ORIGINAL]
        if self.parameters.defacedVolume is not None:
            names.append(DEFACED)
            if head_views.surface(RECOVERED) is not None:
                names.append(RECOVERED)
        return names

    # Making the skins

    def showSoon(self):
        """Bring the views up to date once nothing has changed for a moment."""
        self._showTimer.start()

    def show(self):
        """Bring the views up to date with the choices; the skins are made first where they are not there yet."""
        parameters = self.parameters
        if parameters is None or not self.panel.parent.isEntered:
            return
        if self.problem():
            self.stopMaking()
            self._drop()
            self.panel.updateGUI()
            return
        volumeNodes = parameters.originalVolume, parameters.defacedVolume
        key = self.logic.headsKey(*volumeNodes)
        if self.key == key and all(head_views.surface(name) is not None for name in self.names()):
            self._draw()  # the skins are kept; a process that needs them and has none says so, see MeterPanel.onFailed
        elif self._making != key:
            self._make(key, volumeNodes)

    def _make(self, key, volumeNodes):
        """Have the skins made in the background and show them."""

        def onDone(head):
            if self.key != key:
                self._isShown = False
            self.key, self.head, self._making = key, head, None
            with slicer.util.tryWithErrorDisplay(_("The heads could not be shown.")):
                self._draw()

        def onFailed(error):
            self._making = None
            if not isinstance(error, Cancelled):
                self.error = str(error)
            self.panel.updateGUI()

        self.panel.meterPanel.stop()
        self.stopMaking()  # what it does is for other volumes
        if self.key != key:
            self._drop()
        self._making = key
        with slicer.util.tryWithErrorDisplay(_("The heads could not be shown.")):
            try:
                self.logic.findHeads(*volumeNodes, done=onDone, failed=onFailed)
            except CTDefaceError as error:
                onFailed(error)
        self.panel.updateGUI()

    def stopMaking(self):
        """End the process that makes skins and holds them."""
        self.logic.meterProcess.stop()
        self._making = None

    def forget(self):
        """The views show no heads any more, or heads that the process does not know."""
        self.head = self.key = None

    def stop(self):
        """Drop what runs, and what the views show."""
        self._showTimer.stop()
        self.stopMaking()
        self.forget()
        head_views.forget()
        self.error = ""

    def _drop(self):
        """Show no heads, and forget what came out of their volumes."""
        self.panel.meterPanel.stop()
        self.forget()
        self.panel.evaluationPanel.forget()
        head_views.removeSurfaces()

    # The views

    def onShow(self):
        self._bringUp()

    def _bringUp(self, yaw=0.0, pitch=0.0):
        """Show the heads side by side, whatever the layout was, from the front or another side."""
        if self.head is None or self.parameters is None:
            self.showSoon()
            return
        with slicer.util.tryWithErrorDisplay(_("The heads could not be shown.")):
            self._takeLayout()
            head_views.showLayout(len(self.names()))
            # One after the other, so that the window does not freeze; the views have their size by then.
            for step in (self._clear, self._draw, lambda: self.turnTo(yaw, pitch)):
                qt.QTimer.singleShot(0, lambda step=step: self._ifShown(step))

    def _ifShown(self, step):
        """Go on with what brings up the heads, unless they were left meanwhile."""
        if self._isShown and self.parameters is not None and self.panel.parent.isEntered:
            with slicer.util.tryWithErrorDisplay(_("The heads could not be shown.")):
                step()

    def _clear(self):
        """Take away the renderings of CTDeface, where none is shown here."""
        if self.parameters.rendering is Rendering.SURFACE:
            views.keepRenderings()

    def _draw(self):
        """Show the heads by the rendering that is chosen, and score them; at first, bring up their layout."""
        if not self._isShown:
            self._bringUp()
            return
        parameters = self.parameters
        if parameters is None:  # while a scene is read
            return
        volumeNodes = {ORIGINAL: parameters.originalVolume, DEFACED: parameters.defacedVolume}
        with slicer.util.RenderBlocker():
            head_views.showHeads(self.names(), volumeNodes, parameters.rendering is Rendering.VOLUME)
        self.panel.meterPanel.startOrStop()
        self.panel.updateGUI()

    def showRecovered(self, surface):
        """Show the skin that an attack has won back, from the side that the others are seen from."""
        if self.head is None:
            return
        head_views.showSurface(RECOVERED, surface, self.parameters.defacedVolume)
        if self.panel.parent.isEntered:
            self._bringUp(*head_views.sideSeen(self.head))

    def showResults(self, tableNode, chartNode):
        """Show a table and a chart below the heads."""
        with slicer.util.tryWithErrorDisplay(_("The numbers could not be shown.")):
            self._takeLayout()
            results.show(tableNode, chartNode, len(self.names()))
            if self.head is not None:
                side = head_views.sideSeen(self.head)
                self._draw()
                qt.QTimer.singleShot(0, lambda: self.turnTo(*side))  # once the views have their new size

    def _takeLayout(self):
        """Make ready for a layout with the heads; the present one is gone back to when the module is left."""
        self.panel.meterPanel.stop()
        layoutManager = slicer.app.layoutManager()
        if layoutManager is not None and not head_views.shownHeads():
            self._layoutBefore = layoutManager.layout
        self._isShown = True

    def leave(self):
        """Stop, and go back to the layout that was there before the heads."""
        self._showTimer.stop()
        self.stopMaking()  # no use for the process now, and it holds the skins
        self._isShown = False
        if head_views.shownHeads() and self._layoutBefore is not None:
            slicer.app.layoutManager().setLayout(self._layoutBefore)

    def onFront(self):
        self.turnTo(0.0, 0.0)

    def turnTo(self, yaw, pitch):
        """Turn the heads to a side, in degrees."""
        if self.head is not None:
            head_views.turnTo(self.head, yaw, pitch)
