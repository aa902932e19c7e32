"""The names that others build on: they stay, and the library loads no more than is used of it."""

import importlib
import subprocess
import sys
from pathlib import Path

import CTDefaceLib
import pytest

CHECKOUT = Path(__file__).resolve().parents[1]

PUBLIC = {
    "CTDefaceLib.pipeline": "DefaceParameters DefaceResult deface segment",
    "CTDefaceLib.volume_io": "Scan check_ct check_volume_name read_ct read_scan save_volume write_volume written_whole",
    "CTDefaceLib.batch": "Choices Summary plan private_folder run",
    "CTDefaceLib.dicom.deface": "deface_series write_defaced_volume",
    "CTDefaceLib.segmenters": "Choice State check_ready module names",
    "CTDefaceLib.phantom": "PhantomParameters make_phantom",
    "CTDefaceLib.commands.main": "main",
    "CTDefaceEvalLib.audit": "quick",
}


def in_a_process(code: str) -> str:
    environment = f"import sys; sys.path[:0] = {[str(CHECKOUT / f) for f in ('CTDeface', 'CTDefaceEval')]!r}; "
    return subprocess.run(
        [sys.executable, "-c", environment + code], capture_output=True, text=True, check=True, timeout=120
    ).stdout.strip()


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_stay(module):
    loaded = importlib.import_module(module)
    assert [name for name in PUBLIC[module].split() if not hasattr(loaded, name)] == []


def test_face_of_the_library():
    from CTDefaceLib import DefaceParameters, deface, pipeline, read_ct, segment, volume_io, write_volume

    assert (deface, segment, DefaceParameters) == (pipeline.deface, pipeline.segment, pipeline.DefaceParameters)
    assert (read_ct, write_volume) == (volume_io.read_ct, volume_io.write_volume)
    assert set(CTDefaceLib.__all__) <= set(dir(CTDefaceLib))
    assert all(getattr(CTDefaceLib, name) is not None for name in CTDefaceLib.__all__)
    with pytest.raises(AttributeError, match="CTDefaceLib.*nothing_of_this_name"):
        _ = CTDefaceLib.nothing_of_this_name


def test_face_of_the_library_is_lazy():
    heavy = "print([m for m in ('numpy', 'SimpleITK', 'scipy', 'pydicom', 'vtk') if m in sys.modules])"
    assert in_a_process(f"import CTDefaceLib; CTDefaceLib.__version__, dir(CTDefaceLib); {heavy}") == "[]"
    assert in_a_process(f"from CTDefaceLib import read_ct; {heavy}") == "['numpy', 'SimpleITK']"


def test_version_is_raised():
    assert tuple(int(part) for part in CTDefaceLib.__version__.split(".")) >= (0, 2, 0)


@pytest.mark.parametrize("library", ["CTDeface/CTDefaceLib", "CTDefaceEval/CTDefaceEvalLib"])
def test_types_are_for_everybody(library):
    assert (CHECKOUT / library / "py.typed").is_file()
