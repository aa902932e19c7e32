"""All seven steps of CTDefaceEval by clicks, with every attack; prints what the panel says and keeps pictures.

    python Testing/benchmarks/seven_steps.py FOLDER [CT] [--views quick]

In the stand-in for Slicer. Without CT the phantom is taken, which also is the cohort's other patient. FOLDER gets the
pictures, which show the face, and the reports.
"""

import argparse
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT / folder) for folder in ("CTDeface", "CTDefaceEval", "Testing")]

import gui  # noqa: E402
import slicer  # noqa: E402
from CTDefaceEvalSlicer import head_views  # noqa: E402
from CTDefaceEvalSlicer.parameters import Picture, Views  # noqa: E402
from CTDefaceLib.phantom import PhantomParameters, make_phantom  # noqa: E402
from CTDefaceLib.pipeline import deface  # noqa: E402
from CTDefaceLib.volume_io import read_ct, write_volume  # noqa: E402

import qt  # isort: skip  # noqa: E402

TURNS = [(0, 0), (25, 0), (-25, 10), (0, -20), (60, 0)]


class Answers(list):
    """What the meter finds."""

    def __init__(self, panel):
        meter = panel.meterPanel.meter
        show, meter.answered = meter.answered, lambda answer: (self.append(answer), show(answer))

    def at_rest(self):
        """The faces when the heads have come to rest."""
        count = -1
        while count != len(self):
            count = len(self)
            gui.run_for(1.5)
        return {name: face and round(face["score"], 2) for name, face in self[-1]["faces"].items()}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("ct", nargs="?", type=Path)
    arguments.add_argument("--views", default="quick", choices=[views.value for views in Views])
    options = arguments.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    phantom = make_phantom(PhantomParameters(field_of_view="head", spacing=(2.0, 2.0, 2.0), matrix=(128, 128))).image
    image = read_ct(options.ct) if options.ct else phantom
    opened, qt.QDesktopServices.openUrl = [], lambda url: opened.append(url.toLocalFile())
    with gui.user("CTDefaceEval") as panel:
        slicer.app.resumeRender()
        steps(panel, image, phantom, options)
        slicer.app.pauseRender()
    assert len(opened) == 2, "both reports are opened"


def steps(panel, image, phantom, options):
    ui, answers, start = panel.ui, Answers(panel), time.perf_counter()

    def tell(step, *texts):
        print(f"{time.perf_counter() - start:6.0f} s  {step}:", *texts, sep="  ", flush=True)

    def take(name):
        gui.run_for(0.2)
        gui.picture(gui.window, options.folder / f"{name}.png")

    def run(button):
        button.click()
        gui.wait(lambda: not panel.busy, 3000)
        gui.wait(lambda: panel.headsPanel.head is not None, 60)
        gui.run_for(0.3)

    gui.wait(lambda: not panel.headsPanel.isMaking)
    original, defaced = gui.volume(image, "Head CT"), gui.volume(deface(image).image, "Head CT defaced")
    ui.originalSelector.setCurrentNode(original)
    ui.defacedSelector.setCurrentNode(defaced)
    gui.wait(lambda: panel.headsPanel.head is not None and len(panel.headsPanel.key) == 2)
    tell("1 volumes", f"{head_views.shownHeads()} linked views")
    gui.wait(lambda: panel.meterPanel.scaleKey() in panel.meterPanel.scales, 600)
    for picture in Picture:
        ui.pictureComboBox.currentIndex = list(Picture).index(picture)
        for yaw, pitch in TURNS:
            panel.headsPanel.turnTo(yaw, pitch)
            tell(f"2 meter, {picture.value}, yaw {yaw} pitch {pitch}", answers.at_rest())
        ui.frontButton.click()
        answers.at_rest()
        tell("2 meter", ui.originalScoreLabel.text, ui.defacedScoreLabel.text, ui.similarityLabel.text)
        take(f"2 meter {picture.value}")
    ui.pictureComboBox.currentIndex = 0
    ui.viewsComboBox.currentIndex = [views.value for views in Views].index(options.views)
    run(ui.sweepButton)
    for number in range(ui.mapModelComboBox.count):
        ui.mapModelComboBox.currentIndex = number
        tell("3 sweep", ui.mapModelComboBox.currentText, ui.originalMapLabel.text, ui.defacedMapLabel.text)
    ui.originalMapTable.cellClicked(0, 0)
    tell("3 sweep, click", *(f"{angle:.0f}" for angle in head_views.sideSeen(panel.headsPanel.head)))
    answers.at_rest()
    take("3 sweep")
    run(ui.attackButton)
    ui.frontButton.click()
    tell("4 attack", answers.at_rest(), ui.attackResultLabel.text)
    gui.scroll_area.ensureWidgetVisible(ui.verdictHintLabel)
    take("4 attack")
    tell("5 verdict", ui.verdictLevelLabel.text, ui.verdictLabel.text)
    gui.dialogs.answers.append(str(options.folder / "report.html"))
    ui.reportButton.click()
    ui.resultsButton.click()
    answers.at_rest()
    take("5 results")
    lines = ["patient,scan,original,defaced,method"]
    for part, volume in (("other.nii.gz", phantom), ("other_defaced.nii.gz", deface(phantom).image)):
        write_volume(volume, options.folder / part, overwrite=True)
    lines += ["Other,1,other.nii.gz,other_defaced.nii.gz,CTDeface", "Same,1,other.nii.gz,other_defaced.nii.gz,CTDeface"]
    (options.folder / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    ui.cohortCollapsibleButton.collapsed = False
    gui.dialogs.answers.append(str(options.folder / "table.csv"))
    ui.cohortLoadButton.click()
    ui.cohortAddPairButton.click()
    ui.cohortViewsComboBox.currentIndex = [views.value for views in Views].index(options.views)
    run(ui.cohortButton)
    tell("6 cohort", ui.cohortResultLabel.text or ui.cohortHintLabel.text)
    gui.dialogs.answers.append(str(options.folder / "cohort.html"))
    ui.cohortReportButton.click()
    ui.cohortResultsButton.click()
    answers.at_rest()
    take("6 cohort")
    ui.modelsCollapsibleButton.collapsed = False
    gui.wait(lambda: ui.modelsTable.rowCount and not panel.modelsPanel.process.busy, 120)
    for row in range(ui.modelsTable.rowCount):
        ui.modelsTable.setCurrentCell(row, 0)
        tell("7 models", ui.modelsTable.item(row, 0).text(), ui.modelsTable.item(row, 1).text())
        tell("7 models", ui.modelDetailsLabel.text.replace("\n", "; "))
    gui.run_for(0.2)
    gui.picture(panel.parent, options.folder / "7 panel.png")


if __name__ == "__main__":
    main()
