"""*Reload* in the stand-in for Slicer: a module comes back with its libraries as they are on the disk by then."""

import shutil
import subprocess
import sys

import gui
import pytest

pytestmark = pytest.mark.gui

CODE = """
import sys
from pathlib import Path

checkout, module = Path({checkout!r}), {module!r}
sys.path.insert(0, str(checkout / "Testing"))
import gui
import slicer

gui.host.select_module(module)
old = slicer.util.getModuleWidget(module)
for library in old.LIBRARIES:
    for path in checkout.glob("*/" + library + "/**/*.py"):
        path.write_text(path.read_text(encoding="utf-8") + "\\nRELOADED = True\\n", encoding="utf-8")
old.onReload()

new = slicer.util.getModuleWidget(module)
assert type(new) is not type(old) and new is slicer.util.getModule(module).widgetRepresentation().self()
assert not old.Observations and old.parameterNode is None, "the old panel follows the scene no longer"
here = {{name for name in sys.modules if name.partition(".")[0] in new.LIBRARIES}}
assert {{"CTDefaceLib.errors", "CTDefaceSlicer.shared.nodes"}} < here
stale = [name for name in here if not hasattr(sys.modules[name], "RELOADED")]
assert not stale, stale
assert new.logic.process is not old.logic.process

from CTDefaceLib.phantom import PhantomParameters, make_phantom

image = make_phantom(PhantomParameters(matrix=(96, 96), spacing=(2.5, 2.5, 2.5), field_of_view="head")).image
volume = gui.volume(image, "CT")
ui = new.ui
if module == "CTDeface":
    gui.wait(lambda: ui.inputSelector.currentNode() is volume, 60)
    ui.segmentButton.click()
    gui.wait(lambda: not new.busy and new.currentResult() is not None, 120)
else:
    gui.wait(lambda: new.headsPanel.head is not None, 120)
new.onReload()
assert slicer.util.getModuleWidget(module) is not new
assert not gui.pythonqt.problems, gui.pythonqt.problems
print("reloaded")
"""


@pytest.mark.parametrize("module", ["CTDeface", "CTDefaceEval"])
def test_reload_loads_the_libraries_again(module, tmp_path):
    for part in ("CTDeface", "CTDefaceEval", "Testing/slicer_host"):
        shutil.copytree(gui.CHECKOUT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("gui.py", "processes.py"):
        shutil.copy(gui.CHECKOUT / "Testing" / name, tmp_path / "Testing")
    code = CODE.format(checkout=str(tmp_path), module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().endswith("reloaded"), done.stderr
