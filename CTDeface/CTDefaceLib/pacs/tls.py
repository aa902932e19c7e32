"""TLS for a node that listens, and for one that sends."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

UNUSABLE = "Certificate, key or certificate authority of TLS cannot be used ({}): they have to be PEM files that fit."


@dataclass(frozen=True)
class Tls:
    """Files in PEM form.

    Attributes
    ----------
    certificate, key: Path or None
        With which this node shows who it is; the key may be in the file of the certificate.
    authority: Path or None
        Whose certificates the other side has to show; None: none is asked of who calls, and of who is called one that
        the system trusts.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None


def listening(tls: Tls) -> ssl.SSLContext:
    """For a node that is called; whoever calls has to show a certificate where an authority is given."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load(context, tls)
    if tls.authority:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def calling(tls: Tls) -> ssl.SSLContext:
    """For a node that calls; the other's certificate and name are always checked."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    _load(context, tls)
    return context


def _load(context: ssl.SSLContext, tls: Tls) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key)
        if tls.authority:
            context.load_verify_locations(tls.authority)
    except (OSError, ssl.SSLError) as error:
        raise InputError(UNUSABLE.format(getattr(error, "strerror", None) or type(error).__name__)) from error
