# SPDX-License-Identifier: Apache-2.0
"""A ZIP archive written piece by piece to somebody who cannot seek; sizes need not be known."""

import zipfile
from typing import IO, Final, cast

EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the first moment a ZIP knows: archives of the same are equal
LARGE: Final = 1 << 31


class _Sink:
    """Keeps what the archive writes until it is taken."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, content: bytes) -> int:
        self.parts.append(bytes(content))
        return len(content)

    def flush(self) -> None:
        pass


class ZipWriter:
    """Files one after the other, stored as they are: DICOM files hardly get smaller. ZIP64."""

    def __init__(self) -> None:
        """Begin an archive."""
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(cast("IO[bytes]", self._sink), "w", zipfile.ZIP_STORED)
        self._member: IO[bytes] | None = None

    def begin(self, name: str, size: int | None = None) -> None:
        """Begin a file; `size` is about what will come."""
        self.end()
        info = zipfile.ZipInfo(name, EPOCH)
        info.external_attr = 0o644 << 16
        self._member = self._zip.open(info, "w", force_zip64=size is None or size >= LARGE)

    def write(self, content: bytes) -> None:
        """Add to the file."""
        assert self._member is not None  # noqa: S101 - `begin` comes first
        self._member.write(content)

    def end(self) -> None:
        """End the file; idempotent."""
        if self._member is not None:
            self._member.close()
            self._member = None

    def abort(self) -> None:
        """Leave the file that was begun out of the directory; idempotent."""
        if self._member is not None:
            self.end()
            info = self._zip.filelist.pop()
            self._zip.NameToInfo.pop(info.filename, None)

    def add(self, name: str, content: bytes) -> None:
        """Add a small file."""
        self.begin(name, len(content))
        self.write(content)
        self.end()

    def close(self) -> None:
        """Write the directory."""
        self.end()
        self._zip.close()

    def take(self) -> bytes:
        """Return what is to be sent and forget it."""
        content = b"".join(self._sink.parts)
        self._sink.parts.clear()
        return content
