# SPDX-License-Identifier: Apache-2.0
"""The files of an import in the order in which they are taken, kept for the time of the job.

One line of JSON each: `[name, ref, code, reason]`. The list is made once, so that N is known, a
restart goes on at the same file, and what failed can be found again. Everything here blocks.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scrigno.imaging.dicomdir import read_directory
from scrigno.imaging.errors import NotDicom

from .import_errors import FileRefused, SourceRefused
from .import_trees import MOST_FILES, Entry, Tree, words
from .sources import DICOMDIR_BYTES

MOST_PLAN_BYTES: Final = 2 << 30
MOST_LINE: Final = 64 << 10
MOST_REFERENCED: Final = 500_000
LOOK_EVERY: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One line of the plan; `at` and `end` are where it stands in the file."""

    at: int
    end: int
    name: str
    ref: Any
    code: str
    reason: str


def write_plan(path: Path, tree: Tree, told: Callable[[int], bool]) -> int:
    """List every file of `tree` and return how many; durable on return.

    `told` hears how many there are so far and says whether to go on. Raises SourceRefused, OSError.
    """
    count = 0
    draft = path.with_suffix(".part")
    with draft.open("wb") as file:
        for entry in ordered(tree):
            line = json.dumps([_plain(entry.name), entry.ref, entry.code, entry.reason])
            file.write(line.encode("ascii") + b"\n")
            count += 1
            if count % LOOK_EVERY == 0 and not told(count):
                raise SourceRefused("The import was stopped.")
            if count > MOST_FILES or file.tell() > MOST_PLAN_BYTES:
                raise SourceRefused(
                    f"There are more than {MOST_FILES} files.", next_step="Import folder by folder."
                )
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return count


def read_plan(path: Path, offset: int, most: int) -> list[Planned]:
    """Return the next lines from `offset`, at most `most`; empty at the end. Raises OSError."""
    found: list[Planned] = []
    with path.open("rb") as file:
        file.seek(offset)
        while len(found) < most and (line := file.readline()):
            name, ref, code, reason = json.loads(line)
            end = offset + len(line)
            found.append(Planned(at=offset, end=end, name=name, ref=ref, code=code, reason=reason))
            offset = end
    return found


def ordered(tree: Tree) -> Iterator[Entry]:
    """Yield the files of a tree; where a folder has a DICOMDIR, first what that names.

    What it names and is not there is yielded with a reason; what it does not name comes after.
    """
    seen: set[tuple[str, ...]] = set()
    waiting: list[Entry] = []  # files of the folder at hand, until it is known to have none
    folder: tuple[str, ...] | None = None
    for entry in tree.entries():
        if folder != entry.parts[:-1]:
            yield from _those(waiting, seen)
            waiting, folder = [], entry.parts[:-1]
        if entry.parts[-1].upper() == "DICOMDIR" and not entry.code:
            yield from _referenced(tree, entry, seen)
        else:
            waiting.append(entry)
    yield from _those(waiting, seen)


def _those(waiting: list[Entry], seen: set[tuple[str, ...]]) -> Iterator[Entry]:
    yield from (each for each in waiting if each.parts not in seen)


def _referenced(tree: Tree, directory: Entry, seen: set[tuple[str, ...]]) -> Iterator[Entry]:
    folder = directory.parts[:-1]
    yield directory  # counted as what it is
    try:
        file = tree.open(directory.ref)
        try:
            content = _whole(file.read, file.size)
        finally:
            file.close()
        listed = read_directory(content)
    except OSError as error:
        yield Entry(parts=directory.parts, code="not-readable", reason=words(error))
        return
    except (NotDicom, FileRefused) as error:
        yield Entry(parts=directory.parts, code="dicomdir-unreadable", reason=error.reason)
        return
    for parts in listed.files[:MOST_REFERENCED]:
        found = tree.below(folder, parts)
        if found is None:
            yield Entry(
                parts=(*folder, *parts),
                code="missing",
                reason="The DICOMDIR names it, but it is not there.",
            )
        elif found.parts not in seen:
            seen.add(found.parts)
            yield found
    if listed.problem:
        yield Entry(parts=directory.parts, code="dicomdir-unreadable", reason=listed.problem)
    if listed.refused:
        reason = f"It has {listed.refused} names that are no names of files on a medium."
        yield Entry(parts=directory.parts, code="dicomdir-unreadable", reason=reason)


def _whole(read: Callable[[int, int], bytes], size: int) -> bytes:
    content = bytearray()
    while len(content) < min(size, DICOMDIR_BYTES):
        chunk = read(len(content), min(1 << 20, size - len(content)))
        if not chunk:
            break
        content += chunk
    return bytes(content)


def _plain(name: str) -> str:
    """Return a name of whatever bytes as text that can be kept."""
    return name.encode("utf-8", "backslashreplace").decode()[:MOST_LINE]
