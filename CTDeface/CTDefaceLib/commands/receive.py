"""The command ``ctdeface receive``: its arguments, and what it does."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..batch.runner import Resources
    from ..pacs.defacing import Choices
    from ..pacs.forward import Destination
    from ..pacs.node import Listening
    from ..pacs.tls import Tls

HELP = "a DICOM node that receives studies, defaces them and sends them on"

DESCRIPTION = """\
Listen as a DICOM node (C-ECHO, C-STORE), deface each study as "ctdeface deface" does
when no more of its images come, and send it on. Nothing that is not defaced is ever
sent. Needs pip install "ctdeface[pacs]"."""

EPILOG = """\
examples:
  ctdeface receive node --to RESEARCH@10.1.2.3:4242
  ctdeface receive node --to https://pacs.example/dicom-web --headers ps315
  ctdeface receive node --to results --address 0.0.0.0 --callers CT1 CT2 --from 10.1.2.0/24
  ctdeface receive node --to RESEARCH@10.1.2.3:2762 --to-tls --to-authority ca.pem \\
      --address 0.0.0.0 --port 2762 --certificate node.pem --key node.key --authority ca.pem
  ctdeface receive node --status
  ctdeface receive node --again 3f0c...

what it leaves in FOLDER, which is private:
  studies/     what has come and has not gone on yet
  quarantine/  images that are never sent, and why.txt beside them: studies that could
               not be defaced, series that were refused, scouts and captures, results that
               the checks found something wrong with, images that came too late
  record.sqlite, secret.key   how far each study is, under hashes; and what UIDs,
               pseudonyms and all that is random are made with: keep it
Nothing else stays of a study that was sent on.

An image is on the disk before its sender is told so. When the disk is nearly full,
images are refused (status A700). Killed at any moment and started again, it goes on
where it was. What can never be defaced is declined when it is offered, and so are
reports and plans without --take-along. An image that comes twice is kept once.

who may call: everybody on this machine. With any other --address, --callers or --from
  says who, and --certificate with --authority makes sure of it.
a DICOMweb server asks who we are: a token in CTDEFACE_DICOMWEB_TOKEN, or name and
  password in ~/.netrc; REQUESTS_CA_BUNDLE names an authority of one's own.

exit status:
  0 ended by Ctrl-C or SIGTERM, 1 it could not begin or go on (one sentence says why),
  2 wrong usage."""

MEGABYTE = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..pacs.node import Listening
    from .choices import add_headers, add_parameters, add_take_along, number

    usual = Listening()
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="private folder of the node, made where missing")
    parser.add_argument(
        "--to", metavar="WHERE", help="TITLE@HOST:PORT for C-STORE, the address of a DICOMweb server, or a folder"
    )
    parser.add_argument("--status", action="store_true", help="say how far the studies are, and end")
    parser.add_argument(
        "--again",
        metavar="STUDY",
        help="take up a study of the quarantine again, or forget one that was sent on, and end",
    )

    node = parser.add_argument_group("the node")
    node.add_argument("--title", type=_title, default=usual.title, help="its AE title (default: %(default)s)")
    node.add_argument("--address", default=usual.address, help="where it listens (default: %(default)s)")
    node.add_argument("--port", type=number(0, 65535, int), default=usual.port, help="default: %(default)s")
    node.add_argument("--callers", metavar="TITLE", type=_title, nargs="+", default=[], help="AE titles that may call")
    node.add_argument(
        "--from", dest="networks", metavar="ADDRESS", nargs="+", default=[], help="addresses or networks they call from"
    )
    node.add_argument("--certificate", metavar="PEM", type=Path, help="takes calls with TLS only, and shows this")
    node.add_argument("--key", metavar="PEM", type=Path, help="of the certificate, where it is a file of its own")
    node.add_argument("--authority", metavar="PEM", type=Path, help="whose certificates callers have to show")
    node.add_argument(
        "--associations", type=number(1, 1000, int), default=usual.associations, help="at a time (default: %(default)s)"
    )
    node.add_argument(
        "--largest",
        metavar="MB",
        type=number(1, 1 << 12, int),
        default=usual.largest // MEGABYTE,
        help="of an image that is taken (default: %(default)s)",
    )
    node.add_argument(
        "--keep-free",
        metavar="MB",
        type=number(0, 1 << 30, int),
        default=1024,
        help="of the disk: images that would take it are refused (default: %(default)s)",
    )
    node.add_argument(
        "--quiet",
        metavar="SECONDS",
        type=number(1, 86400, int),
        default=60,
        help="a study is complete when nothing has come for so long; what comes after it was closed goes into "
        "quarantine (default: %(default)s)",
    )

    receiver = parser.add_argument_group("the receiver, with C-STORE")
    receiver.add_argument("--to-tls", action="store_true", help="call it with TLS")
    receiver.add_argument("--to-authority", metavar="PEM", type=Path, help="of its certificate (default: the system's)")
    receiver.add_argument("--to-certificate", metavar="PEM", type=Path, help="to show it")
    receiver.add_argument("--to-key", metavar="PEM", type=Path, help="of this certificate")

    work = parser.add_argument_group("the work")
    work.add_argument(
        "--workers",
        metavar="N",
        type=number(1, 1024, int),
        help="processes (default: as many as processors, memory and graphics cards allow)",
    )
    work.add_argument(
        "--timeout", metavar="SECONDS", type=number(1, 1 << 20, int), help="after which a study goes into quarantine"
    )
    work.add_argument(
        "--forward-warned",
        action="store_true",
        help="send on results with warnings, too; without it they go into quarantine, since nobody looks at them",
    )
    work.add_argument("--secret", metavar="FILE", type=Path, help="default: secret.key in FOLDER")

    headers = parser.add_argument_group("headers")
    add_headers(headers)
    add_take_along(headers)
    headers.add_argument(
        "--table",
        metavar="FILE",
        type=Path,
        help="CSV file that takes what stands for what where headers are cleaned; names patients (default: none)",
    )
    add_parameters(parser)


def run(args: argparse.Namespace) -> int:
    from ..pacs import node
    from ..pacs.queue import Queue
    from ..pacs.receiving import Work, receive
    from ..pacs.record import RECORD, Record
    from ..private import SECRET, make_private_folder, make_secret

    if (args.status or args.again) and not (args.folder / RECORD).is_file():
        raise InputError("No node was ever run with this folder; check its path.")
    if args.status:
        return _status(args.folder)
    if not args.again:
        _check(args)
        node.check_package()
    make_private_folder(args.folder)
    args.secret = args.secret or args.folder / SECRET
    with Record(args.folder) as record:
        queue = Queue(args.folder, record, make_secret(args.secret), args.keep_free * MEGABYTE)
        if args.again:
            queue.again(args.again)
            return 0
        resources, goal, listen = _resources(args), _destination(args), _listening(args)
        try:
            with _break_interrupts():
                receive(queue, listen, Work(_choices(args), goal, resources, args.quiet), _log)
        except (KeyboardInterrupt, SystemExit):  # Ctrl-C, and SIGTERM as services are ended with
            _log("ended")
    return 0


@contextmanager
def _break_interrupts() -> Iterator[None]:
    """On Windows, where nobody sends SIGTERM: Ctrl-Break ends the node as Ctrl-C does."""
    if sys.platform != "win32":
        yield
        return
    before = signal.signal(signal.SIGBREAK, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGBREAK, before)


def _check(args: argparse.Namespace) -> None:
    """Wrong usage, or what is missing here, before anything is made."""
    from ..dicom.burned_in import check_reader
    from ..dicom.headers import Cleaner
    from ..dicom.pseudonyms import Pseudonyms
    from ..segmenters import check_ready
    from .choices import parameters_from, retained_from

    if not args.to:
        args.error("argument --to: say where the results go")
    if args.address not in ("127.0.0.1", "::1", "localhost") and not (args.callers or args.networks or args.authority):
        args.error("argument --address: with other machines, say who may call (--callers, --from or --authority)")
    for name in ("key", "authority"):
        if getattr(args, name) and not args.certificate:
            args.error(f"argument --{name}: goes with --certificate")
    if not args.to_tls and (args.to_authority or args.to_certificate or args.to_key):
        args.error("argument --to-authority, --to-certificate, --to-key: go with --to-tls")
    if args.table and args.headers == "keep":
        args.error("argument --table: goes with headers that are cleaned")
    if (retain := retained_from(args)) is not None:
        Cleaner(retain, Pseudonyms())
    if args.no_text:
        check_reader()
    parameters = parameters_from(args)
    check_ready(parameters.segmenter, parameters.choice)


def _listening(args: argparse.Namespace) -> Listening:
    from ..pacs.node import Listening, networks

    return Listening(
        title=args.title,
        address=args.address,
        port=args.port,
        callers=tuple(args.callers),
        networks=networks(args.networks),
        tls=_tls(args.certificate, args.key, args.authority) if args.certificate else None,
        associations=args.associations,
        largest=args.largest * MEGABYTE,
        take_along=args.take_along,
    )


def _destination(args: argparse.Namespace) -> Destination:
    from ..pacs.forward import destination

    tls = _tls(args.to_certificate, args.to_key, args.to_authority) if args.to_tls else None
    return destination(args.to, args.title, tls)


def _tls(certificate: Path | None, key: Path | None, authority: Path | None) -> Tls:
    from ..pacs.tls import Tls

    return Tls(certificate, key, authority)


def _choices(args: argparse.Namespace) -> Choices:
    from ..pacs.defacing import Choices
    from .choices import parameters_from, retained_from

    retain = retained_from(args)
    return Choices(
        parameters=asdict(parameters_from(args)),
        secret=str(args.secret.absolute()),
        retain=None if retain is None else tuple(retain),
        table=str(args.table.absolute()) if args.table else "",
        take_along=args.take_along,
        no_text=args.no_text,
        forward_warned=args.forward_warned,
    )


def _resources(args: argparse.Namespace) -> Resources:
    from ..batch.runners import choose
    from .choices import parameters_from

    return choose(parameters_from(args), args.workers, None, None, args.timeout)[1]


def _status(folder: Path) -> int:
    """Say how far all studies are, and which have images in quarantine."""
    from ..pacs.queue import ENDING, QUARANTINE
    from ..pacs.record import State, read_record

    studies = read_record(folder)
    for study in studies:
        held = len(list((folder / QUARANTINE / study.id).glob(f"*{ENDING}")))
        why = study.sentence.replace("\n", " ") if study.state is not State.FORWARDED or held else ""
        print("; ".join(filter(None, (f"{study.id}: {study.state}", f"{held} images in quarantine" * bool(held), why))))
    counts = {state: sum(study.state is state for study in studies) for state in State}
    print(", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no studies")
    return 0


def _log(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _title(text: str) -> str:
    if not 1 <= len(text.strip()) <= 16 or "\\" in text or not text.isascii() or not text.isprintable():
        raise argparse.ArgumentTypeError("an AE title has 1 to 16 characters, of ASCII and without a backslash")
    return text.strip()
