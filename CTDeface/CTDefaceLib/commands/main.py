"""The command ``ctdeface``.

Each sub-command is a module named in :data:`COMMANDS` with HELP (one line), DESCRIPTION, EPILOG,
``add_arguments(parser)`` and ``run(args) -> exit status``; ``args.error(sentence)`` ends with wrong usage. It imports
little at file scope, since ``ctdeface --help`` looks at all of them.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import io
import signal
import sys
import threading
import traceback
import types
import warnings
from typing import NoReturn

from ..errors import CTDefaceError, memory_errors
from ..version import __version__
from .terminal import warn

COMMANDS = {
    "deface": "CTDefaceLib.commands.deface",
    "batch": "CTDefaceLib.commands.batch",
    "receive": "CTDefaceLib.commands.receive",
    "demo": "CTDefaceLib.commands.demo",
    "models": "CTDefaceLib.commands.models",
    "evaluate": "CTDefaceEvalLib.cli",  # stands on this library, and may be missing
}

TERMINATED = 143
"""Exit status after SIGTERM, as a shell gives it."""

EPILOG = """\
Try "ctdeface demo", then "ctdeface deface --help".

exit status:
  0 done, 1 the scan could not be processed (one sentence says why), 2 wrong usage.
  Ctrl-C (130) and SIGTERM (143) leave nothing behind."""


def main(argv: list[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default) and return its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files are not always text that a terminal can show
        sys.stdout.reconfigure(errors="backslashreplace")
    in_main_thread = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, _terminate) if in_main_thread else None
    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    try:
        args = _parser(sys.argv[1:] if argv is None else argv).parse_args(argv)
        with memory_errors(), warnings.catch_warnings():
            if not debug:
                warnings.simplefilter("ignore")  # what libraries say about odd values quotes them
            return args.run(args)
    except Exception as error:
        if debug:
            traceback.print_exc()
        warn(_sentence(error))
        return 1
    except SystemExit as end:
        if end.code == TERMINATED:
            warn("terminated.")
        raise
    except KeyboardInterrupt:
        warn("interrupted.")
        return 130
    finally:
        if in_main_thread:
            signal.signal(signal.SIGTERM, previous)


def _sentence(error: Exception) -> str:
    """What a user is told of an error; what nobody expected has no words that could name the patient either."""
    if isinstance(error, CTDefaceError):
        return str(error)
    if isinstance(error, MemoryError):
        return "There is not enough memory for this scan; close other programs or crop it to the head."
    if isinstance(error, OSError):
        return f"A file could not be read or written ({error.strerror or type(error).__name__}); check it and its disk."
    return f"An error that this program did not expect stopped it ({type(error).__name__}); --debug shows where."


def _terminate(number: int, frame: types.FrameType | None) -> None:
    sys.exit(TERMINATED)  # as an exception, so that temporary files are removed on the way out


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the usage, without all that could have been used."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message.rstrip('.')}. See {self.prog} --help.\n")


def _parser(argv: list[str]) -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="ctdeface", description="Replace the face in head CTs.", epilog=EPILOG, formatter_class=plain)
    parser.add_argument("--debug", action="store_true", help="on an error, also show where it arose")
    parser.add_argument("--version", action="version", version=f"ctdeface {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module_name in COMMANDS.items():
        if importlib.util.find_spec(module_name.partition(".")[0]) is None:
            continue
        module = importlib.import_module(module_name)
        command = commands.add_parser(
            name, help=module.HELP, description=module.DESCRIPTION, epilog=module.EPILOG, formatter_class=plain
        )
        if name in argv:  # only the arguments in use, since defaults may need slow imports
            module.add_arguments(command)
            command.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
        command.set_defaults(run=module.run, error=command.error)
    return parser
