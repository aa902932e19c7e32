"""Pictures per second at 512 × 512, and milliseconds per picture for each face model that is there.

    python Testing/benchmarks/bench_views.py [CT] [--models dlib-hog] [--model-folder DIR]

Compares, in one run: the surface made once, as evaluations do it, and looked at from many sides; on a finer grid; a
surface made anew for every picture, smoothed and cleaned, and by bare contouring; and volume ray casting. Says for each
model whether the coarser grid costs detections. Without a CT the synthetic head serves.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "CTDeface"), str(ROOT / "CTDefaceEval")]

from CTDefaceEvalLib import detection, face_models, views  # noqa: E402
from CTDefaceLib.phantom import make_phantom  # noqa: E402
from CTDefaceLib.render import Renderer, skin_surface, skin_volume  # noqa: E402
from CTDefaceLib.volume_io import read_ct  # noqa: E402


def per_second(take, pictures):
    take(0)
    start = time.perf_counter()
    for number in range(pictures):
        take(number)
    return pictures / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", nargs="?", type=Path)
    parser.add_argument("--models", nargs="*", default=list(face_models.MODELS), help="of those that are there")
    parser.add_argument("--model-folder", type=Path, help="insightface model pack, or FaceNet's weights")
    options = parser.parse_args()
    image = read_ct(options.ct) if options.ct else make_phantom().image
    pose = views.head_pose(image)
    renderer = Renderer()
    print(f"{image.GetSize()} voxels of {tuple(round(s, 2) for s in image.GetSpacing())} mm")

    def look_at(make):
        def take(number):
            yaw = -45 + 7 * number % 90
            return renderer.picture(make(), yaw, 10, size=512, axes=pose.axes, center=pose.center)

        return take

    start = time.perf_counter()
    surface = detection.surface_of(image)
    print(f"surface: {surface.GetNumberOfPolys()} triangles in {time.perf_counter() - start:.2f} s")
    full = skin_surface(image)
    volume = skin_volume(image)
    once = per_second(look_at(lambda: surface), 40)
    print(f"surface made once:            {once:7.2f} pictures/s")
    for name, make, pictures in (
        ("on a grid of 1 mm", lambda: full, 10),
        ("made for each picture", lambda: skin_surface(image), 3),
        ("only contoured for each", lambda: skin_surface(image, smooth_mm=0.0, largest=False), 3),
        ("volume ray casting", lambda: volume, 3),
    ):
        rate = per_second(look_at(make), pictures)
        print(f"{name + ':':29} {rate:7.2f} pictures/s, {once / rate:.0f} times slower")

    for row in face_models.availability(options.model_folder):
        if row["name"] not in options.models:
            continue
        if row["missing"]:
            print(f"{row['name']}: not there")
            continue
        model = face_models.load_model(row["name"], options.model_folder)
        pictures, of_full = (
            [
                detection.picture_of(renderer, drawn, pose, *view, model.picture_size)
                for view in views.PRESETS["default"]
            ]
            for drawn in (surface, full)
        )
        start = time.perf_counter()
        found = [model.detect(picture) for picture in pictures]
        detecting = (time.perf_counter() - start) / len(pictures) * 1000
        text = f"{model.name}: {detecting:.1f} ms to detect at {model.picture_size} pixels"
        faces = [(picture, hits[0]) for picture, hits in zip(pictures, found) if hits]
        if model.embeds and faces:
            model.embed(*faces[0])
            start = time.perf_counter()
            for picture, face in faces:
                model.embed(picture, face)
            text += f", {(time.perf_counter() - start) / len(faces) * 1000:.1f} ms to embed"
        finer = sum(bool(model.detect(picture)) for picture in of_full)
        print(f"{text}; found in {len(faces)} of {len(pictures)}, on a grid of 1 mm in {finer}")


if __name__ == "__main__":
    main()
