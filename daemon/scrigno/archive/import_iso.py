# SPDX-License-Identifier: Apache-2.0
"""Disc images read where they stand: a sandboxed worker says where each file lies in the image.

The worker reads what a stranger wrote (directories that may go round in circles); this side only
reads spans of the image, checked against its size. Everything here but the listing blocks.
"""

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from .import_errors import FileRefused, SourceRefused
from .import_trees import Entry, Readable
from .sources import OpenFile

AT_SIGNATURE = 0x8001  # ECMA-119 section 8.1.1, sector 16
SIGNATURE = b"CD001"


class IsoTree:
    """The files of an image, as `listing` (made by the worker) says."""

    def __init__(self, image: OpenFile, listing: bytes) -> None:
        """Own `image`; raises SourceRefused when the listing makes no sense."""
        self._image = image
        try:
            self._files = [
                (tuple(str(part) for part in parts), int(offset), int(size))
                for parts, offset, size in json.loads(listing)
            ]
        except (ValueError, TypeError) as error:
            raise SourceRefused("The disc image could not be read.") from error
        self._by_name = {
            tuple(part.upper() for part in parts): number
            for number, (parts, _, _) in enumerate(self._files)
        }

    def entries(self) -> Iterator[Entry]:
        """Yield its files; see Tree."""
        for number in range(len(self._files)):
            yield self._entry(number)

    def _entry(self, number: int) -> Entry:
        parts, offset, size = self._files[number]
        if offset < 0 or size < 0 or offset + size > self._image.size:
            reason = "It lies beyond the end of the image, which is cut short."
            return Entry(parts=parts, code="damaged", reason=reason)
        return Entry(parts=parts, ref=[offset, size])

    def below(self, folder: Sequence[str], parts: Sequence[str]) -> Entry | None:
        """Find a file that a DICOMDIR names; see Tree."""
        number = self._by_name.get(tuple(part.upper() for part in (*folder, *parts)))
        return None if number is None else self._entry(number)

    def open(self, ref: Any) -> Readable:
        """Read a span of the image."""
        offset, size = map(int, ref)
        return Span(self._image, offset, size)

    def require_there(self) -> None:
        """An open file cannot go."""

    def close(self) -> None:
        """Close the image."""
        self._image.close()


class Span:
    """One file inside an image."""

    def __init__(self, image: OpenFile, offset: int, size: int) -> None:
        """Read `size` bytes from `offset` of `image`, which somebody else owns."""
        self._image = image
        self._offset = offset
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the file; raises FileRefused when the image ends too early."""
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        content = self._image.read(self._offset + offset, length)
        if not content:
            raise FileRefused("The image is cut short.", "damaged")
        return content

    def close(self) -> None:
        """The image stays open."""


def is_image(file: OpenFile) -> bool:
    """Tell whether an open file is an image of a disc."""
    return file.read(AT_SIGNATURE, len(SIGNATURE)) == SIGNATURE


def descriptor(file: OpenFile) -> int:
    """Return a descriptor of the file for the worker; the caller closes it."""
    return os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
