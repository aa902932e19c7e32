"""Thousands of scans, unattended: :func:`run` does what is left of a batch, :func:`plan` lists what it would do."""

from .execute import (
    GALLERY,
    RECORD,
    SECRET,
    SUMMARY,
    TABLE,
    Choices,
    Summary,
    make_private_folder,
    plan,
    private_folder,
    run,
)

__all__ = [
    "GALLERY",
    "RECORD",
    "SECRET",
    "SUMMARY",
    "TABLE",
    "Choices",
    "Summary",
    "make_private_folder",
    "plan",
    "private_folder",
    "run",
]
