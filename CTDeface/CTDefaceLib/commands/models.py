"""The command ``ctdeface models``: the ways to find the face, what they lack, and what helps."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .terminal import Progress, warn

if TYPE_CHECKING:
    from ..segmenters import Licensed

HELP = "what can find the face here, and what it needs"

DESCRIPTION = """\
List what can find the face, what each lacks on this machine, and what helps; or give
it a licence key or weights. Nothing is downloaded or sent unless you ask for it."""

EPILOG = """\
examples:
  ctdeface models
  ctdeface models --weights Dataset001_DEFACE
  ctdeface models --licence                  asks for the key of TotalSegmentator
  ctdeface models --licence < key.txt
  ctdeface models --download
  ctdeface models --import Dataset303_face_1559subj.zip

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
    parser.add_argument("--yes", action="store_true", help="download without asking")
    parser.add_argument("--segmenter", metavar="NAME", help="whose key or weights (default: the only one that has any)")


def run(args: argparse.Namespace) -> int:
    from ..segmenters import Downloadable, Licensed

    if args.licence:
        segmenter = _with(args.segmenter, Licensed)
        segmenter.save_licence(_asked_for_key(segmenter))
        print("The licence key is kept.")
    elif args.download:
        segmenter = _with(args.segmenter, Downloadable)
        if not args.yes and not _agreed(args, segmenter.DOWNLOAD):
            return 1
        with Progress() as progress:
            segmenter.download(progress, lambda: False)
        print("The weights are there.")
    elif args.file:
        _with(args.segmenter, Downloadable).import_weights(args.file)
        print("The weights are there.")
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


def _agreed(args: argparse.Namespace, what: str) -> bool:
    if not sys.stdin.isatty():
        args.error(f"argument --download: goes with --yes where nobody can be asked; it downloads {what}")
    answer = input(f"Download {what}? [y/N] ")
    if answer.strip().lower() not in ("y", "yes"):
        warn("nothing was downloaded.")
        return False
    return True


def _list(weights: str, label: str) -> None:
    from .. import segmenters
    from ..segmenters import nnunet_runtime

    for name in segmenters.names():
        module = segmenters.module(name)
        state = module.state(segmenters.Choice(weights, label))
        print(f"{name}: {state.status.value}\n  {module.ABOUT}")
        if state.sentence:
            extra = module.EXTRA if isinstance(module, segmenters.Trained) else ""
            helps = [HELPS[action].format(extra=extra) for action in state.actions]
            print(f"  {state.sentence}\n  -> {', or '.join(helps)}")
    if nnunet_runtime.is_installed():
        print("devices: " + "; ".join(f"{name} ({description})" for name, description in nnunet_runtime.devices()))
