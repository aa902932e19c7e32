"""Text that is burned into pixels: how much of it the reader finds, and what it takes for text in heads without any.

    python Testing/benchmarks/bench_burned_in.py CT... [--texts 60]

Needs ``pip install ctdeface[text]``. Each CT, a file or a folder with one DICOM series, is looked at as it is, and with
made-up names, numbers and dates of 8 to 24 pixels' height in the corners and anywhere else of slices drawn at random.
The scores judge ``LEAST_SCORE`` and ``FEWEST_CHARACTERS`` in ``CTDefaceLib/dicom/burned_in.py``.
"""

import argparse
import random
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "CTDeface"))

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from CTDefaceLib.dicom import burned_in  # noqa: E402
from CTDefaceLib.volume_io import read_ct  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402

TEXTS = ("DOE JANE 4711-0815", "Mueller^Hans", "12.03.1957", "ID 0098123", "J. Smith", "2021-07-05 14:32", "CT 4711")
HEIGHTS = (8, 9, 10, 12, 16, 24)
WHITE_HU = 3071


def best(plane: np.ndarray) -> tuple[float, str]:
    """The text in a slice that the reader is surest of, and its score; 0 and nothing where there is none."""
    found = (text for low, high in burned_in.WINDOWS_HU for text in burned_in.texts(plane, low, high))
    return max(((score, text) for text, score in found), default=(0.0, ""))


def marked(plane: np.ndarray, chance: random.Random, height: int, in_corner: bool) -> np.ndarray:
    """A slice with a text of so many pixels' height in it."""
    text, font = chance.choice(TEXTS), ImageFont.load_default(height)
    picture = Image.new("L", plane.shape[::-1], 0)
    drawing, (rows, columns) = ImageDraw.Draw(picture), plane.shape
    right, bottom = max(columns - int(drawing.textlength(text, font=font)), 1), rows - height - 4
    place = (4, chance.choice((3, bottom))) if in_corner else (chance.randrange(right), chance.randrange(bottom))
    drawing.text(place, text, fill=255, font=font)
    return np.where(np.array(picture) > 128, WHITE_HU, plane)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cts", metavar="CT", nargs="+")
    parser.add_argument("--texts", type=int, default=60, help="in each CT")
    args = parser.parse_args()
    chance = random.Random(0)
    for number, path in enumerate(args.cts, 1):
        slices = sitk.GetArrayFromImage(read_ct(path)).astype(np.float32)
        clean = sorted((best(plane) for plane in slices), reverse=True)
        taken = sum(score >= burned_in.LEAST_SCORE for score, _ in clean)
        print(f"CT {number}: text in {taken} of {len(slices)} slices without any; surest of {clean[:3]}")
        for height in HEIGHTS:
            scores = sorted(
                best(marked(chance.choice(slices), chance, height, in_corner=bool(i % 2)))[0]
                for i in range(args.texts // len(HEIGHTS))
            )
            found = sum(score >= burned_in.LEAST_SCORE for score in scores)
            print(f"  {height} pixels: {found} of {len(scores)} found, least score {scores[0]:.2f}")


if __name__ == "__main__":
    main()
