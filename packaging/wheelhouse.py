"""Collect CTDeface and all it needs as wheels in one folder, to install where there is no network and no compiler.

    python packaging/wheelhouse.py wheelhouse                        for this machine and this Python
    python packaging/wheelhouse.py wheelhouse --for windows --python 3.12
    python packaging/wheelhouse.py wheelhouse --extras batch,dicom,faces,text --try

On the machine without a network, in an environment of its own:

    python -m pip install --no-index --find-links wheelhouse --require-hashes -r wheelhouse/requirements.txt

Needs Python with pip, and a package index, here only. Nothing appears under the folder's name until it is complete.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterable
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import NamedTuple

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[1]

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "CTDeface", "CTDefaceEval")
"""What the wheel of CTDeface is built from."""

EXTRAS = "batch,dicom,faces"
"""What a container and a machine beside a PACS need: batches, DICOM and the evaluation."""

SOURCE_ONLY = {
    "faces": ["face_recognition_models"],
    "nnunet": ["acvl-utils"],
    "totalsegmentator": ["acvl-utils"],
}
"""What of an extra the index has as source only. It is Python and data: the wheels made here fit every machine."""

LIST = "requirements.txt"
"""Name of the list of all wheels with their hashes."""


class Target(NamedTuple):
    """A kind of machine: the tags of its wheels, and what markers of requirements ask of it."""

    tags: tuple[str, ...]
    sys_platform: str
    platform_system: str
    os_name: str
    platform_machine: str


def _linux(machine: str) -> Target:
    tags = [f"manylinux_2_{n}_{machine}" for n in range(28, 16, -1)] + [f"manylinux2014_{machine}"]
    return Target(tuple(tags), "linux", "Linux", "posix", machine)


TARGETS = {
    "linux": _linux("x86_64"),
    "linux-arm": _linux("aarch64"),
    "macos": Target(("macosx_14_0_arm64",), "darwin", "Darwin", "posix", "arm64"),
    "windows": Target(("win_amd64",), "win32", "Windows", "nt", "AMD64"),
}
"""glibc 2.28 (Debian 10, RHEL 8, Ubuntu 20.04), macOS 14 on Apple's processors, and Windows on Intel's, or newer."""


class Wheel(NamedTuple):
    """A wheel with what it says of itself."""

    path: Path
    metadata: Message

    @property
    def name(self) -> str:
        return canonicalize_name(self.metadata["Name"])

    @property
    def version(self) -> str:
        return self.metadata["Version"]


def markers_of(target: Target | None, python: str) -> dict[str, str]:
    """What markers of requirements are asked with; for this machine, pip knows."""
    if target is None:
        return {}
    markers = {**target._asdict(), "python_version": python, "python_full_version": f"{python}.0"}
    markers.pop("tags")
    return markers


def pip(*arguments: str | os.PathLike) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments], check=True)


def wheels_in(folder: Path) -> dict[str, Wheel]:
    """The wheels of a folder by name."""
    found = {}
    for path in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(path) as file:
            name = next(
                name for name in file.namelist() if name.count("/") == 1 and name.endswith(".dist-info/METADATA")
            )
            wheel = Wheel(path, Parser().parsestr(file.read(name).decode("utf-8")))
        found[wheel.name] = wheel
    return found


def walk(wheels: dict[str, Wheel], extras: Iterable[str], markers: dict[str, str]) -> tuple[set[str], list[str]]:
    """Names of all wheels that ctdeface with these extras needs on a machine, and the requirements that none meets.

    pip itself asks the markers of requirements (``colorama; sys_platform == "win32"``) of the machine that it runs on.
    """
    todo = [("ctdeface", extra) for extra in ("", *extras)]
    seen = set(todo)
    missing = []
    while todo:
        name, extra = todo.pop()
        for line in wheels[name].metadata.get_all("Requires-Dist", []):
            requirement = Requirement(line)
            if requirement.marker is not None and not requirement.marker.evaluate({**markers, "extra": extra}):
                continue
            wheel = wheels.get(canonicalize_name(requirement.name))
            if wheel is None or not requirement.specifier.contains(wheel.version, prereleases=True):
                missing.append(f"{requirement.name}{requirement.specifier}")
                continue
            new = {(wheel.name, extra) for extra in ("", *requirement.extras)} - seen
            seen |= new
            todo += new
    return {name for name, _ in seen}, sorted(set(missing))


def build(folder: Path, extras: Iterable[str]) -> None:
    """Make the wheels that no index has: that of CTDeface, and those of what is there as source only."""
    with tempfile.TemporaryDirectory() as copy:  # a build leaves its own files in the folder that it is run in
        for name in SOURCES:
            source = CHECKOUT / name
            if source.is_dir():
                shutil.copytree(source, Path(copy, name), ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(source, copy)
        others = {name for extra in extras for name in SOURCE_ONLY.get(extra, ())}
        pip("wheel", "--no-deps", "--wheel-dir", folder, copy, *sorted(others))


def collect(folder: Path, extras: list[str], target: Target | None, python: str) -> None:
    """Fill a folder with the wheels for a target (None is this machine) and a Python, and list them."""
    build(folder, extras)
    own = wheels_in(folder)["ctdeface"]
    unknown = set(extras) - set(own.metadata.get_all("Provides-Extra", []))
    if unknown:
        sys.exit(f"CTDeface has no extra {', '.join(sorted(unknown))}.")
    download: list[str | os.PathLike] = ["download", "--only-binary=:all:", "--find-links", folder, "--dest", folder]
    markers = markers_of(target, python)
    if target is not None:
        download += ["--implementation", "cp", "--python-version", python]
        download += [part for tag in target.tags for part in ("--platform", tag)]
    pip(*download, f"{own.path}[{','.join(extras)}]")
    reached, missing = walk(wheels_in(folder), extras, markers)
    asked: set[str] = set()
    while missing:  # what only that machine needs
        if asked >= set(missing):
            sys.exit(f"These do not fit the rest: {', '.join(missing)}.")
        asked |= set(missing)
        pip(*download, "--no-deps", *missing)
        reached, missing = walk(wheels_in(folder), extras, markers)
    wheels = wheels_in(folder)
    for path in folder.iterdir():
        if path not in {wheels[name].path for name in reached}:
            path.unlink()  # what only this machine needs
    lines = [listed(wheels[name], extras) for name in sorted(reached)]
    (folder / LIST).write_text("".join(lines), encoding="utf-8", newline="\n")


def listed(wheel: Wheel, extras: list[str]) -> str:
    digest = hashlib.sha256(wheel.path.read_bytes()).hexdigest()
    extra = f"[{','.join(extras)}]" if extras and wheel.name == "ctdeface" else ""
    return f"{wheel.name}{extra}=={wheel.version} --hash=sha256:{digest}\n"


def try_out(folder: Path) -> None:
    """Install a wheelhouse without an index into an empty environment, and run the demo from it."""
    with tempfile.TemporaryDirectory() as place:
        venv.create(Path(place, "venv"), with_pip=True)
        python = Path(place, "venv", "Scripts" if os.name == "nt" else "bin", "python")
        alone = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        alone |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
        install: list[str | os.PathLike] = [
            "install",
            "--quiet",
            "--find-links",
            folder,
            "--require-hashes",
            "-r",
            folder / LIST,
        ]
        subprocess.run([python, "-m", "pip", "--disable-pip-version-check", *install], check=True, env=alone)
        subprocess.run([python, "-m", "CTDefaceLib", "demo", Path(place, "demo")], check=True, env=alone, cwd=place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the wheelhouse, made by this; must not exist yet")
    parser.add_argument("--extras", default=EXTRAS, help="of pyproject.toml, with commas (default: %(default)s)")
    parser.add_argument("--for", dest="target", choices=TARGETS, help="another kind of machine (default: this one)")
    parser.add_argument("--python", default="", metavar="3.12", help="another Python (default: this one)")
    parser.add_argument("--try", dest="tried", action="store_true", help="install it as told above, and run the demo")
    args = parser.parse_args()
    if args.folder.exists():
        parser.error("there is something of this name already; choose another one")
    if args.python and not args.target:
        parser.error("--python goes with --for")
    if args.tried and args.target:
        parser.error("--try goes without --for")
    folder = Path(os.path.abspath(args.folder))
    with tempfile.TemporaryDirectory(dir=folder.parent) as part:
        work = Path(part, folder.name)
        work.mkdir()
        target = TARGETS[args.target] if args.target else None
        extras = [extra for extra in args.extras.split(",") if extra]
        try:
            collect(work, extras, target, args.python or ".".join(platform.python_version_tuple()[:2]))
            if args.tried:
                try_out(work)
        except subprocess.CalledProcessError:
            sys.exit("Nothing was collected: pip says above why.")
        work.rename(folder)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    print(f"{folder}: {len(list(folder.glob('*.whl')))} wheels, {size:.0f} MB")


if __name__ == "__main__":
    main()
