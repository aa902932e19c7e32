"""How deep is deep enough? Recognition from what a defacing leaves, against the tissue that it replaces.

    python Testing/benchmarks/bench_strength.py -o RESULTS [--people 24] [--depths 4 8 10 12 18 24] [--models dlib-hog]

The bound: all that lies in the region is independent of the patient, so an attacker who knows the region exactly is
left with the voxels outside it. For each depth the region is therefore emptied (fill "air"), and what remains is
compared with another scan of the same person and of all others: rank-1, and ROC-AUC of own against other heads, each
with a 95 % interval (bootstrap over people). The same is done for the fills, and for two controls: the untouched second
scan, and that scan with its whole front blanked, from the ears on. The outline of the head, the ears and the field of
view alone link heads; no fill is to blame for what the control shows.

People are phantoms, two scans each, that differ in noise and pose and share one field of view; the real heads of
../shared/data (CTDEFACE_TEST_DATA names another folder), where they are at hand, have one scan, with which they are
compared with themselves. A face is described from ten sides where the untouched scan's face is found, whether one is
found there or not, and by the mean over the sides. Leaves strength.json, strength.csv and strength.svg.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
for folder in (TESTING, TESTING.parent / "CTDeface", TESTING.parent / "CTDefaceEval"):
    sys.path.insert(0, str(folder))

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from CTDefaceEvalLib import charts, detection, views  # noqa: E402
from CTDefaceEvalLib.controls import front_blanked  # noqa: E402
from CTDefaceEvalLib.face_models import load_model  # noqa: E402
from CTDefaceLib.anatomy.face_map import head_cylinder  # noqa: E402
from CTDefaceLib.phantom import PhantomParameters  # noqa: E402
from CTDefaceLib.pipeline import DefaceParameters, deface  # noqa: E402
from CTDefaceLib.render import Renderer  # noqa: E402
from stored_phantoms import stored_phantom  # noqa: E402

DATA = Path(os.environ.get("CTDEFACE_TEST_DATA", TESTING.parents[1] / "shared" / "data"))
REAL = ("head_ct_brain_fov.nii.gz", "head_ct_full_face_lowres.nii.gz")
VIEWS = views.ViewGrid((-30.0, -15.0, 0.0, 15.0, 30.0), (0.0, 15.0), ("top",))
PERSON = PhantomParameters(matrix=(150, 170), spacing=(1.5, 1.5, 1.5), holder=False)
DRAWS = 2000
UNTOUCHED, BLANKED = "untouched", "front blanked"


def people(number: int) -> Iterator[tuple[str, sitk.Image, sitk.Image]]:
    """Name and two scans of each person, the real ones first."""
    for name in REAL:
        if (DATA / name).exists():
            image = sitk.ReadImage(str(DATA / name))
            yield name.removesuffix(".nii.gz"), image, image
    for person in range(300, 300 + number):
        rng = np.random.default_rng(person)
        turns = rng.uniform(-6.0, 6.0, (2, 3))
        scans = [
            stored_phantom(
                replace(PERSON, person=person, seed=seed, yaw=float(yaw), pitch=float(pitch), roll=float(roll))
            ).image
            for seed, (yaw, pitch, roll) in enumerate(turns)
        ]
        yield f"phantom {person}", *scans


def conditions(depths: list[float], fills: list[str]) -> dict[str, DefaceParameters | None]:
    """Name → the defacing; None for the untouched scan and the control."""
    defacings = {f"emptied {depth:g} mm": DefaceParameters(fill="air", depth_mm=depth, seed=1) for depth in depths}
    defacings.update({fill: DefaceParameters(fill=fill, seed=1) for fill in fills})
    return {UNTOUCHED: None, BLANKED: None, **defacings}


def describe(image: sitk.Image, pose: views.Pose, model, renderer: Renderer, faces: dict) -> tuple[np.ndarray, int]:
    """Mean embedding over the views with a face in ``faces``, (d,), and in how many of all views a face is found."""
    skin = detection.surface_of(image)
    sightings = detection.find_faces(
        renderer, skin, pose, VIEWS, [model], embedders=[model.name], embed_at=faces or None
    )
    vectors = [s.embedding / np.linalg.norm(s.embedding) for s in sightings if s.embedding is not None]
    return np.mean(vectors, axis=0) if vectors else np.zeros(1), detection.views_found(sightings, model.name)


def faces_of(image: sitk.Image, pose: views.Pose, model, renderer: Renderer) -> dict:
    """View → the face found in it."""
    sightings = detection.find_faces(renderer, detection.surface_of(image), pose, VIEWS, [model])
    return {s.view: s.face for s in sightings if s.face}


def recognition(gallery: np.ndarray, probes: np.ndarray, people: np.ndarray) -> tuple[float, float]:
    """Rank-1 and ROC-AUC of probes (n, d) among a gallery (n, d), for the chosen people (n,), who may come twice."""
    gallery, probes = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (gallery[people], probes[people]))
    cosines = probes @ gallery.T
    same = people[:, None] == people[None, :]
    own = np.where(same, cosines, -np.inf).max(axis=1)
    others = cosines[~same]
    rank1 = float(np.mean(own > np.where(same, -np.inf, cosines).max(axis=1)))
    below = np.searchsorted(np.sort(others), own, "left") + np.searchsorted(np.sort(others), own, "right")
    return rank1, float(np.mean(below / 2.0 / len(others)))


def interval(gallery: np.ndarray, probes: np.ndarray, rng: np.random.Generator) -> dict:
    """Rank-1 and AUC with their 95 % intervals."""
    number = len(gallery)
    drawn = [recognition(gallery, probes, rng.integers(0, number, number)) for _ in range(DRAWS)]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0).tolist()
    rank1, auc = recognition(gallery, probes, np.arange(number))
    return {"rank1": rank1, "rank1_95": [low[0], high[0]], "auc": auc, "auc_95": [low[1], high[1]], "people": number}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("strength_results"))
    parser.add_argument("--people", type=int, default=24, help="phantoms beside the real heads")
    parser.add_argument("--depths", type=float, nargs="+", default=[4.0, 6.0, 8.0, 10.0, 12.0, 18.0, 24.0])
    parser.add_argument("--fills", nargs="*", default=["smooth", "face"], help="at the standard strength")
    parser.add_argument("--models", nargs="+", default=["dlib-hog"])
    parser.add_argument("--model-folder", help="of the models that are loaded from one")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which those who are done count")
    args = parser.parse_args()
    end = time.monotonic() + 60.0 * args.minutes
    args.output.mkdir(parents=True, exist_ok=True)
    renderer = Renderer()
    models = [load_model(name, args.model_folder) for name in args.models]
    chosen = conditions(args.depths, args.fills)
    gallery = {model.name: [] for model in models}
    probes = {(model.name, name): [] for model in models for name in chosen}
    found = {key: [] for key in probes}
    replaced = {name: [] for name in chosen}
    for number, (person, first, second) in enumerate(people(args.people)):
        start = time.perf_counter()
        poses = views.head_pose(first), views.head_pose(second)
        faces = {m.name: faces_of(second, poses[1], m, renderer) for m in models}
        for model in models:
            seen = faces_of(first, poses[0], model, renderer)
            gallery[model.name].append(describe(first, poses[0], model, renderer, seen)[0])
        for name, parameters in chosen.items():
            image = second if name == UNTOUCHED else None
            if name == BLANKED:
                image = front_blanked(second, head_cylinder(second))
            if image is None:
                result = deface(second, replace(parameters, seed=number))  # another face for each
                image = result.image
                replaced[name].append((result.report["replaced_ml"], result.report["replaced_share"]))
            for model in models:
                vector, views_found = describe(image, poses[1], model, renderer, faces[model.name])
                probes[model.name, name].append(vector)
                found[model.name, name].append(views_found)
        print(f"{number + 1}: {person} {time.perf_counter() - start:.0f} s", flush=True)
        if time.monotonic() > end:
            break

    rows = []
    for model in models:
        print(f"\n{model.name}: of {len(VIEWS)} views")
        print("| condition | replaced mL | % of head | views found | rank-1 (95 %) | AUC (95 %) |")
        print("|---" * 6 + "|")
        for name in chosen:
            rng = np.random.default_rng(0)
            figures = interval(np.array(gallery[model.name]), np.array(probes[model.name, name]), rng)
            ml, share = np.mean(replaced[name], axis=0) if replaced[name] else (0.0, 0.0)
            row = {"model": model.name, "condition": name, "replaced_ml": ml, "replaced_share": share, **figures}
            row["views_found"] = float(np.mean(found[model.name, name]))
            rows.append(row)
            print(
                f"| {name} | {ml:.0f} | {100 * share:.1f} | {row['views_found']:.1f} | {figures['rank1']:.2f} "
                f"({figures['rank1_95'][0]:.2f}–{figures['rank1_95'][1]:.2f}) | {figures['auc']:.2f} "
                f"({figures['auc_95'][0]:.2f}–{figures['auc_95'][1]:.2f}) |"
            )
    (args.output / "strength.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    with open(args.output / "strength.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    emptied = [row for row in rows if row["condition"].startswith("emptied") and row["model"] == models[0].name]
    blanked = next(row for row in rows if row["condition"] == BLANKED)
    shares = [100 * row["replaced_share"] for row in emptied]
    lines = [
        ("region emptied", shares, [row["auc"] for row in emptied]),
        ("the head with its front blanked", shares, [blanked["auc"]] * len(shares)),
        ("upper end of its 95 % interval", shares, [blanked["auc_95"][1]] * len(shares)),
    ]
    labels = "share of the head's tissue that is replaced (%)", "ROC-AUC, own against other heads"
    svg = charts.line_chart(lines, *labels, x_range=(0.0, float(np.ceil(max(shares, default=1.0)))), y_range=(0.4, 0.7))
    (args.output / "strength.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
