# SPDX-License-Identifier: Apache-2.0
"""ZIP archives read where they stand: nothing is unpacked to a disk, no name becomes a path.

Bounded before anything is read: the number of files, the size of the directory, what all files
together unpack to, in all and for each byte of the archive. Everything here blocks.
"""

import itertools
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, Final

from .import_errors import ArchiveDangerous, FileRefused, SourceRefused
from .import_trees import Entry, Readable

MOST_ENTRIES: Final = 500_000
MOST_DIRECTORY_BYTES: Final = 256 << 20
MOST_RATIO: Final = 200  # deflate reaches 1,032; whole studies of pictures stay below 20
FREE_BYTES: Final = 1 << 30  # below this the ratio does not matter
MOST_TOTAL_BYTES: Final = 4 << 40
MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")
_END: Final = struct.Struct("<4s4H2LH")  # end of central directory, APPNOTE 4.3.16
_END64_LOCATOR: Final = struct.Struct("<4sLQL")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_TAIL_BYTES: Final = _END.size + 0xFFFF
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED: Final = 0x1


class ZipTree:
    """The files of a ZIP archive."""

    def __init__(self, opened: Callable[[], IO[bytes]]) -> None:
        """Read its directory; `opened` gives the file. Raises SourceRefused, OSError."""
        self._file = opened()
        try:
            _require_bounded(self._file)
            self._zip = zipfile.ZipFile(self._file)
            self._infos = self._zip.infolist()
            self._require_honest()
        except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError) as error:
            self._file.close()
            raise SourceRefused("It is no ZIP archive, or a damaged one.") from error
        except BaseException:
            self._file.close()
            raise
        self._by_name: dict[tuple[str, ...], int] = {}

    def _require_honest(self) -> None:
        total = sum(info.file_size for info in self._infos)
        packed = os.fstat(self._file.fileno()).st_size
        if total > MOST_TOTAL_BYTES or (total > FREE_BYTES and total > packed * MOST_RATIO):
            raise ArchiveDangerous(
                f"The archive of {packed >> 20} MiB would unpack to {total >> 20} MiB.",
                next_step="Unpack it where you trust it and import the folder.",
            )
        spans = sorted(
            (info.header_offset, info.header_offset + info.compress_size) for info in self._infos
        )
        if any(end > begin for (_, end), (begin, _) in itertools.pairwise(spans)):
            raise ArchiveDangerous("Files of the archive lie over each other.")  # Fifield 2019
        if self._infos and all(info.flag_bits & _ENCRYPTED for info in self._infos):
            raise SourceRefused(
                "The archive is encrypted.", next_step="Unpack it and import the folder."
            )

    def entries(self) -> Iterator[Entry]:
        """Yield its files by name; see Tree."""
        listed = sorted(
            (_order(parts), number, parts)
            for number, info in enumerate(self._infos)
            if not info.is_dir() and (parts := _parts(info.filename))
        )
        for _, number, parts in listed:
            yield self._entry(number, parts)

    def _entry(self, number: int, parts: tuple[str, ...]) -> Entry:
        info = self._infos[number]
        if info.flag_bits & _ENCRYPTED:
            return Entry(parts=parts, code="encrypted", reason="It is encrypted.")
        if info.compress_type not in _METHODS:
            reason = "It is packed by a method that is not read here."
            return Entry(parts=parts, code="zip-method", reason=reason)
        return Entry(parts=parts, ref=number)

    def below(self, folder: Sequence[str], parts: Sequence[str]) -> Entry | None:
        """Find a file that a DICOMDIR names; see Tree."""
        if not self._by_name:
            for number, info in enumerate(self._infos):
                if not info.is_dir():
                    name = tuple(part.upper() for part in _parts(info.filename))
                    self._by_name.setdefault(name, number)
        wanted = tuple(part.upper() for part in (*folder, *parts))
        found = self._by_name.get(wanted)
        if found is None:
            return None
        return self._entry(found, _parts(self._infos[found].filename))

    def open(self, ref: Any) -> Readable:
        """Open a file of it; raises FileRefused."""
        info = self._infos[ref]
        try:
            return ZipMember(self._zip.open(info), info.file_size)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
            raise FileRefused("It is damaged inside the archive.", "damaged") from error

    def require_there(self) -> None:
        """An open file cannot go."""

    def close(self) -> None:
        """Close the archive."""
        self._zip.close()
        self._file.close()


class ZipMember:
    """One file of an archive, unpacked as it is read."""

    def __init__(self, member: IO[bytes], size: int) -> None:
        """Own `member`; `size` is what the directory promises and no byte more is given."""
        self._member = member
        self.size = size
        self._at = 0

    def read(self, offset: int, length: int) -> bytes:
        """Return the next bytes; raises FileRefused when it is damaged."""
        try:
            if offset != self._at:
                self._member.seek(offset)
                self._at = offset
            content = self._member.read(min(length, self.size - offset))
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            raise FileRefused("It is damaged inside the archive.", "damaged") from error
        self._at += len(content)
        if not content and self._at < self.size:
            raise FileRefused("It ends too early inside the archive.", "damaged")
        if self._at == self.size and content:
            self._require_sum()
        return content

    def _require_sum(self) -> None:
        """Let the last byte go only when the check sum is right (read to the end checks it)."""
        try:
            self._member.read(1)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise FileRefused("It is damaged inside the archive.", "damaged") from error

    def close(self) -> None:
        """Close it."""
        self._member.close()


def _parts(name: str) -> tuple[str, ...]:
    """Return a name in parts, for people; it leads nowhere."""
    return tuple(part for part in name.replace("\\", "/").split("/") if part not in {"", "."})[:64]


def _order(parts: Sequence[str]) -> tuple[tuple[int, str], ...]:
    """Order files of a folder before its sub-folders."""
    return (*((1, part) for part in parts[:-1]), (0, parts[-1]))


def _require_bounded(file: IO[bytes]) -> None:
    """Look at the end record before the directory is read into memory; raises SourceRefused."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise SourceRefused("It is no ZIP archive, or its end is missing.")
    _, _, _, _, count, directory, _, _ = _END.unpack_from(tail, at)
    locator = max(0, size - _TAIL_BYTES) + at - _END64_LOCATOR.size
    if locator >= 0:
        file.seek(locator)
        found = file.read(_END64_LOCATOR.size)
        if found[:4] == b"PK\x06\x07":
            file.seek(min(_END64_LOCATOR.unpack(found)[2], size))
            record = file.read(_END64.size)
            if len(record) == _END64.size and record[:4] == b"PK\x06\x06":
                values = _END64.unpack(record)
                count, directory = values[7], values[8]
    if count > MOST_ENTRIES or directory > MOST_DIRECTORY_BYTES:
        raise ArchiveDangerous(
            f"The archive holds {count} files; {MOST_ENTRIES} are taken at once.",
            next_step="Unpack it where you trust it and import the folder.",
        )
    file.seek(0)
