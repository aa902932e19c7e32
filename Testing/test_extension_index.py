"""What the index of Slicer's extensions reads: its entry, the metadata beside it, and texts that can be translated."""

import ast
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from test_cmake_lists import CHECKOUT, RAW_URL, cmake_value

ENTRY = json.loads((CHECKOUT / "CTDeface.json").read_text(encoding="utf-8"))
HOMEPAGE = "https://github.com/CTDeface/SlicerCTDeface"
SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.1.json#"
)
KEYS = {
    "$schema": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "category": str,
    "enabled": bool,
    "scm_revision": str,
    "scm_type": str,
    "scm_url": str,
    "tier": int,
}
"""All that the schema 1.0.1, which the index checks with, knows; the first and the two of NEEDED are required."""
NEEDED = {"$schema", "category", "scm_url"}

MODULES = ("CTDeface", "CTDefaceEval")
SLICER_FILES = sorted(
    path
    for module in MODULES
    for path in (CHECKOUT / module / f"{module}.py", *(CHECKOUT / module / f"{module}Slicer").rglob("*.py"))
)
UI_FILES = [CHECKOUT / module / "Resources" / "UI" / f"{module}.ui" for module in MODULES]

NO_TEXT = {"SlicerParameterName", "nodeTypes", "hideChildNodeTypes", "quantity", "settingKey", "levelFilter"}
NO_TEXT |= {"sceneModelType", "sliceViewName", "sliceOrientation", "interactionNodeSingletonTag"}
"""Properties of widgets that are no text: translated, they name nothing that exists."""

SHOWN = {"text", "toolTip", "title", "placeholderText", "specialValueText", "windowTitle", "helpText"}
"""Attributes of widgets and modules that people read."""
SHOWN_BY = {"addItem", "confirmOkCancelDisplay", "confirmYesNoDisplay", "errorDisplay", "infoDisplay", "setText"}
SHOWN_BY |= {"setToolTip", "setWindowTitle", "showStatusMessage", "warningDisplay"}
"""Functions whose first text people read."""


def names(path):
    return path.relative_to(CHECKOUT).as_posix()


def test_the_entry_follows_the_schema():
    assert set(ENTRY) >= NEEDED
    assert not [key for key, value in ENTRY.items() if not isinstance(value, KEYS.get(key, ()))]
    assert ENTRY["$schema"] == SCHEMA and ENTRY["tier"] in (1, 3, 5)
    text = (CHECKOUT / "CTDeface.json").read_text(encoding="utf-8")
    assert text == json.dumps(ENTRY, indent=2) + "\n" and list(ENTRY) == sorted(ENTRY), "as the index formats it"


def test_the_entry_says_what_cmake_says():
    text = (CHECKOUT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert re.search(r"^project\((\w+)\)", text, re.MULTILINE).group(1) == "CTDeface", "the name of the entry's file"
    depends = cmake_value("EXTENSION_DEPENDS")
    assert ENTRY["build_dependencies"] == ([] if depends == "NA" else depends.split())
    assert ENTRY["category"] == cmake_value("EXTENSION_CATEGORY")
    assert ENTRY["scm_url"] == f"{HOMEPAGE}.git" and cmake_value("EXTENSION_HOMEPAGE") == HOMEPAGE
    assert RAW_URL.endswith(f"/{ENTRY['scm_revision']}/"), "pictures are those of the branch that is built"


@pytest.mark.parametrize("module", MODULES)
def test_the_modules_say_what_cmake_says(module):
    text = (CHECKOUT / module / f"{module}.py").read_text(encoding="utf-8")
    assert f'HOMEPAGE = "{HOMEPAGE}"' in text
    assert f'contributors = ["{cmake_value("EXTENSION_CONTRIBUTORS")}"]' in text
    assert f'translate("qSlicerAbstractCoreModule", "{ENTRY["category"]}")' in text
    assert "acknowledgementText" in text and "Apache License 2.0" in text


def test_the_description_names_the_known_patents():
    """As the index asks; the page that answers it says what is known of them."""
    numbers = re.findall(r"US [\d/ ]+[AB]\d", cmake_value("EXTENSION_DESCRIPTION"))
    page = (CHECKOUT / "docs" / "extension-index.md").read_text(encoding="utf-8")
    assert numbers and not [number for number in numbers if number not in page]


def test_the_homepage_has_what_the_index_asks_for():
    page = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert page.startswith("# CTDeface\n")
    assert all(f"**{module}**" in page for module in MODULES), "a sentence for each module"
    assert "Apache License 2.0" in page and "doi.org" in page
    assert (CHECKOUT / "LICENSE").read_text(encoding="utf-8").lstrip().startswith("Apache License")


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in (CHECKOUT / "docs").glob("*.md"))])
def test_links_and_pictures_lead_somewhere(page):
    path = CHECKOUT / page
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8"))
    assert not [link for link in links if not (path.parent / link).exists()]


def test_what_is_no_text_is_not_translated():
    for path in UI_FILES:
        for found in ElementTree.parse(path).iter("property"):
            text = found.find("string") if found.find("string") is not None else found.find("stringlist")
            if found.get("name") in NO_TEXT and text is not None:
                assert text.get("notr") == "true", f"{names(path)}: mark {found.get('name')} as not translatable"


@pytest.mark.parametrize("path", SLICER_FILES, ids=lambda path: path.stem)
def test_what_people_read_can_be_translated(path):
    """Qt's lupdate finds only whole texts in ``_("…")``; what stands in one is put in by ``format``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wrong = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name == "_" and not _is_text(node.args[0]):
                wrong.append(node)
            elif name in SHOWN_BY and node.args and _is_words(node.args[0]):
                wrong.append(node)
        elif isinstance(node, ast.Assign) and _is_words(node.value):
            wrong += [target for target in node.targets if isinstance(target, ast.Attribute) and target.attr in SHOWN]
    assert not wrong, f"{names(path)}, lines {[node.lineno for node in wrong]}: a text is not in _(…), or not whole"


def _is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_words(node):
    """Whether a value is a text of words that is not translated, at least in part."""
    if isinstance(node, ast.JoinedStr):
        return any(_is_words(part) for part in node.values)
    return _is_text(node) and re.search(r"[A-Za-z]{2}", re.sub(r"<[^>]*(>|$)", "", node.value)) is not None


def test_the_check_of_texts_finds_what_is_wrong():
    for text, is_wrong in (
        ("label.text = 'Two words'", True),
        ("label.text = f'<b>{n}</b> words'", True),
        ("label.text = f'<b>{n}</b>'", False),
        ("label.text = _('Two words')", False),
    ):
        assert _is_words(ast.parse(text).body[0].value) is is_wrong, text


def test_nothing_is_imported_from_extensions_when_slicer_starts():
    """Without dependencies, the modules load in a Slicer that has none of the extensions of trained models."""
    others = {"PyTorchUtils", "SlicerNNUNetLib", "TotalSegmentator", "torch", "nnunetv2"}
    for path in SLICER_FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                assert not {alias.name.partition(".")[0] for alias in node.names} & others, names(path)
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in others, names(path)


def test_the_whole_checklist_is_answered():
    """Each line of docs/extension-index.md has an answer, and what it points to is there."""
    page = (CHECKOUT / "docs" / "extension-index.md").read_text(encoding="utf-8")
    tables = {int(n): body for n, body in re.findall(r"^## Tier (\d)\n(.*?)(?=^## |\Z)", page, re.M | re.S)}
    assert {tier: len(re.findall(r"^\| (?!asked|---)", body, re.M)) for tier, body in tables.items()} == {
        1: 19,
        3: 6,
        5: 3,
    }
    paths = set(re.findall(r"`((?:CTDeface|CTDefaceEval|Testing|docs|packaging|\.github)/[\w./-]+)`", page))
    assert paths and not [path for path in paths if not Path(CHECKOUT, path).exists()]


@pytest.mark.parametrize("path", UI_FILES, ids=lambda path: path.stem)
def test_screen_readers_have_a_name_for_everything_that_holds_a_value(path):
    """A label that is its buddy, or an accessible name: what a widget shows is no name of it."""
    root, named = ElementTree.parse(path).getroot(), set()
    for found in root.iter("property"):
        if found.get("name") == "buddy":
            named.add(found.findtext("cstring"))
    silent = ("Button", "Label", "CheckBox", "Frame", "ProgressBar", "QWidget", "qMRMLWidget")
    for widget in root.iter("widget"):
        own = {one.get("name") for one in widget.findall("property")}
        if not widget.get("class").endswith(silent):
            assert widget.get("name") in named or "accessibleName" in own, widget.get("name")
