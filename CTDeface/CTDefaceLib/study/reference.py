"""In which CT of a study the face is found: that which shows the head best, of those with the head of most.

They vote with their skulls. Of each scan nothing is kept for that but where its head lies, on the work grid; and no
further one is looked at when it is clear whose head most of them show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import SimpleITK as sitk

from ..anatomy.face_map import Cylinder, head_cylinder
from ..errors import InputError
from .register import Pose, find_skull, is_at_rest

C = TypeVar("C")

FEWEST_VOTERS = 3
"""Of fewer CTs none is outvoted: then the one in which the head is seen best is believed."""


@dataclass(frozen=True)
class Seen(Generic[C]):
    """A head, and the CTs that show it.

    Attributes
    ----------
    cylinder: Cylinder
        Where it lies in the first of them.
    poses: list of tuple
        Each of them, as far as they were looked at, with where that head lies in it: None where it lies just there.
    """

    cylinder: Cylinder
    poses: list[tuple[C, Pose | None]]


def beginnings(
    candidates: Sequence[C], read: Callable[[C], sitk.Image], have_one_frame: Callable[[C, C], bool]
) -> Iterator[tuple[C, Seen[C] | None]]:
    """CTs in which the face is to be looked for, one after the other until it is found; and what was seen of the first.

    Those with the head of most come first, so that a stranger's does not decide, however much of a head it shows.

    Parameters
    ----------
    candidates: sequence
        The CTs of a study, the one in which the head is seen best first.
    read: callable
        Gives the volume of one, in Hounsfield units; what cannot be read has no vote.
    have_one_frame: callable
        Whether two say that they lie in one frame of reference.
    """
    heads = _heads(candidates, read, have_one_frame) if len(candidates) >= FEWEST_VOTERS else []
    scans = [scan for head in heads for scan, _ in head.poses]
    scans += [one for one in candidates if not any(one is other for other in scans)]
    most = heads[0] if heads else None
    del heads  # the others need no memory any more
    for number, one in enumerate(scans):
        yield one, None if number else most


def _heads(
    candidates: Sequence[C], read: Callable[[C], sitk.Image], have_one_frame: Callable[[C, C], bool]
) -> list[Seen[C]]:
    """The heads that are seen, that of most CTs first, of equal ones that which was met first."""
    heads: list[Seen[C]] = []
    for number, one in enumerate(candidates):
        try:
            head, pose = _head_in(one, read(one), heads, have_one_frame)
        except MemoryError:
            raise  # that is no reason to let others outvote it
        except Exception:  # noqa: S112 - whoever is to deface it says what is wrong
            continue
        if not head.poses:
            heads.append(head)
        head.poses.append((one, pose))
        most, second = sorted([0, *(len(head.poses) for head in heads)])[:-3:-1]
        if most > second + len(candidates) - number - 1:
            break
    return sorted(heads, key=lambda head: -len(head.poses))


def _head_in(
    one: C, image: sitk.Image, heads: Sequence[Seen[C]], have_one_frame: Callable[[C, C], bool]
) -> tuple[Seen[C], Pose | None]:
    """Which of the heads a CT shows, or a new one, and where it lies; it is searched for where it is not at rest."""
    heads = sorted(heads, key=lambda head: -len(head.poses))
    for head in heads:
        if have_one_frame(head.poses[0][0], one) and is_at_rest(head.cylinder, image):
            return head, None
    for head in heads:
        try:
            return head, find_skull(head.cylinder, image, at_rest=False)
        except InputError:
            continue
    return Seen(head_cylinder(image), []), None
