"""What a node takes, by SOP class."""

from __future__ import annotations

from ..dicom.files import (
    CT_IMAGES,
    DOSE,
    ION_PLAN,
    LABEL_MAP,
    OTHER_IMAGES,
    PLAN,
    REGISTRATION,
    SEGMENTATION,
    STRUCTURE_SET,
)

IMAGES = (
    *CT_IMAGES,
    *OTHER_IMAGES,
    "1.2.840.10008.5.1.4.1.1.7",  # secondary captures, which can hold a CT
    "1.2.840.10008.5.1.4.1.1.7.2",
    "1.2.840.10008.5.1.4.1.1.7.3",
    "1.2.840.10008.5.1.4.1.1.13.1.1",  # cone beam
)
"""SOP classes that can be defaced. All others are declined when an association is made: they stay where they are."""

REPORTS = tuple(f"1.2.840.10008.5.1.4.1.1.88.{number}" for number in (11, 22, 33, 34, 35, 59, 67))
"""SOP classes of structured reports, key objects and dose reports."""

DOCUMENTS = (STRUCTURE_SET, SEGMENTATION, LABEL_MAP, DOSE, PLAN, ION_PLAN, REGISTRATION, *REPORTS)
"""SOP classes that are taken along where that is asked for."""
