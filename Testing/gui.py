"""What the tests of the Slicer modules share: the stand-in application, started once, and a user's hands."""

import atexit
import contextlib
import os
import sys
import time
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
MODULES = ("CTDeface/CTDeface.py", "CTDefaceEval/CTDefaceEval.py")

for needed in ("slicer", "PySide6"):
    pytest.importorskip(needed, reason="the stand-in for Slicer needs slicer-core and PySide6", exc_type=ImportError)

import slicer_host  # noqa: E402

host = slicer_host.start()

import numpy as np  # noqa: E402
import processes  # noqa: E402
import SimpleITK as sitk  # noqa: E402
import slicer  # noqa: E402
from slicer_host import pythonqt  # noqa: E402

for module in MODULES:
    host.add_scripted_module(CHECKOUT / module)
slicer.app.startupCompleted()
window = slicer.util.mainWindow()
window.show()
scroll_area, splitter = window._panel, window._split  # what scrolls the open panel; what lies between it and the views
dialogs = pythonqt.dialogs
assert not pythonqt.problems


def wait(condition, seconds=60.0):
    """Let the application run until the condition holds; fails when it still does not after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not so within {seconds:.0f} s: {processes.source(condition)}"
        slicer.app.processEvents()
        time.sleep(0.005)


def run_for(seconds):
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end, seconds + 30)


def volume(image: sitk.Image, name: str):
    """A volume node with the voxels and geometry of an image."""
    from CTDefaceSlicer.shared import nodes

    geometry = image.GetSpacing(), image.GetOrigin(), image.GetDirection()
    return nodes.addVolume(sitk.GetArrayViewFromImage(image), *geometry, name=name)


def picture(widget, path: Path) -> np.ndarray:
    """Screenshot of a widget, also as array (rows, columns, 3)."""
    image = host.picture(widget)
    image.save(str(path))
    image = image.convertToFormat(image.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


@contextlib.contextmanager
def user(module="CTDeface"):
    """A fresh scene and the open panel of a module; afterwards nothing may be left behind or have gone wrong."""
    pythonqt.problems.clear()
    dialogs.answers.clear()
    dialogs.shown.clear()
    host.select_module(None)
    slicer.mrmlScene.Clear()
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    before = slicer.mrmlScene.GetRootDirectory()
    slicer.app.pauseRender()  # views are drawn for pictures only: drawing without a graphics card takes long
    host.select_module(module)
    panel = slicer.util.getModuleWidget(module)
    for process in background(panel):  # an idle one serves the next test
        process.stop = lambda process=process: stop_process(process) if process.busy else None
    boxes = [box for name, box in vars(panel.ui).items() if name.endswith("CollapsibleButton")]
    folded = [box.collapsed for box in boxes]
    yield panel
    for box, was in zip(boxes, folded):
        box.collapsed = was
    host.select_module(None)
    panel.stop()
    slicer.mrmlScene.Clear()
    slicer.mrmlScene.SetRootDirectory(before)
    run_for(0.05)
    for process in background(panel):
        if process.folder and os.listdir(process.folder):  # what was seen of the volumes, for further attacks on them
            stop_process(process)
    slicer.app.resumeRender()
    assert not pythonqt.problems
    assert not dialogs.answers, "a dialog that the test expected did not open"
    left = [path for path in Path(slicer.app.temporaryPath).rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["presets.xml"], "files were left behind"


def caches():
    """What module-wide caches of the Slicer layer hold, by name: containers that are no constants, and lru_cache."""
    held = {}
    for name, module in list(sys.modules.items()):
        if name.startswith(("CTDefaceSlicer", "CTDefaceEvalSlicer")):
            for key, value in vars(module).items():
                size = value.cache_info().currsize if hasattr(value, "cache_info") else 0
                if isinstance(value, (dict, list, set)) and not key.startswith("__") and not key.isupper():
                    size = len(value)
                if size:
                    held[f"{name}.{key}"] = size
    return held


def background(panel):
    """The background processes that stay between the jobs of a panel."""
    return [getattr(panel.logic, name) for name in ("process", "meterProcess") if hasattr(panel.logic, name)]


def stop_process(process):
    type(process).stop(process)


@atexit.register
def _stop():
    for module in MODULES:
        for process in background(slicer.util.getModuleWidget(Path(module).stem)):
            stop_process(process)
