"""What the test files share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")  # the same examples in every run; --hypothesis-profile=default tries new ones

CHECKOUT = Path(__file__).resolve().parents[1]


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
