"""The CMake files name every file of the modules, and what the extension index shows exists."""

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
RAW_URL = "https://raw.githubusercontent.com/CTDeface/SlicerCTDeface/main/"


def cmake_list(file, name):
    found = re.search(rf"set\({name}\s+(.*?)\)", file.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"{file.relative_to(CHECKOUT)} has no set({name} ...)"
    return found.group(1).split()


def cmake_value(name):
    found = re.search(rf'set\({name} "([^"]*)"\)', (CHECKOUT / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert found, f'CMakeLists.txt has no set({name} "...")'
    return found.group(1)


def files_below(folder, pattern):
    paths = (path for path in folder.rglob(pattern) if path.is_file() and not path.name.startswith("."))
    return sorted(path.relative_to(folder).as_posix() for path in paths if "__pycache__" not in path.parts)


@pytest.mark.parametrize("module", ["CTDeface", "CTDefaceEval"])
@pytest.mark.parametrize(
    "name, patterns",
    [
        ("MODULE_PYTHON_SCRIPTS", ["*.py"]),
        ("MODULE_PYTHON_RESOURCES", ["Resources/**/*", "*Lib/**/*.html", "*Lib/**/*.npz", "*Lib/py.typed"]),
    ],
)
def test_every_file_is_listed(module, name, patterns):
    folder = CHECKOUT / module
    listed = cmake_list(folder / "CMakeLists.txt", name)
    there = sorted(path for pattern in patterns for path in files_below(folder, pattern))
    lines = "\n  ".join([f"{module}.py"] * (f"{module}.py" in there) + [p for p in there if p != f"{module}.py"])
    assert sorted(listed) == there, (
        f"{module}/CMakeLists.txt does not name the files that are there, so Slicer would not install them. "
        f"Put this there:\n\nset({name}\n  {lines}\n  )\n"
    )


def test_python_packages_are_installed():
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = project["tool"]["setuptools"]["package-dir"]
    there = {
        ".".join(path.parent.relative_to(library.parent).parts)
        for library in CHECKOUT.glob("CTDeface*/*Lib")
        for path in library.rglob("__init__.py")
    }
    assert set(project["tool"]["setuptools"]["packages"]) == there
    assert set(folders) == {name for name in there if "." not in name}
    assert all((CHECKOUT / folder / "__init__.py").is_file() for folder in folders.values())


def test_what_the_extension_index_shows():
    summary = cmake_value("EXTENSION_DESCRIPTION").partition("Known patents")[0].strip()
    assert 1 <= summary.count(". ") + 1 <= 2
    for name in ("EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"):
        for url in cmake_value(name).split():
            assert url.startswith(RAW_URL)
            assert (CHECKOUT / url.removeprefix(RAW_URL)).is_file(), f"{name}: {url} has no file in the repository"
