"""Take the pictures of the tutorial: the CTDeface panel and the views at its main steps, on the phantom.

    python Testing/screenshots.py [FOLDER]

They are taken in the stand-in for Slicer, drawn as with a graphics card; without one that takes a few minutes.
"""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / folder) for folder in ("CTDeface", "CTDefaceEval")]

import gui  # noqa: E402
import slicer  # noqa: E402
from CTDefaceSlicer import views  # noqa: E402

WINDOW = (1240, 900)


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else CHECKOUT / "Resources" / "Screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    views.isSoftwareOpenGL = lambda: False
    gui.window.resize(*WINDOW)

    def take(name):
        gui.run_for(0.3)
        gui.host.picture(gui.window).save(str(folder / f"{name}.jpg"), "JPG", 90)
        print(folder / f"{name}.jpg", flush=True)

    with gui.user() as panel:
        gui.window._split.setSizes([400, WINDOW[0] - 400])
        ui = panel.ui
        ui.loadSampleButton.click()
        gui.wait(lambda: not panel._task)
        slicer.util.setSliceViewerLayers(background=ui.inputSelector.currentNode(), fit=True)
        ui.segmentButton.click()
        gui.wait(lambda: not panel._task and panel.currentResult() is not None)
        take("ctdeface_before")
        ui.afterRadioButton.click()
        take("ctdeface_after")
        ui.defaceButton.click()
        gui.wait(lambda: ui.defacedSelector.currentNode() is not None)
        take("ctdeface_side_by_side")


if __name__ == "__main__":
    main()
