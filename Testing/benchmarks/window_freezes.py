"""How long the window stands still while a 512×512×209 scan is segmented, defaced, corrected and evaluated.

    python Testing/benchmarks/window_freezes.py [CT] [--no-drawing]

A timer in the event loop of the stand-in for Slicer ticks every 10 ms; the longest gap between two ticks in a step is
how long the window did not answer. Beside it stands the most processor time that all threads of the window's process
took between two ticks, which other work on the machine does not change. Without a CT, the phantom is used. Times are
given without and with drawing of the views, which takes long where there is no graphics card.
"""

import argparse
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT / folder) for folder in ("Testing", "CTDeface", "CTDefaceEval")]

import gui  # noqa: E402
import slicer  # noqa: E402
from CTDefaceEvalSlicer import evaluation_panel, head_views  # noqa: E402
from CTDefaceEvalSlicer.tasks import Task as EvalTask  # noqa: E402
from CTDefaceLib.phantom import PhantomParameters, make_phantom  # noqa: E402
from CTDefaceLib.volume_io import read_ct  # noqa: E402
from CTDefaceSlicer.shared import nodes, views  # noqa: E402
from CTDefaceSlicer.tasks import Task  # noqa: E402
from test_evaluation_walk import skin  # noqa: E402

import qt  # noqa: E402  isort: skip

LIMIT = 1.0


class Watch:
    """Times a step and its longest standstill, on the clock and in processor time."""

    def __init__(self):
        self.restart()
        self.timer = qt.QTimer()
        self.timer.connect("timeout()", self.tick)
        self.timer.start(10)

    def restart(self):
        self.longest = self.busiest = 0.0
        self.last, self.used = time.monotonic(), time.process_time()

    def tick(self):
        now, used = time.monotonic(), time.process_time()
        self.longest, self.busiest = max(self.longest, now - self.last), max(self.busiest, used - self.used)
        self.last, self.used = now, used

    def step(self, name, action, condition):
        gui.run_for(0.3)
        self.restart()
        start = self.last
        action()
        gui.wait(condition, 600)
        gui.run_for(0.3)  # what a step leaves to the event loop belongs to it
        taken = time.monotonic() - start - 0.3
        print(f"  {name:<28}{taken:7.1f} s {self.longest:7.2f} s {self.busiest:7.2f} s", flush=True)
        return self.longest, self.busiest


def brush(panel):
    """Grow the mask as a brush in the Segment Editor does, which is no work of this module."""
    mask, volume = panel.parameterNode.faceMask, panel.parameterNode.inputVolume
    gui.host.select_module("SegmentEditor")
    array = nodes.faceMask(mask, volume)
    array[:, 1:] |= array[:, :-1]
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, mask, nodes.faceSegmentID(mask), volume)


def win_back(evaluation):
    """What the end of an attack shows when it gave something: here, the skin of the original itself."""
    evaluation.headsPanel.showRecovered(skin())


def run(image, drawing):
    slicer.mrmlScene.Clear()
    if not drawing:
        slicer.app.pauseRender()
    print(f"{'with' if drawing else 'without'} drawing                 takes   standstill   processor time")
    panel = slicer.util.getModuleWidget("CTDeface")
    ui, watch, longest = panel.ui, Watch(), []
    evaluation_panel.ATTACKS = ("lowered iso",)  # of how it ends, one kind tells as much as all

    def step(*arguments):
        longest.append(watch.step(*arguments))

    step("load sample", ui.loadSampleButton.click, lambda: not panel.busy and ui.segmentButton.enabled)
    slicer.mrmlScene.Clear()
    step("input", lambda: gui.volume(image, "CT"), lambda: ui.segmentButton.enabled)
    step("segment", ui.segmentButton.click, lambda: panel.task is not Task.SEGMENT)
    step("preview", lambda: None, lambda: not panel.busy and panel.currentResult() is not None)
    step("after", ui.afterRadioButton.click, lambda: True)
    step("before", ui.beforeRadioButton.click, lambda: True)
    step("margin", lambda: setattr(ui.marginSlider, "value", 3), lambda: panel.task is Task.PREVIEW)
    step("preview again", lambda: None, lambda: not panel.busy and panel.currentResult() is not None)
    step("deface", ui.defaceButton.click, lambda: ui.defacedSelector.currentNode() is not None)
    step("after, again", ui.afterRadioButton.click, lambda: True)
    step("side by side, again", ui.compareButton.click, lambda: True)
    brush(panel)
    step("back from an edit", lambda: gui.host.select_module("CTDeface"), lambda: panel.task is Task.PREVIEW)
    step("preview of the edit", lambda: None, lambda: not panel.busy and panel.currentResult() is not None)
    evaluation = slicer.util.getModuleWidget("CTDefaceEval")
    step("evaluation", ui.evaluateButton.click, lambda: evaluation.headsPanel.head is not None)
    evaluation.ui.viewsComboBox.currentIndex = evaluation.ui.attackViewsComboBox.currentIndex = 1  # few views
    step("turn", lambda: evaluation.headsPanel.turnTo(30.0, 10.0), lambda: True)
    step("sweep", evaluation.ui.sweepButton.click, lambda: evaluation.task is not EvalTask.SWEEP)
    step("attack", evaluation.ui.attackButton.click, lambda: evaluation.task is not EvalTask.ATTACK)
    step("won back", lambda: win_back(evaluation), lambda: head_views.shownHeads() == 3)
    step("numbers and curves", evaluation.ui.resultsButton.click, lambda: True)
    step("back", lambda: gui.host.select_module("CTDeface"), lambda: True)
    step("evaluation, again", lambda: gui.host.select_module("CTDefaceEval"), lambda: head_views.shownHeads() >= 2)
    other = gui.volume(image, "Other")
    gui.host.select_module("CTDeface")
    step("another input", lambda: ui.inputSelector.setCurrentNode(other), lambda: views.rendering(other) is not None)
    panel.stop()
    evaluation.stop()
    watch.timer.stop()
    if not drawing:
        slicer.app.resumeRender()
    return [max(figures) for figures in zip(*longest)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ct", nargs="?", help="a CT file, or a folder with one DICOM series")
    parser.add_argument("--no-drawing", action="store_true", help="only without drawing of the views")
    parser.add_argument("--drawing", action="store_true", help="only with drawing of the views")
    arguments = parser.parse_args()
    path = arguments.ct
    parameters = PhantomParameters(matrix=(512, 512), spacing=(0.5, 0.5, 1.1))
    image = read_ct(path) if path else make_phantom(parameters).image
    print(" × ".join(str(n) for n in image.GetSize()), "voxels")
    gui.host.select_module("CTDeface")
    longest = 0.0
    for drawing in (False, True):
        if not (arguments.no_drawing if drawing else arguments.drawing):
            longest, busiest = run(image, drawing)
            how = "with" if drawing else "without"
            print(f"longest standstill {how} drawing {longest:.2f} s ({busiest:.2f} s processor time)")
    return 0 if longest <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
