# SPDX-License-Identifier: Apache-2.0
"""Objects that a worker keeps open between jobs: a film is parsed once, not once a frame.

Worker process only. What is kept are descriptors of memory files, parsed attributes and one decoded
frame each; all goes when nothing was asked for a while.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from .decode import Frame, PixelSource, open_object
from .part10 import FileHead

MOST: Final = 4
IDLE_S: Final = 20.0
MAX_DECODED_BYTES: Final = 128 << 20  # one mammogram or a frame of a slide


@dataclass(slots=True)
class Opened:
    """One object: its stream, and its pixels once somebody asked for them."""

    stream: BinaryIO
    head: FileHead
    used_at: float = 0.0
    _source: PixelSource | None = None
    _frame: tuple[int, Frame] | None = field(default=None)

    def pixels(self) -> PixelSource:
        """Return the pixel source, made once; raises as PixelSource."""
        if self._source is None:
            self._source = PixelSource(self.stream, self.head)
        return self._source

    def frame(self, index: int) -> Frame:
        """Return a frame in the colours to show; the last one is kept. Raises as PixelSource."""
        if self._frame is None or self._frame[0] != index:
            self._frame = None
            frame = self.pixels().frame(index)
            if frame.array.nbytes > MAX_DECODED_BYTES:
                return frame
            frame.array.flags.writeable = False
            self._frame = index, frame
        return self._frame[1]

    def close(self) -> None:
        """Let the object go."""
        self.stream.close()


class Held:
    """The objects that are open, by their digest."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, Opened] = OrderedDict()

    def get(self, key: str | None, fd: int) -> Opened:
        """Return the object in `fd`; one without a key is the caller's to close.

        Raises NotDicom, DecodeFailed.
        """
        found = self._open.pop(key, None) if key is not None else None
        if found is None:
            self.sweep()
            stream, head = open_object(fd)
            found = Opened(stream, head)
        found.used_at = time.monotonic()
        if key is not None:
            self._open[key] = found
            while len(self._open) > MOST:
                self._open.popitem(last=False)[1].close()
        return found

    def sweep(self) -> None:
        """Let go what was not asked for lately."""
        horizon = time.monotonic() - IDLE_S
        for key in [key for key, each in self._open.items() if each.used_at < horizon]:
            self._open.pop(key).close()

    def clear(self) -> None:
        """Let everything go."""
        while self._open:
            self._open.popitem()[1].close()
