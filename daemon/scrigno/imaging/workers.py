# SPDX-License-Identifier: Apache-2.0
"""The imaging workers seen from the main process: a pool that renders, transcodes and describes."""

from dataclasses import dataclass
from typing import Any, Literal

from scrigno.core.counters import Counters

# a whole Part 10 file: its bytes, or a descriptor of it (memfd or a file; read from offset 0, not
# closed and not moved by us)
Source = bytes | memoryview | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One frame as a picture for a browser."""

    content: bytes
    content_type: str
    width: int
    height: int
    window_center: float | None  # what was applied, None for colour
    window_width: float | None
    frames: int  # of the object


class Transcoded:
    """A Part 10 file in a memory file, deleted when closed; use as a context manager."""

    def __init__(self, fd: int, *, size: int, data_offset: int, transfer_syntax_uid: str) -> None:
        """Own `fd`; `data_offset` is where the data set begins after the file meta."""
        self.fd = fd
        self.size = size
        self.data_offset = data_offset
        self.transfer_syntax_uid = transfer_syntax_uid

    def close(self) -> None:
        """Let the memory go; idempotent."""
        raise NotImplementedError


class ImagingPool:
    """Sandboxed worker processes, one job each at a time, started on demand."""

    def __init__(
        self,
        size: int,
        *,
        counters: Counters,
        memory_limit_bytes: int = 2 << 30,
        cpu_limit_s: int = 60,
        timeout_s: float = 60.0,
        idle_s: float = 300.0,
    ) -> None:
        """Prepare up to `size` workers; none is started before the first job or `warm()`."""

    async def close(self) -> None:
        """Fail what is waiting with `ImagingClosed`, end every worker; idempotent."""
        raise NotImplementedError

    async def render(
        self,
        source: Source,
        *,
        frame: int = 0,
        window: tuple[float, float] | None = None,
        max_size: int | None = None,
        format: Literal["jpeg", "png"] = "jpeg",
        quality: int = 85,
    ) -> Rendered:
        """Return one frame as a picture at most `max_size` pixels wide and high.

        Raises NoPixels, NoSuchFrame, UnsupportedSyntax, DecodeFailed, DecodeTimeout, NotDicom.
        """
        raise NotImplementedError

    async def transcode(self, source: Source, *, to_transfer_syntax: str) -> Transcoded:
        """Return the object in another, uncompressed transfer syntax; UIDs stay.

        Raises UnsupportedSyntax, DecodeFailed, DecodeTimeout, NotDicom.
        """
        raise NotImplementedError

    async def describe(self, source: Source) -> dict[str, Any]:
        """Return every attribute as DICOM JSON (PS3.18 annex F), bulk values left out."""
        raise NotImplementedError
