"""Take the pictures of the tutorials: both panels and the views at their main steps, on phantoms, and a gallery.

    python Testing/screenshots.py [FOLDER [defacing | study | evaluation | gallery]…]

They are taken in the stand-in for Slicer, drawn as with a graphics card; without one that takes a few minutes.
"""

import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / folder) for folder in ("CTDeface", "CTDefaceEval")]

import chromium  # noqa: E402
import gui  # noqa: E402
import poor_defacings  # noqa: E402
import slicer  # noqa: E402
from coarse_phantoms import scan  # noqa: E402
from CTDefaceEvalLib.views import head_pose  # noqa: E402
from CTDefaceEvalSlicer import evaluation_panel, head_views  # noqa: E402
from CTDefaceLib import batch  # noqa: E402
from CTDefaceLib.phantom import Label, PhantomParameters, make_phantom  # noqa: E402
from CTDefaceLib.pipeline import deface  # noqa: E402
from CTDefaceLib.volume_io import write_volume  # noqa: E402
from CTDefaceSlicer.shared import nodes, views  # noqa: E402
from test_keep import jaw  # noqa: E402
from test_study import mr  # noqa: E402

import qt  # noqa: E402  isort: skip

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

    parts = {
        "defacing": lambda: defacing(take),
        "study": lambda: study(take),
        "evaluation": lambda: evaluation(take),
        "gallery": lambda: gallery(folder / "gallery.jpg"),
    }
    for part in sys.argv[2:] or parts:
        parts[part]()


def defacing(take):
    with gui.user() as panel:
        gui.splitter.setSizes([400, WINDOW[0] - 400])
        ui = panel.ui
        ui.loadSampleButton.click()
        gui.wait(lambda: not panel.busy)
        slicer.util.setSliceViewerLayers(background=ui.inputSelector.currentNode(), fit=True)
        ui.segmentButton.click()
        gui.wait(lambda: not panel.busy and panel.currentResult() is not None)
        take("ctdeface_before")
        ui.afterRadioButton.click()
        take("ctdeface_after")
        ui.defaceButton.click()
        gui.wait(lambda: ui.defacedSelector.currentNode() is not None)
        take("ctdeface_side_by_side")


def study(take):
    """A CT with a segment that stays, another kernel, an MR, and the CT of somebody else, which is refused."""
    with gui.user() as panel:
        gui.splitter.setSizes([400, WINDOW[0] - 400])
        ui, head = panel.ui, scan()
        volume = gui.volume(head.image, "3 Head H31s")
        others = {"4 Head H60s": scan(noise=25.0, blur=0.3).image, "7 T1 sag": mr(), "9 Head": scan(person=1).image}
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Phantom")
        for node in (volume, *(gui.volume(image, name) for name, image in others.items())):
            hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), patient)
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Planning")
        segmentation.CreateDefaultDisplayNodes()
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        for name, inside, color in (
            ("Mandible", jaw(head), (0.3, 0.7, 1.0)),
            ("Brain", head.labelled(Label.INTRACRANIAL), (0.9, 0.8, 0.3)),
        ):
            labelmap = nodes._labelmap(inside.astype("uint8"), volume)
            segmentation.AddSegmentFromBinaryLabelmapRepresentation(labelmap, name, color)
        ui.inputSelector.setCurrentNode(volume)
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        ui.keepSelector.setCurrentNode(segmentation)
        ui.keepTable.item(0, 0).setCheckState(qt.Qt.Checked)
        gui.wait(lambda: ui.defaceButton.enabled)
        ui.defaceButton.click()
        gui.wait(lambda: not panel.busy, 600)
        ui.afterRadioButton.click()
        for step in (ui.inputCollapsibleButton, ui.segmentCollapsibleButton, ui.correctCollapsibleButton):
            step.collapsed = True
        ui.keepCollapsibleButton.collapsed = False
        take("ctdeface_study")
        for step in (ui.inputCollapsibleButton, ui.segmentCollapsibleButton, ui.correctCollapsibleButton):
            step.collapsed = False


def evaluation(take):
    """A head that was defaced well in the live meter, and one that was not under attack."""
    image = make_phantom(PhantomParameters(matrix=(256, 256), spacing=(1.0, 1.0, 1.5), field_of_view="head")).image
    with gui.user("CTDefaceEval") as panel:
        slicer.app.resumeRender()
        gui.splitter.setSizes([400, WINDOW[0] - 400])
        ui = panel.ui

        def show(defaced, name):
            panel.parameterNode.defacedVolume = gui.volume(defaced, name)
            gui.wait(
                lambda: (
                    panel.headsPanel.head is not None
                    and len(panel.headsPanel.key) == 2
                    and not panel.headsPanel.isMaking
                )
            )
            gui.wait(lambda: panel.meterPanel.scaleKey() in panel.meterPanel.scales, 300)
            gui.wait(lambda: "usual here" in ui.similarityLabel.text, 60)

        original = panel.parameterNode.originalVolume = gui.volume(image, "Head CT")
        show(deface(image).image, "Head CT defaced")
        panel.headsPanel.turnTo(15.0, 5.0)
        gui.run_for(3)
        take("ctdefaceeval_meter")
        show(poor_defacings.constant_filled(image, head_pose(image)), "Head CT, skin set to one value")
        ui.viewsComboBox.currentIndex = 1  # few views and one attack take minutes
        evaluation_panel.ATTACKS = ("constant region",)
        ui.attackButton.click()
        gui.wait(lambda: not panel.busy and head_views.surface(head_views.RECOVERED) is not None, 1800)
        ui.frontButton.click()
        gui.run_for(3)
        gui.scroll_area.ensureWidgetVisible(ui.verdictHintLabel)
        for step in (ui.inputCollapsibleButton, ui.meterCollapsibleButton):
            step.collapsed = True
        take("ctdefaceeval_attack")
        ui.resultsButton.click()
        gui.run_for(3)
        take("ctdefaceeval_results")
        slicer.app.pauseRender()
        print(original.GetName(), ui.verdictLabel.text)


def gallery(path: Path):
    """A gallery of synthetic heads."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "in", Path(folder) / "out"
        source.mkdir()
        for person, view in enumerate(("head", "upper_lip", "neck", "above_orbits")):
            parameters = PhantomParameters(person, field_of_view=view, matrix=(160, 160), spacing=(1.6, 1.6, 1.6))
            write_volume(make_phantom(parameters).image, source / f"{person}.nii")
        batch.run(source, output, workers=1)
        with chromium.Page(Path(folder), (1600, 800)) as page:
            page.open(batch.private_folder(output) / batch.GALLERY / "index.html")
            page.js("Promise.all([...document.images].map(image => image.decode().catch(() => 0))).then(() => 1)")
            page.press("a")
            page.screenshot(path)
    print(path, flush=True)


if __name__ == "__main__":
    main()
