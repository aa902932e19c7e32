"""Thousands of scans, unattended: :func:`run` does what is left of a batch, :func:`plan` lists what it would do."""

from ..private import SECRET, make_private_folder, private_folder
from .execute import GALLERY, RECORD, SUMMARY, TABLE, Choices, Summary, plan, run

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
