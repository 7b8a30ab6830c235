# SPDX-License-Identifier: Apache-2.0
"""Objects of the archive on their way out: as they stand, in a plainer encoding, de-identified.

What leaves is a medium as PS3.10 and PS3.11 annex D (General Purpose) want it: names of eight
characters, a DICOMDIR, explicit value representations. Or pictures of the frames.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import StoredInstance
from scrigno.core.errors import ScrignoError
from scrigno.core.sight import Sight
from scrigno.imaging.errors import ImagingBusy, ImagingClosed, ImagingError
from scrigno.imaging.workers import ImagingPool

from .errors import ObjectUnavailable
from .export_pages import README, Contents, readme
from .export_sinks import Sink
from .retrieve import Retrieval

EXPLICIT_LE: Final = "1.2.840.10008.1.2.1"
# PS3.10 section 7 wants explicit value representations on media; deflated ones cannot be copied
_RECODED: Final = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"})
HEAD_BYTES: Final = 1 << 20  # within which the pixels of nearly all objects begin
CHUNK_BYTES: Final = 1 << 20
MOST_OBJECTS: Final = 500_000
MOST_FRAMES: Final = 20_000
FILE_SET_ID: Final = "SCRIGNO"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anonymising:
    """How to de-identify; see `imaging.deidentify.Wishes`."""

    key: str  # hex
    options: tuple[str, ...] = ()
    patient_name: str = ""
    patient_id: str = ""
    days: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How objects leave. `pictures` is "", "jpeg" or "png"."""

    pictures: str = ""
    uncompressed: bool = False
    anonymising: Anonymising | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One object and its name on the medium."""

    instance: StoredInstance
    parts: tuple[str, ...]


@dataclass(slots=True)
class Leaving:
    """Everything that is to leave."""

    objects: list[Outgoing] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # studies that are not there or not seen
    size: int = 0


class Told(Protocol):
    """Hears how an export goes."""

    async def give_way(self) -> None:
        """Wait while clinical work needs the box."""

    def done(self, count: int, total: int) -> None:
        """Hear how far it is."""

    def counted(self, name: str) -> None:
        """Hear of one more of something."""

    async def failed(self, name: str, code: str, reason: str) -> None:
        """Hear of an object that does not leave."""


class Exporter:
    """Loop thread only."""

    def __init__(self, *, catalogue: Catalogue, retrieval: Retrieval, imaging: ImagingPool) -> None:
        """Read from the archive, recode in the workers."""
        self._catalogue = catalogue
        self._retrieval = retrieval
        self._imaging = imaging

    async def leaving(
        self, studies: Sequence[str], series: Sequence[str], sights: Sequence[Sight]
    ) -> Leaving:
        """Return what is to leave: the objects of these studies that every sight sees."""
        found = Leaving()
        wanted = frozenset(series)
        for number, study in enumerate(studies, start=1):
            first, *others = [
                await self._catalogue.instances(study, within=sight) for sight in sights
            ]
            seen = [{each.sop_instance_uid for each in other} for other in others]
            instances = [
                each
                for each in first
                if (not wanted or each.series_instance_uid in wanted)
                and all(each.sop_instance_uid in uids for uids in seen)
            ]
            if not instances:
                found.missing.append(study)
            for place in _placed(instances, number):
                found.objects.append(place)
                found.size += place.instance.size
        return found

    async def write(self, leaving: Leaving, manner: Manner, sink: Sink, told: Told) -> None:
        """Write everything into `sink`; an object that cannot leave is told and left out.

        Raises ExportFailed, and what `told` raises.
        """
        lines: list[bytes] = []
        contents = Contents()
        total = len(leaving.objects)
        for study in leaving.missing:
            await told.failed(study, "unknown-study", "There is no such study.")
        for number, each in enumerate(leaving.objects, start=1):
            await told.give_way()
            try:
                if manner.pictures:
                    await self._pictures(each, manner, sink, told)
                else:
                    records = await self._object(each, manner, sink, told)
                    lines.append(json.dumps([each.parts, records]).encode() + b"\n")
                    contents.add(records, "/".join(each.parts[:2]))
            except (ImagingBusy, ImagingClosed):
                await sink.abort()
                raise
            except (ObjectUnavailable, ImagingError) as error:
                await sink.abort()
                await _tell(told, each.instance, manner, error)
            else:
                told.counted("objects")
            told.done(number, total)
        if not manner.pictures:
            await self._directory(lines, contents, manner, sink)
        await sink.finish()

    async def _directory(
        self, lines: list[bytes], contents: Contents, manner: Manner, sink: Sink
    ) -> None:
        _, directory = await self._imaging.media(
            "directory", b"".join(lines), file_set_id=FILE_SET_ID
        )
        with directory:
            await _file(sink, ("DICOMDIR",), directory.read())
        page = contents.page(anonymised=manner.anonymising is not None)
        await _file(sink, ("INDEX.HTM",), page)
        await _file(sink, ("README.TXT",), readme(README))

    # one object ----------------------------------------------------------------------------------

    async def _object(
        self, each: Outgoing, manner: Manner, sink: Sink, told: Told
    ) -> list[dict[str, Any]]:
        """Write one object; return its directory records."""
        instance = each.instance
        recoded = manner.uncompressed or instance.transfer_syntax_uid in _RECODED
        if instance.transfer_syntax_uid == EXPLICIT_LE:
            recoded = False
        if not recoded and manner.anonymising is None:
            return await self._as_it_stands(each, sink)
        fd = await self._retrieval.memfd(instance)
        try:
            if recoded:
                with await self._imaging.transcode(fd, to_transfer_syntax=EXPLICIT_LE) as plain:
                    os.close(fd)
                    fd = os.dup(plain.fd)
            if manner.anonymising is not None:
                fd = await self._anonymised(fd, manner.anonymising, told)
            records = await self._records(fd)
            size = os.fstat(fd).st_size
            await sink.begin(each.parts, size)
            for at in range(0, size, CHUNK_BYTES):
                await sink.write(os.pread(fd, CHUNK_BYTES, at))  # memory: waits for no disk
            await sink.end()
        finally:
            os.close(fd)
        return records

    async def _as_it_stands(self, each: Outgoing, sink: Sink) -> list[dict[str, Any]]:
        stream = self._retrieval.open(each.instance)
        async with aclosing(stream.chunks) as chunks:
            head = b""
            async for chunk in chunks:
                head += chunk
                if len(head) >= HEAD_BYTES:
                    break
            records = await self._records_of_head(each.instance, head)
            await sink.begin(each.parts, each.instance.size)
            await sink.write(head)
            async for chunk in chunks:
                await sink.write(chunk)
            await sink.end()
        return records

    async def _records_of_head(self, instance: StoredInstance, head: bytes) -> list[dict[str, Any]]:
        try:
            return await self._records(head)
        except (ImagingBusy, ImagingClosed):
            raise
        except ImagingError:
            if len(head) >= instance.size:
                raise
        fd = await self._retrieval.memfd(instance)  # its header is longer than the head
        try:
            return await self._records(fd)
        finally:
            os.close(fd)

    async def _records(self, source: bytes | int) -> list[dict[str, Any]]:
        _, memory = await self._imaging.media("records", source)
        with memory:
            records: list[dict[str, Any]] = json.loads(memory.read())
        return records

    async def _anonymised(self, fd: int, how: Anonymising, told: Told) -> int:
        """Return a descriptor of a de-identified copy and close the original."""
        answer, memory = await self._imaging.media(
            "deidentify",
            fd,
            key=how.key,
            options=list(how.options),
            patient_name=how.patient_name,
            patient_id=how.patient_id,
            days=how.days,
        )
        if answer.get("burnt_in"):
            told.counted("may-be-burnt-in")
        with memory:
            os.close(fd)
            return os.dup(memory.fd)

    async def _pictures(self, each: Outgoing, manner: Manner, sink: Sink, told: Told) -> None:
        instance = each.instance
        frames = min(instance.number_of_frames or 1, MOST_FRAMES)
        kind: Literal["png", "jpeg"] = "png" if manner.pictures == "png" else "jpeg"
        ending = "PNG" if kind == "png" else "JPG"

        plain = manner.anonymising is None  # overlays may hold texts

        async def fetch() -> int:
            return await self._retrieval.memfd(instance)

        for frame in range(frames):
            await told.give_way()
            picture = await self._imaging.render(
                fetch, key=instance.digest, frame=frame, format=kind, quality=92, overlays=plain
            )
            name = each.parts[-1] if frames == 1 else f"{each.parts[-1]}-{frame + 1:05}"
            await _file(sink, (*each.parts[:-1], f"{name}.{ending}"), picture.content)
            told.counted("pictures")


async def _file(sink: Sink, parts: Sequence[str], content: bytes) -> None:
    await sink.begin(parts, len(content))
    await sink.write(content)
    await sink.end()


async def _tell(told: Told, instance: StoredInstance, manner: Manner, error: ScrignoError) -> None:
    name = instance.sop_instance_uid
    code = "not-deidentified" if manner.anonymising is not None else error.code
    await told.failed(name, code, error.reason)


def _placed(instances: Sequence[StoredInstance], study: int) -> Iterator[Outgoing]:
    """Yield each object with its name on the medium (PS3.10 section 8.2: eight characters)."""
    series: dict[str, int] = {}
    counts: dict[str, int] = {}
    for each in instances:
        place = series.setdefault(each.series_instance_uid, len(series) + 1)
        counts[each.series_instance_uid] = counts.get(each.series_instance_uid, 0) + 1
        yield Outgoing(
            instance=each,
            parts=(
                "DICOM",
                f"ST{study:06}",
                f"SE{place:06}",
                f"IM{counts[each.series_instance_uid]:06}",
            ),
        )
