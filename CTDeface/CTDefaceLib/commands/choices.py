"""The choices of a defacing as arguments, which ``deface``, ``batch`` and ``receive`` share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..parameters import DefaceParameters


def add_parameters(parser: argparse.ArgumentParser) -> None:
    """The choices of a defacing, which :func:`parameters_from` collects."""
    from .. import segmenters
    from ..parameters import DEPTH_MM, FILLS
    from ..pipeline import DefaceParameters

    defaults = DefaceParameters()
    face = parser.add_argument_group("how the face is found")
    face.add_argument(
        "--segmenter",
        choices=segmenters.names(),
        default=defaults.segmenter,
        help='see "ctdeface models" for what each is and needs (default: %(default)s)',
    )
    face.add_argument(
        "--weights",
        metavar="DIR",
        help="folder with the weights; they can run code when they are loaded: take them only from those you trust",
    )
    face.add_argument("--label", metavar="NAME", help="the label of the model that is the face (default: face)")
    face.add_argument(
        "--device", metavar="NAME", help="auto, cpu, gpu, gpu:1 or mps (default: a graphics card where there is one)"
    )

    region = parser.add_argument_group("what is replaced")
    region.add_argument(
        "--strength",
        choices=list(DEPTH_MM),
        default=defaults.strength,
        help="how much: see below (default: %(default)s)",
    )
    region.add_argument(
        "--depth",
        dest="depth_mm",
        metavar="MM",
        type=number(2, 40),
        help="for experts: depth below the new skin (default: what the strength says)",
    )
    region.add_argument("--ears", action="store_true", default=None, help="the ears as well, as --strength strict does")
    region.add_argument("--no-ears", dest="ears", action="store_false", help="not the ears, whatever the strength")
    region.add_argument(
        "--margin",
        dest="margin_mm",
        metavar="MM",
        type=number(0, 50),
        default=defaults.margin_mm,
        help="move the outline of the face outwards by this much (default: %(default)g)",
    )
    region.add_argument("--keep-bone", action="store_true", help="the old name of --strength light")
    region.add_argument("--no-seal", action="store_true", help=argparse.SUPPRESS)
    region.add_argument(
        "--as-is",
        action="store_true",
        help="replace the face mask itself, as other tools do (CTA-DEFACE with --fill percentile); weak for the same "
        "reason; the space inside the skull is spared",
    )

    region.add_argument(
        "--keep-margin",
        dest="keep_margin_mm",
        metavar="MM",
        type=number(0, 50),
        default=defaults.keep_margin_mm,
        help="what stays around structures that are kept (default: %(default)g)",
    )

    fill = parser.add_argument_group("what takes its place")
    fill.add_argument(
        "--fill",
        choices=FILLS,
        default=defaults.fill,
        help="default: %(default)s; see below for the weakness of each",
    )
    fill.add_argument(
        "--constant", metavar="HU", type=number(-32768, 32767), help=f"for constant (default: {defaults.constant:g})"
    )
    fill.add_argument(
        "--percentile", metavar="P", type=number(0, 100), help=f"for percentile (default: {defaults.percentile:g})"
    )
    fill.add_argument(
        "--blur",
        dest="blur_mm",
        metavar="MM",
        type=number(0.1, 100),
        help=f"for blur: standard deviation (default: {defaults.blur_mm:g})",
    )
    fill.add_argument(
        "--seed",
        type=int,
        help="makes the result repeatable, for tests; who knows the seed can work out the fill (default: random)",
    )


def parameters_from(args: argparse.Namespace) -> DefaceParameters:
    """The parameters that the arguments of :func:`add_parameters` ask for; wrong usage where they contradict."""
    from .. import segmenters
    from ..pipeline import DefaceParameters

    options = segmenters.module(args.segmenter).OPTIONS
    for given in ("weights", "label", "device"):
        if getattr(args, given) is not None and given not in options:
            args.error(f"argument --{given}: the segmenter {args.segmenter} has no use for it")
    if args.no_seal:
        args.error("argument --no-seal: is no more; --as-is replaces the face mask itself")
    if args.keep_bone:
        if args.strength == "strict":
            args.error("argument --keep-bone: is --strength light, and goes without another strength")
        args.strength = "light"
    if args.as_is and (args.margin_mm or args.strength != "standard" or args.depth_mm or args.ears):
        args.error("argument --as-is: goes without --strength, --depth, --ears, --margin and --keep-bone")
    for given, fill in (("constant", "constant"), ("percentile", "percentile"), ("blur_mm", "blur")):
        if getattr(args, given) is not None and args.fill != fill:
            args.error(f"argument --{given.removesuffix('_mm')}: goes with --fill {fill}")
    chosen = {field.name: vars(args).get(field.name) for field in fields(DefaceParameters)}
    if args.weights:
        chosen["weights"] = os.path.abspath(args.weights)
    return DefaceParameters(**{name: value for name, value in chosen.items() if value is not None})


AUDITS = {"quick": "CTDefaceEvalLib.audit:quick"}
"""Name → function of a module that stands on this library and may be missing."""


def add_audit(group: argparse._ActionsContainer) -> None:
    """Whether somebody looks for the face in the results; :data:`AUDITS` says who."""
    group.add_argument(
        "--audit",
        choices=list(AUDITS),
        help="look for the face in each result, and hold it back where it is still found; with --keep, says what that "
        "costs",
    )


def add_take_along(group: argparse._ArgumentGroup) -> None:
    """What else of a DICOM study is written."""
    group.add_argument(
        "--take-along",
        action="store_true",
        help="structure sets, segmentations, doses, plans, registrations and reports of the series, too, without what "
        "shows the face",
    )


def add_headers(group: argparse._ArgumentGroup) -> None:
    """What becomes of DICOM headers, which :func:`retained_from` collects."""
    from ..dicom.headers import RETAIN, TCIA

    group.add_argument(
        "--headers",
        choices=["keep", "ps315", "tcia"],
        default="keep",
        help="keep them, or clean them as in DICOM PS3.15; tcia: with the options that The Cancer Imaging Archive asks "
        f"for ({', '.join(TCIA)}) (default: %(default)s)",
    )
    group.add_argument(
        "--retain",
        metavar="WHAT",
        choices=RETAIN,
        nargs="+",
        default=[],
        help=f"of headers that are cleaned: {', '.join(RETAIN)}; dates are shifted unless full",
    )
    group.add_argument(
        "--no-text",
        action="store_true",
        help="look for text burned into the pixels of every slice of a DICOM series, and refuse the series with some",
    )


def retained_from(args: argparse.Namespace) -> list[str] | None:
    """What is to stay of headers that are cleaned; None where they are kept."""
    from ..dicom.headers import TCIA

    if args.retain and args.headers == "keep":
        args.error("argument --retain: goes with --headers ps315")
    retain = list(dict.fromkeys([*(TCIA if args.headers == "tcia" else ()), *args.retain]))
    if {"dates", "full-dates"} <= set(retain):
        args.error("argument --retain: dates are retained either shifted (dates) or as they are (full-dates)")
    return None if args.headers == "keep" else retain


def number(low: float, high: float, kind: type = float) -> Callable[[str], float]:
    """The type of an argument that is a number within limits: a whole one where `kind` is int."""

    def number(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}")
        return value

    return number
