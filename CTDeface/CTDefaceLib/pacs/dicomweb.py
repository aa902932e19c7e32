"""A DICOMweb server: studies and series from it (WADO-RS), and results to it (STOW-RS); needs dicomweb-client.

Who we are for the server stands in the environment, never on a command line: a token in CTDEFACE_DICOMWEB_TOKEN, or
name and password in the file that NETRC names (``~/.netrc`` by default; ``requests`` reads it). An authority of one's
own for its certificate: REQUESTS_CA_BUNDLE.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..dicom.files import read_dataset
from ..errors import CTDefaceError, InputError, NotReadyError

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient

MISSING = 'The package dicomweb-client is not installed: pip install "ctdeface[pacs]".'

TOKEN = "CTDEFACE_DICOMWEB_TOKEN"
"""Variable of the environment with a token that stands in the header Authorization, after ``Bearer``."""

AT_ONCE = 16
"""Images that are sent in one request: more take memory, fewer more time on the way. A choice."""

SECONDS = 300.0
"""How long a server may say nothing, in s: it gathers a study before it answers. A choice."""

BAD_ADDRESS = (
    "The address of a DICOMweb server is that of its service, such as https://host/dicom-web, without name or password."
)
NOT_A_STUDY = "The address has to be that of a study or series, such as https://host/dicom-web/studies/1.2.3."
ANSWERS = {
    401: ": it does not know who asks",
    403: ": it does not allow it",
    404: ": it has nothing there",
    409: ": it does not take these images",
}
"""What a status of HTTP means here."""

PLAIN = "A token would go over the network for everybody to read: use https."


class WebError(CTDefaceError):
    """The server is not there, or does not do what it is asked for."""


@dataclass(frozen=True)
class Server:
    """A service, by the address that all others begin with, as ``https://host/dicom-web``; InputError if it is none."""

    address: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        if not parts.hostname or parts.username or parts.password or parts.query or parts.fragment:
            raise InputError(BAD_ADDRESS)
        if os.environ.get(TOKEN) and parts.scheme == "http" and not _is_here(parts.hostname):
            raise InputError(PLAIN)


def is_address(text: object) -> bool:
    """Whether a text is meant as that of a server."""
    return isinstance(text, str) and text.lower().startswith(("http://", "https://"))


def fetch(address: str, folder: Path) -> int:
    """Read the images of a study or series into a folder, under numbers; how many there are.

    Parameters
    ----------
    address: str
        ``https://host/dicom-web/studies/UID``, or that with ``/series/UID``.
    folder: Path

    Raises
    ------
    InputError
        When it is no such address, or nothing is there.
    WebError
        When the server does not give it.
    """
    with web_errors():
        from dicomweb_client import URI

        try:
            place = URI.from_string(address.rstrip("/"))
        except ValueError as error:
            raise InputError(NOT_A_STUDY) from error
        if not place.study_instance_uid or place.sop_instance_uid:
            raise InputError(NOT_A_STUDY)
        client = _client(Server(place.base_url))
        if place.series_instance_uid:
            images = client.iter_series(place.study_instance_uid, place.series_instance_uid)
        else:
            images = client.iter_study(place.study_instance_uid)
        number = 0
        for number, image in enumerate(images, 1):
            image.save_as(folder / f"IM{number:05}.dcm", enforce_file_format=True)
    if not number:
        raise InputError("The server has no images there; check the address.")
    return number


def store(server: Server, paths: Iterable[Path], sent: Callable[[Path], None] = lambda path: None) -> None:
    """Send files; ``sent`` is given each that the server has. Raises WebError where it does not take one."""
    paths = list(paths)
    with web_errors():
        client = _client(server)
        for start in range(0, len(paths), AT_ONCE):
            part = paths[start : start + AT_ONCE]
            answer = client.store_instances([read_dataset(str(path)) for path in part])
            if answer.get("FailedSOPSequence"):
                raise WebError("The server did not take an image; what it says of it stands in its own log.")
            for path in part:
                sent(path)


@contextmanager
def web_errors() -> Iterator[None]:
    """Whatever a request, or its answer, can raise, as one sentence that quotes neither address nor answer."""
    from pydicom.errors import InvalidDicomError

    try:
        import requests
    except ImportError as error:
        raise NotReadyError(MISSING) from error
    try:
        yield
    except ModuleNotFoundError as error:
        raise NotReadyError(MISSING) from error
    except requests.HTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        raise WebError(f"The DICOMweb server answered {code}{ANSWERS.get(code, '')}.") from error
    except requests.RequestException as error:
        raise WebError(f"The DICOMweb server cannot be reached ({type(error).__name__}).") from error
    except (EOFError, LookupError, ValueError, InvalidDicomError) as error:
        raise WebError("The DICOMweb server answered something that is no DICOM.") from error


def _client(server: Server) -> DICOMwebClient:
    import requests
    from dicomweb_client import DICOMwebClient

    session = requests.Session()
    token = os.environ.get(TOKEN)
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    client = DICOMwebClient(server.address.rstrip("/"), session=session, timeout=SECONDS)
    client.set_http_retry_params(retry=False)
    return client


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
