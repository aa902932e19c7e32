"""The live meter: scores what the 3D views show while the user turns the head, and never makes the turning wait."""

import time

import numpy as np
import qt
import vtk
from CTDefaceEvalLib import tasks
from CTDefaceEvalLib.detection import FIELD_OF_VIEW_MM
from scipy import ndimage
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from . import head_views
from .marks import FaceMarks

MOVING_SECONDS = 0.15
"""At most that often while the camera moves; what the background process cannot keep up with is left out."""
STRAIGHT_DEG = 3.0
"""A head that is tilted less in a view, in degrees, is looked at as it is seen: detectors take more. By judgement."""
SIDEWAYS_DEG = 30.0
"""A face that is not found in a head that is tilted more, in degrees, proves nothing: the picture is straightened, but
lit from the side or from below. The phantom scores 1.7 upright, 1.2 at 40°, 0.2 at 90°, and is not found at 180°."""
LOST_SECONDS = 1.0
"""Pictures that have not been taken for that long are asked for again."""
REST_MSEC = 350
"""The camera rests when it has not moved for that long."""


class LiveMeter:
    """Follows the views, sends their pictures to the background process and draws what it finds over them.

    Every frame shows whether its camera has moved. While it moves, pictures are taken of frames that are drawn anyway,
    whenever the process is free; when it has come to rest, one frame more is drawn. How similar the faces are takes
    longer and is measured at rest.

    :param process: BackgroundProcess of :mod:`CTDefaceEvalLib.worker`, which other jobs may keep busy.
    :param choices: called for the members of the task that depend on the user's choices: model and folder.
    :param answered: called with each answer, see :class:`CTDefaceEvalLib.tasks.Score`, and the ``tilted`` heads in it.
    :param failed: called with the error that ends it.
    """

    def __init__(self, process, choices, answered, failed):
        self._process, self._choices, self.answered, self._failed = process, choices, answered, failed
        self._views = []
        self._head, self._isStandard = None, False
        self._asked = None  # "moving" or "rest": what the pictures that are being taken are for
        self._askedAt = 0.0
        self._isLate = False  # the head at rest is still to be scored
        self._restTimer = qt.QTimer()
        self._restTimer.setSingleShot(True)
        self._restTimer.setInterval(REST_MSEC)
        self._restTimer.connect("timeout()", self._onRest)

    @property
    def running(self):
        return bool(self._views)

    def start(self, names, head, isStandard=False):
        """Score the views of these heads.

        :param head: where the head is; a picture in which it is tilted is straightened, as detectors know no others.
        :param isStandard: score the standard rendering from the camera's side instead of what is seen.
        """
        self.stop()
        self._head, self._isStandard = head, isStandard
        shown = [(name, widget) for name in names if (widget := head_views.threeDView(name))]
        self._views = [_ScoredView(name, widget, self._onFrame) for name, widget in shown]
        self.refresh()

    def stop(self):
        """Score no longer, and take away what was drawn."""
        self._restTimer.stop()
        views, self._views = self._views, []
        self._asked, self._isLate = None, False
        for view in views:
            view.close()

    def marks(self, name):
        """What is drawn over the view of a head that is scored, a ``FaceMarks``."""
        return next(view.marks for view in self._views if view.name == name)

    def refresh(self):
        """Score what is seen now, as after a turn."""
        if self._views:
            self._restTimer.start()

    def _onFrame(self, view, moved):
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
        isOld = moved and view.picture is not None and not self._isStandard  # it waits for that of another view
        if view.wanted or isOld:
            view.wanted, view.picture = False, view.grab(self._head.roll(view.camera))
            self._sendSoon()

    def _onRest(self):
        self._isLate = self._process.busy
        if self._views and not self._isLate:
            self._ask("rest")
            for view in self._views:
                view.widget.scheduleRender()

    def _ask(self, why):
        """Have a picture taken of the next frame of each view that is seen."""
        self._asked, self._askedAt = why, time.monotonic()
        for view in self._views:
            view.wanted, view.picture = not self._isStandard and view.widget.visible, None
            if self._isStandard and view.widget.visible and view.name != head_views.RECOVERED:
                view.picture = np.array(self._head.angles(view.camera))  # the process has no surface of the recovered
        self._sendSoon()

    def _sendSoon(self):
        if not any(view.wanted for view in self._views):
            qt.QTimer.singleShot(0, self._send)  # not in the middle of the drawing

    def _send(self):
        why, self._asked = self._asked, None
        views = [view for view in self._views if view.picture is not None]
        if why is None or not views:
            return
        if self._process.busy:
            self._isLate = why == "rest"
            return
        pictures = {view.name: self._process.save(view.name, view.picture) for view in views}
        for view in views:
            view.scored = (self._head, *view.picture) if self._isStandard else view.square
            view.roll = 0.0 if self._isStandard else view.square[-1]
            view.picture = None
        task = tasks.Score(pictures, embed=why == "rest", **self._choices())
        self._process.start(task, done=self._onScores, failed=self._onFailed)

    def _onScores(self, answer):
        for view in self._views:
            if view.name in answer["faces"] and view.scored is not None:  # else it was asked before this start
                view.show(answer["faces"][view.name], answer["sizes"][view.name])
        self.answered({**answer, "tilted": [view.name for view in self._views if view.isTilted]})
        if self._isLate:
            self._onRest()

    def _onFailed(self, error):
        self.stop()
        self._failed(error)


class _ScoredView:
    """One view whose pictures are scored."""

    def __init__(self, name, widget, onFrame):
        self.name, self.widget = name, widget
        self.wanted, self.picture = False, None
        self.square = None  # left, bottom and size of the picture taken last, in pixels of the window, and its roll
        self.scored, self.roll = None, 0.0  # where the picture that is being scored comes from; its tilt
        self._window = widget.renderWindow()
        self._renderer = self._window.GetRenderers().GetFirstRenderer()
        self.marks = FaceMarks(self._window)
        self._seen = self._pose()
        self._onFrame = onFrame
        self._tag = self._renderer.AddObserver(vtk.vtkCommand.EndEvent, self._onEnd)

    @property
    def camera(self):
        return self._renderer.GetActiveCamera()

    def close(self):
        self._renderer.RemoveObserver(self._tag)
        self.marks.remove()
        self.widget.scheduleRender()

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

    @property
    def isTilted(self):
        """Whether the head is tilted so far in the picture scored last that not to find its face proves nothing."""
        return abs(self.roll) > SIDEWAYS_DEG

    def grab(self, roll):
        """The square in the middle of the view, (n, n, 3) uint8, straightened where the head is tilted in it.

        :param roll: how far it is tilted, see ``Head.roll``.
        """
        roll = roll if abs(roll) >= STRAIGHT_DEG else 0.0
        columns, rows = self._window.GetSize()
        size = min(columns, rows)
        left, bottom = (columns - size) // 2, (rows - size) // 2
        self.square = left, bottom, size, roll
        pixels = vtk.vtkUnsignedCharArray()
        self._window.GetPixelData(left, bottom, left + size - 1, bottom + size - 1, 0, pixels, 0)
        return straightened(vtk_to_numpy(pixels).reshape(size, size, 3)[::-1], roll)

    def show(self, face, size):
        """Draw what was found in a picture of ``size`` pixels."""
        name = head_views.LABELS[self.name]
        if face is None:
            text = _("{name}: tilted") if self.isTilted else _("{name}: no face")
            self.marks.show(text.format(name=name))
        else:
            left, top, right, bottom = face["box"]
            box = [self._place(x, y, size) for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]
            landmarks = [self._place(x, y, size) for x, y in face["landmarks"]]
            self.marks.show(_("{name}: face {score:.2f}").format(name=name, score=face["score"]), box, landmarks)
        self.widget.scheduleRender()

    def _place(self, x, y, size):
        """Where in the window a pixel of the picture is, counted from its upper left corner."""
        if isinstance(self.scored[0], head_views.Head):
            head, yaw, pitch = self.scored
            millimetres = FIELD_OF_VIEW_MM / size
            point = head.point(yaw, pitch, (x - size / 2) * millimetres, (size / 2 - y) * millimetres)
            self._renderer.SetWorldPoint(*point, 1.0)
            self._renderer.WorldToDisplay()
            return self._renderer.GetDisplayPoint()[:2]
        left, bottom, side, roll = self.scored
        right, down = _turn(roll) @ (x - size / 2, y - size / 2)
        return left + side / 2 + right * side / size, bottom + side / 2 - down * side / size


def straightened(picture, roll):
    """A square picture, turned so that what is tilted clockwise by ``roll`` degrees in it is upright."""
    if not roll:
        return picture.copy()
    middle = (len(picture) - 1) / 2
    turn = _turn(roll)[::-1, ::-1]  # of rows and columns, in place of columns and rows
    offset = middle - turn @ (middle, middle)
    channels = [ndimage.affine_transform(picture[..., i], turn, offset, order=1, mode="nearest") for i in range(3)]
    return np.stack(channels, axis=-1)


def _turn(degrees):
    """What turns columns and rows, counted rightwards and downwards, clockwise."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])
