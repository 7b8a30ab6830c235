# SPDX-License-Identifier: Apache-2.0
"""Thousands of distinct objects at little cost, and the sender's ledger of what was promised."""

import hashlib
import io
import itertools
import json
import os
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from made_objects import ct_series

# Of one length, so that one is put in the place of another in a finished file.
STUDY, SERIES, OBJECT = (f"1.2.826.0.1.3680043.10.1337.{kind}.1%014d" for kind in "123")
SIDES = {"canary": 96, "small": 256, "middle": 512, "large": 1600, "huge": 3200}


@dataclass(frozen=True, slots=True)
class Made:
    """One object on its way: `digest` is the SHA-256 of its data set."""

    uid: str
    study: str
    series: str
    path: Path
    digest: str
    size: int


def after_file_meta(content: bytes) -> int:
    """Return where the data set of a Part 10 file begins (PS3.10 section 7.1)."""
    if content[128:132] != b"DICM":
        raise ValueError("no Part 10 file")
    return 144 + int.from_bytes(content[140:144], "little")


def data_set_digest_of(content: bytes) -> str:
    """Return the SHA-256 of the data set of a Part 10 file; "" for what is none."""
    try:
        return hashlib.sha256(memoryview(content)[after_file_meta(content) :]).hexdigest()
    except ValueError:
        return ""


def _template(side: int) -> bytes:
    ((_, image),) = ct_series(images=1, size=side)
    image.StudyInstanceUID, image.SeriesInstanceUID = STUDY % 0, SERIES % 0
    image.SOPInstanceUID = OBJECT % 0
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = OBJECT % 0
    stream = io.BytesIO()
    image.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


class ObjectMaker:
    """Writes new objects; every one differs from all others in its UID and its last pixels."""

    _templates: ClassVar[dict[str, bytes]] = {}

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.known: dict[str, Made] = {}  # all that was ever made
        self._first = random.Random(seed).randrange(1, 10**8) * 10**6
        self._count = itertools.count(1)
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for kind in ("canary", "small", "middle", "large", "huge"):
            if kind not in self._templates:
                self._templates[kind] = _template(SIDES[kind])

    def new_study(self) -> tuple[str, str]:
        """Return the UIDs of a new study and its series."""
        with self._lock:
            number = self._first + next(self._count)
        return STUDY % number, SERIES % number

    def make(self, kind: str, study: tuple[str, str]) -> Made:
        """Write one object of a size of SIDES into a study."""
        with self._lock:
            number = self._first + next(self._count)
        uid = OBJECT % number
        template = self._templates[kind]
        head_end = template.index(b"PN")  # UIDs stand before and shortly after it
        head = template[: head_end + 4096]
        for before, after in ((OBJECT % 0, uid), (STUDY % 0, study[0]), (SERIES % 0, study[1])):
            head = head.replace(before.encode(), after.encode())
        content = b"".join((head, template[len(head) : -8], number.to_bytes(8, "little")))
        path = self.folder / f"{uid}.dcm"
        path.write_bytes(content)
        made = Made(uid, *study, path, data_set_digest_of(content), len(content))
        self.known[uid] = made
        return made


class Ledger:
    """What was answered with success, written down durably before anybody relies on it.

    The only judge of a fault: the box is not asked what it has promised.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Made] = {}
        self._file = path.open("ab")
        self._lock = threading.Lock()

    def acknowledge(self, made: Made) -> None:
        """Note one object; returns when the note is on the disk."""
        line = json.dumps({"uid": made.uid, "sha256": made.digest, "at": time.time()})
        with self._lock:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self.entries[made.uid] = made

    def some(self, chance: random.Random) -> Made | None:
        """Return one acknowledged object, or None when there is none yet."""
        with self._lock:
            entries = list(self.entries.values())
        return chance.choice(entries) if entries else None

    def close(self) -> None:
        self._file.close()
