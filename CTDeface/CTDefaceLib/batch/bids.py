"""Names as in BIDS: the parts of a file's name, and what they say of it."""

from __future__ import annotations

import re


def entity(place: str, name: str) -> str:
    """The last value of an entity, such as ``sub``, in a path; empty where it has none."""
    found = re.findall(rf"(?:^|[/_]){name}-([A-Za-z0-9]+)", place)
    return found[-1] if found else ""


def subject_and_session(place: str) -> tuple[str, str]:
    """Whose scan it is, and of which session; empty where the path does not say."""
    return entity(place, "sub"), entity(place, "ses")
