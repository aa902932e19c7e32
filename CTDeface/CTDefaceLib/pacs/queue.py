"""What a node has on disk: received images until they are forwarded, and what could not be.

    FOLDER/incoming     images that are being received; emptied when a node starts
    FOLDER/studies      a folder for each study: ``images``, and ``defaced`` once it is closed
    FOLDER/quarantine   a folder for each study with images that are never forwarded, and ``why.txt``
    FOLDER/record.sqlite, running.lock, secret.key

An image is on the disk under its final name before its sender is told that it is here. Names of files are hashes;
nothing that was received ever becomes part of a path. A study is open until its defaced images are all there: what
comes until then makes it be defaced again. Then it is closed, and what comes late goes into quarantine.
"""

from __future__ import annotations

import hmac
import os
import secrets
import shutil
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path

from ..dicom.files import TREE_TAGS, dicom_header
from ..dicom.write import METHOD
from ..errors import CTDefaceError, OutputError
from ..files import make_folder, output_errors, put_in_place, sync, sync_tree, write_whole
from ..private import make_private_folder
from .hashes import content_of, name_of
from .record import Image, Record, State

INCOMING, STUDIES, QUARANTINE = "incoming", "studies", "quarantine"
"""Names of folders in that of a node."""

IMAGES, DEFACED, WHY = "images", "defaced", "why.txt"
"""Names within the folder of a study."""

ENDING = ".dcm"

LONGEST_UID = 64
"""Characters, by the standard."""

LATE = (
    "Images came after their study had been closed and forwarded. Defaced by themselves they would get another face, "
    "and two faces of one head give some of the true one away; so they stay here. To have them defaced, remove the "
    "study at the receiver and these images here, take the study up again (--again), and send all of it once more, "
    "with a longer quiet time (--quiet)."
)

NOT_AGAIN = (
    "Only a study that is in quarantine as a whole, or that was forwarded, can be taken up again; --status lists them."
)


class Status(int, Enum):
    """What the sender of an image is told (PS3.4, table B.2-1)."""

    SUCCESS = 0x0000
    OUT_OF_RESOURCES = 0xA700
    MISMATCH = 0xA900
    NOT_UNDERSTOOD = 0xC000
    OTHER_IMAGE = 0xC001
    """An image of this UID is here already, and another one."""
    ALREADY_DEFACED = 0xC002


class Refusal(CTDefaceError):
    """An image that is not taken; its sender keeps it, and is told why."""

    def __init__(self, status: Status, sentence: str):
        super().__init__(sentence)
        self.status = status


class Kept(Enum):
    """What became of an image that was taken."""

    NEW = "new"
    AGAIN = "again"
    """It was here already; nothing was written."""
    QUARANTINED = "into quarantine"


class Queue:
    """The folder of a node and its record, for all threads of the one process that runs it.

    Parameters
    ----------
    folder: Path
    record: Record
        Of this folder.
    secret: bytes
        Makes the hashes.
    keep_free: int
        Bytes of the disk that are left for results: images that would take them are refused.
    """

    def __init__(self, folder: Path, record: Record, secret: bytes, keep_free: int = 0):
        self.folder, self.record, self._secret, self._keep_free = folder, record, secret, keep_free
        record.check_secret(name_of(secret, "secret", ""))
        self._incoming, self._studies, self._quarantine = (folder / name for name in (INCOMING, STUDIES, QUARANTINE))
        for place in (self._incoming, self._studies, self._quarantine):
            make_private_folder(place)
        self._changing = threading.RLock()
        self._parsing = threading.Lock()  # pydicom's settings are those of the process
        self._arrived: dict[str, float] = {}

    def images(self, study: str) -> Path:
        return self._studies / study / IMAGES

    def defaced(self, study: str) -> Path:
        return self._studies / study / DEFACED

    def work(self, study: str) -> Path:
        """A new folder for what is unfinished."""
        with output_errors():
            folder = self._studies / study / f"work-{secrets.token_hex(8)}"
            folder.mkdir()
        return folder

    def resume(self) -> None:
        """Go on where a process that ended, however it ended, left things."""
        for part in self._incoming.iterdir():
            part.unlink()
        there = {path.name for path in self._studies.iterdir()}
        for study in self.record.studies(State.RECEIVING, State.DEFACING):
            if study.id not in there:
                self.record.forget(study.id)
        for name in there:
            known = self.record.study(name)
            if known is None:
                self.record.begin(name)
            state = known.state if known else State.RECEIVING
            if state is State.FORWARDED:
                shutil.rmtree(self._studies / name)
            elif state is State.QUARANTINED:
                self._move_to_quarantine(name)
            elif state is State.FORWARDING:
                self._move_left(name)
            else:
                self._reopen(name)

    def take(self, meta: bytes, dataset: memoryview) -> tuple[str, Kept]:
        """Take an image: its study, and what became of it. It is on the disk then.

        Parameters
        ----------
        meta: bytes
            The beginning of the file, up to its dataset.
        dataset: memoryview
            As it was sent.

        Raises
        ------
        Refusal
            When it is not taken; nothing of it is left then.
        """
        part = self._incoming / f"{secrets.token_hex(16)}.part{ENDING}"
        try:
            if shutil.disk_usage(self.folder).free < self._keep_free + 2 * len(dataset):  # itself, and what it becomes
                raise Refusal(Status.OUT_OF_RESOURCES, "The disk of the node is full.")
            with open(part, "wb") as file:
                file.write(meta)
                file.write(dataset)
            sync(part)
            study, image = self._identified(part)
            with self._changing:
                return study, self._put(part, study, image)
        except (OSError, OutputError) as error:
            raise Refusal(Status.OUT_OF_RESOURCES, "The image could not be written to the disk of the node.") from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _identified(self, part: Path) -> tuple[str, str]:
        """The hashes of study and image of a file that has just been received."""
        with self._parsing:
            header = dicom_header(part, [*TREE_TAGS, "DeidentificationMethod"])
            if not header:
                raise Refusal(Status.NOT_UNDERSTOOD, "The image is damaged, or has no header that can be read.")
            uids = [header.get(name) for name in ("StudyInstanceUID", "SOPInstanceUID")]
            meta, methods = header.file_meta, header.get("DeidentificationMethod") or ()
        if not all(isinstance(uid, str) and 0 < len(uid) <= LONGEST_UID for uid in uids):  # of one value
            raise Refusal(Status.NOT_UNDERSTOOD, "The image does not say which study it belongs to, or which it is.")
        study, image = map(str, uids)
        if (header.get("SOPClassUID"), image) != (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID):
            raise Refusal(Status.MISMATCH, "The image is not the one that its sender announced.")
        if METHOD in ([methods] if isinstance(methods, str) else methods):
            raise Refusal(Status.ALREADY_DEFACED, "The image was defaced before: the node is sent its own results.")
        return name_of(self._secret, "study", study), name_of(self._secret, "image", image)

    def _put(self, part: Path, study: str, image: str) -> Kept:
        """Give a file its place, by how far its study is."""
        known = self.record.study(study)
        folder, kept = self._quarantine / study, Kept.QUARANTINED
        if known and known.state in (State.FORWARDING, State.FORWARDED):
            row = self.record.image(study, image)
            if row and not row.is_left:
                return self._again(row.content, part)
            if not (folder / f"{image}{ENDING}").exists():
                self._explain(study, LATE)
        elif not known or known.state is not State.QUARANTINED or not folder.is_dir():
            if not known or known.state is State.QUARANTINED:
                self.record.begin(study)
            folder, kept = self.images(study), Kept.NEW
        path = folder / f"{image}{ENDING}"
        if path.exists():
            sync(folder)  # whoever gave it its name may have been killed before
            return self._again(content_of(self._secret, path), part)
        make_folder(folder)
        os.replace(part, path)  # its content is on the disk, and only this process gives names here
        sync(folder)
        if kept is Kept.NEW:
            self._arrived[study] = time.monotonic()
        return kept

    def _again(self, content: str, part: Path) -> Kept:
        if not hmac.compare_digest(content, content_of(self._secret, part)):
            raise Refusal(Status.OTHER_IMAGE, "Another image of the same UID was received before.")
        return Kept.AGAIN

    def quiet(self, seconds: float, busy: Collection[str] = ()) -> list[str]:
        """Open studies to which nothing was added for so long; handed out once, and not while they are busy."""
        with self._changing:
            now = time.monotonic()
            found = [study for study, last in self._arrived.items() if now - last >= seconds and study not in busy]
            for study in found:
                del self._arrived[study]
            return found

    def close(
        self, study: str, made: Path, contents: Mapping[str, str], left: set[str], why: str, seconds: float | None
    ) -> bool:
        """Take up what was made of a study; False when images came meanwhile: then it is open still.

        Parameters
        ----------
        study: str
        made: Path
            Folder with the defaced images.
        contents: mapping
            Name of each image that was there → hash of its content.
        left: set of str
            Names of those that were not defaced and go into quarantine; the study as a whole where it is all of them.
        why: str
            For those.
        seconds: float or None
            That it took.
        """
        with output_errors():
            if made.is_dir():
                sync_tree(made)  # so that nobody who sends waits for it
        with self._changing, output_errors():
            if {path.name for path in self.images(study).iterdir()} != set(contents):
                self._arrived.setdefault(study, time.monotonic())
                self._reopen(study)
                return False
            images = [Image(Path(name).stem, content, name in left) for name, content in contents.items()]
            if left:
                self._explain(study, why)  # first what takes room
            if len(left) == len(contents):
                self.record.close_study(study, images, State.QUARANTINED, why, seconds)
                self._move_to_quarantine(study)
                return True
            put_in_place(made, self.defaced(study))
            self.record.close_study(study, images, State.FORWARDING, why, seconds)
            self._move_left(study)
            return True

    def set_back(self, study: str, why: str, died: bool = False) -> None:
        """Leave a study open that could not be defaced for a reason that is not its own: it is tried again."""
        with self._changing, output_errors():
            known = self.record.study(study)
            if known and known.state in (State.RECEIVING, State.DEFACING):
                self._reopen(study)
                self.record.note(study, State.RECEIVING, why, died)

    def put_into_quarantine(self, study: str, why: str) -> None:
        """Put a study that cannot be defaced into quarantine; it stays open where images came meanwhile."""
        with self._changing, output_errors():
            if study in self._arrived:
                self._reopen(study)
                return
            self._explain(study, why)
            self.record.note(study, State.QUARANTINED, why)
            self._move_to_quarantine(study)

    def forwarded(self, study: str) -> None:
        """Note that all of a study was forwarded, and remove it."""
        with self._changing, output_errors():
            self._move_left(study)
            known = self.record.study(study)
            self.record.note(study, State.FORWARDED, known.sentence if known else "")
        shutil.rmtree(self._studies / study, ignore_errors=True)  # what is left of it goes when the node starts again

    def again(self, study: str) -> None:
        """Take up a study that is in quarantine as a whole; forget one that was forwarded, so that it can come again.

        Raises
        ------
        CTDefaceError
            When it is neither.
        """
        known = self.record.study(study)
        if known is None or known.state not in (State.QUARANTINED, State.FORWARDED):
            raise CTDefaceError(NOT_AGAIN)
        if known.state is State.FORWARDED:
            self.record.forget(study)
            return
        self.record.begin(study)
        with output_errors():
            make_folder(self.images(study))
            for path in (self._quarantine / study).glob(f"*{ENDING}"):
                os.replace(path, self.images(study) / path.name)
            sync(self.images(study))
            shutil.rmtree(self._quarantine / study, ignore_errors=True)

    def _reopen(self, study: str) -> None:
        """Remove all but the images."""
        self._arrived.setdefault(study, time.monotonic())
        for path in (self._studies / study).iterdir():
            if path.name != IMAGES:
                shutil.rmtree(path, ignore_errors=True)

    def _move_left(self, study: str) -> None:
        """Move what was not defaced of a closed study into quarantine."""
        known, names = self.record.study(study), [f"{image}{ENDING}" for image in self.record.left(study)]
        there = [name for name in names if (self.images(study) / name).exists()]
        self._move(study, there, known.sentence if known else "")

    def _move_to_quarantine(self, study: str) -> None:
        """Move all images of a study into quarantine, and remove what else there is of it."""
        known = self.record.study(study)
        images = self.images(study)
        names = [path.name for path in images.iterdir()] if images.is_dir() else []
        self._move(study, names, known.sentence if known else "")
        shutil.rmtree(self._studies / study, ignore_errors=True)

    def _move(self, study: str, names: list[str], why: str) -> None:
        if not names:
            return
        self._explain(study, why)
        for name in names:
            os.replace(self.images(study) / name, self._quarantine / study / name)
        sync(self._quarantine / study)

    def _explain(self, study: str, why: str) -> None:
        """Write down why images of a study are in quarantine, once."""
        path = self._quarantine / study / WHY
        make_folder(path.parent)
        said = path.read_text(encoding="utf-8") if path.exists() else ""
        if why not in said:
            write_whole(path, f"{said}{why}\n")
