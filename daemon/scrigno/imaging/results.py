# SPDX-License-Identifier: Apache-2.0
"""What the imaging workers give back, and how a picture is asked for."""

import mmap
import os
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Final, Literal, Self

from typing_extensions import override

PictureFormat = Literal["jpeg", "png", "png16", "webp", "gif"]
CONTENT_TYPES: Final[dict[str, str]] = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "png16": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
}
LONGEST_ANNOTATION: Final = 64  # characters of a line that is burnt in
MOST_ANNOTATIONS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewport:
    """A rectangle of the picture that asks for it, and the part of the frame to show in it.

    Sizes as in PS3.18 8.3.5.1.3: the part keeps its aspect ratio inside `width` × `height`; left
    and top in pixels of the frame; a negative part width or height mirrors.
    """

    width: int
    height: int
    left: float = 0.0
    top: float = 0.0
    part_width: float | None = None  # None: the whole frame
    part_height: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How one frame (or several, for a GIF) shall be shown."""

    frame: int = 0  # from 0
    window: tuple[float, float] | None = None  # centre, width in modality units
    function: str | None = None  # LINEAR, LINEAR_EXACT or SIGMOID; None: as the object says
    voi: int | str | None = None  # one of the object's windows by place or explanation, or a preset
    invert: bool = False
    viewport: Viewport | None = None
    max_size: int | None = None
    overlays: bool = True
    shutter: bool = True
    annotation: tuple[str, ...] = ()  # "patient", "technique" (PS3.18 8.3.5.1.1)
    quality: int = 85
    format: PictureFormat = "jpeg"
    frames: int = 1  # of an animation, from `frame` on

    def message(self) -> dict[str, Any]:
        """Return the look as JSON values, without what is as usual."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def look_of(message: dict[str, Any]) -> Look:
    """Return the look that this message tells."""
    told = dict(message)
    if "viewport" in told:
        told["viewport"] = Viewport(**told["viewport"])
    if "window" in told:
        told["window"] = (float(told["window"][0]), float(told["window"][1]))
    told["annotation"] = tuple(told.get("annotation", ()))
    return Look(**told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One frame as a picture for a browser."""

    content: bytes
    content_type: str
    width: int  # of the frame, not of the scaled picture
    height: int
    window_center: float | None  # what was applied, None for colour and look-up tables
    window_width: float | None
    frames: int  # of the object


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameBytes:
    """One frame without the object around it, padding taken off."""

    content: bytes
    transfer_syntax_uid: str
    content_type: str  # as PS3.18 table 8.7.3-4 names it
    frames: int


class MemoryFile:
    """Bytes in a sealed memory file, gone when closed; use as a context manager."""

    def __init__(self, fd: int) -> None:
        """Own `fd`."""
        self.fd = fd
        self.size = os.fstat(fd).st_size

    def close(self) -> None:
        """Let the memory go; idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def view(self) -> mmap.mmap:
        """Return the whole file as a read-only map; the caller closes it."""
        return mmap.mmap(self.fd, self.size, prot=mmap.PROT_READ)

    def read(self, start: int = 0, length: int | None = None) -> bytes:
        """Return a part; memory, so it waits for nothing."""
        return os.pread(self.fd, self.size - start if length is None else length, start)

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


class Transcoded(MemoryFile):
    """A Part 10 file in another transfer syntax."""

    def __init__(self, fd: int, *, data_offset: int, transfer_syntax_uid: str) -> None:
        """Own `fd`; `data_offset` is where the data set begins after the file meta."""
        super().__init__(fd)
        self.data_offset = data_offset
        self.transfer_syntax_uid = transfer_syntax_uid


class Document(MemoryFile):
    """What an object that is no picture shows: a PDF, a page of HTML, a drawing, a stream.

    `content_type` is what a browser may be told; `kind` is one of pdf, cda, model, report,
    waveform, audio, video, text, file. HTML and SVG of ours hold no script and no reference. A
    stream stands in the object itself: `spans` are start and length of its parts there.
    """

    def __init__(
        self,
        fd: int,
        *,
        kind: str,
        content_type: str,
        title: str,
        spans: tuple[tuple[int, int], ...] | None = None,
    ) -> None:
        """Own `fd`."""
        super().__init__(fd)
        self.kind = kind
        self.content_type = content_type
        self.title = title
        self._spans = ((0, self.size),) if spans is None else spans
        self.size = sum(length for _, length in self._spans)

    @override
    def read(self, start: int = 0, length: int | None = None) -> bytes:
        """Return a part of the document; memory, so it waits for nothing."""
        left = self.size - start if length is None else min(length, self.size - start)
        parts, position = [], 0
        for begin, size in self._spans:
            if left <= 0:
                break
            skip = max(0, start - position)
            position += size
            if skip >= size:
                continue
            part = os.pread(self.fd, min(left, size - skip), begin + skip)
            parts.append(part)
            left -= len(part)
            start += len(part)
        return b"".join(parts)
