"""What the panels of both modules share: the scene and its parameter node, and one task at a time in the background."""

import importlib
import logging
import sys
import time

import qt
import slicer
import vtk
from CTDefaceLib.errors import Cancelled, CTDefaceError
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from . import hints, nodes
from .steps import Steps

LONG_SECONDS = 10.0
"""A task that takes longer, in seconds, tells how long it still takes. A choice."""
LITTLE_DONE = 0.1
"""Share of a task that has to be done before anybody can tell how long the rest takes. A choice."""
FIRST = 1000.0
"""Priority of an observer that is called before the node selectors."""


class TaskPanel(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """A module's widget whose long work runs in the background, one task at a time.

    A subclass makes its logic and its steps in ``setup()``, then calls :meth:`observeScene`, and has ``updateGUI()``,
    which enables what can be done now. Its steps are :class:`.step_panel.StepPanel`.

    Attributes
    ----------
    ui: the widgets of the form by name
    steps: which of them are open, and which button comes next
    logic: of the module; its ``process`` does the tasks
    parameterNode: the choices of the panel; None while a scene is closed or read
    task: what runs in the background, a member of the module's ``Task``, or None
    errors: what went wrong at the last try, a sentence by task
    """

    GIVE_WAY = ()
    """Tasks that give way to what the user starts."""
    SHOWN_CLASSES = ("vtkMRMLScalarVolumeNode",)
    """Classes of the nodes that the panel shows something of: :meth:`onNodesGone` follows when one is deleted."""
    CHOICES = ()
    """Members of the parameter node that are nodes of the scene, chosen in a selector."""
    LIBRARIES = ()
    """Packages that *Reload* loads again, with all that is in them."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.ui = self.steps = self.logic = self.parameterNode = self.task = None
        self.errors = {}
        self._guiTag = None
        self._onResult = self._onError = self._bar = None  # of the task
        self._startedAt = 0.0

    # Life of the panel

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath(f"UI/{self.moduleName}.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        self.steps = Steps(self.ui)
        uiWidget.setMRMLScene(slicer.mrmlScene)

    def cleanup(self):
        self.stop()
        self.setParameterNode(None)
        self.removeObservers()

    def stop(self):
        """Drop what runs in the background, and what went wrong."""
        self.logic.process.stop()
        self.task = None
        self.errors = {}

    def leave(self):
        """End the idle background process once the module is left: no use for it then, and it holds the volumes."""
        if not self.parent.isEntered and not self.busy:
            self.logic.process.stop()

    def onReload(self):
        """Reload the module together with its libraries; Slicer by itself reads the module's own file again."""
        for name in [name for name in sys.modules if name.partition(".")[0] in self.LIBRARIES]:
            del sys.modules[name]
        importlib.invalidate_caches()
        ScriptedLoadableModuleWidget.onReload(self)

    # The scene and the parameter node

    def observeScene(self):
        """Follow the scene from now on, and show the choices that it holds."""
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodeAdded)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeAboutToBeRemoved, priority=FIRST)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)
        self.showScene()

    def onSceneStartClose(self, caller, event):
        self.stop()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        nodes.forget()
        if self.parent.isEntered:
            self.showScene()

    def onSceneStartImport(self, caller, event):
        self.setParameterNode(None)  # a selector whose node is not there yet must not change the parameters

    def onSceneEndImport(self, caller, event):
        if self.parent.isEntered or self.busy:
            self.showScene()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, caller, event, node):
        isVolume = node is not None and node.GetClassName() == "vtkMRMLScalarVolumeNode"
        if isVolume and self.parent.isEntered:
            qt.QTimer.singleShot(0, lambda: self.preselect([node]))  # its voxels come after it

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller, event, node):
        """Choose what follows a chosen node that goes; its selector would choose the one in the row before."""
        parameters = self.parameterNode
        if parameters is None or node is None or slicer.mrmlScene.IsClosing():
            return
        gone = [name for name in self.CHOICES if getattr(parameters, name) is node]
        if gone:
            with slicer.util.NodeModify(parameters):
                for name in gone:
                    setattr(parameters, name, self.successor(name, node))

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller, event, node):
        if node is not None and node.GetClassName() in self.SHOWN_CLASSES and not slicer.mrmlScene.IsClosing():
            qt.QTimer.singleShot(0, self.onNodesGone)

    def showScene(self):
        """Show the choices that the scene holds; choose volumes where none are chosen."""
        if self.parameterNode is None:
            self.setParameterNode(self.logic.getParameterNode())
        else:
            self.onParametersChanged()
        if self.parent.isEntered:
            self.preselect()

    def setParameterNode(self, parameterNode):
        """Connect the widgets with a parameter node in place of the present one; with None, with none."""
        if self.parameterNode is not None:
            self.parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
        self.parameterNode = parameterNode
        self.onParameterNodeSet()
        if parameterNode is not None:
            # As connectGui(), which does not return the tag that disconnectGui() needs (Slicer up to 5.12)
            names = {widget.property("SlicerParameterName"): widget for widget in vars(self.ui).values()}
            self._guiTag = parameterNode.connectParametersToGui({name: names[name] for name in names if name})
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
            self.onParametersChanged()

    def onParameterNodeSet(self):
        """Called when there is another parameter node, or none, before widgets are connected with it."""

    def onParametersChanged(self, caller=None, event=None):
        self.updateGUI()

    def successor(self, name, node):
        """What is chosen when a chosen node is about to be deleted; None for nothing.

        :param name: one of CHOICES.
        """

    def onNodesGone(self):
        """Called when a node was deleted that the panel shows something of."""

    def preselect(self, volumeNodes=None):
        """Choose volumes where none are chosen.

        :param volumeNodes: what was just added to the scene; None for all of it.
        """

    # Tasks in the background

    @property
    def busy(self):
        """Whether a task runs in the background."""
        return self.task is not None

    @property
    def isFree(self):
        """Whether the user can start a task: none runs, or one that gives way."""
        return self.task is None or self.task in self.GIVE_WAY

    def run(self, task, start, done, bar=None, failed=None):
        """Start one of the logic's long methods; the panel shows that it runs and, when it ends, what came out.

        :param task: member of the module's ``Task``.
        :param start: called with the callbacks ``progress``, ``done`` and ``failed`` of the long method.
        :param done: called with the result.
        :param bar: progress bar of the step.
        :param failed: called with the error; without it, the step shows the error.
        """
        self.giveWay()
        self.takeOver(task, done, bar)
        self._onError = failed
        with slicer.util.tryWithErrorDisplay(_("The task could not be started.")):
            try:
                start(progress=self._onProgress, done=self._onDone, failed=self._onFailed)
            except CTDefaceError as error:
                self._onFailed(error)
            except Exception:
                self.task = None
                raise
            finally:
                self.updateGUI()

    def takeOver(self, task, done, bar=None):
        """Make what runs, or is about to, the given task; arguments as of :meth:`run`."""
        self.task, self._onResult, self._onError, self._bar = task, done, None, bar
        self._startedAt = time.monotonic()
        self.errors.pop(task, None)
        if bar is not None:
            bar.value = 0
            bar.format = "%p%"

    def goOn(self, start, failed):
        """Start a further part of the task that runs; what goes wrong ends the task.

        :param failed: the callback of the task.
        """
        try:
            start()
        except Exception as error:
            if not isinstance(error, CTDefaceError):
                logging.exception("A task could not go on.")
            failed(error)

    def inTurn(self, starts):
        """Long methods one after the other, as one: ``start`` of :meth:`run`. Its result is the list of theirs.

        :param starts: each as ``start`` of :meth:`run`.
        """

        def start(progress, done, failed):
            results = []

            def step():
                number = len(results)
                if number == len(starts):
                    done(results)
                    return

                def onProgress(fraction, text):
                    progress((number + fraction) / len(starts), text)

                def onDone(result):
                    results.append(result)
                    step()

                self.goOn(lambda: starts[number](progress=onProgress, done=onDone, failed=failed), failed)

            step()

        return start

    def giveWay(self):
        """Drop what runs when it is a task that gives way."""
        if self.task in self.GIVE_WAY:
            self.logic.process.stop()
            self.task = None

    def cancel(self):
        """Stop what runs, with all that it started."""
        self.logic.process.cancel()

    def _onProgress(self, fraction, text):
        if self._bar is not None:
            self._bar.value = round(100 * fraction)
            self._bar.format = f"{text} … %p%{self._left(fraction)}"
        self.log(text)

    def _left(self, fraction):
        """About how long the task still takes, once there is something to go by."""
        elapsed = time.monotonic() - self._startedAt
        if elapsed < LONG_SECONDS or not LITTLE_DONE < fraction < 1.0:
            return ""
        left = elapsed * (1.0 - fraction) / fraction
        if left < LONG_SECONDS:
            return ""
        return _(", {n:.0f} s left").format(n=left) if left < 100 else _(", {n:.0f} min left").format(n=left / 60)

    def _onDone(self, result):
        self.task = None
        with slicer.util.tryWithErrorDisplay(_("The result could not be shown.")):
            self._onResult(result)
            self.onTaskDone()
        self.updateGUI()
        qt.QTimer.singleShot(0, self.leave)

    def _onFailed(self, error):
        task, self.task = self.task, None
        self.log(str(error))
        if self._onError is not None:
            self._onError(error)
        elif not isinstance(error, Cancelled):
            self.errors[task] = self.sentence(error)
        self.updateGUI()
        self.onTaskFailed(task)
        qt.QTimer.singleShot(0, self.leave)

    def log(self, text):
        """Called with what a task reports."""

    def sentence(self, error):
        """What a step shows of an error."""
        return hints.withoutPip(str(error))

    def onTaskDone(self):
        """Called when the result of a task was shown."""

    def onTaskFailed(self, task):
        """Called when a task has failed or was cancelled."""
