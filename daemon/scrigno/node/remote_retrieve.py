# SPDX-License-Identifier: Apache-2.0
"""Fetching studies from other nodes as a job: C-MOVE to ourselves, or C-GET (SPEC DN-9)."""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar, Final

from pydicom.datadict import tag_for_keyword
from pynetdicom import StoragePresentationContexts

from scrigno.access.permissions import Permission
from scrigno.archive.ingest import Ingest
from scrigno.catalogue.catalogue import Catalogue
from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError
from scrigno.core.events import EventBus
from scrigno.dicomnet import dimse
from scrigno.dicomnet.association import Association
from scrigno.dicomnet.client import connect
from scrigno.dicomnet.errors import DicomNetError, NoSuchContext
from scrigno.dicomnet.service import CloseReason, Command, Operation, Response, StoreSink
from scrigno.jobs.running import Running
from scrigno.settings.schema import Peer, Right
from scrigno.settings.store import SettingsStore

from .admission import Admission
from .identifier import QUERY_RETRIEVE_LEVEL, Writer
from .outgoing import TRANSCODE_TARGETS
from .retrieve import CONNECT_TIMEOUT_S, UNCOMPRESSED, leave
from .statuses import Status, comment
from .storage import Storage

log = logging.getLogger(__name__)

KIND: Final = "retrieve"
STUDY_ROOT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"
ANSWER_S: Final = 900.0  # between two answers: some nodes answer only when all is sent
TRIES: Final = 3
AGAIN_S: Final = 5.0
MOST_GET_CONTEXTS: Final = 127  # one more is the query itself
# Compressed syntaxes that a node may send as they are stored there, after the plain ones.
COMPRESSED: Final = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2.4.100",
    "1.2.840.10008.1.2.4.102",
    "1.2.840.10008.1.2.4.103",
)
_STORED: Final = tuple(str(each.abstract_syntax) for each in StoragePresentationContexts)


class RetrieveFailed(ScrignoError):
    """The node sent nothing of what was asked for."""

    code: ClassVar[str] = "retrieve-failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The sub-operations of one retrieval (PS3.7 section 9.1.3.1)."""

    remaining: int = 0
    completed: int = 0
    failed: int = 0
    warning: int = 0

    @property
    def done(self) -> int:
        """Return how many have their answer."""
        return self.completed + self.failed + self.warning


class RetrieveRunner:
    """Does the jobs of this kind; `params` are node, how (move, get), and what is wanted."""

    kind = KIND
    needs = Permission.QUERY.value
    at_once = 2

    def __init__(
        self,
        *,
        settings: SettingsStore,
        ingest: Ingest,
        catalogue: Catalogue,
        ae_title: Callable[[], str],
        bus: EventBus,
        counters: Counters,
    ) -> None:
        """Know nodes from `settings`; what a C-GET brings goes into `ingest`."""
        self._settings = settings
        self._ingest = ingest
        self._catalogue = catalogue
        self._ae_title = ae_title
        self._bus = bus
        self._counters = counters

    async def run(self, job: Running) -> None:
        """Fetch one thing after the other; see Runner."""
        wanted = list(job.params["wanted"])
        first, failed = int(job.state.get("next", 0)), int(job.state.get("failed", 0))
        for number in range(first, len(wanted)):
            job.raise_if_stopped()
            failed += not await self._fetch(job, wanted[number])
            await job.checkpoint({"next": number + 1, "failed": failed})
        if failed and failed == len(wanted):
            raise RetrieveFailed(
                "Nothing of what was asked for came.", next_step="See the list of what failed."
            )

    async def _fetch(self, job: Running, wanted: Mapping[str, str]) -> bool:
        """Fetch a study or a series; whatever the node does is noted, not raised."""
        name = wanted.get("series") or wanted["study"]
        code, words, counts = "", "", Counts()
        for attempt in range(TRIES):
            if attempt:
                await job.sleep(AGAIN_S)
            peer = self._settings.current.peer(str(job.params["node"]))
            if peer is None:
                code, words = "unknown-peer", "The node is no longer registered."
                break
            try:
                code, words, counts = await self._ask(job, peer, wanted)
            except DicomNetError as error:
                code, words = error.code, error.reason
                continue
            break
        job.count("received", counts.completed + counts.warning)
        if not code and counts.done and not await self._arrived(wanted):
            code, words = (
                "not-arrived",
                (
                    f"The node says that it sent {counts.completed} objects, and none is here. "
                    f"It may know {self._ae_title()} at another address, or they are held."
                ),
            )
        if code:
            job.count("failed", counts.failed)
            await job.fail_item(name, code, words, ref=wanted["study"])
        return not code

    async def _arrived(self, wanted: Mapping[str, str]) -> bool:
        found = await self._catalogue.instances(wanted["study"])
        series = wanted.get("series")
        return any(not series or each.series_instance_uid == series for each in found)

    async def _ask(
        self, job: Running, peer: Peer, wanted: Mapping[str, str]
    ) -> tuple[str, str, Counts]:
        by_get = job.params.get("how") == "get"
        association = await (self._connect_to_get(peer) if by_get else self._connect(peer))
        try:
            model = STUDY_ROOT_GET if by_get else STUDY_ROOT_MOVE
            context_id = association.context_for(model)
            if context_id is None:
                verb = "C-GET" if by_get else "C-MOVE"
                raise NoSuchContext(f"The node does not offer {verb}.")
            answers = association.request_responses(
                field=dimse.C_GET_RQ if by_get else dimse.C_MOVE_RQ,
                context_id=context_id,
                sop_class_uid=model,
                data=identifier(wanted, association.contexts[context_id].transfer_syntax),
                priority=0,
                move_destination="" if by_get else self._ae_title(),
                timeout_s=ANSWER_S,
            )
            return await _followed(job, answers)
        finally:
            await leave(association)

    async def _connect(self, peer: Peer) -> Association:
        return await connect(
            host=peer.host,
            port=peer.port,
            called_ae=peer.ae_title,
            calling_ae=self._ae_title(),
            contexts=[(STUDY_ROOT_MOVE, UNCOMPRESSED)],
            timeout_s=CONNECT_TIMEOUT_S,
            counters=self._counters,
        )

    async def _connect_to_get(self, peer: Peer) -> Association:
        classes = _STORED[:MOST_GET_CONTEXTS]
        syntaxes = (*TRANSCODE_TARGETS[:2], *COMPRESSED)
        return await connect(
            host=peer.host,
            port=peer.port,
            called_ae=peer.ae_title,
            calling_ae=self._ae_title(),
            contexts=[(STUDY_ROOT_GET, UNCOMPRESSED), *((each, syntaxes) for each in classes)],
            roles=dict.fromkeys(classes, (False, True)),
            handler=_Taker(self._storage(peer)),
            timeout_s=CONNECT_TIMEOUT_S,
            counters=self._counters,
        )

    def _storage(self, peer: Peer) -> Storage:
        admission = Admission(
            provider="",
            called_ae=self._ae_title(),
            calling_ae=peer.ae_title,
            host=peer.host,
            peer_name=peer.name,
            rights=frozenset({Right.STORE}),
            hold=None,
        )
        return Storage(
            admission,
            ingest=self._ingest,
            settings=self._settings,
            counters=self._counters,
            bus=self._bus,
        )


async def _followed(
    job: Running, answers: AsyncGenerator[tuple[Command, bytes | None], None]
) -> tuple[str, str, Counts]:
    """Follow a retrieval to its end; one that is to stop is cancelled at the node."""
    counts = Counts()
    async with aclosing(answers) as following:
        async for command, _ in following:
            counts = counts_of(command)
            job.progress(counts.done, counts.done + counts.remaining, "receiving")
            if command.status == Status.PENDING:
                job.raise_if_stopped()  # leaving the answers early sends C-CANCEL-RQ
                continue
            if command.status == Status.SUCCESS:
                return "", "", counts
            if command.status == Status.SUB_OPERATIONS_FAILED and not counts.failed:
                return "", "", counts  # only warnings
            words = f"The node answered {command.status:04X} {comment(command.comment)}".strip()
            if counts.failed:
                words = f"{words}: {counts.failed} objects were not sent"
            return f"status-{command.status:04x}", f"{words}.", counts
    raise DicomNetError("The node ended its answer too early.")


def counts_of(command: Command) -> Counts:
    """Return the counts of a response; absent ones are 0."""
    tags = (dimse.REMAINING, dimse.COMPLETED, dimse.FAILED, dimse.WARNING)
    found = [int.from_bytes(command.raw.get(tag, b"")[:2], "little") for tag in tags]
    return Counts(remaining=found[0], completed=found[1], failed=found[2], warning=found[3])


def identifier(wanted: Mapping[str, str], syntax: str) -> bytes:
    """Return the identifier that names a study or a series of it."""
    writer = Writer(syntax)
    level = "SERIES" if wanted.get("series") else "STUDY"
    elements = {QUERY_RETRIEVE_LEVEL: writer.element(QUERY_RETRIEVE_LEVEL, "CS", level.encode())}
    for keyword, name in (("StudyInstanceUID", "study"), ("SeriesInstanceUID", "series")):
        tag = tag_for_keyword(keyword)
        if tag is not None and wanted.get(name):
            elements[tag] = writer.element(tag, "UI", wanted[name].encode("ascii", "replace"))
    return writer.data_set(elements)


class _Taker:
    """Takes what a C-GET brings, as if the node had sent it by itself."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def store_sink(
        self, command: Command, transfer_syntax: str, resume: Callable[[], None]
    ) -> StoreSink | Response:
        return self._storage.sink(command, transfer_syntax, resume)

    async def serve(self, operation: Operation) -> None:
        await operation.respond(Status.UNRECOGNISED_OPERATION)

    def closed(self, reason: CloseReason) -> None:
        """Nothing is kept for the association."""
