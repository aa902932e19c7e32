"""The live meter: scores what the 3D views show while the user turns the head, and never makes the turning wait."""

import time

import numpy as np
import qt
import vtk
from CTDefaceEvalLib import tasks
from CTDefaceEvalLib.detection import FIELD_OF_VIEW_MM
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from . import head_views
from .marks import FaceMarks

MOVING_SECONDS = 0.15
"""At most that often while the camera moves; what the background process cannot keep up with is left out."""
LOST_SECONDS = 1.0
"""Pictures that have not been taken for that long are asked for again."""
REST_MSEC = 350
"""The camera rests when it has not moved for that long."""


class LiveMeter:
    """Watches the views, sends their pictures to the background process and draws what it finds over them.

    Every frame tells whether its camera has moved. While it moves, pictures are taken of frames that are drawn anyway,
    whenever the process is free; when it has come to rest, one frame more is drawn. How similar the faces are takes
    longer and is measured at rest.

    :param process: BackgroundProcess of :mod:`CTDefaceEvalLib.worker`, which other jobs may keep busy.
    :param choices: called for the members of the task that depend on the user's choices: model and folder.
    :param told: called with each answer, see :class:`CTDefaceEvalLib.tasks.Score`.
    :param failed: called with the error that ends it.
    """

    def __init__(self, process, choices, told, failed):
        self._process, self._choices, self._told, self._failed = process, choices, told, failed
        self._eyes = []
        self._head = None
        self._asked = None  # "moving" or "rest": what the pictures that are being taken are for
        self._askedAt = 0.0
        self._isLate = False  # the head at rest is still to be scored
        self._restTimer = qt.QTimer()
        self._restTimer.setSingleShot(True)
        self._restTimer.setInterval(REST_MSEC)
        self._restTimer.connect("timeout()", self._onRest)

    @property
    def running(self):
        return bool(self._eyes)

    def start(self, names, head=None):
        """Watch the views of these heads.

        :param head: where the head is, to score the standard rendering from the camera's side; None for what is seen.
        """
        self.stop()
        self._head = head
        self._eyes = [_Eye(name, view, self._onFrame) for name in names if (view := head_views.threeDView(name))]
        self.refresh()

    def stop(self):
        """Watch no longer, and take away what was drawn."""
        self._restTimer.stop()
        eyes, self._eyes = self._eyes, []
        self._asked, self._isLate = None, False
        for eye in eyes:
            eye.close()

    def refresh(self):
        """Score what is seen now, as after a turn."""
        if self._eyes:
            self._restTimer.start()

    def _onFrame(self, eye, moved):
        """The scene of a view has been drawn."""
        if moved:
            self._restTimer.start()
            self._isLate = False
            if self._asked == "rest":
                self._asked = "moving"
            # A view that was hidden in between never answers.
            patience = MOVING_SECONDS if self._asked is None else LOST_SECONDS
            if not self._process.busy and time.monotonic() - self._askedAt > patience:
                self._ask("moving")
        isOld = moved and eye.picture is not None and self._head is None  # it waits for that of another view
        if eye.wanted or isOld:
            eye.wanted, eye.picture = False, eye.grab()
            self._sendSoon()

    def _onRest(self):
        self._isLate = self._process.busy
        if self._eyes and not self._isLate:
            self._ask("rest")
            for eye in self._eyes:
                eye.view.scheduleRender()

    def _ask(self, why):
        """Have a picture taken of the next frame of each view that is seen."""
        self._asked, self._askedAt = why, time.monotonic()
        for eye in self._eyes:
            eye.wanted, eye.picture = self._head is None and eye.view.visible, None
            if self._head is not None and eye.view.visible and eye.name != head_views.RECOVERED:
                eye.picture = np.array(self._head.angles(eye.camera))  # the process has no surface of the recovered
        self._sendSoon()

    def _sendSoon(self):
        if not any(eye.wanted for eye in self._eyes):
            qt.QTimer.singleShot(0, self._send)  # not in the middle of the drawing

    def _send(self):
        why, self._asked = self._asked, None
        eyes = [eye for eye in self._eyes if eye.picture is not None]
        if why is None or not eyes:
            return
        if self._process.busy:
            self._isLate = why == "rest"
            return
        pictures = {eye.name: self._process.save(eye.name, eye.picture) for eye in eyes}
        for eye in eyes:
            eye.looked = eye.square if self._head is None else (self._head, *eye.picture)
            eye.picture = None
        task = tasks.Score(pictures, embed=why == "rest", **self._choices())
        self._process.start(task, done=self._onScores, failed=self._onFailed)

    def _onScores(self, answer):
        for eye in self._eyes:
            if eye.name in answer["faces"] and eye.looked is not None:  # else it was asked before this start
                eye.show(answer["faces"][eye.name], answer["sizes"][eye.name])
        self._told(answer)
        if self._isLate:
            self._onRest()

    def _onFailed(self, error):
        self.stop()
        self._failed(error)


class _Eye:
    """One view that is watched."""

    def __init__(self, name, view, onFrame):
        self.name, self.view = name, view
        self.wanted, self.picture = False, None
        self.square = None  # left, bottom and size of the picture taken last, in pixels of the window
        self.looked = None  # where the picture comes from that is being scored
        self._window = view.renderWindow()
        self._renderer = self._window.GetRenderers().GetFirstRenderer()
        self._marks = FaceMarks(self._window)
        self._seen = self._pose()
        self._onFrame = onFrame
        self._tag = self._renderer.AddObserver(vtk.vtkCommand.EndEvent, self._onEnd)

    @property
    def camera(self):
        return self._renderer.GetActiveCamera()

    def close(self):
        self._renderer.RemoveObserver(self._tag)
        self._marks.remove()
        self.view.scheduleRender()

    def _pose(self):
        camera = self.camera
        size = self._window.GetSize()
        return camera.GetPosition(), camera.GetFocalPoint(), camera.GetViewUp(), camera.GetParallelScale(), size

    def _onEnd(self, caller, event):
        """The scene of this frame is drawn, the marks over it are not yet."""
        if self._renderer.GetSelector() is not None:  # no frame to be seen: the mouse asks what it points at
            return
        moved = self._pose() != self._seen
        self._seen = self._pose()
        self._onFrame(self, moved)

    def grab(self):
        """The square in the middle of the view, (n, n, 3) uint8."""
        columns, rows = self._window.GetSize()
        size = min(columns, rows)
        left, bottom = (columns - size) // 2, (rows - size) // 2
        self.square = left, bottom, size
        pixels = vtk.vtkUnsignedCharArray()
        self._window.GetPixelData(left, bottom, left + size - 1, bottom + size - 1, 0, pixels, 0)
        return vtk_to_numpy(pixels).reshape(size, size, 3)[::-1].copy()

    def show(self, face, size):
        """Draw what was found in a picture of ``size`` pixels."""
        name = head_views.LABELS[self.name]
        if face is None:
            self._marks.show(_("{name}: no face").format(name=name))
        else:
            left, top, right, bottom = face["box"]
            box = [self._place(x, y, size) for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]
            landmarks = [self._place(x, y, size) for x, y in face["landmarks"]]
            self._marks.show(_("{name}: face {score:.2f}").format(name=name, score=face["score"]), box, landmarks)
        self.view.scheduleRender()

    def _place(self, x, y, size):
        """Where in the window a pixel of the picture is, counted from its upper left corner."""
        if isinstance(self.looked[0], head_views.Head):
            head, yaw, pitch = self.looked
            millimetres = FIELD_OF_VIEW_MM / size
            point = head.point(yaw, pitch, (x - size / 2) * millimetres, (size / 2 - y) * millimetres)
            self._renderer.SetWorldPoint(*point, 1.0)
            self._renderer.WorldToDisplay()
            return self._renderer.GetDisplayPoint()[:2]
        left, bottom, side = self.looked
        return left + x * side / size, bottom + (size - y) * side / size
