# SPDX-License-Identifier: Apache-2.0
"""One object on its way in: its bytes go straight into the archive's reception."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from scrigno.archive.errors import IngestError, ObjectUnreadable
from scrigno.archive.ingest import Ingest, Reception
from scrigno.catalogue.records import Origin
from scrigno.imaging.errors import HeaderIncomplete, HeaderUnreadable, NotDicom
from scrigno.imaging.header import read_index_attributes
from scrigno.imaging.part10 import FileHead, split

HEAD_BYTES: Final = 64 << 10
MOST_HEAD_BYTES: Final = 4 << 20


class WrongStudy(IngestError):
    """The object is of another study than the one that the request is about."""

    code = "wrong-study"

    def __init__(self, uids: "Uids") -> None:
        """Keep which object it is."""
        super().__init__("The object belongs to another study than the request names.")
        self.uids = uids


@dataclass(frozen=True, slots=True, kw_only=True)
class Uids:
    """What an object says it is; empty where it does not say."""

    sop_class: str = ""
    sop_instance: str = ""
    study: str = ""
    series: str = ""


async def received(
    ingest: Ingest, origin: Origin, chunks: AsyncGenerator[bytes, None], study: str
) -> tuple[Uids, Reception]:
    """Take a Part 10 file in up to its last byte; the caller commits.

    Nothing is left of it when this raises: WrongStudy, ObjectUnreadable, other IngestErrors, and
    what `chunks` raises.
    """
    async with aclosing(chunks):
        content = await _at_least(chunks, b"", HEAD_BYTES)
        try:
            file = split(content[:HEAD_BYTES])
        except NotDicom as error:
            raise ObjectUnreadable(error.reason) from error
        uids, content = await _uids(chunks, content, file, study)
        if study and uids.study and uids.study != study:
            raise WrongStudy(uids)
        reception = ingest.begin(
            origin=origin,
            sop_class_uid=uids.sop_class,
            sop_instance_uid=uids.sop_instance,
            transfer_syntax_uid=file.transfer_syntax_uid,
        )
        try:
            await reception.pour(_data_set(content[file.data_offset :], chunks))
        except BaseException:
            reception.discard("the request ended inside the object")
            raise
    return uids, reception


async def _at_least(chunks: AsyncGenerator[bytes, None], content: bytes, needed: int) -> bytes:
    pieces, size = [content], len(content)
    while size < needed:
        chunk = await anext(chunks, b"")
        if not chunk:
            break
        pieces.append(chunk)
        size += len(chunk)
    return b"".join(pieces)


async def _uids(
    chunks: AsyncGenerator[bytes, None], content: bytes, file: FileHead, study: str
) -> tuple[Uids, bytes]:
    """Return the UIDs of the data set itself where they can be read, and what was read for it."""
    while True:
        try:
            said = read_index_attributes(
                memoryview(content)[file.data_offset :],
                transfer_syntax_uid=file.transfer_syntax_uid,
                sop_class_uid=file.sop_class_uid,
                sop_instance_uid=file.sop_instance_uid,
            )
        except HeaderIncomplete as error:
            needed = file.data_offset + error.needed_bytes
            if not study or needed <= len(content) or needed > MOST_HEAD_BYTES:
                break
            longer = await _at_least(chunks, content, needed)
            if len(longer) == len(content):
                break
            content = longer
        except HeaderUnreadable:
            break
        else:
            return Uids(
                sop_class=said.instance.sop_class_uid,
                sop_instance=said.instance.sop_instance_uid,
                study=said.study.study_instance_uid,
                series=said.series.series_instance_uid,
            ), content
    if study:
        raise ObjectUnreadable("It cannot be told to which study the object belongs.")
    return Uids(sop_class=file.sop_class_uid, sop_instance=file.sop_instance_uid), content


async def _data_set(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    if first:
        yield first
    async for chunk in rest:
        yield chunk
