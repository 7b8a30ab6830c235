# SPDX-License-Identifier: Apache-2.0
"""pynetdicom as the other side: cancel, counts, negotiated options, many senders at once."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)

from made_objects import write_series
from ports import free_port
from running_node import RunningNode, data_set_bytes, running_node
from scrigno.settings.schema import Peer

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.3"
PENDING = (0xFF00, 0xFF01)


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path / "box") as running:
        yield running


async def stored_series(box: RunningNode, folder: Path, images: int) -> tuple[str, dict[str, Path]]:
    paths = write_series(folder, images=images, size=16)
    await box.tool("storescu", *map(str, paths.values()))
    study = dcmread(next(iter(paths.values())), stop_before_pixels=True).StudyInstanceUID
    return str(study), paths


def identifier(level: str, **keys: Any) -> Dataset:
    made = Dataset()
    made.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(made, keyword, value)
    return made


@contextmanager
def associated(
    box: RunningNode,
    *contexts: str,
    roles: tuple[str, ...] = (),
    handlers: Any = (),
    negotiation: Any = (),
) -> Iterator[Any]:
    ae = AE(ae_title="PYNET")
    for context in contexts:
        ae.add_requested_context(context, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    items = [build_role(role, scp_role=True) for role in roles]
    association = ae.associate(
        "127.0.0.1",
        box.port,
        ae_title="SCRIGNO",
        ext_neg=[*items, *negotiation],
        evt_handlers=list(handlers),
    )
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


class SlowReceiver:
    """A storage SCP that takes its time, and answers what it is told to."""

    def __init__(self, *, delay_s: float = 0, statuses: tuple[int, ...] = (0,)) -> None:
        self.received: list[Any] = []
        self.requests: list[Any] = []
        self._delay_s = delay_s
        self._statuses = statuses
        self.port = free_port()
        ae = AE(ae_title="SLOW")
        ae.add_supported_context(CT, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        self._server = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._take)]
        )

    def _take(self, event: Any) -> int:
        time.sleep(self._delay_s)
        self.requests.append(event.request)
        status = self._statuses[len(self.received) % len(self._statuses)]
        self.received.append(event.request.AffectedSOPInstanceUID)
        return status

    def peer(self) -> Peer:
        return Peer(name="slow", ae_title="SLOW", host="127.0.0.1", port=self.port)

    def close(self) -> None:
        self._server.shutdown()


@pytest.fixture
def receivers() -> Iterator[list[SlowReceiver]]:
    opened: list[SlowReceiver] = []
    yield opened
    for each in opened:
        each.close()


def ask_and_cancel(
    association: Any, send: Any, query: Dataset, sop_class: str, **more: Any
) -> list[tuple[Dataset, Dataset | None]]:
    """Send a request, cancel it at the first pending answer, return every answer."""
    answers = []
    for status, data in send(query, query_model=sop_class, msg_id=7, **more):
        if not answers:
            association.send_c_cancel(7, query_model=sop_class)
        answers.append((status, data))
    return answers


@pytest.mark.spec("DN-5")
async def test_a_query_is_cancelled(box: RunningNode, tmp_path: Path) -> None:
    study, _ = await stored_series(box, tmp_path / "sent", 40)
    found = box.catalogue.find

    async def slowly(query: Any) -> AsyncIterator[Any]:
        async for row in found(query):
            await asyncio.sleep(0.05)
            yield row

    box.catalogue.find = slowly  # type: ignore[method-assign]
    series = dcmread(next((tmp_path / "sent").iterdir()), stop_before_pixels=True).SeriesInstanceUID
    query = identifier("IMAGE", StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID="")

    def ask() -> list[tuple[Dataset, Dataset | None]]:
        with associated(box, STUDY_FIND) as association:
            return ask_and_cancel(association, association.send_c_find, query, STUDY_FIND)

    answers = await asyncio.to_thread(ask)
    assert answers[-1][0].Status == 0xFE00
    assert 2 <= len(answers) < 40


@pytest.mark.spec("DN-6")
async def test_a_move_is_cancelled_and_tells_what_is_left(
    box: RunningNode, tmp_path: Path, receivers: list[SlowReceiver]
) -> None:
    receivers.append(slow := SlowReceiver(delay_s=0.05))
    study, _ = await stored_series(box, tmp_path / "sent", 30)
    await box.change(peers=(slow.peer(),))
    query = identifier("STUDY", StudyInstanceUID=study)

    def ask() -> list[tuple[Dataset, Dataset | None]]:
        with associated(box, STUDY_MOVE) as association:
            return ask_and_cancel(
                association, association.send_c_move, query, STUDY_MOVE, move_aet="SLOW"
            )

    answers = await asyncio.to_thread(ask)
    final = answers[-1][0]
    assert final.Status == 0xFE00
    assert final.NumberOfCompletedSuboperations == len(slow.received)
    assert final.NumberOfRemainingSuboperations == 30 - len(slow.received)
    assert 1 <= len(slow.received) < 30


@pytest.mark.spec("DN-6")
async def test_a_get_is_cancelled_and_tells_what_is_left(box: RunningNode, tmp_path: Path) -> None:
    study, _ = await stored_series(box, tmp_path / "sent", 30)
    query = identifier("STUDY", StudyInstanceUID=study)
    received: list[str] = []

    def take(event: Any) -> int:
        time.sleep(0.05)
        received.append(event.request.AffectedSOPInstanceUID)
        return 0

    def ask() -> list[tuple[Dataset, Dataset | None]]:
        with associated(
            box, STUDY_GET, CT, roles=(CT,), handlers=[(evt.EVT_C_STORE, take)]
        ) as association:
            return ask_and_cancel(association, association.send_c_get, query, STUDY_GET)

    answers = await asyncio.to_thread(ask)
    final = answers[-1][0]
    assert final.Status == 0xFE00
    assert final.NumberOfCompletedSuboperations == len(received)
    assert final.NumberOfRemainingSuboperations == 30 - len(received)
    assert 1 <= len(received) < 30


@pytest.mark.spec("DN-6")
async def test_each_pending_answer_counts_and_the_last_names_what_failed(
    box: RunningNode, tmp_path: Path, receivers: list[SlowReceiver]
) -> None:
    receivers.append(slow := SlowReceiver(statuses=(0x0000, 0xB000, 0xA700, 0xC123)))
    study, _ = await stored_series(box, tmp_path / "sent", 4)
    await box.change(peers=(slow.peer(),))

    def ask() -> list[tuple[Dataset, Dataset | None]]:
        with associated(box, STUDY_MOVE) as association:
            query = identifier("STUDY", StudyInstanceUID=study)
            return list(association.send_c_move(query, "SLOW", STUDY_MOVE, msg_id=9, priority=1))

    answers = await asyncio.to_thread(ask)
    counts = [
        (
            status.Status,
            status.get("NumberOfRemainingSuboperations"),
            status.NumberOfCompletedSuboperations,
            status.NumberOfWarningSuboperations,
            status.NumberOfFailedSuboperations,
        )
        for status, _ in answers
    ]
    assert counts == [
        (0xFF00, 3, 1, 0, 0),
        (0xFF00, 2, 1, 1, 0),
        (0xFF00, 1, 1, 1, 1),
        (0xFF00, 0, 1, 1, 2),
        (0xB000, None, 1, 1, 2),
    ]
    listed = answers[-1][1]
    assert listed is not None
    assert list(listed.FailedSOPInstanceUIDList) == slow.received[2:]
    request = slow.requests[0]
    assert request.MoveOriginatorApplicationEntityTitle == "PYNET"
    assert request.MoveOriginatorMessageID == 9
    assert request.Priority == 1


@pytest.mark.spec("DN-6")
async def test_a_get_without_the_role_fails_with_every_uid(
    box: RunningNode, tmp_path: Path
) -> None:
    study, paths = await stored_series(box, tmp_path / "sent", 2)

    def ask() -> list[tuple[Dataset, Dataset | None]]:
        with associated(box, STUDY_GET, CT) as association:
            return list(
                association.send_c_get(identifier("STUDY", StudyInstanceUID=study), STUDY_GET)
            )

    status, listed = (await asyncio.to_thread(ask))[-1]
    assert status.Status == 0xA702
    assert listed is not None
    assert set(listed.FailedSOPInstanceUIDList) == paths.keys()


@pytest.mark.spec("DN-6")
async def test_a_retrieval_of_nothing_succeeds_and_a_wrong_one_is_refused(
    box: RunningNode,
) -> None:
    def ask(query: Dataset) -> int:
        with associated(box, STUDY_GET, CT, roles=(CT,)) as association:
            return int([each for each, _ in association.send_c_get(query, STUDY_GET)][-1].Status)

    assert await asyncio.to_thread(ask, identifier("STUDY", StudyInstanceUID="1.2.3")) == 0
    for wrong in (
        identifier("STUDY", StudyInstanceUID=""),
        identifier("PATIENT", PatientID="X"),
        identifier("SERIES", SeriesInstanceUID="1.2.3"),
    ):
        assert await asyncio.to_thread(ask, wrong) == 0xA900


def agreed(sop_class: str, flags: bytes) -> SOPClassExtendedNegotiation:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid = sop_class
    item.service_class_application_information = flags
    return item


@pytest.mark.spec("DN-5")
async def test_relational_and_fuzzy_queries_hold_when_agreed_only(
    box: RunningNode, tmp_path: Path
) -> None:
    await stored_series(box, tmp_path / "sent", 2)
    series = dcmread(next((tmp_path / "sent").iterdir()), stop_before_pixels=True).SeriesInstanceUID

    def ask(query: Dataset, flags: bytes) -> tuple[int, int]:
        with associated(
            box, STUDY_FIND, negotiation=[agreed(STUDY_FIND, flags)] if flags else ()
        ) as association:
            answers = [each for each, _ in association.send_c_find(query, STUDY_FIND)]
            return len(answers) - 1, int(answers[-1].Status)

    images = identifier("IMAGE", SeriesInstanceUID=series, SOPInstanceUID="")
    assert await asyncio.to_thread(ask, images, b"") == (0, 0xA900)
    assert await asyncio.to_thread(ask, images, b"\x01") == (2, 0)
    name = identifier("STUDY", PatientName="lucia rossi", StudyInstanceUID="")
    assert await asyncio.to_thread(ask, name, b"") == (0, 0)
    assert await asyncio.to_thread(ask, name, b"\x00\x00\x01") == (1, 0)


@pytest.mark.spec("DN-5")
async def test_a_range_of_date_and_time_is_one_when_agreed(
    box: RunningNode, tmp_path: Path
) -> None:
    await stored_series(box, tmp_path / "sent", 1)  # 2024-01-01 10:15:30
    query = identifier(
        "STUDY", StudyDate="20231231-20240102", StudyTime="2300-0100", StudyInstanceUID=""
    )

    def ask(flags: bytes) -> int:
        with associated(box, STUDY_FIND, negotiation=[agreed(STUDY_FIND, flags)]) as association:
            return len(list(association.send_c_find(query, STUDY_FIND))) - 1

    assert await asyncio.to_thread(ask, b"\x00\x00\x00") == 0
    assert await asyncio.to_thread(ask, b"\x00\x01\x00") == 1


async def test_the_answers_to_window_identity_and_extended_negotiation_are_understood(
    box: RunningNode,
) -> None:
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = 4
    window.maximum_number_operations_performed = 4
    identity = UserIdentityNegotiation()
    identity.user_identity_type = 2
    identity.primary_field = b"someone"
    identity.secondary_field = b"secret"
    identity.positive_response_requested = True

    def ask() -> Any:
        with associated(
            box,
            STUDY_FIND,
            negotiation=[window, identity, agreed(STUDY_FIND, b"\x01\x01\x01")],
        ) as association:
            return association.acceptor

    acceptor = await asyncio.to_thread(ask)
    assert acceptor.asynchronous_operations == (4, 1)
    assert acceptor.sop_class_extended == {STUDY_FIND: b"\x01\x01\x01"}
    assert acceptor.user_identity is not None


@pytest.mark.spec("DN-11")
async def test_many_peers_at_once_are_served(box: RunningNode, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(6)]
    series = [
        write_series(folder, images=8, patient=number, seed=number)
        for number, folder in enumerate(folders)
    ]
    await asyncio.gather(*(box.tool("storescu", *map(str, paths.values())) for paths in series))
    assert (await box.catalogue.totals()).instances == 48
    for paths in series:
        for uid, path in paths.items():
            assert data_set_bytes(box.stored_file(uid)) == data_set_bytes(path)
    assert threading.active_count() < 40
