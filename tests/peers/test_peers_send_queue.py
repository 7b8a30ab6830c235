# SPDX-License-Identifier: Apache-2.0
"""The send queue against receivers that work, refuse, are slow, go away and come back."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

from made_objects import write_series
from ports import free_port
from running_node import (
    Receiver,
    RunningNode,
    data_set_bytes,
    receiver_running,
)
from scrigno.core.clock import SystemClock
from scrigno.core.events import SendChanged, StudySent
from scrigno.node.send_model import ObjectState, SendItem, SendState
from scrigno.node.send_queue import (
    SendQueue,
    SendRefused,
    UnknownSendItem,
    UnusableDestination,
)
from scrigno.settings.schema import Peer, PeerState

CT = "1.2.840.10008.5.1.4.1.1.2"
WAITS = (0.2, 0.5)


@asynccontextmanager
async def queue_of(box: RunningNode) -> AsyncIterator[SendQueue]:
    """Run the queue of a box; it can be run again on the same file."""
    queue = SendQueue(
        box.root / "state",
        settings=box.settings,
        catalogue=box.catalogue,
        outgoing=box.outgoing,
        bus=box.bus,
        clock=SystemClock(),
        counters=box.counters,
        waits=WAITS,
    )
    await queue.open()
    queue.start()
    try:
        yield queue
    finally:
        await queue.close()


@pytest.fixture
async def queue(box: RunningNode) -> AsyncIterator[SendQueue]:
    async with queue_of(box) as running:
        yield running


async def stored(
    box: RunningNode, folder: Path, *, images: int = 3, patient: int = 0
) -> tuple[str, dict[str, Path]]:
    paths = write_series(folder / str(patient), images=images, patient=patient, size=16)
    await box.tool("storescu", *map(str, paths.values()))
    study = dcmread(next(iter(paths.values())), stop_before_pixels=True).StudyInstanceUID
    return str(study), paths


async def until(
    queue: SendQueue, item_id: int, fits: Callable[[SendItem], bool], *, within_s: float = 20
) -> SendItem:
    """Wait until an item is so."""
    try:
        async with asyncio.timeout(within_s):
            while not fits(item := await queue.get(item_id)):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(await queue.get(item_id)) from None
    return item


def ended(item: SendItem) -> bool:
    return item.ended_at is not None


@dataclass
class Remote:
    """pynetdicom as a receiver that counts, and answers what the test says."""

    port: int
    seen: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    answers: list[int] = field(default_factory=list)  # the next ones; then success

    def peer(self, name: str = "remote") -> Peer:
        return Peer(name=name, ae_title="REMOTE", host="127.0.0.1", port=self.port)


@contextmanager
def remote_running(port: int = 0, *syntaxes: str, pause_s: float = 0) -> Iterator[Remote]:
    """Run a receiver of CT images."""
    remote = Remote(port or free_port())

    def store(event: evt.Event) -> int:
        import time

        uid = str(event.request.AffectedSOPInstanceUID)
        remote.seen[uid] += 1
        time.sleep(pause_s)
        status = remote.answers.pop(0) if remote.answers else 0x0000
        if status == 0x0000 or status >> 12 == 0xB:
            remote.taken[uid] += 1
        return status

    entity = AE(ae_title="REMOTE")
    entity.add_supported_context(CT, list(syntaxes) or [ExplicitVRLittleEndian])
    server = entity.start_server(
        ("127.0.0.1", remote.port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        yield remote
    finally:
        server.shutdown()


@pytest.mark.spec("DN-9")
async def test_a_study_arrives_byte_for_byte_and_its_end_is_told(
    box: RunningNode, queue: SendQueue, receiver: Receiver, tmp_path: Path
) -> None:
    told: list[StudySent] = []
    changes: list[SendChanged] = []
    box.bus.subscribe(StudySent, told.append)
    box.bus.subscribe(SendChanged, changes.append)
    study, paths = await stored(box, tmp_path / "sent")
    (made,) = await queue.add([(study, list(paths))], ["receiver"], author="anna")
    assert (made.state, made.total) == (SendState.WAITING, 3)
    item = await until(queue, made.id, ended)
    assert (item.state, item.sent, item.failed, item.comment) == (SendState.DONE, 3, 0, "")
    assert receiver.files.keys() == paths.keys()
    for uid, path in paths.items():
        assert data_set_bytes(receiver.files[uid]) == data_set_bytes(path)
    assert [(each.author, each.study_uid, each.sent, each.failed) for each in told] == [
        ("anna", study, 3, 0)
    ]
    assert [each.state for each in changes][:2] == ["waiting", "sending"]
    assert changes[-1].state == "done"


@pytest.mark.spec("DN-9")
async def test_objects_are_transcoded_for_a_node_that_takes_only_another_syntax(
    box: RunningNode, queue: SendQueue, tmp_path: Path
) -> None:
    study, paths = await stored(box, tmp_path / "sent", images=2)
    async with receiver_running(tmp_path / "implicit", "+xi") as receiver:
        peer = replace(receiver.peer(), name="implicit")
        await box.change(peers=(peer,))
        (made,) = await queue.add([(study, list(paths))], ["implicit"], author="anna")
        item = await until(queue, made.id, ended)
        assert (item.state, item.sent) == (SendState.DONE, 2), item
        for uid, path in paths.items():
            got = dcmread(receiver.files[uid])
            assert got.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
            assert got.PixelData == dcmread(path).PixelData


@pytest.mark.spec("DN-9")
async def test_what_a_node_can_never_take_fails_with_the_reason_of_each_object(
    box: RunningNode, queue: SendQueue, tmp_path: Path
) -> None:
    study, paths = await stored(box, tmp_path / "sent")
    first, second, third = paths
    with remote_running() as remote:
        remote.answers = [0x0000, 0xA900, 0xB000]  # taken, mismatch, taken with a warning
        await box.change(peers=(remote.peer(),))
        (made,) = await queue.add([(study, [first, second, third])], ["remote"], author="anna")
        item = await until(queue, made.id, ended)
        assert (item.state, item.sent, item.warned, item.failed) == (SendState.FAILED, 2, 1, 1)
        assert "1 of 3" in item.comment
        (bad,) = await queue.book.objects(item.id, states=[ObjectState.FAILED])
        assert (bad.sop_instance_uid, bad.status, bad.code) == (second, 0xA900, "status-a900")
        assert "A900" in bad.comment
        again = await queue.retry(item.id)
        assert again.state in {SendState.WAITING, SendState.SENDING, SendState.DONE}
        item = await until(queue, made.id, ended)
        assert (item.state, item.sent, item.failed) == (SendState.DONE, 3, 0)
    # what was taken once, with a warning too, was not sent again
    assert remote.taken == {first: 1, second: 1, third: 1}
    assert remote.seen[second] == 2
    with pytest.raises(SendRefused):
        await queue.retry(item.id)


@pytest.mark.spec("DN-9")
async def test_a_node_without_room_is_tried_again_with_only_what_it_did_not_take(
    box: RunningNode, queue: SendQueue, tmp_path: Path
) -> None:
    study, paths = await stored(box, tmp_path / "sent")
    with remote_running() as remote:
        remote.answers = [0x0000, 0xA700, 0xA700, 0xA700]
        await box.change(peers=(remote.peer(),))
        (made,) = await queue.add([(study, list(paths))], ["remote"], author="anna")
        waiting = await until(queue, made.id, lambda item: bool(item.attempts))
        assert (waiting.state, waiting.sent, waiting.code) == (
            SendState.WAITING,
            1,
            "status-a700",
        )
        assert waiting.next_at is not None
        item = await until(queue, made.id, ended)
    assert (item.state, item.sent) == (SendState.DONE, 3)
    assert set(remote.taken.values()) == {1}


@pytest.mark.spec("DN-9")
async def test_a_node_that_is_down_gets_its_studies_when_it_is_back(
    box: RunningNode, queue: SendQueue, receiver: Receiver, tmp_path: Path
) -> None:
    port = free_port()
    away = Peer(name="remote", ae_title="REMOTE", host="127.0.0.1", port=port)
    await box.change(peers=(*box.settings.current.peers, away))
    one, one_paths = await stored(box, tmp_path / "sent")
    two, two_paths = await stored(box, tmp_path / "sent", patient=1, images=1)
    wanted = [(one, list(one_paths)), (two, list(two_paths))]
    made = await queue.add(wanted, ["remote", "receiver"], author="anna")
    for item in made[2:]:  # the other node does not wait for the one that is down
        assert (await until(queue, item.id, ended)).state is SendState.DONE
    failing = await until(queue, made[0].id, lambda item: item.attempts > 1)
    assert (failing.state, failing.code) == (SendState.WAITING, "dicom-connect-failed")
    assert str(port) in failing.comment
    with remote_running(port) as remote:
        for item in made[:2]:
            assert (await until(queue, item.id, ended)).state is SendState.DONE
    assert remote.taken == dict.fromkeys((*one_paths, *two_paths), 1)


@pytest.mark.spec("DN-9")
async def test_an_item_goes_on_after_a_restart_and_no_image_is_sent_twice(
    box: RunningNode, tmp_path: Path
) -> None:
    study, paths = await stored(box, tmp_path / "sent", images=8)
    with remote_running(0, pause_s=0.1) as remote:
        await box.change(peers=(remote.peer(),))
        async with queue_of(box) as queue:
            (made,) = await queue.add([(study, list(paths))], ["remote"], author="anna")
            await until(queue, made.id, lambda item: item.sent >= 2)
        assert 2 <= len(remote.taken) < 8
        async with queue_of(box) as queue:
            item = await until(queue, made.id, ended)
    assert (item.state, item.sent) == (SendState.DONE, 8)
    assert remote.seen == dict.fromkeys(paths, 1)


@pytest.mark.spec("DN-9")
async def test_a_course_is_paused_resumed_and_its_items_cancelled_and_forgotten(
    box: RunningNode, queue: SendQueue, tmp_path: Path
) -> None:
    study, paths = await stored(box, tmp_path / "sent", images=6)
    with remote_running(0, pause_s=0.1) as remote:
        await box.change(peers=(remote.peer(),))
        await queue.pause("remote", author="anna", reason="moving house")
        one, two = await queue.add([(study, list(paths))] * 2, ["remote"], author="anna")
        await asyncio.sleep(0.5)
        assert not remote.seen
        course = (await queue.book.courses())["remote"]
        assert (course.paused, course.reason, course.waiting) == (True, "moving house", 2)
        await queue.resume("remote")
        await until(queue, one.id, lambda item: item.sent >= 1)
        with pytest.raises(SendRefused):
            await queue.delete(one.id)
        cancelled = await queue.cancel(one.id)
        assert cancelled.state is SendState.CANCELLED
        assert (await until(queue, two.id, ended)).state is SendState.DONE
        cancelled = await queue.get(one.id)
        assert cancelled.state is SendState.CANCELLED
        assert cancelled.sent < 6
        with pytest.raises(SendRefused):
            await queue.cancel(one.id)
        # going on sends the rest and nothing else
        before = cancelled.sent
        await queue.retry(one.id)
        item = await until(queue, one.id, ended)
        assert (item.state, item.sent) == (SendState.DONE, 6)
        assert sum(remote.taken.values()) == 12
        assert before >= 1
    await queue.delete(one.id)
    with pytest.raises(UnknownSendItem):
        await queue.get(one.id)
    with pytest.raises(UnknownSendItem):
        await queue.get(two.id, author="bruno")


@pytest.mark.spec("DN-9")
async def test_only_an_approved_node_with_an_address_can_be_sent_to(
    box: RunningNode, queue: SendQueue, tmp_path: Path
) -> None:
    pending = Peer(name="new", ae_title="NEW", host="127.0.0.1", state=PeerState.PENDING)
    nowhere = Peer(name="any", ae_title="ANY", host="*")
    await box.change(peers=(pending, nowhere))
    for name in ("new", "any", "nobody"):
        with pytest.raises(UnusableDestination):
            await queue.add([("1.2", ["1.2.3"])], [name], author="anna")
    assert await queue.book.page() == []


@pytest.mark.spec("DN-9", "AD-7")
async def test_who_may_send_no_more_sends_no_more(
    box: RunningNode, queue: SendQueue, tmp_path: Path
) -> None:
    study, paths = await stored(box, tmp_path / "sent", images=1)

    async def standing(author: str) -> str:
        return f"Account {author} is gone."

    queue.standing = standing
    with remote_running() as remote:
        await box.change(peers=(remote.peer(),))
        (made,) = await queue.add([(study, list(paths))], ["remote"], author="anna")
        item = await until(queue, made.id, ended)
    assert (item.state, item.code) == (SendState.FAILED, "not-allowed")
    assert not remote.seen


@pytest.mark.spec("DN-9")
async def test_an_object_that_is_gone_meanwhile_is_named_and_the_others_are_sent(
    box: RunningNode, queue: SendQueue, receiver: Receiver, tmp_path: Path
) -> None:
    study, paths = await stored(box, tmp_path / "sent", images=2)
    (made,) = await queue.add([(study, [*paths, "1.2.3.4"])], ["receiver"], author="anna")
    item = await until(queue, made.id, ended)
    assert (item.state, item.sent, item.failed) == (SendState.FAILED, 2, 1)
    (gone,) = await queue.book.objects(item.id, states=[ObjectState.FAILED])
    assert (gone.sop_instance_uid, gone.code) == ("1.2.3.4", "object-gone")
    assert len(receiver.files) == 2


@pytest.mark.spec("DN-9")
async def test_a_queue_that_cannot_be_read_is_set_aside_and_begun_anew(
    box: RunningNode, tmp_path: Path
) -> None:
    (box.root / "state" / "send.db").write_bytes(b"no database" * 1000)
    async with queue_of(box) as queue:
        assert await queue.book.page() == []
    assert len(list((box.root / "state").glob("send.db*"))) >= 2
