# SPDX-License-Identifier: Apache-2.0
"""STOW-RS: objects come in over HTTP (PS3.18 section 10.5) by the one way into the archive.

The answer is given when every object of the request is durable or refused; an object whose bytes
do not come to their end leaves nothing.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Final

import msgspec
from aiohttp import hdrs, web

from scrigno.access.audit import Action
from scrigno.archive.errors import IngestError
from scrigno.archive.ingest import Ingest, Reception
from scrigno.catalogue.records import Origin
from scrigno.core.errors import ScrignoError
from scrigno.web.rooms import Rooms, author_of

from . import native_xml
from .composing import Composing
from .incoming import Uids, WrongStudy, received
from .media import DICOM, JSON, XML, Offer, choose
from .multipart_in import PartIn, UnsupportedMedia, media_type, parts_of, whole_body
from .search import ranges_of
from .store_answer import Failed, StoreAnswer, Stored, reason_of
from .target import base_of, target_of

SIDE_BY_SIDE: Final = 8  # objects that are being made durable while the next ones arrive
_OFFERS: Final = (Offer(media=JSON), Offer(media=XML))


class Store:
    """The handler of POST to studies."""

    def __init__(self, ingest: Ingest) -> None:
        """Take objects in by `ingest`."""
        self._ingest = ingest

    async def post(self, request: web.Request, rooms: Rooms) -> web.StreamResponse:
        """Store what the body holds."""
        study = target_of(request).study
        offer, _ = choose(ranges_of(request), _OFFERS)
        if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
            raise UnsupportedMedia("Packed bodies are not taken.")
        media, parameters = media_type(request.headers.get(hdrs.CONTENT_TYPE, ""))
        run = _Run(self._ingest, rooms, _origin(request), study)
        try:
            await self._take(request, run, media, parameters)
        finally:
            await run.settle()
            run.tell(request, rooms)
        status = run.answer.status()
        dataset = run.answer.dataset(base_of(request), study)
        if offer.media == XML:
            body = await asyncio.to_thread(native_xml.document, dataset)
            return web.Response(status=status, body=body, content_type=XML)
        return web.Response(status=status, body=msgspec.json.encode(dataset), content_type=JSON)

    async def _take(
        self, request: web.Request, run: "_Run", media: str, parameters: dict[str, str]
    ) -> None:
        if media == DICOM:
            await run.object(whole_body(request))
            return
        if media != "multipart/related":
            raise UnsupportedMedia(
                "The body must be multipart/related or application/dicom.",
                next_step="Send the objects as parts of a multipart/related.",
            )
        root = parameters.get("type", DICOM).lower()
        if root == DICOM:
            await run.objects(parts_of(request))
        elif root in (JSON, XML):
            await run.composed(parts_of(request))
        else:
            raise UnsupportedMedia(
                f"Parts must be {DICOM}, {JSON} or {XML} with bulk data.",
            )


def _origin(request: web.Request) -> Origin:
    return Origin(door="stow", address=request.remote or "", user=author_of(request))


class _Run:
    """What becomes of one request."""

    def __init__(self, ingest: Ingest, rooms: Rooms, origin: Origin, study: str) -> None:
        self.answer = StoreAnswer()
        self._ingest = ingest
        self._rooms = rooms
        self._origin = origin
        self._study = study
        self._turns = asyncio.Semaphore(SIDE_BY_SIDE)
        self._commits: set[asyncio.Task[None]] = set()

    async def objects(self, parts: AsyncGenerator[PartIn, None]) -> None:
        async for part in parts:
            if part.media not in (DICOM, ""):
                await part.chunks.aclose()
                raise UnsupportedMedia(f"A part is not {DICOM}.")
            await self.object(part.chunks)

    async def object(self, chunks: AsyncGenerator[bytes, None]) -> None:
        """Take one object in; raises what reading the request raises."""
        try:
            uids, reception = await received(self._ingest, self._origin, chunks, self._study)
        except WrongStudy as error:
            self._refuse(error.uids, error)
        except IngestError as error:
            self._refuse(None, error)
        else:
            await self._turns.acquire()
            task = asyncio.create_task(self._commit(uids, reception))
            self._commits.add(task)
            task.add_done_callback(self._commits.discard)

    async def composed(self, parts: AsyncGenerator[PartIn, None]) -> None:
        """Put objects together from metadata and bulk data, and take each in."""
        async with Composing(self._rooms) as composing:
            async for part in parts:
                await composing.add(part)
            async for made in composing.objects():
                if isinstance(made, ScrignoError):
                    self._refuse(None, made)
                else:
                    await self.object(made)

    async def _commit(self, uids: Uids, reception: Reception) -> None:
        try:
            receipt = await reception.commit()
        except IngestError as error:
            self._refuse(uids, error)
        else:
            self.answer.stored.append(Stored(uids, receipt.outcome))
        finally:
            self._turns.release()

    def _refuse(self, uids: Uids | None, error: ScrignoError) -> None:
        named = uids if uids is not None and uids.sop_instance else None
        reason = reason_of(error)
        self._rooms.counters.add("stow_refused", code=error.code)
        self.answer.failed.append(Failed(named, reason, error))

    async def settle(self) -> None:
        """Wait for what is being made durable; a commit that began comes to its end."""
        if self._commits:
            await asyncio.shield(asyncio.gather(*self._commits))

    def tell(self, request: web.Request, rooms: Rooms) -> None:
        """Tell the trail which studies got how many objects."""
        by_study = Counter(each.uids.study or "unknown" for each in self.answer.stored)
        for study, count in by_study.items():
            rooms.audit.record(
                author_of(request),
                Action.IMPORT,
                study,
                details={"door": "stow", "objects": str(count)},
            )
        if self.answer.failed:
            rooms.audit.record(
                author_of(request),
                Action.IMPORT,
                self._study or "stow",
                outcome="failure",
                details={"door": "stow", "objects": str(len(self.answer.failed))},
            )
