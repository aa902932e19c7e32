"""The walls of the house: which room may import which, and that nothing runs in circles.

``ROOMS`` and ``LIBRARIES`` state all arrows that are allowed; what is missing there is forbidden. Imports are read from
the source, wherever they stand: at file scope, within functions, and for type checkers only. A new file or package of
CTDefaceLib needs a line in ``ROOMS``.
"""

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]

ROOMS = {
    "errors": "",
    "version": "",
    "stored_data": "",
    "patience": "",
    "walk": "patience",
    "progress": "errors",
    "processes": "errors",
    "tasks": "errors",
    "audits": "errors",
    "files": "errors stored_data",
    "private": "errors files",
    "anatomy": "errors",
    "nifti_geometry": "errors",
    "value_scale": "anatomy",
    "scan": "anatomy errors nifti_geometry value_scale",
    "nifti": "errors nifti_geometry scan stored_data",
    "render": "anatomy errors",
    "phantom": "anatomy errors",
    "segmenters": "anatomy errors files processes progress",
    "removal": "anatomy errors phantom",
    "parameters": "errors files removal segmenters",
    "pipeline": "anatomy errors parameters progress removal segmenters version",
    "dicom": "anatomy audits errors files parameters pipeline private processes progress removal scan version walk",
    "volume_io": "dicom errors files nifti nifti_geometry processes scan stored_data",
    "structures": "dicom errors removal stored_data volume_io",
    "study": "anatomy audits dicom errors files nifti nifti_geometry parameters pipeline private progress removal scan "
    "stored_data version volume_io",
    "batch": "anatomy audits dicom errors files nifti_geometry parameters patience pipeline private processes progress "
    "removal render scan segmenters stored_data structures study version volume_io walk",
    "pacs": "batch dicom errors files parameters private processes study",
    "worker": "anatomy batch dicom errors files parameters phantom pipeline private processes progress removal render "
    "scan segmenters study tasks version volume_io",
    "commands": "audits batch dicom errors files nifti_geometry pacs parameters phantom pipeline private progress "
    "render scan segmenters stored_data structures study version volume_io",
    "__init__": "parameters pipeline structures version volume_io",
    "__main__": "commands",
}
"""Room of CTDefaceLib (a file or a package) → the rooms that it may import. It reads from the ground up:
commands, worker → batch → study → dicom → pipeline → removal, segmenters → anatomy → errors."""

FROM_OUTSIDE = set(ROOMS) - {"commands", "__main__"}
"""What the Slicer modules and the evaluation may import of CTDefaceLib."""

LIBRARIES = {
    "CTDefaceEvalLib": "CTDefaceLib",
    "CTDefaceSlicer.shared": "CTDefaceLib",
    "CTDefaceSlicer": "CTDefaceLib CTDefaceSlicer.shared",
    "CTDeface": "CTDefaceLib CTDefaceSlicer CTDefaceSlicer.shared",
    "CTDefaceEvalSlicer": "CTDefaceEvalLib CTDefaceLib CTDefaceSlicer.shared",
    "CTDefaceEval": "CTDefaceEvalLib CTDefaceEvalSlicer CTDefaceLib CTDefaceSlicer.shared",
}
"""The other libraries and the two modules → what they may import besides themselves. The evaluation stands on
CTDefaceLib and on what both Slicer modules share, never the other way round."""

EXCEPTIONS = {
    ("CTDefaceEvalLib.cli", "CTDefaceLib.commands.reading"): "it is a sub-command of ctdeface itself",
    ("CTDefaceEvalLib.cli", "CTDefaceLib.commands.terminal"): "it is a sub-command of ctdeface itself",
}
"""Single arrows that are allowed although their rooms are not, and why."""

BY_NAME = {"CTDefaceLib.commands.main": "CTDefaceEvalLib.cli", "CTDefaceLib.commands.choices": "CTDefaceEvalLib.audit"}
"""Where CTDefaceLib names the evaluation, which may not be installed, as text."""

SHIPPED = {"numpy", "scipy", "SimpleITK", "pydicom", "vtk", "requests"}
"""What Slicer's Python brings. Anything else is imported where it is used, so that its absence can be told."""

SLICER = {"slicer", "qt", "ctk"}
"""What there is within Slicer only."""


@cache
def modules() -> dict[str, Path]:
    """Name of each module → its file."""
    found = {}
    for folder in ("CTDeface", "CTDefaceEval"):
        for path in sorted(CHECKOUT.glob(f"{folder}/{folder}*/**/*.py")) + [CHECKOUT / folder / f"{folder}.py"]:
            parts = path.relative_to(CHECKOUT / folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def named(module: str, node: ast.AST) -> list[str]:
    """Full names of the modules that an import statement names; a name that is none within its module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    package = module.split(".") if modules()[module].name == "__init__.py" else module.split(".")[:-1]
    base = package[: len(package) - node.level + 1] if node.level else []
    start = ".".join([*base, *([node.module] if node.module else [])])
    return [full if (full := f"{start}.{alias.name}") in modules() else start for alias in node.names]


@cache
def arrows() -> frozenset[tuple[str, str]]:
    """All imports among the modules of the project."""
    return frozenset(
        (module, name)
        for module in modules()
        for node in ast.walk(tree(module))
        for name in named(module, node)
        if name in modules() and name != module
    )


def library(module: str) -> str:
    """The library of a module; what both Slicer modules share counts as one."""
    return "CTDefaceSlicer.shared" if module.startswith("CTDefaceSlicer.shared") else module.partition(".")[0]


def room(module: str) -> str:
    """The room of a module of CTDefaceLib."""
    return module.split(".")[1] if "." in module else "__init__"


def is_allowed(module: str, name: str) -> bool:
    if (module, name) in EXCEPTIONS:
        return True
    here, there = library(module), library(name)
    if here == there:
        return here != "CTDefaceLib" or room(module) == room(name) or room(name) in ROOMS[room(module)].split()
    if there not in LIBRARIES.get(here, "").split():
        return False
    return there != "CTDefaceLib" or room(name) in FROM_OUTSIDE


def test_every_room_has_a_line():
    there = {room(module) for module in modules() if library(module) == "CTDefaceLib"}
    assert there <= set(ROOMS), f"say in ROOMS what these may import: {sorted(there - set(ROOMS))}"


def test_imports_go_one_way():
    wrong = sorted(arrow for arrow in arrows() if not is_allowed(*arrow))
    assert not wrong, "not allowed by ROOMS and LIBRARIES:\n" + "\n".join(f"{a} -> {b}" for a, b in wrong)


def test_no_import_runs_in_a_circle():
    left: dict[str, set[str]] = {module: set() for module in modules()}
    for module, name in arrows():
        left[module].add(name)
    while free := [module for module, names in left.items() if not names & set(left)]:
        for module in free:
            del left[module]
    imported = {name for names in left.values() for name in names}
    circle = {module: sorted(names & set(left)) for module, names in left.items() if module in imported}
    assert not circle, f"these import each other: {circle}"


def test_tables_allow_no_circle():
    left = {name: set(stands_on.split()) for name, stands_on in ROOMS.items()}
    while free := [name for name, below in left.items() if not below & set(left)]:
        for name in free:
            del left[name]
    assert not left, f"ROOMS itself allows a circle among {sorted(left)}"


def test_the_evaluation_is_known_by_name_only():
    """As in the records of batches that run, which name ``CTDefaceEvalLib.audit:quick``."""
    found = {
        module: node.value.partition(":")[0]
        for module in modules()
        if library(module) == "CTDefaceLib"
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("CTDefaceEvalLib")
    }
    assert found == BY_NAME
    assert set(BY_NAME.values()) <= set(modules())


def at_file_scope(node: ast.AST) -> list[ast.AST]:
    """The statements that run when a module is imported: no bodies of functions, nothing for type checkers only."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return []
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
        return [found for child in node.orelse for found in (child, *at_file_scope(child))]
    return [found for child in ast.iter_child_nodes(node) for found in (child, *at_file_scope(child))]


def foreign(module: str, nodes) -> set[str]:
    """Packages that are neither Python's nor of this project."""
    names = {name.partition(".")[0] for node in nodes for name in named(module, node)}
    return names - set(sys.stdlib_module_names) - {name.partition(".")[0] for name in modules()}


@pytest.mark.parametrize("module", sorted(modules()))
def test_file_scope_needs_nothing_that_slicer_lacks(module):
    allowed = SHIPPED if library(module).endswith("Lib") else SHIPPED | SLICER
    assert foreign(module, at_file_scope(tree(module))) <= allowed


@pytest.mark.parametrize("module", sorted(module for module in modules() if library(module).endswith("Lib")))
def test_libraries_know_nothing_of_slicer(module):
    assert not foreign(module, ast.walk(tree(module))) & SLICER
