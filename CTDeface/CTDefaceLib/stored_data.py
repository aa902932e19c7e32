"""Tell whether all voxels of a NIfTI, NRRD or MetaImage file are there.

ITK reads a truncated NIfTI file and a damaged compressed NIfTI or MetaImage file without an error and leaves the rest
of the volume to chance; it writes a NIfTI file to a full disk without an error, too.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

TRUNCATED = "The file is truncated, damaged or not of the format that its name says; copy or export it again."

GZIP_MAGIC = b"\x1f\x8b"
"""How a member of a gzip file begins."""

GZIP_OR_ZLIB = 47
"""Window bits that let zlib tell by the first bytes."""

CHUNK = 1 << 16
"""Bytes read at a time: they can inflate a thousandfold."""


def suffix(path: str | os.PathLike) -> str:
    """The ending that names the format, in lower case: ``.nii.gz``, ``.nrrd``, …"""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


class StoredData:
    """Where the voxels of a file are stored, and how.

    Attributes
    ----------
    file: Path
        The one with the voxels; of a pair with a text header, the other one.
    offset: int
        Of their first byte; in a ``.nii.gz`` after inflating.
    compressed: bool
        By zlib or gzip.
    known: bool
        False where only ITK knows how to find them (bzip2, text, lists of files); ITK then checks them itself.
    """

    def __init__(self, path: Path):
        """Look at the header; raises ValueError when the file does not have the header of its format."""
        self.file, self.offset, self.compressed, self.known = Path(path), 0, False, True
        self._gzip_file = suffix(path) == ".nii.gz"
        self._stored_size: int | None = None
        with open(path, "rb") as file:
            head = file.read(1 << 16)
        ending = suffix(path)
        if ending in (".nii", ".nii.gz"):
            self._nifti(head)
        elif ending in (".nrrd", ".nhdr"):
            self._nrrd(head)
        else:
            self._meta(head)

    def _nifti(self, head: bytes) -> None:
        self.compressed = self._gzip_file
        if self.compressed:
            try:
                head = zlib.decompressobj(GZIP_OR_ZLIB).decompress(head, 544)
            except zlib.error as error:
                raise ValueError("not gzip") from error
        for order in "<>":
            if head[:4] == struct.pack(order + "i", 348) and len(head) >= 348:
                self.offset = int(struct.unpack_from(order + "f", head, 108)[0])
                return
            if head[:4] == struct.pack(order + "i", 540) and len(head) >= 540:
                self.offset = struct.unpack_from(order + "q", head, 168)[0]
                return
        raise ValueError("not NIfTI")

    def _nrrd(self, head: bytes) -> None:
        if head[:4] != b"NRRD":
            raise ValueError("not NRRD")
        newline = b"\r\n" if b"\r\n" in head[:16] else b"\n"
        text, blank, _ = head.partition(2 * newline)
        fields = dict(line.lower().split(b": ", 1) for line in text.split(newline) if b": " in line)
        encoding = fields.get(b"encoding", b"").strip()
        self.compressed = encoding in (b"gzip", b"gz")
        self.offset = len(text) + len(blank)
        detached = b"data file" in fields or b"datafile" in fields
        self.known = (self.compressed or encoding == b"raw") and not detached and b"byte skip" not in fields

    def _meta(self, head: bytes) -> None:
        fields: dict[bytes, bytes] = {}
        for line in head.splitlines(keepends=True):
            key, equals, value = line.partition(b"=")
            self.offset += len(line)
            fields[key.strip().lower()] = value.strip()
            if key.strip().lower() == b"elementdatafile" and equals:
                break
        if b"ndims" not in fields or not fields.get(b"elementdatafile"):
            raise ValueError("not MetaImage")
        self.compressed = fields.get(b"compresseddata", b"").lower() == b"true"
        if self.compressed and fields.get(b"compresseddatasize", b"").isdigit():
            self._stored_size = int(fields[b"compresseddatasize"])
        name = os.fsdecode(fields[b"elementdatafile"])
        if name.upper() != "LOCAL":
            self.file, self.offset = self.file.parent / name, max(0, int(fields.get(b"headersize", b"0")))
        listed = name.upper().startswith("LIST") or "%" in name
        self.known = not listed and fields.get(b"binarydata", b"true").lower() != b"false"

    def is_long_enough(self, nbytes: int) -> bool:
        """Whether the file has room for ``nbytes`` bytes of voxels, as far as that shows without inflating them."""
        if not self.known:
            return True
        if not self.file.is_file():
            return False
        start = 0 if self._gzip_file else self.offset
        stored = (self._stored_size or 1) if self.compressed else nbytes
        return self.file.stat().st_size >= start + stored

    def inflates(self, nbytes: int) -> bool:
        """Whether compressed voxels inflate to ``nbytes`` bytes or more with right checksums; True if uncompressed."""
        if not (self.known and self.compressed):
            return True
        with open(self.file, "rb") as file:
            if self._gzip_file:
                return _inflated_length(file) >= self.offset + nbytes
            file.seek(self.offset)
            return _inflated_length(file) >= nbytes


def inflated(path: str | os.PathLike, start: int, nbytes: int) -> bytearray:
    """Bytes of a gzip file from ``start`` on, after inflating; ValueError when it is damaged or holds fewer."""
    taken, position = bytearray(), 0

    def take(piece: bytes) -> None:
        nonlocal position
        taken.extend(piece[max(0, start - position) : max(0, start + nbytes - position)])
        position += len(piece)

    with open(path, "rb") as file:
        if _inflated_length(file, take) < start + nbytes:
            raise ValueError("truncated or damaged")
    return taken


def _inflated_length(file: BinaryIO, take: Callable[[bytes], None] = lambda piece: None) -> int:
    """Bytes in the zlib stream or gzip members that start here; -1 when they break off or are damaged."""
    length, stream, rest = 0, zlib.decompressobj(GZIP_OR_ZLIB), b""
    try:
        while chunk := rest or file.read(CHUNK):
            piece = stream.decompress(chunk)
            length += len(piece)
            take(piece)
            rest = b""
            if stream.eof:
                rest = stream.unused_data + file.read(CHUNK)
                if not rest.startswith(GZIP_MAGIC):
                    return length
                stream = zlib.decompressobj(GZIP_OR_ZLIB)
    except zlib.error:
        pass
    return -1
