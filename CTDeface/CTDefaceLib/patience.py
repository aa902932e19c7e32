"""Reading that can wait for ever, as from a disk that does not answer: it is waited for so long, and no longer."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

LONGEST_SECONDS = 60.0
"""How long a header or the list of a folder may take to be read, in s, while it is looked for scans. A choice, far
above what a disk or a network takes that works."""

Result = TypeVar("Result")


def in_time(function: Callable[..., Result], *args: object) -> Result:
    """The result of a call that takes no longer than :data:`LONGEST_SECONDS`.

    Raises
    ------
    TimeoutError
        When it takes longer. Nothing can stop it: it goes on in a thread that ends with the process.
    """
    ended: SimpleQueue[tuple[Result | None, BaseException | None]] = SimpleQueue()

    def work() -> None:
        try:
            ended.put((function(*args), None))
        except BaseException as error:  # whatever it is, it belongs to who waits
            ended.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        result, error = ended.get(timeout=LONGEST_SECONDS)
    except Empty:
        said = f"it could not be read within {LONGEST_SECONDS:g} s"
        raise TimeoutError(errno.ETIMEDOUT, said, *map(str, args[:1])) from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
