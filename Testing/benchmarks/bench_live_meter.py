"""How often the live meter scores while the head is turned, and how much slower the turning gets.

    python Testing/benchmarks/bench_live_meter.py [CT] [--seconds 8] [--rounds 3]

In the stand-in for Slicer: the left head is turned by the mouse's way, the right one follows, and both views are drawn
for every step before the next. Rounds without and with the meter alternate. Without CT the phantom is taken.
"""

import argparse
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT / folder) for folder in ("CTDeface", "CTDefaceEval", "Testing")]

import gui  # noqa: E402
import numpy as np  # noqa: E402
import slicer  # noqa: E402
import vtk  # noqa: E402
from CTDefaceEvalLib.findings import Scale  # noqa: E402
from CTDefaceEvalSlicer import head_views  # noqa: E402
from CTDefaceLib.phantom import PhantomParameters, make_phantom  # noqa: E402
from CTDefaceLib.pipeline import deface  # noqa: E402
from CTDefaceLib.volume_io import read_ct  # noqa: E402

SCORES, SHARE = 3.0, 0.8
STEP_DEGREES, REACH_DEGREES = 1.0, 45.0
NAMES = (head_views.ORIGINAL, head_views.DEFACED)


class Frames:
    """Counts the pictures that each view has drawn."""

    def __init__(self):
        self.count = dict.fromkeys(NAMES, 0)
        for name in NAMES:
            renderer = head_views.threeDView(name).renderWindow().GetRenderers().GetFirstRenderer()
            renderer.AddObserver(vtk.vtkCommand.EndEvent, lambda *_, name=name: self._drawn(name))

    def _drawn(self, name):
        self.count[name] += 1


def turn(head, frames, seconds):
    """Turn to and fro; returns the steps that both views have drawn per second."""
    logic = slicer.modules.cameras.logic()
    camera = logic.GetViewActiveCameraNode(head_views.viewNode(head_views.ORIGINAL))
    distance = head_views.CAMERA_DISTANCE_MM
    camera.SetInteractionFlags(camera.CameraInteractionFlag)
    camera.SetInteracting(1)
    steps, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        steps += 1
        yaw = REACH_DEGREES * np.sin(np.radians(steps * STEP_DEGREES * 90 / REACH_DEGREES))
        before = dict(frames.count)
        camera.SetPosition(*(head.center + distance * head.side(yaw, 0.0)[0]))
        while any(frames.count[name] == before[name] for name in NAMES):
            slicer.app.processEvents()
    camera.SetInteracting(0)
    return steps / (time.perf_counter() - start)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("ct", nargs="?", type=Path)
    arguments.add_argument("--seconds", type=float, default=8.0)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    coarse = PhantomParameters(field_of_view="head", spacing=(1.0, 1.0, 1.5), matrix=(256, 256))
    image = read_ct(options.ct) if options.ct else make_phantom(coarse).image
    with gui.user("CTDefaceEval") as panel:
        slicer.app.resumeRender()
        panel.logic.measureScale = lambda volume, model, done, **callbacks: done(Scale([0.98], [0.85]))
        for volume, name in ((image, "Head CT"), (deface(image).image, "Head CT defaced")):
            node = gui.volume(volume, name)
            setattr(panel.parameterNode, "defacedVolume" if "defaced" in name else "originalVolume", node)
        gui.wait(lambda: panel.headsPanel.head is not None)
        answers, meter = [], panel.meterPanel.meter
        show, meter.answered = meter.answered, lambda answer: (answers.append(answer), show(answer))
        gui.wait(lambda: answers)  # the model is loaded
        head, frames = panel.headsPanel.head, Frames()
        print(f"{head_views.threeDView(NAMES[0]).renderWindow().GetSize()} pixels per view")
        rates, scores = {False: [], True: []}, []
        for number in range(2 * options.rounds):
            isOn = bool(number % 2)
            panel.parameterNode.liveMeter = isOn
            gui.run_for(1.0)
            count = len(answers)
            rates[isOn].append(turn(head, frames, options.seconds))
            line = f"meter {'on ' if isOn else 'off'}: {rates[isOn][-1]:5.1f} frames/s"
            if isOn:
                scores.append((len(answers) - count) / options.seconds)
                line += f", {scores[-1]:.1f} scores/s per view"
            print(line, flush=True)
        slicer.app.pauseRender()
    share, rate = np.median(rates[True]) / np.median(rates[False]), np.median(scores)
    print(f"turning at {share:.0%} of its frame rate (aim {SHARE:.0%}), {rate:.1f} scores/s per view (aim {SCORES:g})")
    return 0 if share >= SHARE and rate >= SCORES else 1


if __name__ == "__main__":
    sys.exit(main())
