"""The store of synthetic heads for tests: made once, whole or not at all, anew when the code changes."""

import os
import time

import numpy as np
import pytest
import SimpleITK as sitk
import stored_phantoms
from CTDefaceLib.phantom import PhantomParameters, make_phantom
from stored_phantoms import stored_phantom

TINY = PhantomParameters(matrix=(16, 16), spacing=(16.0, 16.0, 16.0))


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_phantoms, "STORE", tmp_path / "phantoms")
    stored_phantoms._folder.cache_clear()
    yield tmp_path / "phantoms"
    stored_phantoms._folder.cache_clear()


def test_what_is_read_is_what_was_made(store):
    made, again = stored_phantom(TINY), stored_phantom(TINY)
    assert again is not made and len(list(store.rglob("*.pickle"))) == 1
    for phantom in (made, again):
        real = make_phantom(TINY)
        for name in ("image", "labels"):
            ours, theirs = getattr(phantom, name), getattr(real, name)
            assert np.array_equal(sitk.GetArrayViewFromImage(ours), sitk.GetArrayViewFromImage(theirs))
            assert (ours.GetOrigin(), ours.GetSpacing()) == (theirs.GetOrigin(), theirs.GetSpacing())
        assert phantom.landmarks == real.landmarks and phantom.parameters == TINY


def test_a_file_that_was_cut_off_is_made_again(store):
    stored_phantom(TINY)
    (path,) = store.rglob("*.pickle")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    stored_phantom(TINY)
    assert path.read_bytes() == whole and list(store.rglob("*.part")) == []


def test_other_code_makes_other_heads_and_the_old_ones_go(store, monkeypatch):
    stored_phantom(TINY)
    (old,) = store.iterdir()
    stored_phantoms._folder.cache_clear()
    monkeypatch.setattr(stored_phantoms, "_code", lambda: "other code")
    stored_phantom(TINY)
    assert {path.name for path in store.iterdir()} == {old.name, "other code"}
    stored_phantoms._folder.cache_clear()
    long_ago = time.time() - 8 * 86400
    os.utime(old, (long_ago, long_ago))
    stored_phantom(TINY)
    assert {path.name for path in store.iterdir()} == {"other code"}
