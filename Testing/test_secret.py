"""What is random comes from the secret and the patient: the same in every run, every series and every batch."""

import batch_cases
import numpy as np
import pytest
import SimpleITK as sitk
from coarse_phantoms import scan, voxels
from CTDefaceLib import batch
from CTDefaceLib.batch.choices import Choices
from CTDefaceLib.commands.main import main
from CTDefaceLib.parameters import DefaceParameters, drawn
from CTDefaceLib.pipeline import deface
from CTDefaceLib.private import make_secret

SECRET, OTHER = b"s" * 32, b"t" * 32
FACE = DefaceParameters(fill="face")


def test_seeds_follow_from_secret_patient_and_voxels():
    one = sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    other = one + 1
    first = drawn(FACE, SECRET, "4711", one)
    assert first == drawn(FACE, SECRET, "4711", sitk.Image(one))
    series = drawn(FACE, SECRET, "4711", other)
    assert series.person == first.person and series.seed != first.seed
    for changed in (drawn(FACE, OTHER, "4711", one), drawn(FACE, SECRET, "4712", one)):
        assert changed.person != first.person and changed.seed != first.seed
    assert drawn(DefaceParameters(seed=1), SECRET, "4711", one) == DefaceParameters(seed=1)


@pytest.mark.slow
def test_all_series_of_a_patient_get_the_face_of_one_person():
    s = scan(field_of_view="upper_lip")
    sharp = s.image + sitk.Cast(sitk.AdditiveGaussianNoise(sitk.Image(s.image), 20.0, 0.0, 7) - s.image, sitk.sitkInt16)
    results = [deface(image, FACE, secret=SECRET, patient="4711") for image in (s.image, sharp)]
    assert results[0].surface.donor.person == results[1].surface.donor.person
    assert np.abs(results[0].surface.skin - results[1].surface.skin).max() < 1.5
    other = deface(s.image, FACE, secret=OTHER, patient="4711")
    assert other.surface.donor.person != results[0].surface.donor.person
    assert "person_seed" not in results[0].report["parameters"]


@pytest.mark.slow
def test_command_gives_the_same_voxels_in_every_run(tmp_path, capsys):
    sitk.WriteImage(scan(field_of_view="upper_lip").image, str(tmp_path / "head.nrrd"))
    command = ["deface", str(tmp_path / "head.nrrd")]
    with pytest.raises(SystemExit):
        main([*command, str(tmp_path / "a.nrrd"), "--secret", str(tmp_path / "secret.key")])
    assert "goes with --patient" in capsys.readouterr().err
    for name in "ab":
        secret = ["--secret", str(tmp_path / "secret.key"), "--patient", "4711"]
        assert main([*command, str(tmp_path / f"{name}.nrrd"), *secret]) == 0
    assert main([*command, str(tmp_path / "c.nrrd")]) == 0
    a, b, c = (voxels(sitk.ReadImage(str(tmp_path / f"{name}.nrrd"))) for name in "abc")
    assert (a == b).all() and (a != c).any()


@pytest.mark.slow
@pytest.mark.parametrize("names", ["keep", "pseudonym"])
def test_a_batch_gives_the_same_voxels_elsewhere(tmp_path, names):
    batch_cases.write(tmp_path / "in" / "sub-7_ct.nrrd", batch_cases.head("upper_lip"))
    secret = tmp_path / "secret.key"
    make_secret(secret)
    found = []
    for name in "ab":
        choices = Choices(names=names, ending=".nrrd")
        batch.run(tmp_path / "in", tmp_path / name, choices=choices, secret=secret, workers=0, gallery=False)
        (path,) = (tmp_path / name).rglob("*.nrrd")
        found.append(voxels(sitk.ReadImage(str(path))))
        assert "made from the secret" in (tmp_path / name / batch.SUMMARY).read_text(encoding="utf-8")
    assert (found[0] == found[1]).all()
