"""Where defaced images go: another DICOM node, a DICOMweb server, or a folder."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..dicom.files import read_dataset
from ..errors import CTDefaceError, InputError
from ..files import output_errors, put_in_place
from . import dicomweb
from .node import set_up_library
from .tls import Tls, calling

SECONDS = 60.0
"""How long a receiver may say nothing. A choice."""

NODE = re.compile(r"(?P<title>[^@/\\]{1,16})@(?P<host>\[[0-9a-fA-F:.]+\]|[^@:/\\\[\]]+):(?P<port>[0-9]{1,5})")
"""TITLE@HOST:PORT."""

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
"""Transfer syntax."""

NOT_TAKEN = "The receiver did not take an image (status {:04X}); what it says of it stands in its own log."


class ForwardError(CTDefaceError):
    """The receiver is not there, or did not take an image: it is tried again."""


class Destination(Protocol):
    """Takes the defaced images of a study."""

    def send(self, folder: Path, name: str, sent: Callable[[Path], None]) -> None:
        """Send all files below a folder.

        Parameters
        ----------
        folder: Path
        name: str
            What stands for the study.
        sent: callable
            Is given each file that the receiver has; it need not be sent again.

        Raises
        ------
        ForwardError, OutputError
            When not all of them could be sent.
        """


def destination(text: str, title: str, tls: Tls | None) -> Destination:
    """What ``TITLE@HOST:PORT``, the address of a DICOMweb server or the path of a folder stands for.

    Raises
    ------
    InputError
        When it is none of them, or cannot be used.
    """
    if dicomweb.is_address(text):
        return DicomWeb(dicomweb.Server(text))
    if found := NODE.fullmatch(text):
        if tls:
            calling(tls)  # says now what is wrong with its files
        return Node(found["title"], found["host"].strip("[]"), int(found["port"]), title, tls)
    folder = Path(text)
    if not folder.is_dir():
        raise InputError("The results go to TITLE@HOST:PORT, https://HOST/PATH or a folder that is there.")
    return Folder(folder)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.dcm") if path.is_file())


@dataclass(frozen=True)
class Folder:
    """A folder, in which a study gets a folder of its own when all of it is there."""

    path: Path

    def send(self, folder: Path, name: str, sent: Callable[[Path], None]) -> None:
        files, goal = files_of(folder), self.path / name
        if not goal.exists():
            part = self.path / f".{name}.part"
            shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
            with output_errors():
                for path in files:
                    place = part / path.relative_to(folder)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, place)
                put_in_place(part, goal)
        for path in files:
            there = goal / path.relative_to(folder)
            if not there.is_file() or not filecmp.cmp(path, there, shallow=False):
                raise ForwardError("The folder of the study is there already and holds something else: move it away.")
            sent(path)


@dataclass(frozen=True)
class Node:
    """A DICOM node that takes a C-STORE."""

    title: str
    host: str
    port: int
    own_title: str
    tls: Tls | None = None

    def send(self, folder: Path, name: str, sent: Callable[[Path], None]) -> None:
        from pynetdicom import AE, evt
        from pynetdicom.sop_class import Verification

        set_up_library()
        files = files_of(folder)
        ae = AE(self.own_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = SECONDS
        ae.add_requested_context(Verification)
        kinds = {path: _kind(path) for path in files}
        for sop_class, syntax in sorted(set(kinds.values())):
            ae.add_requested_context(sop_class, syntax)
            ae.add_requested_context(sop_class, IMPLICIT_LITTLE_ENDIAN)  # which everybody has to know
        tls = (calling(self.tls), self.host) if self.tls else None
        handlers = [(evt.EVT_DATA_SENT, lambda event: _without_delay(event.assoc.dul.socket))]
        association = ae.associate(self.host, self.port, ae_title=self.title, tls_args=tls, evt_handlers=handlers)
        if not association.is_established:
            raise ForwardError(
                "The receiver does not answer, or does not know this node: check its title, host, port and TLS."
            )
        try:
            accepted = {(one.abstract_syntax, one.transfer_syntax[0]) for one in association.accepted_contexts}
            for path in files:
                try:  # as it is, or else in what is accepted
                    status = association.send_c_store(path if kinds[path] in accepted else read_dataset(str(path)))
                except (ValueError, RuntimeError) as error:
                    raise ForwardError("The receiver does not take this kind of image, or has ended.") from error
                code = status.get("Status")
                if code is None:
                    raise ForwardError("The receiver did not answer any more.")
                if code & 0xF000 not in (0x0000, 0xB000) or code & 0xFF00 == 0x0100:
                    raise ForwardError(NOT_TAKEN.format(code))
                sent(path)
        finally:
            association.release()


def _without_delay(connection: Any) -> None:
    """Neither wait to fill packets nor to confirm those of the receiver, which waits for that: 40 ms an image each."""
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_QUICKACK"):  # Linux alone has it, and forgets it with the next packet
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


@dataclass(frozen=True)
class DicomWeb:
    """A DICOMweb server that takes STOW-RS."""

    server: dicomweb.Server

    def send(self, folder: Path, name: str, sent: Callable[[Path], None]) -> None:
        try:
            dicomweb.store(self.server, files_of(folder), sent)
        except dicomweb.WebError as error:
            raise ForwardError(str(error)) from error


def _kind(path: Path) -> tuple[str, str]:
    """SOP class and transfer syntax of a file."""
    from pydicom.filereader import read_file_meta_info

    meta = read_file_meta_info(path)
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)


def removed(path: Path) -> None:
    """Remove a file that was sent; should a power cut bring it back, it is sent again."""
    with output_errors():
        os.unlink(path)
