"""Deface heads whose file has them lie otherwise than they do, and count what comes out.

    python Testing/benchmarks/bench_orientation.py [--turns N] [--full] [--seed N] [--only HEAD] [--views VIEW …]

Heads: the acceptance phantoms in voxels of 2 mm, and the real ones where ``CTDEFACE_TEST_DATA`` names their folder.
Views: whole, and cut in ways that scanners cut. Turns: all 24 of whole heads, some of the others (``--turns``), every
second one mirrored, since a converter that flips an axis gives a mirror image. The same turn of the grid always gives
the same work grid but for half a voxel; so where the head's axes come out as in the upright head to 5°, its result is
taken for this one's, unless ``--full`` is given.

- by the head: the face is gone (as much of it as from the upright head), said or not
- refused: an error
- warned: a face is left, and a warning says to look
- silent: a face is left, and nothing says so. None is the goal.
"""

import argparse
import collections
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).parents[1]))
from coarse_phantoms import case, voxels
from CTDefaceLib.anatomy.head import find_head
from CTDefaceLib.anatomy.orientation import turned_volume, turns
from CTDefaceLib.errors import CTDefaceError
from CTDefaceLib.phantom import Label
from CTDefaceLib.pipeline import deface
from phantom_cases import CASES

REAL = ("head_ct_brain_fov.nii.gz", "head_ct_full_face_lowres.nii.gz", "phantom_ct_dicom")
AIR = -1024
MORE_LEFT = 0.05
"""Share of the face that may stay beyond what stays of the upright head."""


def heads(only):
    """Name, image in LPS order and what of it is face (bool, its grid; None where that is not known)."""
    for name in CASES:
        if only in (None, name):
            s = case(name)
            yield name, s.image, s.labelled(Label.FACE_SKIN)
    folder = Path(os.environ.get("CTDEFACE_TEST_DATA", ""))
    for name in REAL:
        if (folder / name).exists() and only in (None, name):
            yield name, sitk.DICOMOrient(read(folder / name), "LPS"), None


def read(path):
    """A volume, or the only series of a folder."""
    if path.is_dir():
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path))
        return sitk.Cast(sitk.ReadImage(names), sitk.sitkInt16)
    return sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkInt16)


def views(image, face):
    """The whole volume and cuts of it, each with its face."""
    yield "whole", image, face
    head = find_head(image)
    grid = np.argwhere(head.intracranial)[:, ::-1]
    points = np.array(
        [head.volume.TransformContinuousIndexToPhysicalPoint(p.tolist()) for p in grid[::50].astype(float)]
    )
    low, high = points.min(axis=0), points.max(axis=0)
    first, size, spacing = np.array(image.GetOrigin()), np.array(image.GetSize()), np.array(image.GetSpacing())
    index = lambda mm, axis: int(np.clip((mm - first[axis]) / spacing[axis], 0, size[axis] - 1))  # noqa: E731
    middle = (low + high) / 2
    boxes = {
        "no vertex": (slice(None), slice(None), slice(0, index(high[2] - 30.0, 2))),
        "to the orbits": (slice(None), slice(None), slice(index(max(head.brow[2] - 35.0, low[2]), 2), None)),
        "one side": (slice(index(middle[0] - 20.0, 0), None), slice(None), slice(None)),
        "no back": (slice(None), slice(0, index(high[1] - 25.0, 1)), slice(None)),
    }
    for name, box in boxes.items():
        yield name, image[box], None if face is None else face[box[::-1]]
    x, y = (first[axis] + spacing[axis] * np.arange(size[axis]) for axis in (0, 1))
    for name, radius, forward in (("round, 180 mm", 90.0, 0.0), ("round, 150 mm", 75.0, 40.0)):
        seen = np.hypot(x - middle[0], (y - middle[1] + forward)[:, None]) < radius
        cut = sitk.GetImageFromArray(np.where(seen, sitk.GetArrayViewFromImage(image), AIR).astype(np.int16))
        cut.CopyInformation(image)
        yield name, cut, None if face is None else face & seen


def lie(image, turn, mirrored):
    """The same voxels in a file that has them lie otherwise."""
    turned = turned_volume(image, turn)
    if mirrored:
        turned = turned[::-1, :, :]
    turned.SetDirection(np.eye(3).ravel().tolist())
    turned.SetOrigin((0.0, 0.0, 0.0))
    return turned


def left_of(face, region):
    """Share of a face (bool) that is not in a region."""
    return 1.0 - float(np.mean(voxels(region)[face] > 0)) if face.any() else 0.0


def face_of(image, face, turn, mirrored):
    mask = sitk.GetImageFromArray(face.astype(np.uint8))
    mask.CopyInformation(image)
    return voxels(lie(mask, turn, mirrored)) > 0


def same_axes(image, turn, mirrored, head, upright):
    """Whether a head's axes are those of the upright one, turned; left is right in a mirror image."""
    direction = np.reshape(turned_volume(image, turn).GetDirection(), (3, 3))
    expected = upright.axes @ direction
    if mirrored:
        expected = expected * (-1.0, 1.0, 1.0) * [[-1.0], [1.0], [1.0]]
    return np.degrees(np.arccos(np.clip((expected * head.axes).sum(axis=1), -1.0, 1.0))).max() < 5.0


def outcome(image, face, turn, mirrored, upright, full):
    """What comes out: its kind, and whether there is a warning."""
    turned = lie(image, turn, mirrored)
    try:
        if not full and upright is not None:
            head = find_head(turned)
            if same_axes(image, turn, mirrored, head, upright[0]):
                warned = head.orientation.turned or not head.orientation.clear or upright[2]
                return "by the head", bool(warned)
        made = deface(turned)
    except CTDefaceError:
        return "refused", True
    warned = bool(made.report["warnings"])
    gone = upright is not None and left_of(face_of(image, face, turn, mirrored), made.region) <= upright[1] + MORE_LEFT
    return "by the head" if gone else "warned" if warned else "SILENT", warned


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=4, help="turns of each cut view")
    parser.add_argument("--full", action="store_true", help="deface every one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="HEAD")
    parser.add_argument("--views", nargs="*", help="the first words of the views to try; all when left out")
    choices = parser.parse_args()
    chance = random.Random(choices.seed)
    table, upright_table = collections.defaultdict(collections.Counter), collections.defaultdict(collections.Counter)
    for name, whole, whole_face in heads(choices.only):
        start = time.perf_counter()
        for view, image, face in views(whole, whole_face):
            if choices.views and not view.startswith(tuple(choices.views)):
                continue
            upright = None
            try:
                made = deface(image)
                if face is None:  # what is removed from the upright head is its face
                    face = (voxels(made.region) > 0) & (voxels(image) > -300)
                upright = made.cylinder.head, left_of(face, made.region), bool(made.report["warnings"])
                upright_table[view]["with a warning" if upright[2] else "clean"] += 1
                if upright[2]:
                    print(f"{name}, {view}, upright: {' '.join(made.report['warnings'])}", flush=True)
            except CTDefaceError as error:
                upright_table[view]["refused"] += 1
                print(f"{name}, {view}, upright: refused. {error}", flush=True)
                continue
            wrong = list(range(1, 24)) if view == "whole" else chance.sample(range(1, 24), choices.turns)
            for number, turn in enumerate(wrong):
                kind, warned = outcome(image, face, turns()[turn], number % 2 == 1, upright, choices.full)
                table[view][kind] += 1
                table[view]["of these without a warning"] += kind == "by the head" and not warned
                if kind in ("SILENT", "refused", "warned"):
                    print(f"{name}, {view}, turn {turn}{' mirrored' * (number % 2)}: {kind}", flush=True)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    kinds = ("clean", "with a warning", "refused")
    print(f"\n| right way up | {' | '.join(kinds)} |\n|---|---|---|---|")
    for view, counts in upright_table.items():
        print(f"| {view} | {' | '.join(str(counts[kind]) for kind in kinds)} |")
    kinds = ("by the head", "of these without a warning", "refused", "warned", "SILENT")
    print(f"\n| another way | {' | '.join(kinds)} |\n|---|---|---|---|---|---|")
    for view, counts in table.items():
        print(f"| {view} | {' | '.join(str(counts[kind]) for kind in kinds)} |")


if __name__ == "__main__":
    main()
