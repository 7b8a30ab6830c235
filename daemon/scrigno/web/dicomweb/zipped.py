# SPDX-License-Identifier: Apache-2.0
"""Objects as a ZIP file that is made while it is sent; pixel data do not get smaller, so stored."""

import io
import zipfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

from typing_extensions import override

from scrigno.web.rooms import Rooms

from .objects import Outgoing, chunks_of

FIRST_DAY: Final = (
    1980,
    1,
    1,
    0,
    0,
    0,
)  # the earliest that a ZIP can say: the same bytes each time


class _Sink(io.RawIOBase):
    """Gathers what zipfile writes until it is taken; cannot seek, so zipfile streams."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    @override
    def writable(self) -> bool:
        return True

    @override
    def write(self, content: Any, /) -> int:
        self._pieces.append(bytes(content))
        return len(content)

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


async def zip_of(rooms: Rooms, objects: Sequence[Outgoing]) -> AsyncGenerator[bytes, None]:
    """Yield the file, a folder for each series; raises what reading an object raises."""
    sink = _Sink()
    folders: dict[str, str] = {}
    # zipfile works in memory here; no call of it waits for anything
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as file:
        for each in objects:
            series = each.instance.series_instance_uid
            folder = folders.setdefault(series, f"SERIES{len(folders) + 1:04d}")
            name = f"{folder}/{each.instance.sop_instance_uid}.dcm"
            entry = zipfile.ZipInfo(name, FIRST_DAY)
            with file.open(entry, "w", force_zip64=True) as target:
                async with aclosing(chunks_of(rooms, each)) as chunks:
                    async for chunk in chunks:
                        target.write(chunk)
                        yield sink.take()
    yield sink.take()
