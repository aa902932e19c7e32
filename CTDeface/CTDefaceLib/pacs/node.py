"""The DICOM node that listens: who may call, what it takes, and how much of it.

It knows C-ECHO and C-STORE. Whatever a caller sends is bounded before it is kept: the length of a PDU and of an object,
the number of associations and connections, and the time that one may say nothing.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from socketserver import BaseServer
from typing import TYPE_CHECKING, Any

from ..errors import InputError, NotReadyError, OutputError
from ..files import on_one_line
from .kinds import DOCUMENTS, IMAGES
from .queue import Kept, Queue, Refusal, Status
from .tls import Tls, listening

if TYPE_CHECKING:
    from pynetdicom.events import Event
    from pynetdicom.transport import ThreadedAssociationServer

MISSING = 'The package pynetdicom is not installed: pip install "ctdeface[pacs]".'

TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.5",  # RLE
)
"""Uncompressed and lossless; nothing deflated, of which a little can become very much."""

PDU_BYTES = 1 << 17
"""Length of a PDU that is offered to senders, in bytes. A choice: longer ones were not faster on loopback."""

LONGEST_PDU = 1 << 20
"""That is read, in bytes; what is longer ends the connection. A choice, above what those make who ignore the offer."""

SILENT_SECONDS = 60.0
"""How long a caller may say nothing before its connection ends. A choice."""

CONNECTIONS_PER_ASSOCIATION = 2
"""Connections that are open at a time, for each association that may be, so that refusals can be said. A choice."""


@dataclass(frozen=True)
class Listening:
    """Where and to whom a node listens.

    Attributes
    ----------
    title, address, port: str, str, int
        Of the node itself.
    callers: tuple of str
        AE titles that may call; empty for all.
    networks: tuple of networks
        From where; empty for all.
    tls: Tls or None
    associations: int
        At a time.
    largest: int
        Bytes that an object may take.
    take_along: bool
        Take what goes along with images, too, see :data:`.kinds.DOCUMENTS`.
    """

    title: str = "CTDEFACE"
    address: str = "127.0.0.1"
    port: int = 11112
    callers: tuple[str, ...] = ()
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    tls: Tls | None = None
    associations: int = 8
    largest: int = 1 << 30
    take_along: bool = False


def check_package() -> None:
    """Raise NotReadyError where pynetdicom is missing."""
    try:
        import pynetdicom  # noqa: F401
    except ImportError as error:
        raise NotReadyError(MISSING) from error


def set_up_library() -> None:
    """Keep to itself what pynetdicom says, since it quotes what it gets; files are sent as they are."""
    from pynetdicom import _config

    _config.STORE_SEND_CHUNKED_DATASET = True
    _config.LOG_HANDLER_LEVEL = "none"
    logging.getLogger("pynetdicom").propagate = False


def start(listen: Listening, queue: Queue, report: Callable[[str], None]) -> ThreadedAssociationServer:
    """Listen, in threads of its own, until the server is shut down.

    Parameters
    ----------
    listen: Listening
    queue: Queue
        Takes the images.
    report: callable
        Takes a line about whoever was not let in and what was refused; names nobody.

    Raises
    ------
    NotReadyError
        When pynetdicom is missing.
    InputError
        When the files of TLS cannot be used.
    OutputError
        When the address or port cannot be had.
    """
    check_package()
    set_up_library()
    from pynetdicom import AE, evt
    from pynetdicom.sop_class import Verification

    ae = AE(listen.title)
    ae.maximum_associations = listen.associations
    ae.maximum_pdu_size = PDU_BYTES
    ae.network_timeout = ae.dimse_timeout = ae.acse_timeout = SILENT_SECONDS
    ae.require_called_aet = True
    ae.require_calling_aet = list(listen.callers)
    syntaxes = decodable()
    ae.add_supported_context(Verification)
    for sop_class in (*IMAGES, *(DOCUMENTS if listen.take_along else ())):
        ae.add_supported_context(sop_class, syntaxes)

    def refused(event: Event) -> None:
        title = on_one_line(str(event.assoc.requestor.ae_title))
        report(f"{title} at {event.assoc.requestor.address} was not let in")

    handlers: list[Any] = [
        (evt.EVT_C_ECHO, lambda event: Status.SUCCESS.value),
        (evt.EVT_C_STORE, lambda event: _store(event, queue, report)),
        (evt.EVT_REJECTED, refused),
    ]
    context = listening(listen.tls) if listen.tls else None
    family = socket.AF_INET6 if ":" in listen.address else socket.AF_INET
    place = socket.getaddrinfo(listen.address, listen.port, family, socket.SOCK_STREAM)
    try:
        server = ae.make_server(
            place[0][4][:2],
            ssl_context=context,
            evt_handlers=handlers,
            server_class=_server_class(listen, report),
            request_handler=_handler_class(listen.largest),
        )
    except OSError as error:
        raise OutputError(
            f"The node cannot listen there ({error.strerror or type(error).__name__}): choose another address or port."
        ) from error
    return server


def decodable() -> list[str]:
    """Transfer syntaxes that can be read here: a sender that has something else has to unpack it first."""
    import importlib.util

    if importlib.util.find_spec("gdcm"):
        return list(TRANSFER_SYNTAXES)
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    return [uid for uid in TRANSFER_SYNTAXES if not UID(uid).is_compressed or get_decoder(uid).is_available]


def networks(texts: Sequence[str]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Addresses or networks such as 10.1.2.0/24; InputError for what is neither."""
    try:
        return tuple(ipaddress.ip_network(text, strict=False) for text in texts)
    except ValueError as error:
        raise InputError(f"This is no address or network: {error}.") from error


def _store(event: Event, queue: Queue, report: Callable[[str], None]) -> Any:
    """Take what a C-STORE brings; the status that its sender is told."""
    import pydicom

    event.assoc.dul.socket.recv.begin_object()  # what is counted is that of the next one
    request: Any = event.request
    try:
        study, kept = queue.take(_file_meta(event), request.DataSet.getbuffer())
    except Refusal as refusal:
        report(f"an image was refused: {refusal}")
        status = pydicom.Dataset()
        status.Status, status.ErrorComment = refusal.status.value, str(refusal)[:64]
        return status
    except Exception as error:  # whatever happens, a sender must not think that its image is here
        report(f"an image was refused: an error that this program did not expect ({type(error).__name__})")
        return Status.NOT_UNDERSTOOD.value
    if kept is Kept.QUARANTINED:
        report(f"study {study}: an image went into quarantine")
    return Status.SUCCESS.value


def _file_meta(event: Event) -> bytes:
    """The beginning of a file, which tells nothing of who sent it to whom."""
    import pydicom
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_file_meta_info

    request: Any = event.request
    meta = pydicom.dataset.FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = request.AffectedSOPClassUID
    meta.MediaStorageSOPInstanceUID = request.AffectedSOPInstanceUID
    meta.TransferSyntaxUID = event.context.transfer_syntax
    meta.ImplementationClassUID, meta.ImplementationVersionName = pydicom.uid.PYDICOM_IMPLEMENTATION_UID, "CTDEFACE"
    beginning = DicomBytesIO()
    beginning.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(beginning, meta)
    return beginning.getvalue()


def _server_class(listen: Listening, report: Callable[[str], None]) -> type[ThreadedAssociationServer]:
    from pynetdicom.transport import ThreadedAssociationServer

    class Server(ThreadedAssociationServer):
        """Lets in only whom it may, and waits for nobody while others call."""

        daemon_threads = True

        def get_request(self) -> tuple[socket.socket, Any]:
            assert self.socket is not None
            connection, address = self.socket.accept()
            connection.settimeout(SILENT_SECONDS)
            if self.ssl_context:  # shakes hands in the thread of the association
                connection = self.ssl_context.wrap_socket(
                    connection, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
                )
            return connection, address

        def verify_request(self, request: Any, client_address: Any) -> bool:
            address = ipaddress.ip_address(client_address[0])
            address = getattr(address, "ipv4_mapped", None) or address
            if listen.networks and not any(address in network for network in listen.networks):
                report(f"a call from {address} was not taken")
                return False
            return len(self.active_associations) < CONNECTIONS_PER_ASSOCIATION * listen.associations

        def shutdown(self) -> None:
            BaseServer.shutdown(self)
            self.server_close()
            for association in self.active_associations:
                association.abort(block=False)  # an image that is on its way was not answered, and is sent again

        def handle_error(self, request: Any, client_address: Any) -> None:
            report(f"a call from {client_address[0]} ended in an error")

    return Server


def _handler_class(largest: int) -> type:
    from pynetdicom.transport import RequestHandler

    class Handler(RequestHandler):
        def _create_association(self) -> Any:
            association = super()._create_association()
            association.dul.socket.recv = Receiving(association.dul.socket.recv, self.request, largest)
            return association

    return Handler


class Receiving:
    """Receives from a socket, and ends the connection where a PDU or an object gets too long.

    Parameters
    ----------
    receive: callable
        Takes a number of bytes, and returns as many. An OSError in its place ends the connection.
    connection: socket
        It receives from.
    largest: int
        Bytes of an object.
    """

    def __init__(self, receive: Callable[[int], bytearray], connection: socket.socket, largest: int):
        self._receive, self._connection, self._largest, self._received = receive, connection, largest, 0

    def begin_object(self) -> None:
        self._received = 0

    def __call__(self, nr_bytes: int) -> bytearray:
        self._received += nr_bytes
        if nr_bytes > LONGEST_PDU or self._received > self._largest:
            raise OSError("too long")
        data = self._receive(nr_bytes)
        if hasattr(socket, "TCP_QUICKACK"):  # senders such as dcmtk's wait for it, 40 ms an image otherwise
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data
