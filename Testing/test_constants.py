"""Tuned constants have a docstring, and docs/constants.md lists them with the values that they have."""

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
LIBRARY = CHECKOUT / "CTDeface" / "CTDefaceLib"
PAGE = (CHECKOUT / "docs" / "constants.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### `([\w/]+\.py)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
TUNED = [path.relative_to(LIBRARY).as_posix() for path in sorted((LIBRARY / "anatomy").glob("*.py"))]
TUNED += [path.relative_to(LIBRARY).as_posix() for path in sorted((LIBRARY / "removal").glob("*.py"))]
TUNED += ["parameters.py", "segmenters/builtin.py", "segmenters/nnunet_runtime.py"]
NO_NUMBERS = {"OLDEST", "AXIAL_NEIGHBOURS"}


def constants(file):
    """Name, value as written and whether a docstring follows, of the constants of a module that hold a number."""
    body = ast.parse((LIBRARY / file).read_text(encoding="utf-8")).body
    for statement, following in zip(body, [*body[1:], None]):
        if not isinstance(statement, ast.Assign):
            continue
        target, value = statement.targets[0], statement.value
        parts = list(zip(target.elts, value.elts)) if isinstance(target, ast.Tuple) else [(target, value)]
        documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        for name, part in parts:
            numbers = [n for n in ast.walk(part) if isinstance(n, ast.Constant) and isinstance(n.value, (int, float))]
            if name.id.isupper() and numbers and name.id not in NO_NUMBERS and not isinstance(part, ast.JoinedStr):
                yield name.id, ast.unparse(part), documented


@pytest.mark.parametrize("file", sorted({*TUNED, *SECTIONS}))
def test_each_constant_has_a_docstring_and_its_value_on_the_page(file):
    rows = dict(re.findall(r"^\| `(\w+)` \| (?:`(.*?)`|see there) \|", SECTIONS.get(file, ""), re.MULTILINE))
    found = {name: (value, documented) for name, value, documented in constants(file)}
    assert not set(rows) - set(found), "the page lists what is no longer there"
    for name, (value, documented) in found.items():
        if file in TUNED or name in rows:
            assert documented, f"{name} has no docstring below it"
            assert name in rows, f"{name} is not in docs/constants.md under {file}"
            assert rows[name] in ("", value), f"docs/constants.md gives {name} as {rows[name]}, it is {value}"
