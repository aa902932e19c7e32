"""Errors that end in one sentence for the user: what is wrong and what to do."""


class CTDefaceError(Exception):
    """Anything that this library reports to the user; ``str(error)`` is the sentence."""


class InputError(CTDefaceError):
    """The input cannot be read or is not a CT volume that can be defaced."""


class NoFaceError(CTDefaceError):
    """The volume is a CT, but no face is in view."""


class OutputError(CTDefaceError):
    """The result could not be written; nothing half-done was left behind."""


class Cancelled(CTDefaceError):
    """The caller's ``cancelled()`` said so; nothing was changed."""


class NotReadyError(CTDefaceError):
    """A segmenter or face model lacks a package, a licence key or its weights; nothing was changed."""
