"""Thousands of scans, unattended: :func:`run` does what is left of a batch, :func:`plan` lists what it would do."""

from ..private import SECRET, make_private_folder, private_folder
from .choices import Choices
from .folders import GALLERY, PASSED_OVER, RECORD, SUMMARY, TABLE
from .planning import plan
from .running import run
from .summary import Summary

__all__ = [
    "GALLERY",
    "PASSED_OVER",
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
