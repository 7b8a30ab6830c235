# SPDX-License-Identifier: Apache-2.0
"""Frames of stored objects, each read alone where its place is known. Loop thread only."""

from collections import OrderedDict
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from scrigno.archive.parts import Parts
from scrigno.catalogue.records import StoredInstance
from scrigno.core.sight import EVERYTHING
from scrigno.imaging.dataset import EXPLICIT_BE, EXPLICIT_LE, Cut
from scrigno.imaging.errors import NoSuchFrame
from scrigno.imaging.pixel_layout import Header, Layout, NoLayout, codestream, header_of, layout_of
from scrigno.web.rooms import Rooms
from scrigno.web.sight import sight_of

from .read_ahead import AHEAD, ReadAhead
from .streams import BrokenStream, once
from .syntaxes import NATIVE
from .target import Target, instance_of

HEAD_BYTES: Final = 64 << 10
MOST_HEAD_BYTES: Final = 16 << 20
WHOLE_BYTES: Final = 1 << 20  # an object up to this size is read, and checked, as a whole
MOST_LAYOUTS: Final = 4096
MOST_SPANS: Final = 500_000
MOST_INSTANCES: Final = 4096
MOST_SERIES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameBytes:
    """One frame on its way out; `size` is None when it is only known at the end."""

    chunks: AsyncGenerator[bytes, None]
    transfer_syntax_uid: str
    size: int | None


class Head:
    """The first bytes of an object, as many as were needed; all of them of a small one."""

    def __init__(self, content: bytes, *, whole: bool) -> None:
        """Keep the bytes."""
        self.content = content
        self.whole = whole


class FrameSource:
    """Knows where frames stand, and reads them."""

    def __init__(self, rooms: Rooms) -> None:
        """Read from these rooms."""
        self._rooms = rooms
        self.parts = Parts(
            retrieval=rooms.retrieval, volumes=rooms.volumes, counters=rooms.counters
        )
        self._layouts: OrderedDict[str, Layout | None] = OrderedDict()
        self._spans = 0
        self._instances: OrderedDict[str, tuple[int, StoredInstance]] = OrderedDict()
        self._series: OrderedDict[tuple[str, str], tuple[int, list[StoredInstance]]] = OrderedDict()
        self._places: dict[str, int] = {}  # of the objects of the series at hand
        self._objects = ReadAhead(self._whole)

    async def _whole(self, instance: StoredInstance) -> bytes:
        return await self._rooms.retrieval.read(instance, limit_bytes=WHOLE_BYTES)

    async def close(self) -> None:
        """Stop reading ahead."""
        await self._objects.close()

    # which object --------------------------------------------------------------------------------

    async def instance(self, request: web.Request, target: Target) -> StoredInstance:
        """Return the object of the path; raises NotFound.

        A viewer asks for hundreds of frames in a row, so who sees everything is not looked up
        again while no object of the archive went or was replaced.
        """
        catalogue = self._rooms.catalogue
        if sight_of(request) != EVERYTHING:
            return await instance_of(request, self._rooms, target)
        known = self._instances.get(target.instance)
        if known is not None and known[0] == catalogue.replaced_objects:
            found = known[1]
            if (found.study_instance_uid, found.series_instance_uid) == (
                target.study, target.series
            ):  # fmt: skip
                self._instances.move_to_end(target.instance)
                return found
        generation = catalogue.replaced_objects
        found = await instance_of(request, self._rooms, target)
        self._remember(generation, found)
        return found

    def _remember(self, generation: int, found: StoredInstance) -> None:
        self._instances[found.sop_instance_uid] = (generation, found)
        if len(self._instances) > MOST_INSTANCES:
            self._instances.popitem(last=False)

    def forget(self, instance: StoredInstance) -> None:
        """Look the object up anew next time: its copies may have moved."""
        self._instances.pop(instance.sop_instance_uid, None)
        self._series.pop((instance.study_instance_uid, instance.series_instance_uid), None)

    async def look_ahead(self, instance: StoredInstance) -> None:
        """Have the next small objects of the series read while this one is on its way."""
        if instance.size > WHOLE_BYTES:
            return
        series = await self._series_of(instance)
        place = self._places.get(instance.sop_instance_uid, len(series))
        following = series[place + 1 : place + 1 + AHEAD]
        self._objects.expect([each for each in following if each.size <= WHOLE_BYTES])

    async def _series_of(self, instance: StoredInstance) -> list[StoredInstance]:
        catalogue = self._rooms.catalogue
        key = (instance.study_instance_uid, instance.series_instance_uid)
        known = self._series.get(key)
        fresh = known is not None and known[0] == catalogue.replaced_objects
        if known is not None and fresh and instance.sop_instance_uid in self._places:
            return known[1]
        generation = catalogue.replaced_objects
        found = await catalogue.instances(*key)
        self._series[key] = (generation, found)
        while len(self._series) > MOST_SERIES:
            _, (_, gone) = self._series.popitem(last=False)
            for each in gone:
                self._places.pop(each.sop_instance_uid, None)
        for place, each in enumerate(found):
            self._places[each.sop_instance_uid] = place
            self._remember(generation, each)
        return found

    # where its frames are ------------------------------------------------------------------------

    async def head(self, instance: StoredInstance, needed: int = HEAD_BYTES) -> Head:
        """Return the first bytes, all of a small object; raises ObjectUnavailable."""
        if instance.size <= WHOLE_BYTES:
            return Head(await self._objects.get(instance), whole=True)
        return Head(await self.parts.read(instance, 0, needed), whole=needed >= instance.size)

    async def header(self, instance: StoredInstance) -> tuple[Head, Header]:
        """Return the bytes up to the pixel data at least, and what they say of these.

        Raises NoLayout when there are none to be found, ObjectUnavailable.
        """
        head = await self.head(instance)
        while True:
            try:
                return head, header_of(head.content)
            except Cut as cut:
                head = await self._more(instance, head, cut.needed)

    async def layout(self, instance: StoredInstance) -> tuple[Head | None, Layout]:
        """Return where the frames stand, and the bytes that were read for it if they are all.

        Raises NoLayout when only a walk over all fragments would tell, ObjectUnavailable.
        """
        if instance.digest in self._layouts:
            known = self._layouts[instance.digest]
            self._layouts.move_to_end(instance.digest)
            if known is None:
                raise NoLayout
            return None, known
        head = await self.head(instance)
        while True:
            try:
                layout = layout_of(head.content, instance.size)
            except Cut as cut:
                head = await self._more(instance, head, cut.needed)
            except NoLayout:
                self._keep(instance.digest, None)
                raise
            else:
                self._keep(instance.digest, layout)
                return head if head.whole else None, layout

    async def _more(self, instance: StoredInstance, head: Head, needed: int) -> Head:
        needed = max(needed + HEAD_BYTES, 2 * len(head.content))
        if head.whole or len(head.content) >= instance.size or needed > 2 * MOST_HEAD_BYTES:
            raise NoLayout
        return await self.head(instance, needed)

    def _keep(self, digest: str, layout: Layout | None) -> None:
        self._layouts[digest] = layout
        self._spans += len(layout.spans) if layout else 0
        while len(self._layouts) > MOST_LAYOUTS or self._spans > MOST_SPANS:
            _, gone = self._layouts.popitem(last=False)
            self._spans -= len(gone.spans) if gone else 0

    # the bytes -----------------------------------------------------------------------------------

    async def frame(self, instance: StoredInstance, frame: int, transfer_syntax: str) -> FrameBytes:
        """Return one frame; `transfer_syntax` empty is as stored, native ones little endian.

        Raises ObjectUnavailable, ImagingError.
        """
        stored = instance.transfer_syntax_uid
        wanted = transfer_syntax or stored
        if wanted == stored or (wanted in NATIVE and stored in NATIVE and stored != EXPLICIT_BE):
            try:
                return await self._stored(instance, frame)
            except NoLayout:
                pass
        made = await self._rooms.imaging.frame_bytes(
            lambda: self._rooms.retrieval.memfd(instance),
            frame=frame,
            transfer_syntax=(EXPLICIT_LE if wanted in NATIVE else wanted),
            key=instance.digest,
        )
        return FrameBytes(
            chunks=once(made.content),
            transfer_syntax_uid=made.transfer_syntax_uid,
            size=len(made.content),
        )

    async def _stored(self, instance: StoredInstance, frame: int) -> FrameBytes:
        head, layout = await self.layout(instance)
        if not layout.little:
            raise NoLayout
        if frame >= layout.frames:
            raise NoSuchFrame(f"The object has {layout.frames} frames.")
        start, end = layout.span(frame)
        syntax = layout.transfer_syntax_uid if layout.encapsulated else EXPLICIT_LE
        if head is None and (instance.size <= WHOLE_BYTES):
            head = await self.head(instance)
        if head is not None and head.whole:
            content = head.content[start:end]
        elif layout.encapsulated:
            content = await self.parts.read(instance, start, end - start)
        else:
            chunks = self.parts.stream(instance, start, end - start)
            return FrameBytes(chunks=chunks, transfer_syntax_uid=syntax, size=end - start)
        if layout.encapsulated:
            content = codestream(content)
        elif len(content) < end - start:
            raise BrokenStream("The frame is shorter than it should be.")
        return FrameBytes(chunks=once(content), transfer_syntax_uid=syntax, size=len(content))

    async def pixel_value(self, instance: StoredInstance) -> tuple[int, int]:
        """Return where native little endian pixel data begin and how long they are.

        Raises NoLayout for all others, ObjectUnavailable.
        """
        _, header = await self.header(instance)
        if header.encapsulated or instance.transfer_syntax_uid == EXPLICIT_BE:
            raise NoLayout
        length = header.pixels.length
        if header.pixels.start + length > instance.size:
            raise NoLayout
        return header.pixels.start, length
