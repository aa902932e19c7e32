"""From which likeness on do two heads show one person? Measured on people, not on one head; and the galleries.

    python Testing/benchmarks/bench_recognition.py [--people 24] [--models dlib-hog] [--model-folder DIR] [--keep]

Each person's two scans (phantoms that differ in noise and pose; the real heads of ../shared/data, where they are at
hand, have one scan, whose views are dealt out to two) are described by their templates, as an evaluation does it, in
the sixteen views in which the face is found best. Genuine pairs are two scans of one person, impostor pairs those of
two people, blanked pairs the head against itself with its whole front cut off. Prints percentiles of their likeness
(0 as the gallery of the other phantoms, 1 as the head itself), from which `recognition.SAME_PERSON` is chosen, and of
their cosines. With --keep the phantoms' templates become the gallery of evaluations with this model, and how
it sees the three heads that stand for others is kept beside them.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING), str(TESTING.parent / "CTDeface"), str(TESTING.parent / "CTDefaceEval")]

import numpy as np  # noqa: E402
from bench_strength import people  # noqa: E402
from CTDefaceEvalLib import detection, views  # noqa: E402
from CTDefaceEvalLib.controls import front_blanked  # noqa: E402
from CTDefaceEvalLib.evaluation import COMPARED_VIEWS  # noqa: E402
from CTDefaceEvalLib.face_models import load_model  # noqa: E402
from CTDefaceEvalLib.recognition import keep_gallery, template  # noqa: E402
from CTDefaceEvalLib.settings import Settings  # noqa: E402
from CTDefaceEvalLib.similarity_scale import embeddings_of, synthetic_heads  # noqa: E402
from CTDefaceLib.anatomy.face_map import head_cylinder  # noqa: E402
from CTDefaceLib.render import Renderer  # noqa: E402

GRID = views.PRESETS["default"]


def described(image, pose, model, renderer, faces):
    """View → embedding in the views of ``faces``."""
    skin = detection.surface_of(image)
    found = detection.find_faces(renderer, skin, pose, faces, [model], embedders=[model.name], embed_at=faces)
    return {sighting.view: sighting.embedding for sighting in found if sighting.embedding is not None}


def templates(first, second, model, renderer):
    """Templates of both scans and of the second with its front blanked; None where no face is found."""
    pose = views.head_pose(first)
    found = detection.find_faces(renderer, detection.surface_of(first), pose, GRID, [model])
    faces = {s.view: s.face for s in found if s.face}
    if len(faces) < 2:
        return None
    faces = {view: faces[view] for view in sorted(faces, key=lambda view: -faces[view].score)[:COMPARED_VIEWS]}
    own = described(first, pose, model, renderer, faces)
    if second is first:
        halves = ({view: own[view] for view in list(own)[start::2]} for start in (0, 1))
        mine, again = (template(half) for half in halves)
    else:
        mine, again = template(own), template(described(second, views.head_pose(second), model, renderer, faces))
    blank = template(
        described(front_blanked(second, head_cylinder(second)), views.head_pose(second), model, renderer, faces)
    )
    return [vector.tolist() for vector in (mine, again, blank)]


def figures(found: dict[str, list]) -> dict:
    """Cosines and likeness of genuine, impostor and blanked pairs."""
    names = list(found)
    gallery = {name for name in names if name.startswith("phantom")}
    pairs: dict[str, list[tuple[float, float]]] = {"genuine": [], "impostor": [], "blanked": []}
    for a in names:
        own = np.array(found[a][0])
        for b in names:
            mean = np.mean([found[name][0] for name in gallery - {a, b}], axis=0)
            kinds = {"genuine": 1, "blanked": 2} if a == b else {"impostor": 1}
            for kind, which in kinds.items():
                probe = np.array(found[b][which])
                pairs[kind].append((float(own @ probe), float((own - mean) @ probe / (1.0 - own @ mean))))
    shares = [0, 5, 50, 95, 99, 100]
    return {
        f"{kind}: {what}, percentiles {shares}": np.percentile([pair[k] for pair in of_kind], shares).tolist()
        for kind, of_kind in pairs.items()
        for k, what in enumerate(("cosine", "likeness"))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=24, help="phantoms beside the real heads")
    parser.add_argument("--models", nargs="+", default=["dlib-hog"])
    parser.add_argument("--model-folder", help="of the models that are loaded from one")
    parser.add_argument("--keep", action="store_true", help="write the galleries of the models into the package")
    args = parser.parse_args()
    renderer = Renderer()
    models = [load_model(name, args.model_folder) for name in args.models]
    found: dict[str, dict[str, list]] = {model.name: {} for model in models}
    for name, first, second in people(args.people):
        start = time.perf_counter()
        for model in models:
            vectors = templates(first, second, model, renderer)
            if vectors is not None:
                found[model.name][name] = vectors
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    results = {model: figures(vectors) for model, vectors in found.items() if len(vectors) > 1}
    for model, numbers in results.items():
        print(f"\n{model}, {len(found[model])} people")
        for what, value in numbers.items():
            print(f"  {what}: {np.round(value, 4).tolist()}")
    for model, vectors in found.items() if args.keep else ():
        templates_of = [mine for name, (mine, *_) in vectors.items() if name.startswith("phantom")]
        by_name = {one.name: one for one in models}
        heads = [embeddings_of(renderer, *head, GRID, by_name[model], Settings()) for head in synthetic_heads()]
        keep_gallery(model, np.array(templates_of, dtype=np.float32), list(GRID), heads)


if __name__ == "__main__":
    main()
