"""What the test files share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same few examples in every run; --hypothesis-profile=thorough tries many, and new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("thorough", deadline=None)
settings.load_profile("repeatable")

CHECKOUT = Path(__file__).resolve().parents[1]


def pytest_ignore_collect(collection_path, config):
    """Files in the stand-in for Slicer are not even imported where they are not wanted: that starts it."""
    if "not gui" in config.option.markexpr and collection_path.suffix == ".py":
        return "pytestmark = pytest.mark.gui\n" in collection_path.read_text(encoding="utf-8") or None


@pytest.fixture
def light_evaluations(monkeypatch):
    """Evaluations in four views of coarse skins, for tests of anything but how finely a head is drawn and fitted."""
    from CTDefaceEvalLib import detection, facial_shape, sweep, views

    monkeypatch.setitem(views.PRESETS, "quick", views.ViewGrid((-20, 10), (0, 15), ("top",)))
    monkeypatch.setattr(sweep, "REPORT_VIEWS", sweep.REPORT_VIEWS[:1])
    monkeypatch.setattr(detection, "GRID_MM", 2.5)
    monkeypatch.setattr(facial_shape, "FIT_STEPS", 20)


@pytest.fixture(scope="session")
def real_data():
    """Path of a real scan by file name; skips the test where the scans are not at hand.

    They are not part of the project: CTDEFACE_TEST_DATA names their folder, by default ``../shared/data``.
    """
    folder = Path(os.environ.get("CTDEFACE_TEST_DATA", CHECKOUT.parent / "shared" / "data"))

    def find(name):
        if not (folder / name).exists():
            pytest.skip(f"{name} is not in {folder}; set CTDEFACE_TEST_DATA")
        return folder / name

    return find
