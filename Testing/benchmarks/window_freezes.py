"""How long the window stands still while a 512×512×209 scan is segmented and defaced in the CTDeface panel.

    python Testing/benchmarks/window_freezes.py [CT]

A timer in the event loop of the stand-in for Slicer ticks every 10 ms; the longest gap between two ticks in a step is
how long the window did not answer. Without a CT, the phantom is used. Times are given without and with drawing of the
views, which takes long where there is no graphics card.
"""

import argparse
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT / folder) for folder in ("Testing", "CTDeface", "CTDefaceEval")]

import gui  # noqa: E402
import slicer  # noqa: E402
from CTDefaceLib.phantom import PhantomParameters, make_phantom  # noqa: E402
from CTDefaceLib.volume_io import read_ct  # noqa: E402

import qt  # noqa: E402  isort: skip

LIMIT = 1.0


class Watch:
    """Times a step and its longest standstill."""

    def __init__(self):
        self.last, self.longest = time.monotonic(), 0.0
        self.timer = qt.QTimer()
        self.timer.connect("timeout()", self.tick)
        self.timer.start(10)

    def tick(self):
        now = time.monotonic()
        self.longest = max(self.longest, now - self.last)
        self.last = now

    def step(self, name, action, condition):
        gui.run_for(0.3)
        start = self.last = time.monotonic()
        self.longest = 0.0
        action()
        gui.wait(condition, 300)
        gui.run_for(0.3)  # what a step leaves to the event loop belongs to it
        print(f"  {name:<28}{time.monotonic() - start - 0.3:7.1f} s {self.longest:7.2f} s", flush=True)
        return self.longest


def run(image, drawing):
    slicer.mrmlScene.Clear()
    if not drawing:
        slicer.app.pauseRender()
    print(f"{'with' if drawing else 'without'} drawing                 takes   longest standstill")
    panel = slicer.util.getModuleWidget("CTDeface")
    ui, watch, longest = panel.ui, Watch(), []

    def step(*arguments):
        longest.append(watch.step(*arguments))

    step("input", lambda: gui.volume(image, "CT"), lambda: ui.segmentButton.enabled)
    step("segment", ui.segmentButton.click, lambda: panel._task != "segment")
    step("preview", lambda: None, lambda: not panel._task and panel.currentResult() is not None)
    step("after", ui.afterRadioButton.click, lambda: True)
    step("before", ui.beforeRadioButton.click, lambda: True)
    step("margin", lambda: setattr(ui.marginSlider, "value", 3), lambda: panel._task == "preview")
    step("preview again", lambda: None, lambda: not panel._task and panel.currentResult() is not None)
    step("deface", ui.defaceButton.click, lambda: ui.defacedSelector.currentNode() is not None)
    panel.stop()
    watch.timer.stop()
    if not drawing:
        slicer.app.resumeRender()
    return max(longest)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ct", nargs="?", help="a CT file, or a folder with one DICOM series")
    path = parser.parse_args().ct
    parameters = PhantomParameters(matrix=(512, 512), spacing=(0.5, 0.5, 1.1))
    image = read_ct(path) if path else make_phantom(parameters).image
    print(" × ".join(str(n) for n in image.GetSize()), "voxels")
    gui.host.select_module("CTDeface")
    longest = run(image, drawing=False)
    run(image, drawing=True)
    print(f"longest standstill without drawing {longest:.2f} s, limit {LIMIT:.0f} s")
    return 0 if longest <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
