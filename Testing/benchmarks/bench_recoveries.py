"""Deface one head in ways that do not work and in the project's own way, and see what the evaluation says of each.

    python Testing/benchmarks/bench_recoveries.py [CT] [--models dlib-hog dlib-cnn] [--views quick] [-o REPORTS]

The order is that of the table in the project's plan: a tissue-exact mask filled with a constant gives the face back,
the sealed region does not. Without a CT the synthetic head serves.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("Testing", "CTDeface", "CTDefaceEval")]

import poor_defacings  # noqa: E402
from CTDefaceEvalLib.evaluation import evaluate  # noqa: E402
from CTDefaceEvalLib.report import write_evaluation  # noqa: E402
from CTDefaceEvalLib.settings import Settings  # noqa: E402
from CTDefaceEvalLib.views import head_pose  # noqa: E402
from CTDefaceLib.phantom import make_phantom  # noqa: E402
from CTDefaceLib.pipeline import DefaceParameters, deface  # noqa: E402
from CTDefaceLib.volume_io import read_ct  # noqa: E402

WAYS = {
    "tissue-exact, constant": lambda image, pose: poor_defacings.constant_filled(image, pose),
    "grown by 3 mm, constant": lambda image, pose: poor_defacings.constant_filled(image, pose, 3.0),
    "grown by 10 mm, constant": lambda image, pose: poor_defacings.constant_filled(image, pose, 10.0),
    "blur of 10 mm": lambda image, pose: poor_defacings.blurred(image, pose),
    "shaved by 8 mm": lambda image, pose: poor_defacings.shaved(image, pose),
    "rim left": lambda image, pose: poor_defacings.rim_left(image, pose),
    "sealed": lambda image, pose: deface(image, DefaceParameters()).image,
    "sealed, bone kept": lambda image, pose: deface(image, DefaceParameters(strength="light")).image,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", nargs="?", type=Path)
    parser.add_argument("--models", nargs="+", default=["dlib-hog"])
    parser.add_argument("--views", default="default")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("-o", "--output", type=Path, help="folder for the reports")
    options = parser.parse_args()
    image = read_ct(options.ct) if options.ct else make_phantom().image
    pose = head_pose(image)
    settings = Settings(tuple(options.models), None, options.views)
    print(f"| defacing | verdict | views found before, after, at worst by {' / '.join(options.models)} | worst attack "
          "| likeness after, at worst | s |")  # fmt: skip
    print("|---" * 6 + "|", flush=True)
    for name in options.ways:
        result = evaluate(image, WAYS[name](image, pose), settings)
        before, after = result.subject("original"), result.subject("defaced")

        def harm(subject, result=result):
            return result.likeness[subject.name].value

        worst = max(result.recoveries, key=harm)
        counts = [
            "/".join(str(len(subject.scores(model))) for model in options.models) for subject in (before, after, worst)
        ]
        similar = [f"{result.likeness[s.name].value:.0%}" for s in (after, worst)]
        print(
            f"| {name} | {result.verdict.level} | {', '.join(counts)} | {worst.name} | "
            f"{', '.join(similar)} | {result.seconds:.0f} |",
            flush=True,
        )
        if options.output:
            options.output.mkdir(parents=True, exist_ok=True)
            write_evaluation(result, options.output / f"{name.replace(' ', '_')}.html", overwrite=True)


if __name__ == "__main__":
    main()
