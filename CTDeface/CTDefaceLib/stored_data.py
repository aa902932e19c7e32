"""Tell whether all voxels of a NIfTI, NRRD or MetaImage file are there.

ITK reads a truncated NIfTI file and a damaged compressed NIfTI or MetaImage file without an error and leaves the rest
of the volume to chance; it writes a NIfTI file to a full disk without an error, too.
"""

from __future__ import annotations

import os
import re
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

NRRD = (".nrrd", ".nhdr")
NRRD_SPACES = {
    space + time
    for spaces, times in (
        ((b"right-anterior-superior", b"left-anterior-superior", b"left-posterior-superior"), (b"", b"-time")),
        ((b"ras", b"las", b"lps"), (b"", b"t")),
    )
    for space in spaces
    for time in times
}
"""Spaces of an NRRD header that are a patient's; the others are a scanner's, or nobody's."""

META_AXES = (b"transformmatrix", b"orientation", b"rotation")
"""Fields of a MetaImage header that say where its axes lead."""

LONGEST_LINE, LONGEST_HEADER = 500, 1 << 24
"""Bytes of a field of an NRRD header, and of all of it: values have less, and beside them stands what programs note."""

MOST_INFLATED = 1040
"""Bytes that one byte of zlib or gzip can become; the format allows 1032."""


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
    others: list of Path
        Files that the header names.
    oriented: bool
        Whether an NRRD or MetaImage header says which way the axes lead in a patient.
    """

    def __init__(self, path: Path):
        """Look at the header; raises ValueError when the file does not have the header of its format."""
        self.file, self.offset, self.compressed, self.known = Path(path), 0, False, True
        self.others: list[Path] = []
        self.oriented = True
        self._gzip_file = suffix(path) == ".nii.gz"
        self._stored_size: int | None = None
        with open(path, "rb") as file:
            head = file.read(CHUNK)
            while suffix(path) in NRRD and not re.search(rb"\r?\n\r?\n", head) and (more := file.read(CHUNK)):
                head += more
                if len(head) > LONGEST_HEADER:
                    raise ValueError("a header without an end")
        ending = suffix(path)
        if ending in (".nii", ".nii.gz"):
            self._nifti(head)
        elif ending in NRRD:
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
        lines = text.split(newline)
        if any(map(_is_too_long, lines)):  # the library quotes it, and dies of that
            raise ValueError("a line of the header is too long")
        fields = dict(line.lower().split(b": ", 1) for line in lines if b": " in line)
        of_itk = fields.get(b"space dimension", b"").strip() == b"4"  # which names no space of four axes, but means LPS
        space = fields.get(b"space", b"").strip()
        self.oriented = b"space directions" in fields and (space in NRRD_SPACES or of_itk)
        encoding = fields.get(b"encoding", b"").strip()
        self.compressed = encoding in (b"gzip", b"gz")
        self.offset = len(text) + len(blank)
        named = re.search(rb"^data ?file: *(.*?)\s*$", text, re.IGNORECASE | re.MULTILINE)
        if named:
            self._name(text[named.end() :].split(newline) if named[1].startswith(b"LIST") else [named[1]])
        self.known = (self.compressed or encoding == b"raw") and not named and b"byte skip" not in fields

    def _meta(self, head: bytes) -> None:
        fields: dict[bytes, bytes] = {}
        for line in head.splitlines(keepends=True):
            key, equals, value = line.partition(b"=")
            self.offset += len(line)
            fields[key.strip().lower()] = value.strip()
            if key.strip().lower() == b"elementdatafile" and equals:
                break
        if not re.fullmatch(rb"[1-9]", fields.get(b"ndims", b"")) or not fields.get(b"elementdatafile"):
            raise ValueError("not MetaImage")
        self.oriented = any(fields.get(name) for name in META_AXES)
        self.compressed = fields.get(b"compresseddata", b"").lower() == b"true"
        if self.compressed and fields.get(b"compresseddatasize", b"").isdigit():
            self._stored_size = int(fields[b"compresseddatasize"])
        name = fields[b"elementdatafile"]
        listed = name.upper().startswith(b"LIST")
        if name.upper() != b"LOCAL":
            self._name(head[self.offset :].splitlines() if listed else [name])
            self.file, self.offset = self.others[0], max(0, int(fields.get(b"headersize", b"0")))
        self.known = not listed and fields.get(b"binarydata", b"true").lower() != b"false"

    def _name(self, names: list[bytes]) -> None:
        """Files with voxels; ValueError for what is none, or lies elsewhere than below the folder of the header.

        A header could name anything on the disk else, and a pattern of names runs through the formatting of C.
        """
        folder = self.file.parent
        self.others = [folder / os.fsdecode(name.strip()) for name in names if name.strip()]
        if not self.others:
            raise ValueError("no file with voxels is named")
        for other in self.others:
            inside = os.path.abspath(other).startswith(os.path.abspath(folder) + os.sep)
            if not inside or "%" in other.name or not other.is_file():
                raise ValueError("a file with voxels is missing, or lies outside the folder")

    def is_long_enough(self, nbytes: int) -> bool:
        """Whether the file has room for ``nbytes`` bytes of voxels, as far as that shows without inflating them."""
        if not self.known:
            return True
        start = 0 if self._gzip_file else self.offset
        stored = max(self._stored_size or 1, nbytes // MOST_INFLATED) if self.compressed else nbytes
        return self.file.stat().st_size >= start + stored

    def inflates(self, nbytes: int) -> bool:
        """Whether compressed voxels inflate to ``nbytes`` bytes or more with right checksums; True if uncompressed.

        What inflates to far more is not followed to its end, and its checksum not looked at.
        """
        if not (self.known and self.compressed):
            return True
        with open(self.file, "rb") as file:
            if not self._gzip_file:
                file.seek(self.offset)
            wanted = nbytes + self.offset * self._gzip_file
            return _inflated_length(file, wanted + CHUNK * MOST_INFLATED) >= wanted


def _is_too_long(line: bytes) -> bool:
    """Whether a line of an NRRD header is longer than any field; notes (key:=value) and comments may be."""
    key, mark, _ = line.partition(b":=")
    field = key if mark and b": " not in key else line
    return len(field) > LONGEST_LINE and not line.startswith(b"#")


def inflated(path: str | os.PathLike, start: int, nbytes: int) -> bytearray:
    """Bytes of a gzip file from ``start`` on, after inflating; ValueError when it is damaged or holds fewer.

    What inflates to far more is not followed to its end, and its checksum not looked at.
    """
    taken, position = bytearray(), 0

    def take(piece: bytes) -> None:
        nonlocal position
        taken.extend(piece[max(0, start - position) : max(0, start + nbytes - position)])
        position += len(piece)

    if os.path.getsize(path) * MOST_INFLATED < start + nbytes:
        raise ValueError("truncated")
    with open(path, "rb") as file:
        if _inflated_length(file, start + nbytes + CHUNK * MOST_INFLATED, take) < start + nbytes:
            raise ValueError("truncated or damaged")
    return taken


def _inflated_length(file: BinaryIO, enough: int, take: Callable[[bytes], None] = lambda piece: None) -> int:
    """Bytes in the zlib stream or gzip members that start here; -1 when they break off or are damaged before enough."""
    length, stream, rest = 0, zlib.decompressobj(GZIP_OR_ZLIB), b""
    try:
        while chunk := rest or file.read(CHUNK):
            piece = stream.decompress(chunk)
            length += len(piece)
            take(piece)
            if length > enough:
                return length
            rest = b""
            if stream.eof:
                rest = stream.unused_data + file.read(CHUNK)
                if not rest.startswith(GZIP_MAGIC):
                    return length
                stream = zlib.decompressobj(GZIP_OR_ZLIB)
    except zlib.error:
        pass
    return -1
