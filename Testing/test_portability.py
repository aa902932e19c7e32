"""What a test can show of Windows and macOS without them: nothing is called that they lack, nothing depends on them.

What a system lacks is read from typeshed, the types of Python's own library that mypy brings: what stands there under
``if sys.platform != "win32"`` may be used only under a guard that asks for the system or for the name.
"""

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import SimpleITK as sitk
from coarse_phantoms import case

CHECKOUT = Path(__file__).resolve().parents[1]
LIBRARIES = sorted(
    path
    for pattern in ("CTDeface*/CTDeface*.py", "CTDeface*/CTDeface*Lib/**/*.py", "CTDeface*/CTDeface*Slicer/**/*.py")
    for path in CHECKOUT.glob(pattern)
)
SOURCES = [*LIBRARIES, *sorted((CHECKOUT / "packaging").glob("*.py"))]

SYSTEMS = ("linux", "darwin", "win32")
ONLY_POSIX = {"preexec_fn", "start_new_session", "pass_fds", "process_group"}
"""Arguments of processes that Windows refuses or ignores."""


# ------------------------------------------------------------------------------------------- what a system's Python has


def _holds(test, system):
    """Whether a condition of a stub holds on a system: True, False, or None where it asks for something else."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = _holds(test.operand, system)
        return None if inner is None else not inner
    if isinstance(test, ast.BoolOp):
        parts = [_holds(part, system) for part in test.values]
        decisive = isinstance(test.op, ast.Or)
        return decisive if decisive in parts else None if None in parts else not decisive
    if isinstance(test, ast.Compare) and ast.unparse(test.left) == "sys.platform":
        is_same = system == ast.literal_eval(test.comparators[0])
        return is_same if isinstance(test.ops[0], ast.Eq) else not is_same
    return None


def _defined(body, system):
    for node in body:
        if isinstance(node, ast.If):
            holds = _holds(node.test, system)
            for block, is_wanted in ((node.body, holds is not False), (node.orelse, holds is not True)):
                if is_wanted:
                    yield from _defined(block, system)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.AnnAssign, ast.Assign)):
            for target in [node.target] if isinstance(node, ast.AnnAssign) else node.targets:
                yield ast.unparse(target)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name for alias in node.names)


@cache
def stub(module):
    """What typeshed says of a module of Python's own library, as statements; nothing for others."""
    mypy = pytest.importorskip("mypy", reason="typeshed comes with mypy")
    place = Path(mypy.__file__).parent.joinpath("typeshed", "stdlib", *module.split("."))
    path = place / "__init__.pyi" if place.is_dir() else place.with_suffix(".pyi")
    return ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []


@cache
def lacking(module):
    """Names of a module of Python's library that are not on all systems."""
    there = [set(_defined(stub(module), system)) for system in SYSTEMS]
    return frozenset(set.union(*there) - set.intersection(*there))


def is_missing(module, system):
    """Whether a module of Python's library cannot be imported on a system: nothing stands in its stub but imports."""
    own = [node for node in stub(module) if not isinstance(node, (ast.Import, ast.ImportFrom))]
    return bool(own) and not set(_defined(own, system))


# --------------------------------------------------------------------------------------- what is used without a guard


class Uses(ast.NodeVisitor):
    """Finds (line, name) of what is used of Python's library that some system lacks, without a condition around it.

    A condition guards both its branches, the rest of its block where one of them leaves, and what stands beside it in
    an ``and``.
    """

    def __init__(self):
        self.modules, self.guards, self.found = {}, [], []

    def visit_Import(self, node):
        self.modules |= {(alias.asname or alias.name): alias.name for alias in node.names}

    def visit_ImportFrom(self, node):
        for alias in node.names if node.module and not node.level else ():
            self._judge(node.lineno, node.module, alias.name)

    def visit_Attribute(self, node):
        module = self.modules.get(ast.unparse(node.value))
        if module is not None:
            self._judge(node.lineno, module, node.attr)
        self.generic_visit(node)

    def visit_Call(self, node):
        if not self.guards:
            self.found += [(node.lineno, word.arg) for word in node.keywords if word.arg in ONLY_POSIX]
        self.generic_visit(node)

    def visit_If(self, node):
        self._guarded(node.test, node)
        if any(isinstance(branch[-1], (ast.Return, ast.Raise)) for branch in (node.body, node.orelse) if branch):
            self.guards.append(node.test)  # until the function ends

    def visit_IfExp(self, node):
        self._guarded(node.test, node)

    def visit_BoolOp(self, node):
        self._guarded(node, node)

    def visit_FunctionDef(self, node):
        outside, self.guards = self.guards, list(self.guards)
        self.generic_visit(node)
        self.guards = outside

    def _guarded(self, test, node):
        outside, self.guards = self.guards, [*self.guards, test]
        self.generic_visit(node)
        self.guards = outside

    def _judge(self, line, module, name):
        asked = ("sys.platform", "os.name", f"'{name}'")
        if name in lacking(module) and not any(word in ast.unparse(test) for test in self.guards for word in asked):
            self.found.append((line, f"{module}.{name}"))


def unguarded(text):
    uses = Uses()
    uses.visit(ast.parse(text))
    return uses.found


@pytest.mark.parametrize(
    "text, found",
    [
        ("import os\nos.fork()", ["os.fork"]),
        ("import os, sys\nif sys.platform != 'win32':\n    os.setsid()", []),
        ("import os, sys\ndef f():\n    if os.name == 'nt':\n        return\n    os.getuid()", []),
        ("import os\nn = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else 1", []),
        ("import os\nif ready:\n    os.getuid()", ["os.getuid"]),
        ("import signal as s\ns.signal(s.SIGKILL, None)", ["signal.SIGKILL"]),
        ("from fcntl import flock", ["fcntl.flock"]),
        ("import resource\nresource.getrlimit(1)", ["resource.getrlimit"]),
        ("import os\nos.mkfifo('x'); os.killpg(1, 9); os.kill(1, 15)", ["os.mkfifo", "os.killpg"]),
        ("import msvcrt\nmsvcrt.locking(1, 2, 3)", ["msvcrt.locking"]),
        ("import subprocess\nsubprocess.run([], start_new_session=True)", ["start_new_session"]),
    ],
)
def test_the_search_finds_what_a_system_lacks(text, found):
    assert [name for _, name in unguarded(text)] == found


def test_nothing_is_used_that_a_system_lacks():
    found = {_name(path): unguarded(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert len(found) > 150
    assert not {path: uses for path, uses in found.items() if uses}


def test_nothing_depends_on_the_system():
    """Texts of processes have an encoding (files: ruff's PLW1514), and processes are spawned, as Windows does it."""
    found = [
        f"{_name(path)}:{node.lineno}: {problem}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and (problem := _dependence(node))
    ]
    assert not found


def test_all_tests_can_be_collected_on_all_systems():
    """A file of tests that cannot be imported ends the whole run."""
    assert is_missing("fcntl", "win32") and is_missing("msvcrt", "linux") and not is_missing("os", "win32")
    found = [
        f"{_name(path)}:{node.lineno}: {alias.name}"
        for path in sorted((CHECKOUT / "Testing").glob("*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import)
        for alias in node.names
        if any(is_missing(alias.name, system) for system in SYSTEMS)
    ]
    assert not found


def _name(path):
    return path.relative_to(CHECKOUT).as_posix()


def _dependence(call):
    words = {word.arg for word in call.keywords}
    name = ast.unparse(call.func).rpartition(".")[2]
    if words & {"text", "universal_newlines"} and "encoding" not in words:
        return "text in the encoding of this system"
    if name == "get_context" and [ast.unparse(argument) for argument in call.args] != ["'spawn'"]:
        return "processes that are not spawned"
    if name in ("Pool", "set_start_method") or name == "ProcessPoolExecutor" and len(call.args) < 2:
        return "processes started as this system does it"
    return ""


# --------------------------------------------------------------------------------------------------------- names, texts


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A head CT in a folder, both of names that not every code page has."""
    folder = tmp_path_factory.mktemp("Köpfe") / "Müller, Jürgen"
    folder.mkdir()
    sitk.WriteImage(case("frontal").image, str(folder / "Schädel – größer.nii.gz"))
    return folder


def run(arguments, **variables):
    """Run the command; a file of text that is opened in the encoding of the system ends it."""
    done = subprocess.run(
        [sys.executable, "-W", "error::EncodingWarning", "-m", "CTDefaceLib", *map(os.fspath, arguments)],
        env={**os.environ, "PYTHONWARNDEFAULTENCODING": "1", **variables},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_names_and_texts_do_not_depend_on_the_code_page(named, tmp_path):
    """On Windows a pipe has the code page of the country."""
    folder = tmp_path / "Größen"
    folder.mkdir()
    arguments = ["deface", named / "Schädel – größer.nii.gz", folder / "entfernt – ß.nii.gz"]
    run(arguments, PYTHONIOENCODING="cp437").stdout.decode("cp437")
    assert sorted(path.name for path in folder.iterdir()) == ["entfernt – ß.json", "entfernt – ß.nii.gz"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locale without letters")
def test_a_batch_opens_what_it_found_where_the_locale_has_no_letters(named, tmp_path):
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    arguments = ["batch", named.parent, tmp_path / "Größen", "--names", "keep", "--workers", "1", "--no-gallery"]
    run(arguments, **locale).stdout.decode("ascii")
    assert (tmp_path / "Größen" / named.name / "Schädel – größer.nii.gz").is_file()
    table = (tmp_path / "Größen-private" / "scans.csv").read_text(encoding="utf-8")
    assert "Müller, Jürgen/Schädel – größer.nii.gz" in table
