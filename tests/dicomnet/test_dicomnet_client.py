# SPDX-License-Identifier: Apache-2.0
"""The requestor: what it asks, how it ends, and what it leaves behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from dicomnet_kit import (
    CT,
    EXPLICIT,
    IMPLICIT,
    RELEASE_RP,
    RELEASE_RQ,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    VERIFICATION,
    RawPeer,
    RecordingHandler,
    RecordingProvider,
    Serve,
    p_data,
    store_command,
)

from ports import free_port
from scrigno.dicomnet import commandset, dimse
from scrigno.dicomnet.association import Association
from scrigno.dicomnet.client import connect
from scrigno.dicomnet.errors import (
    AssociationLost,
    AssociationRejected,
    ConnectFailed,
    NoAnswer,
    NoSuchContext,
)
from scrigno.dicomnet.limits import Limits
from scrigno.dicomnet.pdu import decode_associate_rq, encode_associate_ac
from scrigno.dicomnet.service import Acceptance, CloseReason, Operation, PeerAddress, Rejection

CONTEXTS = [(VERIFICATION, [IMPLICIT]), (CT, [EXPLICIT]), (STUDY_ROOT_FIND, [IMPLICIT])]


async def to(port: int, **more: object) -> Association:
    values: dict[str, object] = {
        "host": "127.0.0.1",
        "port": port,
        "called_ae": "SCRIGNO",
        "calling_ae": "US",
        "contexts": CONTEXTS,
        "timeout_s": 5,
    }
    return await connect(**{**values, **more})  # type: ignore[arg-type]


async def chunks_of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


Scripted = Callable[[Callable[[RawPeer], Awaitable[None]]], Awaitable[int]]


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    """Return a function that listens and runs a script on each connection; it returns the port."""
    servers: list[asyncio.Server] = []
    tasks: list[asyncio.Task[None]] = []

    async def start(script: Callable[[RawPeer], Awaitable[None]]) -> int:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.append(task)
            peer = RawPeer(reader, writer)
            try:
                await script(peer)
            finally:
                await peer.close()

        server = await asyncio.start_server(run, "127.0.0.1", 0)
        servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    left = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    assert not left, left


async def accept(peer: RawPeer, *, max_pdu: int = 16384) -> None:
    kind, body = await peer.hear()
    assert kind == 1
    received = decode_associate_rq(body, peer=PeerAddress("", 0), limits=Limits())
    chosen = {c.context_id: c.transfer_syntaxes[0] for c in received.request.contexts}
    await peer.say(encode_associate_ac(received, Acceptance(contexts=chosen), max_pdu=max_pdu))


async def test_connecting_to_nothing_fails_in_words() -> None:
    with pytest.raises(ConnectFailed, match=r"127\.0\.0\.1:"):
        await to(free_port())


async def test_a_peer_that_does_not_answer_is_given_up(scripted: Scripted) -> None:
    heard: list[int] = []

    async def silent(peer: RawPeer) -> None:
        while (kind := (await peer.hear())[0]) != 0:
            heard.append(kind)

    port = await scripted(silent)
    with pytest.raises(ConnectFailed, match="no answer within"):
        await to(port, timeout_s=0.1)
    await asyncio.sleep(0.05)
    assert heard in ([1], [1, 7])


async def test_a_peer_that_aborts_or_hangs_up_instead_of_answering(scripted: Scripted) -> None:
    async def abort(peer: RawPeer) -> None:
        await peer.hear()
        await peer.say(bytes.fromhex("07000000000400000201"))

    async def hang_up(peer: RawPeer) -> None:
        await peer.hear()

    for script, words in ((abort, "aborted by the peer"), (hang_up, "connection lost")):
        port = await scripted(script)
        with pytest.raises(AssociationLost, match=words):
            await to(port)


async def test_a_peer_that_answers_garbage_is_aborted(scripted: Scripted) -> None:
    heard: list[tuple[int, bytes]] = []

    async def garbage(peer: RawPeer) -> None:
        await peer.hear()
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        heard.append(await peer.hear())

    port = await scripted(garbage)
    with pytest.raises(AssociationLost, match="broke the protocol"):
        await to(port)
    await asyncio.sleep(0.05)
    assert heard == [(7, bytes([0, 0, 2, 1]))]


async def test_a_rejection_is_told_in_numbers(serve: Serve, provider: RecordingProvider) -> None:
    provider.answer = Rejection(1, 1, 3)
    server = await serve()
    with pytest.raises(AssociationRejected, match="calling AE title not recognized") as raised:
        await to(server.port)
    assert (raised.value.result, raised.value.source, raised.value.reason_code) == (1, 1, 3)


async def test_a_caller_that_is_cancelled_while_it_connects_leaves_nothing(
    scripted: Scripted,
) -> None:
    ended = asyncio.Event()

    async def silent(peer: RawPeer) -> None:
        while (await peer.hear())[0] != 0:
            pass
        ended.set()

    port = await scripted(silent)
    connecting = asyncio.create_task(to(port))
    await asyncio.sleep(0.05)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    async with asyncio.timeout(2):
        await ended.wait()


async def test_requests_on_contexts_that_were_refused_are_not_sent(
    serve: Serve, provider: RecordingProvider
) -> None:
    provider.answer = Acceptance(contexts={1: 3, 3: EXPLICIT})
    server = await serve()
    association = await to(server.port)
    assert set(association.contexts) == {3}
    with pytest.raises(NoSuchContext):
        await association.echo()
    with pytest.raises(NoSuchContext):
        await association.store(
            context_id=5, sop_class_uid=CT, sop_instance_uid="1", chunks=chunks_of(b"")
        )
    await association.release()


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b"",),
        (b"ab",),
        (b"a", b"b", b"c", b"d"),
        (b"x" * 99_999, b"", b"y", b"z" * 1_000_001),
        (bytes(600_000),),
    ],
    ids=["nothing", "an empty chunk", "small", "odd", "mixed", "one big"],
)
async def test_any_chunks_make_the_same_data_set(
    serve: Serve, provider: RecordingProvider, pieces: tuple[bytes, ...]
) -> None:
    server = await serve(max_pdu=4096)
    association = await to(server.port)
    response = await association.store(
        context_id=3, sop_class_uid=CT, sop_instance_uid="1.2", chunks=chunks_of(*pieces)
    )
    assert response.status == 0
    assert bytes(provider.sinks[0].received) == b"".join(pieces)
    await association.release()


async def test_chunks_that_fail_at_once_cost_nothing_and_later_the_association(
    serve: Serve, provider: RecordingProvider
) -> None:
    async def fail(*before: bytes) -> AsyncIterator[bytes]:
        for piece in before:
            yield piece
        raise OSError("disk")

    server = await serve()
    association = await to(server.port)
    with pytest.raises(OSError, match="disk"):
        await association.store(context_id=3, sop_class_uid=CT, sop_instance_uid="1", chunks=fail())
    assert (await association.echo()).status == 0
    with pytest.raises(OSError, match="disk"):
        await association.store(
            context_id=3, sop_class_uid=CT, sop_instance_uid="1", chunks=fail(b"ab", b"cd")
        )
    assert not association.alive
    assert association.end == (CloseReason.ABORTED_BY_US, "")
    assert await provider.until_closed() == [CloseReason.ABORTED_BY_PEER]
    assert all(sink.discarded for sink in provider.sinks)
    with pytest.raises(AssociationLost):
        await association.echo()
    await association.release()


async def test_requests_wait_for_their_place_in_the_window(
    serve: Serve, provider: RecordingProvider
) -> None:
    running: list[int] = []
    at_once: list[int] = []

    async def slow(operation: Operation) -> None:
        running.append(1)
        at_once.append(len(running))
        await asyncio.sleep(0.01)
        running.pop()
        await operation.respond(0)

    provider.on_serve = slow
    server = await serve()
    association = await to(server.port)
    answers = await asyncio.gather(*(association.echo() for _ in range(5)))
    assert [a.status for a in answers] == [0] * 5
    assert max(at_once) == 1
    await association.release()
    provider.async_ops = (3, 0)
    association = await to(server.port, async_ops=(3, 0))
    await asyncio.gather(*(association.echo() for _ in range(9)))
    assert max(at_once) == 3
    await association.release()


async def test_a_request_that_is_not_answered_ends_the_association(
    serve: Serve, provider: RecordingProvider
) -> None:
    async def never(operation: Operation) -> None:
        await asyncio.sleep(100)

    provider.on_serve = never
    server = await serve()
    association = await to(server.port)
    with pytest.raises(NoAnswer):
        await association.echo(timeout_s=0.05)
    assert association.end is not None
    assert association.end[0] is CloseReason.TIMEOUT
    assert await provider.until_closed() == [CloseReason.ABORTED_BY_PEER]


async def test_leaving_a_find_early_cancels_it_and_the_association_lives_on(
    serve: Serve, provider: RecordingProvider
) -> None:
    cancelled = asyncio.Event()

    async def endless(operation: Operation) -> None:
        if operation.command.field == dimse.C_ECHO_RQ:
            await operation.respond(0)
            return
        while not operation.cancelled.is_set():
            await operation.respond(dimse.PENDING, data=b"match!")
            await asyncio.sleep(0)
        cancelled.set()
        await operation.respond(dimse.CANCEL)

    provider.on_serve = endless
    server = await serve()
    association = await to(server.port)
    responses = association.find(5, b"identifier")
    count = 0
    async for response, data in responses:
        assert (response.status, data) == (dimse.PENDING, b"match!")
        count += 1
        if count == 3:
            break
    await responses.aclose()
    async with asyncio.timeout(5):
        await cancelled.wait()
    assert (await association.echo()).status == 0
    await association.release()


async def test_responses_nobody_takes_stop_the_reading_and_not_the_memory(
    serve: Serve, provider: RecordingProvider
) -> None:
    sent = 0

    async def flood(operation: Operation) -> None:
        nonlocal sent
        for _ in range(3000):
            await operation.respond(dimse.PENDING, data=bytes(20_000))
            sent += 1
        await operation.respond(0)

    provider.on_serve = flood
    server = await serve()
    association = await to(server.port)
    responses = association.find(5, b"identifier")
    assert (await anext(responses))[0].status == dimse.PENDING
    await asyncio.sleep(0.2)
    stopped_at = -1
    while stopped_at != sent:
        stopped_at = sent
        await asyncio.sleep(0.3)
    assert stopped_at < 1500  # of 3000: our cap and the kernel's buffers
    count = 1
    async for _ in responses:
        count += 1
    assert count == 3001
    await association.release()


async def test_the_peer_may_store_to_us_when_the_role_was_agreed(
    serve: Serve, provider: RecordingProvider
) -> None:
    async def send_back(operation: Operation) -> None:
        context_id = operation.association.context_for(CT, [EXPLICIT])
        if context_id is None:
            await operation.respond(0xA702)
            return
        response = await operation.association.store(
            context_id=context_id,
            sop_class_uid=CT,
            sop_instance_uid="1.2.9",
            chunks=chunks_of(b"image!"),
        )
        await operation.respond(response.status)

    mine = RecordingProvider()
    provider.on_serve = send_back
    provider.roles = True
    server = await serve()
    for roles, status in (({CT: (False, True)}, 0), ({}, 0xA702)):
        handler = RecordingHandler(mine, None)  # type: ignore[arg-type]
        association = await to(
            server.port,
            contexts=[(STUDY_ROOT_GET, [IMPLICIT]), (CT, [EXPLICIT])],
            roles=roles,
            handler=handler,
        )
        answers = [
            command.status
            async for command, _ in association.request_responses(
                field=dimse.C_GET_RQ, context_id=1, sop_class_uid=STUDY_ROOT_GET, data=b"identif."
            )
        ]
        assert answers == [status]
        await association.release()
        assert handler.close_reasons == [CloseReason.RELEASED]
    assert [bytes(sink.received) for sink in mine.sinks] == [b"image!"]


async def test_a_peer_that_stores_without_the_role_is_refused(scripted: Scripted) -> None:
    answers: list[int] = []

    async def push(peer: RawPeer) -> None:
        await accept(peer)
        await peer.say(p_data(3, 3, store_command()), p_data(3, 2, b"ab"))
        answers.append((await peer.hear_command()).status)
        await peer.hear()
        await peer.say(RELEASE_RP)
        await peer.hear()

    port = await scripted(push)
    association = await to(port)
    await asyncio.sleep(0.1)
    await association.release()
    assert answers == [dimse.SOP_CLASS_NOT_SUPPORTED]


async def test_a_release_collision_ends_in_a_release(scripted: Scripted) -> None:
    heard: list[int] = []

    async def collide(peer: RawPeer) -> None:
        await accept(peer)
        assert (await peer.hear())[0] == 5
        await peer.say(RELEASE_RQ)
        heard.append((await peer.hear())[0])
        await peer.say(RELEASE_RP)
        heard.append((await peer.hear())[0])

    port = await scripted(collide)
    association = await to(port)
    await association.release()
    assert association.end == (CloseReason.RELEASED, "")
    await asyncio.sleep(0.02)
    assert heard == [6, 0]


async def test_an_acceptor_that_releases_survives_the_collision_too(
    serve: Serve, provider: RecordingProvider
) -> None:
    server = await serve()
    association = await to(server.port)
    await asyncio.gather(association.release(), provider.handlers[0].association.release())
    assert association.end == (CloseReason.RELEASED, "")
    assert provider.closed == [CloseReason.RELEASED]


async def test_a_release_that_is_not_answered_ends_in_an_abort(scripted: Scripted) -> None:
    heard: list[int] = []

    async def silent(peer: RawPeer) -> None:
        await accept(peer)
        while (kind := (await peer.hear())[0]) != 0:
            heard.append(kind)

    port = await scripted(silent)
    association = await to(port, limits=Limits(artim_s=0.1))
    await association.release()
    assert association.end is not None
    assert association.end[0] is CloseReason.TIMEOUT
    await asyncio.sleep(0.02)
    assert heard == [5, 7]
    await association.release()  # again: nothing happens


async def test_data_that_comes_during_the_release_is_still_taken(scripted: Scripted) -> None:
    async def late(peer: RawPeer) -> None:
        await accept(peer)
        await peer.hear()  # the find
        await peer.hear()
        await peer.hear()  # the release
        await peer.say(p_data(5, 3, final_response(1)), RELEASE_RP)
        await peer.hear()

    port = await scripted(late)
    association = await to(port)
    responses = association.find(5, b"identifier")
    waiting = asyncio.ensure_future(anext(responses))
    await asyncio.sleep(0.05)
    await association.release()
    assert (await waiting)[0].status == 0
    await responses.aclose()


def final_response(message_id: int) -> bytes:
    return commandset.encode_command(
        {
            dimse.COMMAND_FIELD: dimse.C_FIND_RQ | dimse.RESPONSE,
            dimse.MESSAGE_ID_RESPONDED: message_id,
            dimse.DATA_SET_TYPE: dimse.NO_DATA_SET,
            dimse.STATUS: 0,
        }
    )


async def test_a_peer_that_stops_reading_makes_us_wait_and_not_grow(scripted: Scripted) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            yield bytes(100_000)
            sent += 100_000

    async def deaf(peer: RawPeer) -> None:
        await accept(peer)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(100)

    port = await scripted(deaf)
    association = await to(port, limits=Limits(message_idle_s=0.2, artim_s=0.1))
    with pytest.raises(AssociationLost):
        await association.store(
            context_id=3, sop_class_uid=CT, sop_instance_uid="1", chunks=endless()
        )
    assert sent < 20_000_000  # what the kernel's buffers took
    assert association.end is not None
    assert association.end[0] is CloseReason.TIMEOUT
    await association.release()


async def test_pdus_are_even_and_no_longer_than_the_peer_takes(scripted: Scripted) -> None:
    lengths: list[int] = []
    received = bytearray()

    async def narrow(peer: RawPeer) -> None:
        await accept(peer, max_pdu=200)
        while True:
            kind, body = await peer.hear()
            if kind != 4:
                return
            lengths.append(len(body))
            if not body[5] & 1:
                received.extend(body[6:])

    port = await scripted(narrow)
    association = await to(port)
    with pytest.raises(NoAnswer):
        await association.store(
            context_id=3,
            sop_class_uid=CT,
            sop_instance_uid="1",
            chunks=chunks_of(bytes(1999), b"x" * 3001),
            timeout_s=0.1,
        )
    await association.release()
    assert max(lengths) == 200
    assert not [length for length in lengths if length % 2]  # PS3.8 annex E.1
    assert received == bytes(1999) + b"x" * 3001


@pytest.mark.parametrize("title", ["", " " * 4, "X" * 17])
async def test_an_ae_title_that_cannot_be_sent_is_refused_at_once(title: str) -> None:
    with pytest.raises(ValueError, match="AE title"):
        await to(1, called_ae=title)
