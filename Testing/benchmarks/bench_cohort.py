"""A cohort of synthetic people: privacy against preservation, for several ways to deface and to fail at it.

    python Testing/benchmarks/bench_cohort.py -o FOLDER [--people 24] [--methods standard strict …] [--minutes 80]

Two scans of each person, which differ in noise and pose, and a photo of each: a picture of the first scan, taken by a
camera at 1 m. The attacker has the first scan, or the photo, with a name on it; the second scan is defaced. Each
method's volumes are looked at as they are, and after the attack that fits it best (TELLING). What a method costs is
measured on the first COSTED people, since it differs little between people and takes as long as all else.

Everything is kept in FOLDER as soon as it is made, and what is there is not made again. Methods are done one after the
other; when the time is up, the figures are those of the methods that are done for all people. Leaves the volumes, the
table, the report of the cohort (cohort.html), and its table and figure for the documentation (cohort.md and .svg).

The real heads of ../shared/data (CTDEFACE_TEST_DATA names another folder) are a cohort of their own (real.html): next
to phantoms anybody would know them. There is one scan of each; the attacker's is that scan turned a little, on another
grid and with more noise.
"""

import argparse
import csv
import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("Testing", "CTDeface", "CTDefaceEval")]

import numpy as np  # noqa: E402
import poor_defacings  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from carved import carved  # noqa: E402
from CTDefaceEvalLib import views  # noqa: E402
from CTDefaceEvalLib.attacks import posterior_of, recoveries  # noqa: E402
from CTDefaceEvalLib.cohort import evaluate_cohort  # noqa: E402
from CTDefaceEvalLib.cohort_table import COLUMNS, read_table  # noqa: E402
from CTDefaceEvalLib.controls import front_blanked  # noqa: E402
from CTDefaceEvalLib.detection import picture_of, surface_of  # noqa: E402
from CTDefaceEvalLib.findings import ORIGINAL  # noqa: E402
from CTDefaceEvalLib.identification import ORIGINAL_TO_DEFACED, PHOTO_TO_CT, UNTOUCHED  # noqa: E402
from CTDefaceEvalLib.pages import estimate_text  # noqa: E402
from CTDefaceEvalLib.preservation_page import privacy_chart  # noqa: E402
from CTDefaceEvalLib.report import write_cohort  # noqa: E402
from CTDefaceLib import segmenters  # noqa: E402
from CTDefaceLib.anatomy.face_map import head_cylinder  # noqa: E402
from CTDefaceLib.errors import Cancelled  # noqa: E402
from CTDefaceLib.phantom import PhantomParameters, make_phantom  # noqa: E402
from CTDefaceLib.pipeline import DefaceParameters, deface  # noqa: E402
from CTDefaceLib.render import Renderer, write_png  # noqa: E402

PERSON = PhantomParameters(spacing=(2.0, 2.0, 2.0), matrix=(112, 128), holder=False)
VIEWS, MODEL = "cohort", "dlib-hog"
views.PRESETS[VIEWS] = views.ViewGrid((-30.0, 0.0, 30.0), (0.0, 15.0), ("top",))
FIRST_SCAN_SEED = 10_000
"""What the seed of a defacing of the first scan is moved by."""
COSTED = 4
"""So many people's volumes tell what a method costs."""
DATA = Path(os.environ.get("CTDEFACE_TEST_DATA", ROOT.parent / "shared" / "data"))
REAL = ("head_ct_brain_fov.nii.gz", "head_ct_full_face_lowres.nii.gz")
OTHER_SCAN = {"degrees": (4.0, -3.0, 5.0), "spacing_mm": 1.2, "noise_hu": 10.0}
"""How the attacker's scan of a real head differs from the one that is defaced."""


def ours(**parameters):
    return lambda image, _pose, seed: deface(image, DefaceParameters(seed=seed, **parameters)).image


def coronal_cut(image, pose, _seed):
    """All in front of a flat cut 20 mm behind the pose's center, which is 20 mm behind the brow at the orbits."""
    hu = sitk.GetArrayFromImage(image)
    return poor_defacings.with_values(image, np.where(posterior_of(image, pose) < -20.0, -1000, hu))


def refilled(image, pose, seed):
    """A mask that was set to one value, as somebody sees it who looks for such a region and fills it with tissue."""
    defaced = METHODS["mask as is, constant"](image, pose, seed)
    found = next(recoveries(defaced, pose, ("constant region",))).image
    corner = defaced.TransformPhysicalPointToIndex(found.GetOrigin())
    return sitk.Paste(defaced, sitk.Cast(found, defaced.GetPixelID()), found.GetSize(), destinationIndex=corner)


METHODS = {
    "standard": ours(),
    "mask as is, constant": ours(as_is=True, fill="constant"),
    "mask as is, refilled": refilled,
    "control, front cut off": lambda image, _pose, _seed: front_blanked(image, head_cylinder(image)),
    "strict": ours(strength="strict"),
    "light": ours(strength="light"),
    "standard, air": ours(fill="air"),
    "standard, face": ours(fill="face"),
    "mask as is, percentile": ours(as_is=True, fill="percentile"),
    "carved, version 0.1": lambda image, _pose, seed: carved(image, seed),
    "coronal cut": coronal_cut,
    "blur of 5 mm": lambda image, pose, _seed: poor_defacings.blurred(image, pose, 5.0),
    "shell of 18 mm, constant": lambda image, pose, _seed: poor_defacings.constant_filled(image, pose),
    "mede's mask, constant": ours(segmenter="mede", as_is=True, fill="constant", device="cpu"),
    "light, face": ours(strength="light", fill="face"),
    "light, air": ours(strength="light", fill="air"),
    "strict, face": ours(strength="strict", fill="face"),
    "strict, air": ours(strength="strict", fill="air"),
}
"""Name → function of image, pose and seed, in the order in which they are done."""

TELLING = {
    "standard": "growth",
    "mask as is, constant": "constant region",
    "mask as is, percentile": "constant region",
    "mede's mask, constant": "constant region",
    "shell of 18 mm, constant": "constant region",
    "blur of 5 mm": "deblurring",
}
"""Method → the attack that is made on it: what finds one value, undoes a blur, or grows back what was taken off. A fill
with noise that runs like a scanner's can only be peeled off whole: that is the fill “air”, the bound of all of them."""


def methods_at_hand():
    """All methods but those whose segmenter is not installed."""
    status = segmenters.module("mede").state(segmenters.Choice()).status
    return [method for method in METHODS if "mede" not in method or status is segmenters.Status.READY]


def scan_of(person, scan):
    yaw, pitch, roll = np.random.default_rng(1000 * person + scan).uniform(-6.0, 6.0, 3)
    parameters = replace(PERSON, person=person, seed=scan, yaw=float(yaw), pitch=float(pitch), roll=float(roll))
    return make_phantom(parameters).image


def another_scan(image):
    """A real head as another scan would show it, see OTHER_SCAN."""
    middle = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2.0 for n in image.GetSize()])
    turn = sitk.Euler3DTransform(middle, *np.radians(OTHER_SCAN["degrees"]).tolist())
    spacing = [max(OTHER_SCAN["spacing_mm"], side) for side in image.GetSpacing()]
    size = [int(n * a / b) for n, a, b in zip(image.GetSize(), image.GetSpacing(), spacing)]
    grid = size, turn, sitk.sitkLinear, image.GetOrigin(), spacing, image.GetDirection()
    turned = sitk.Resample(image, *grid, -1000.0, sitk.sitkFloat32)
    noise = np.random.default_rng(0).normal(0.0, OTHER_SCAN["noise_hu"], turned.GetSize()[::-1])
    return sitk.Cast(poor_defacings.with_values(turned, sitk.GetArrayFromImage(turned) + noise), sitk.sitkInt16)


def make_photo(path, image, renderer):
    picture = picture_of(renderer, surface_of(image), views.head_pose(image), 8.0, 4.0, "head", 400, perspective=True)
    write_png(path, picture)


def write_volume(path, image):
    part = path.with_name(f"part_{path.name}")
    sitk.WriteImage(image, str(part), True)
    part.replace(path)


class Person:
    """One person's volumes in a folder, made where they are missing; `scans` are two functions that give an image."""

    def __init__(self, folder, name, scans, seed):
        self.name = name
        self._folder, self._scans, self._seed = folder, scans, seed

    def row(self, scan, method):
        """Of the table."""
        file = f"{self.name}_{scan}_{''.join(c if c.isalnum() else '_' for c in method)}.nrrd"
        path = self._folder / file
        if not path.exists():
            write_volume(path, self._scans[scan]() if method == "original" else self._defaced(scan, method))
        return self.name, scan, method, file

    def photo(self, renderer):
        """The row of a photo."""
        path = self._folder / f"{self.name}.png"
        if not path.exists():
            make_photo(path, sitk.ReadImage(str(self._folder / self.row(0, "original")[3])), renderer)
        return self.name, 1, "photo", path.name

    def _defaced(self, scan, method):
        image = sitk.ReadImage(str(self._folder / self.row(scan, "original")[3]))
        # Two scans are defaced on different days, with another secret.
        return METHODS[method](image, views.head_pose(image), self._seed + (1 - scan) * FIRST_SCAN_SEED)


def phantoms(folder, number):
    return [Person(folder, f"P{n}", [partial(scan_of, n, scan) for scan in (0, 1)], n) for n in range(number)]


def real_heads(folder):
    people = []
    for number, path in enumerate(DATA / name for name in REAL):
        if path.exists():
            image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkInt16)
            people.append(Person(folder, f"R{number}", [partial(another_scan, image), image.__copy__], number))
    return people


def evaluated(folder, name, rows, **more):
    """The cohort of these rows, what is known of it from the cache."""
    table = folder / f"{name}.table.csv"
    with open(table, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    attacks = {method: [kind] for method, kind in TELLING.items()}
    return evaluate_cohort(read_table(table), folder / "cache", model=MODEL, views=VIEWS, attacks=attacks, **more)


def run(folder, name, people, options):
    """The cohort of these people by as many methods as the time reaches for, with what each costs."""
    start = time.perf_counter()

    def say(text):
        print(f"{time.perf_counter() - start:6.0f} s  {name}: {text}", flush=True)

    rows = [person.row(scan, "original") for scan in (0, 1) for person in people]
    if name == "cohort":
        renderer = Renderer()
        rows += [person.photo(renderer) for person in people]
    before = len(rows)
    scans = (0, 1) if options.both else (1,)
    rows += [person.row(scan, method) for method in options.methods for scan in scans for person in people]
    say("all volumes are there")
    some = {person.name for person in people[:COSTED]}
    costed = (row for row in rows if row[0] in some and (row[1] == 1 or row[2] == ORIGINAL))
    by_person = sorted(costed, key=lambda row: row[0])
    costs = evaluated(folder, name, by_person, with_preservation=True, progress=lambda _, text: say(text))
    say(f"costs of {len(some)} people")
    looked_at = 0.0

    def progress(fraction, text):
        nonlocal looked_at
        looked_at = fraction / 0.9 * sum(row[2] != "photo" for row in rows)
        say(text)

    try:
        cohort = evaluated(folder, name, rows, progress=progress, cancelled=lambda: time.monotonic() > options.end)
    except Cancelled:
        methods = int((looked_at - 2 * len(people)) / len(people) / len(scans))
        say(f"the time is up after {methods} of {len(options.methods)} methods")
        rows = rows[: before + methods * len(people) * len(scans)]
        cohort = evaluated(folder, name, rows)
    if options.linkage:
        cohort = evaluated(folder, name, rows, with_linkage=True)
    for method in cohort.methods:
        method.preservation = next((one.preservation for one in costs.methods if one.method == method.method), {})
    write_cohort(cohort, folder / f"{name}.html", overwrite=True)
    (folder / f"{name}.md").write_text(markdown(cohort), encoding="utf-8")
    (folder / f"{name}.svg").write_text(privacy_chart(cohort), encoding="utf-8")
    say("report written")


def attack_used(attacked):
    """An attack and the result of it that was compared."""
    if attacked is None:
        return "–"
    kind, used = TELLING[attacked.attack_on], attacked.identified(ORIGINAL_TO_DEFACED).by
    return used if used.startswith(kind) else f"{kind}, {used or 'nothing found'}"


def markdown(cohort):
    """The table of docs/privacy-preservation.md."""

    def figures(method, threat):
        one = method and method.identified(threat)
        return [estimate_text(one and one.rank1, "{:.2f}"), estimate_text(one and one.auc, "{:.2f}")]

    head = ["", "attack", "rank-1", "AUC", "rank-1 attacked", "AUC attacked", "rank-1 by photo", "tissue replaced"]
    head += ["bone replaced", "registration error, mm"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for method in (one for one in cohort.methods if not one.attack_on):
        threat = UNTOUCHED if method.method == ORIGINAL else ORIGINAL_TO_DEFACED
        attacked = next((one for one in cohort.methods if one.attack_on == method.method), None)
        costs = [("tissue replaced", "{:.1%}"), ("bone replaced", "{:.1%}"), ("registration error, mm", "{:.2f}")]
        cells = [
            method.method,
            attack_used(attacked),
            *figures(method, threat),
            *figures(attacked, threat),
            figures(method, PHOTO_TO_CT)[0],
            *(estimate_text(method.preservation.get(name), form) for name, form in costs),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=methods_at_hand())
    parser.add_argument("--linkage", action="store_true", help="try to link the scans by skull, ears and sinuses, too")
    parser.add_argument(
        "--both", action="store_true", help="deface the first scans, too: defaced → defaced, in cohort.html"
    )
    parser.add_argument("--minutes", type=float, default=1e6, help="after which what is done counts")
    parser.add_argument("--only", choices=("cohort", "real"), help="the phantoms, or the real heads")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    options.end = time.monotonic() + 60.0 * options.minutes
    if options.only != "real":
        run(options.output, "cohort", phantoms(options.output, options.people), options)
    people = real_heads(options.output)
    if options.only != "cohort" and len(people) > 1:
        options.end = np.inf
        run(options.output, "real", people, options)


if __name__ == "__main__":
    main()
