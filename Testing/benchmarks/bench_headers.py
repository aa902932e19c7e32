"""How many of the actions that cleaned headers require are done, in the manner of the MIDI-B challenge.

    python Testing/benchmarks/bench_headers.py [--patients 50] [--seed 1] [-o RESULTS.json]

Each patient has eight objects with planted identifiers (``Testing/known_answers.py``). They are cleaned as ``--headers
tcia`` does. The table tells the score by category and action; below it stand identifiers that were found anywhere in
the bytes of what was written, and what was missed.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT / folder) for folder in ("CTDeface", "Testing")]

from CTDefaceLib.dicom.headers import TCIA  # noqa: E402
from known_answers import cases, score  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, metavar="RESULTS.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = score(cases(args.patients, args.seed), Path(folder), TCIA)
    rows = [(*kind, found.done[kind], number) for kind, number in sorted(found.required.items())]
    for category, action, done, number in rows:
        print(f"{category:32} {action:18} {done:6} of {number:6}  {done / number:8.3%}")
    print(f"{found.objects} objects, {found.done.total()} of {found.required.total()} actions: {found.share:.3%}")
    print(f"identifiers left in the bytes: {len(found.left)} {sorted(set(found.left))[:20]}")
    for answer, left in found.missed[:20]:
        print("missed:", answer, repr(left))
    if args.output:
        args.output.write_text(
            json.dumps({"objects": found.objects, "share": found.share, "rows": rows, "left": found.left}, indent=2)
        )


if __name__ == "__main__":
    main()
