# SPDX-License-Identifier: Apache-2.0
"""The directory of a DICOM medium (PS3.10 section 8.6, PS3.3 annex F): which files it names."""

import re
from dataclasses import dataclass
from typing import Final

from .dataset import UNDEFINED, Broken, Budget, Cut, Encoding, elements, encoding_of, items_of
from .errors import NotDicom
from .part10 import split

_RECORDS: Final = 0x00041220
_FILE_ID: Final = 0x00041500
# PS3.10 section 8.2 allows 8 components of 8 characters; media in the field use longer names
_MAX_COMPONENTS: Final = 16
_MAX_ELEMENTS: Final = 4_000_000  # a full DVD of small images has 100,000 records of about 20
_COMPONENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 _.()-]{0,126}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """The files that a DICOMDIR names, in its order, each once, as parts of a relative path."""

    files: tuple[tuple[str, ...], ...]
    refused: int  # names that are no safe relative path
    problem: str  # why not the whole directory could be followed, "" when it could


def referenced_files(content: bytes) -> list[tuple[str, ...]]:
    """Return the paths that a DICOMDIR names; see `read_directory`."""
    return list(read_directory(content).files)


def read_directory(content: bytes) -> Directory:
    """Read the whole DICOMDIR `content`; raises `NotDicom`. Large ones take seconds: use a thread.

    The records are taken in the order they stand, without following their offsets, so a directory
    whose links are wrong (or go round) still gives every file. A part is never `.` or `..`, never
    empty, never begins with a dot and holds no separator.
    """
    head = split(content)
    encoding = encoding_of(head.transfer_syntax_uid)
    files: dict[tuple[str, ...], None] = {}
    refused = 0
    problem = ""
    budget = Budget(_MAX_ELEMENTS)
    try:
        for element in elements(content, head.data_offset, len(content), encoding, budget):
            if element.tag == _RECORDS:
                for span in items_of(content, element, encoding, budget):
                    parts = _file_id(content, span, encoding, budget)
                    if parts is not None and _safe(parts):
                        files[parts] = None
                    elif parts is not None:
                        refused += 1
    except Cut:
        problem = "The directory ends too early."
    except Broken as broken:
        problem = f"The directory cannot be followed: {broken}."
    if problem and not files:
        raise NotDicom(problem)
    return Directory(files=tuple(files), refused=refused, problem=problem)


def _file_id(
    content: bytes, span: tuple[int, int], encoding: Encoding, budget: Budget
) -> tuple[str, ...] | None:
    """Return the Referenced File ID of one record, None when it names no file."""
    for element in elements(content, *span, encoding, budget, depth=2):
        if element.tag == _FILE_ID and 0 < element.length < UNDEFINED:
            raw = content[element.start : element.start + min(element.length, 4096)]
            text = raw.decode("latin_1").strip("\0 ")
            # some writers put one value with slashes where a value per part belongs
            parts = re.split(r"[\\/]", text)
            return tuple(part.strip(" ") for part in parts) if text else None
        if element.tag > _FILE_ID:
            break
    return None


def _safe(parts: tuple[str, ...]) -> bool:
    return len(parts) <= _MAX_COMPONENTS and all(_COMPONENT.fullmatch(part) for part in parts)
