"""What stands for UIDs and contents in folders and in the record: nobody can trace it back without the secret."""

from __future__ import annotations

import hmac
import os

CHUNK_BYTES = 1 << 20
"""Of a file that is read at a time."""

HASH_BYTES = 16
"""Of HMAC-SHA-256 that are kept: two UIDs that share them will not occur."""


def name_of(secret: bytes, kind: str, uid: str) -> str:
    """32 hexadecimal digits that stand for a UID, fit for the name of a file whatever the UID holds."""
    return hmac.new(secret, f"pacs {kind}\0{uid}".encode("utf-8", "replace"), "sha256").digest()[:HASH_BYTES].hex()


def content_of(secret: bytes, path: str | os.PathLike) -> str:
    """32 hexadecimal digits that stand for the content of a file."""
    digest = hmac.new(secret, b"pacs content\0", "sha256")
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()[:HASH_BYTES].hex()
