"""The command ``ctdeface models``: the ways to find the face, what they lack, and what helps."""

from __future__ import annotations

import argparse
import getpass
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CTDefaceError, InputError
from .terminal import Progress, warn

if TYPE_CHECKING:
    from ..segmenters import Licensed, Restricted

HELP = "what can find the face here, and what it needs"

DESCRIPTION = """\
List what can find the face, what each lacks on this machine, and what helps; or give
it a licence key, weights or a package. Nothing is downloaded or sent unless you ask for it."""

EPILOG = """\
examples:
  ctdeface models
  ctdeface models --weights Dataset001_DEFACE
  ctdeface models --licence                  asks for the key of TotalSegmentator
  ctdeface models --licence < key.txt
  ctdeface models --download
  ctdeface models --import Dataset303_face_1559subj.zip
  ctdeface models --install                  shows the licence of mede, and installs it

exit status:
  0 done, 1 it could not be done (one sentence says why), 2 wrong usage."""

HELPS = {
    "install": "pip install 'ctdeface[{extra}]'",
    "licence": "ctdeface models --licence",
    "download": "ctdeface models --download",
    "import": "ctdeface models --import FILE.zip",
    "folder": "--weights DIR",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", metavar="DIR", default="", help="folder with weights to look at")
    parser.add_argument("--label", metavar="NAME", default="", help="the label of that model that is the face")
    one = parser.add_mutually_exclusive_group()
    one.add_argument(
        "--licence", action="store_true", help="keep a licence key, which is asked for or read from standard input"
    )
    one.add_argument("--download", action="store_true", help="download the weights that the licence key is for")
    one.add_argument("--import", dest="file", metavar="FILE", type=Path, help="take the weights from this zip file")
    one.add_argument("--install", action="store_true", help="install the package whose licence has to be agreed to")
    parser.add_argument(
        "--yes", action="store_true", help="download or install without asking; you agree to the licence"
    )
    parser.add_argument(
        "--segmenter", metavar="NAME", help="whose key, weights or package (default: the only one that has any)"
    )


def run(args: argparse.Namespace) -> int:
    from ..segmenters import Downloadable, Licensed, Restricted

    if args.licence:
        segmenter = _with(args.segmenter, Licensed)
        segmenter.save_licence(_asked_for_key(segmenter))
        print("The licence key is kept.")
    elif args.download:
        segmenter = _with(args.segmenter, Downloadable)
        if not args.yes and not _agreed(args, "download", segmenter.DOWNLOAD):
            return 1
        with Progress() as progress:
            segmenter.download(progress, lambda: False)
        print("The weights are there.")
    elif args.file:
        _with(args.segmenter, Downloadable).import_weights(args.file)
        print("The weights are there.")
    elif args.install:
        segmenter = _with(args.segmenter, Restricted)
        print(segmenter.TERMS, file=sys.stderr)
        if not args.yes and not _agreed(args, "install", f"{segmenter.PIP[-1]} under these terms"):
            return 1
        _install(segmenter)
    else:
        _list(args.weights, args.label)
    return 0


def _with(name: str | None, ability: type) -> Any:
    """The segmenter of this name, or the only one, that has an ability."""
    from .. import segmenters

    able = segmenters.names(ability)
    if name is None and len(able) == 1:
        name = able[0]
    if name not in able:
        raise InputError(f"Say with --segmenter which one: {', '.join(able)}.")
    return segmenters.module(name)


def _asked_for_key(segmenter: Licensed) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    print(f"A key for non-commercial use is free: {segmenter.LICENCE}", file=sys.stderr)
    return getpass.getpass("Licence key (it is not shown): ")


def _agreed(args: argparse.Namespace, verb: str, what: str) -> bool:
    if not sys.stdin.isatty():
        args.error(f"argument --{verb}: goes with --yes where nobody can be asked; it {verb}s {what}")
    answer = input(f"{verb.capitalize()} {what}? [y/N] ")
    if answer.strip().lower() not in ("y", "yes"):
        warn(f"nothing was {verb}ed.")
        return False
    return True


def _install(segmenter: Restricted) -> None:
    from ..segmenters import Choice

    if subprocess.call([sys.executable, "-m", "pip", "install", *segmenter.PIP]) != 0:
        command = f"pip install {shlex.join(segmenter.PIP)}"
        raise CTDefaceError(f"{segmenter.TITLE} could not be installed: see above, or run {command} yourself.")
    print("The package is there.", segmenter.state(Choice()).sentence)


def _list(weights: str, label: str) -> None:
    from .. import segmenters
    from ..segmenters import nnunet_runtime

    can_run = False
    for name in segmenters.names():
        module = segmenters.module(name)
        state = module.state(segmenters.Choice(weights, label))
        extra = module.EXTRA if isinstance(module, segmenters.Trained) else ""
        can_run = can_run or (bool(extra) and state.status is not segmenters.Status.NO_PACKAGE)
        print(f"{name}: {state.status.value}\n  {module.ABOUT}")
        if state.sentence:
            helps = [HELPS[action].format(extra=extra) for action in state.actions]
            print(f"  {state.sentence}")
            if isinstance(module, segmenters.Restricted):
                print(f"  {module.TERMS}\n  -> {helps[0]}, then ctdeface models --install")
            else:
                print(f"  -> {', or '.join(helps)}")
    if can_run:
        print("devices: " + "; ".join(f"{name} ({description})" for name, description in nnunet_runtime.devices()))
