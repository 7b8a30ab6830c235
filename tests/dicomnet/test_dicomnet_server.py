# SPDX-License-Identifier: Apache-2.0
"""The acceptor against a peer that says exactly what a test wants: protocol, limits, endings."""

import asyncio
import struct

import pytest
from dicomnet_kit import (
    ABORT,
    CT,
    EXPLICIT,
    IMPLICIT,
    RELEASE_RP,
    RELEASE_RQ,
    STUDY_ROOT_FIND,
    VERIFICATION,
    Dial,
    RawPeer,
    RecordingProvider,
    RecordingSink,
    Serve,
    echo_command,
    p_data,
    request_pdu,
    store_command,
)

from scrigno.dicomnet import commandset, dimse
from scrigno.dicomnet.service import CloseReason, Operation, Rejection, Response, UserIdentity


async def test_an_echo_and_a_release_are_answered(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    peer = await dial(await serve())
    await peer.associate()
    await peer.say(p_data(1, 3, echo_command(7)))
    answer = await peer.hear_command()
    assert answer.field == dimse.C_ECHO_RQ | dimse.RESPONSE
    assert (answer.message_id, answer.status) == (7, 0)
    await peer.say(RELEASE_RQ)
    assert await peer.hear() == (6, bytes(4))
    assert await provider.until_closed() == [CloseReason.RELEASED]


@pytest.mark.spec("DN-4")
async def test_a_data_set_reaches_its_sink_byte_for_byte(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    peer = await dial(await serve())
    await peer.associate()
    data = bytes(range(256)) * 300
    await peer.say(
        p_data(3, 3, store_command(9, uid="1.2.3.9")),
        *(p_data(3, 0, data[at : at + 5000]) for at in range(0, len(data), 5000)),
        p_data(3, 2, b""),
    )
    answer = await peer.hear_command()
    assert answer.field == dimse.C_STORE_RQ | dimse.RESPONSE
    assert (answer.message_id, answer.status, answer.sop_class_uid) == (9, 0, CT)
    assert answer.sop_instance_uid == "1.2.3.9"
    assert bytes(provider.sinks[0].received) == data
    assert provider.sinks[0].command.sop_instance_uid == "1.2.3.9"
    assert provider.syntaxes == [EXPLICIT]


async def test_a_request_carries_what_the_peer_proposed(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    peer = await dial(await serve())
    await peer.associate(
        request_pdu(
            roles={CT: (True, True)},
            async_ops=(3, 1),
            extended={STUDY_ROOT_FIND: b"\1\1\0"},
            common_extended={CT: ("1.2.840.10008.4.2", (VERIFICATION, STUDY_ROOT_FIND))},
            user_identity=UserIdentity(2, b"anna", b"secret", response_requested=True),
        )
    )
    request = provider.requests[0]
    assert (request.called_ae, request.calling_ae) == ("SCRIGNO", "PEER")
    assert request.peer.host == "127.0.0.1"
    assert request.roles == {CT: (True, True)}
    assert request.async_ops == (3, 1)
    assert request.extended == {STUDY_ROOT_FIND: b"\1\1\0"}
    assert request.common_extended == {CT: ("1.2.840.10008.4.2", (VERIFICATION, STUDY_ROOT_FIND))}
    assert request.user_identity == UserIdentity(2, b"anna", b"secret", response_requested=True)
    assert "anna" not in repr(request)
    assert "secret" not in repr(request)
    assert request.implementation_version
    assert not request.tls


@pytest.mark.parametrize(
    ("mutilate", "numbers"),
    [
        (lambda pdu: pdu[:6] + b"\0\2" + pdu[8:], (1, 2, 2)),
        (lambda pdu: pdu.replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.9"), (1, 1, 2)),
        (lambda pdu: pdu.replace(struct.pack(">I", 16384), struct.pack(">I", 20)), (1, 2, 1)),
    ],
    ids=["protocol version", "application context", "tiny PDUs"],
)
async def test_a_request_the_provider_cannot_serve_is_rejected(
    serve: Serve, dial: Dial, provider: RecordingProvider, mutilate: object, numbers: object
) -> None:
    peer = await dial(await serve())
    await peer.say(mutilate(request_pdu()))  # type: ignore[operator]
    kind, body = await peer.hear()
    assert (kind, tuple(body[1:])) == (3, numbers)
    assert not provider.requests


async def test_the_rejection_of_the_room_above_travels(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    provider.answer = Rejection(1, 1, 7, "called AE title not recognized")
    peer = await dial(await serve())
    await peer.say(request_pdu())
    assert await peer.hear() == (3, bytes([0, 1, 1, 7]))


@pytest.mark.spec("DN-11")
async def test_associations_over_the_limits_are_rejected_as_transient(
    serve: Serve, dial: Dial
) -> None:
    server = await serve(max_associations=3, max_associations_per_peer=2)
    for name, accepted in [("A", True), ("A", True), ("A", False), ("B", True), ("C", False)]:
        peer = await dial(server)
        await peer.say(request_pdu(calling_ae=name))
        kind, body = await peer.hear()
        assert (kind == 2) is accepted, name
        if not accepted:
            assert body == bytes([0, 2, 3, 2])
    assert len(server.associations) == 3


async def test_one_host_cannot_take_all_associations_under_many_names(
    serve: Serve, dial: Dial
) -> None:
    server = await serve(max_associations_per_host=2)
    answers = []
    for name in ("A", "B", "C"):
        peer = await dial(server)
        await peer.say(request_pdu(calling_ae=name))
        answers.append((await peer.hear())[0])
    assert answers == [2, 2, 3]


async def test_an_ended_association_makes_room_for_another(serve: Serve, dial: Dial) -> None:
    server = await serve(max_associations=2, max_associations_per_peer=1)
    for _ in range(3):
        peer = await dial(server)
        await peer.associate()
        await peer.say(RELEASE_RQ)
        assert (await peer.hear())[0] == 6


async def test_a_rejected_request_makes_room_again(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    server = await serve(max_associations=1)
    provider.answer = Rejection(1, 1, 1)
    for _ in range(3):
        peer = await dial(server)
        await peer.say(request_pdu())
        assert await peer.hear() == (3, bytes([0, 1, 1, 1]))


# -- broken protocol ------------------------------------------------------------------------

# What is said after the association stands, and the reason of the A-ABORT that must follow.
BROKEN = {
    "an unknown PDU": (b"\x09\0\0\0\0\4abcd", 1),
    "an HTTP request": (b"GET / HTTP/1.1\r\n\r\n", 1),
    "a second A-ASSOCIATE-RQ": (request_pdu(), 2),
    "an A-ASSOCIATE-RJ": (bytes.fromhex("03000000000400010101"), 2),
    "an A-RELEASE-RP nobody waits for": (RELEASE_RP, 2),
    "a P-DATA-TF without length": (b"\4\0\0\0\0\0", 6),
    "a P-DATA-TF of four gigabytes": (b"\4\0\xff\xff\xff\xff", 6),
    "an A-ABORT of four gigabytes": (b"\7\0\xff\xff\xff\xff", 6),
    "an A-RELEASE-RQ of length zero": (b"\5\0\0\0\0\0", 6),
    "a PDV of length zero": (p_data(1, 3, b"")[:6] + b"\0\0\0\0\1\3", 6),
    "a PDV of length one": (p_data(1, 3, b"")[:6] + b"\0\0\0\1\1\3", 6),
    "a PDV of four gigabytes": (p_data(1, 3, b"")[:6] + b"\xff\xff\xff\xff\1\3", 6),
    "a PDV longer than its PDU": (p_data(1, 3, b"")[:6] + b"\0\0\0\3\1\3", 6),
    "stray bytes after a PDV": (b"\4\0\0\0\0\x09\0\0\0\2\1\3\0\0\0", 6),
    "a context that was not accepted": (p_data(5, 3, echo_command()), 6),
    "a data set without command": (p_data(3, 2, b"data"), 5),
    "a command inside a data set": (
        p_data(3, 3, store_command()) + p_data(3, 0, b"data") + p_data(3, 3, echo_command()),
        5,
    ),
    "a data set on another context": (p_data(3, 3, store_command()) + p_data(1, 0, b"data"), 5),
    "interleaved command sets": (
        p_data(1, 1, echo_command()[:8]) + p_data(3, 3, echo_command()[8:]),
        5,
    ),
    "a command set that is cut": (p_data(1, 3, echo_command()[:-3]), 6),
    "an empty command set": (p_data(1, 3, b""), 6),
    "a command element of four gigabytes": (p_data(1, 3, b"\0\0\0\0\xff\xff\xff\xff"), 6),
    "a command set without field": (p_data(1, 3, commandset.encode_command({0x110: 1})), 6),
    "an endless command set": (b"".join(p_data(1, 1, bytes(8000)) for _ in range(3)), 6),
}


@pytest.mark.spec("DN-11")
@pytest.mark.parametrize("name", BROKEN)
async def test_a_peer_that_breaks_the_protocol_is_aborted_by_the_provider(
    serve: Serve, dial: Dial, provider: RecordingProvider, name: str
) -> None:
    said, reason = BROKEN[name]
    peer = await dial(await serve())
    await peer.associate()
    await peer.say(said)
    kind, body = await peer.hear()
    assert (kind, body) == (7, bytes([0, 0, 2, reason]))
    assert provider.closed == [CloseReason.PROTOCOL_ERROR]
    for sink in provider.sinks:
        assert sink.discarded


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: box\r\n\r\n",
        b"\x16\x03\x01\x02\0\1\0\1\xfc\x03\x03",  # a TLS client hello
        b"\1\0\0\0\0\0",
        b"\1\0\xff\xff\xff\xff",
        b"\1\0\0\1\0\1" + bytes(100),  # 64 KiB and one
        p_data(1, 3, echo_command()),
        RELEASE_RQ,
        RELEASE_RP,
        request_pdu()[:6] + request_pdu()[6:74] + b"\x20\0\xff\xff" + request_pdu()[78:],
        request_pdu([(VERIFICATION, [IMPLICIT])]).replace(b"\x20\0\0\x2e\1", b"\x20\0\0\x2e\2"),
    ],
    ids=range(10),
)
async def test_a_stranger_is_aborted_by_the_service_user(
    serve: Serve, dial: Dial, provider: RecordingProvider, said: bytes
) -> None:
    peer = await dial(await serve())
    await peer.say(said)
    assert await peer.hear() == (7, bytes(4))  # AA-1, PS3.8 table 9-9
    assert not provider.requests


async def test_an_unknown_item_of_a_request_is_ignored(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    plain = request_pdu()
    body = plain[6:] + b"\x77\0\0\5hello"
    peer = await dial(await serve())
    await peer.associate(b"\1\0" + struct.pack(">I", len(body)) + body)
    assert provider.requests[0].called_ae == "SCRIGNO"


async def test_texts_that_are_not_ascii_harm_nobody(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    pdu = request_pdu(calling_ae="XXXX").replace(b"XXXX", b"\xe9\0\n\x1b")
    pdu = pdu.replace(CT.encode(), b"\xff" * len(CT))
    peer = await dial(await serve())
    await peer.associate(pdu)
    assert provider.requests[0].calling_ae == "\\xe9\0\n\x1b"
    assert "\n" not in repr(provider.handlers[0].association)


async def test_everything_after_an_abort_of_ours_is_ignored(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    peer = await dial(await serve())
    await peer.associate()
    await peer.say(RELEASE_RP, p_data(3, 3, store_command()), p_data(3, 2, b"data"), RELEASE_RQ)
    assert await peer.hear() == (7, bytes([0, 0, 2, 2]))
    await peer.say(p_data(1, 3, echo_command()))
    await peer.say(ABORT)
    assert await peer.hear() == (0, b"")
    assert not provider.sinks


# -- endings in the middle ------------------------------------------------------------------


@pytest.mark.spec("DN-11")
@pytest.mark.parametrize("ending", ["abort", "reset", "close", "release"])
async def test_an_object_that_is_cut_off_is_discarded(
    serve: Serve, dial: Dial, provider: RecordingProvider, ending: str
) -> None:
    peer = await dial(await serve())
    await peer.associate()
    await peer.say(p_data(3, 3, store_command()), p_data(3, 0, bytes(10_000)))
    while not provider.sinks:
        await asyncio.sleep(0.01)
    match ending:
        case "abort":
            await peer.say(ABORT)
        case "reset":
            peer.reset()
        case "close":
            await peer.close()
        case _:
            await peer.say(RELEASE_RQ)
    reasons = await provider.until_closed()
    assert provider.sinks[0].discarded
    assert not provider.sinks[0].finished
    expected = {
        "abort": CloseReason.ABORTED_BY_PEER,
        "reset": CloseReason.CONNECTION_LOST,
        "close": CloseReason.CONNECTION_LOST,
        "release": CloseReason.RELEASED,
    }
    assert reasons == [expected[ending]]


async def test_a_complete_object_is_finished_though_the_peer_is_gone(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    gate = asyncio.Event()
    done: list[bool] = []

    async def slow(sink: RecordingSink) -> Response:
        await gate.wait()
        done.append(True)
        return Response(0)

    provider.on_finish = slow
    server = await serve()
    peer = await dial(server)
    await peer.associate()
    await peer.say(p_data(3, 3, store_command()), p_data(3, 2, b"data"), ABORT)
    assert await provider.until_closed() == [CloseReason.ABORTED_BY_PEER]
    assert not done
    gate.set()
    await asyncio.sleep(0.01)
    assert done
    assert not provider.sinks[0].discarded


async def test_a_release_waits_for_the_answer_to_a_complete_object(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    async def slow(sink: RecordingSink) -> Response:
        await asyncio.sleep(0.05)
        return Response(0)

    provider.on_finish = slow
    peer = await dial(await serve())
    await peer.associate()
    await peer.say(p_data(3, 3, store_command(4)), p_data(3, 2, b"data"), RELEASE_RQ)
    assert (await peer.hear_command()).message_id == 4
    assert await peer.hear() == (6, bytes(4))


async def test_an_operation_is_cancelled_when_its_association_dies(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    seen: list[str] = []

    async def forever(operation: Operation) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            seen.append(f"cancelled {operation.cancelled.is_set()}")
            raise

    provider.on_serve = forever
    peer = await dial(await serve())
    await peer.associate()
    await peer.say(p_data(1, 3, echo_command()))
    await asyncio.sleep(0.02)
    await peer.say(ABORT)
    await provider.until_closed()
    await asyncio.sleep(0.01)
    assert seen == ["cancelled True"]


async def test_the_negotiation_is_cancelled_when_the_peer_goes_away(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    provider.negotiate_s = 100
    server = await serve(max_associations=1)
    for _ in range(2):
        peer = await dial(server)
        await peer.say(request_pdu())
        await asyncio.sleep(0.02)
        await peer.close()
        await asyncio.sleep(0.02)
    assert not server.connections
    assert len(provider.requests) == 2


async def test_a_negotiation_that_takes_too_long_is_rejected_as_transient(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    provider.negotiate_s = 100
    peer = await dial(await serve(negotiate_s=0.05))
    await peer.say(request_pdu())
    assert await peer.hear() == (3, bytes([0, 2, 3, 1]))


# -- operations -----------------------------------------------------------------------------


async def find(peer: RawPeer, message_id: int, identifier: bytes = b"\0" * 8) -> None:
    command = commandset.encode_command(
        {
            dimse.AFFECTED_SOP_CLASS_UID: STUDY_ROOT_FIND,
            dimse.COMMAND_FIELD: dimse.C_FIND_RQ,
            dimse.MESSAGE_ID: message_id,
            dimse.PRIORITY: 0,
            dimse.DATA_SET_TYPE: dimse.HAS_DATA_SET,
        }
    )
    await peer.say(
        p_data(1, 3, command),
        *(p_data(1, 0, identifier[at : at + 9000]) for at in range(0, len(identifier), 9000)),
        p_data(1, 2, b""),
    )


def cancel(message_id: int) -> bytes:
    return p_data(
        1,
        3,
        commandset.encode_command(
            {
                dimse.COMMAND_FIELD: dimse.C_CANCEL_RQ,
                dimse.MESSAGE_ID_RESPONDED: message_id,
                dimse.DATA_SET_TYPE: dimse.NO_DATA_SET,
            }
        ),
    )


FIND_CONTEXT = [(STUDY_ROOT_FIND, [IMPLICIT])]


async def test_responses_of_an_operation_come_with_their_data_and_counts(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    async def answer(operation: Operation) -> None:
        await operation.respond(0xFF00, data=b"one!")
        await operation.respond(
            0xB000, comment="x" * 90, completed=3, failed=1, warning=0, offending=(0x00080018,)
        )

    provider.on_serve = answer
    peer = await dial(await serve())
    await peer.associate(request_pdu(FIND_CONTEXT))
    await find(peer, 5, b"identifier.." * 2000)
    assert (await peer.hear_command()).has_data_set
    kind, body = await peer.hear()
    assert (kind, body[5], body[6:]) == (4, 2, b"one!")
    final = await peer.hear_command()
    assert (final.status, final.comment, final.has_data_set) == (0xB000, "x" * 64, False)
    assert commandset.short(final.raw[dimse.COMPLETED]) == 3
    assert final.raw[dimse.OFFENDING_ELEMENT] == b"\x08\0\x18\0"
    assert dimse.REMAINING not in final.raw
    operation = provider.handlers[0].operations[0]
    assert operation.data == b"identifier.." * 2000
    assert operation.transfer_syntax == IMPLICIT
    with pytest.raises(RuntimeError):
        await operation.respond(0)


async def test_c_cancel_reaches_the_operation_it_names(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    async def answer(operation: Operation) -> None:
        await operation.cancelled.wait()
        await operation.respond(dimse.CANCEL)

    provider.on_serve = answer
    peer = await dial(await serve())
    await peer.associate(request_pdu(FIND_CONTEXT))
    await find(peer, 5)
    await peer.say(cancel(4))  # of nothing: ignored
    await peer.say(cancel(5))
    assert (await peer.hear_command()).status == dimse.CANCEL


@pytest.mark.parametrize("fault", ["raise", "return"])
async def test_an_operation_that_is_not_answered_fails_with_0110(
    serve: Serve,
    dial: Dial,
    provider: RecordingProvider,
    fault: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def answer(operation: Operation) -> None:
        if fault == "raise":
            raise ValueError("patient")

    provider.on_serve = answer
    peer = await dial(await serve())
    await peer.associate()
    await peer.say(p_data(1, 3, echo_command()))
    assert (await peer.hear_command()).status == dimse.PROCESSING_FAILURE


@pytest.mark.spec("DN-11")
async def test_an_identifier_over_the_cap_is_refused_and_not_kept(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    peer = await dial(await serve(max_identifier=10_000))
    await peer.associate(request_pdu(FIND_CONTEXT))
    await find(peer, 5, bytes(50_000))
    assert (await peer.hear_command()).status == dimse.OUT_OF_RESOURCES
    await find(peer, 6, bytes(10_000))
    assert (await peer.hear_command()).status == 0


async def test_a_service_nobody_knows_is_answered_as_unrecognized(serve: Serve, dial: Dial) -> None:
    peer = await dial(await serve())
    await peer.associate()
    command = commandset.encode_command({0x100: 0x0777, 0x110: 3, 0x800: 1, 0x2: CT})
    await peer.say(p_data(1, 3, command), p_data(1, 2, b"whatever"))
    answer = await peer.hear_command()
    assert (answer.field, answer.status) == (0x8777, dimse.UNRECOGNIZED_OPERATION)


# -- C-STORE --------------------------------------------------------------------------------


async def test_a_refused_store_is_answered_after_its_data_set(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    provider.refuse_store = Response(0xA700, "no durable storage")
    peer = await dial(await serve())
    await peer.associate()
    await peer.say(p_data(3, 3, store_command(2)), p_data(3, 0, bytes(5000)), p_data(3, 2, b""))
    answer = await peer.hear_command()
    assert (answer.status, answer.comment, answer.message_id) == (0xA700, "no durable storage", 2)
    provider.refuse_store = None
    await peer.say(p_data(3, 3, store_command(3)), p_data(3, 2, b"ab"))
    assert (await peer.hear_command()).status == 0


async def test_a_store_without_data_set_cannot_be_understood(serve: Serve, dial: Dial) -> None:
    peer = await dial(await serve())
    await peer.associate()
    await peer.say(p_data(3, 3, store_command(2, data_set=False)))
    assert (await peer.hear_command()).status == dimse.CANNOT_UNDERSTAND


@pytest.mark.parametrize("where", ["write", "finish"])
async def test_a_sink_that_raises_costs_one_object_and_not_the_association(
    serve: Serve, dial: Dial, provider: RecordingProvider, where: str
) -> None:
    async def fail_to_finish(sink: RecordingSink) -> Response:
        raise OSError("disk")

    def fail_to_write(sink: RecordingSink) -> bool:
        raise OSError("disk")

    if where == "write":
        provider.on_write = fail_to_write
    else:
        provider.on_finish = fail_to_finish
    peer = await dial(await serve())
    await peer.associate()
    await peer.say(p_data(3, 3, store_command(2)), p_data(3, 0, b"ab"), p_data(3, 2, b"cd"))
    assert (await peer.hear_command()).status == dimse.PROCESSING_FAILURE
    assert provider.sinks[0].discarded == (["the sink failed"] if where == "write" else [])
    provider.on_write = provider.on_finish = None
    await peer.say(p_data(3, 3, store_command(3)), p_data(3, 2, b"ab"))
    assert (await peer.hear_command()).status == 0


async def test_a_sink_that_keeps_the_view_gets_an_error_and_no_other_images_bytes(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    kept: list[memoryview] = []
    original = RecordingSink.write

    def keep(self: RecordingSink, fragment: memoryview) -> bool:
        kept.append(fragment)
        return original(self, fragment)

    RecordingSink.write = keep  # type: ignore[method-assign]
    try:
        peer = await dial(await serve())
        await peer.associate()
        await peer.say(p_data(3, 3, store_command(2)), p_data(3, 2, b"cd"))
        await peer.hear_command()
    finally:
        RecordingSink.write = original  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="released"):
        bytes(kept[0])


@pytest.mark.spec("DN-11")
async def test_a_sink_over_its_high_water_mark_stops_the_reading(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    provider.on_write = lambda sink: False
    server = await serve()
    peer = await dial(server)
    await peer.associate()
    total = 40_000_000

    async def pour() -> None:
        await peer.say(p_data(3, 3, store_command()))
        for _ in range(total // 100_000):
            await peer.say(p_data(3, 0, bytes(100_000)))
        await peer.say(p_data(3, 2, b""))

    pouring = asyncio.create_task(pour())
    while not provider.sinks:
        await asyncio.sleep(0.01)
    sink = provider.sinks[0]
    await asyncio.sleep(0.1)
    stopped_at = len(sink.received)
    assert stopped_at <= 256 * 1024
    await asyncio.sleep(0.05)
    assert len(sink.received) == stopped_at
    sink.resume()  # a little more, and no further
    await asyncio.sleep(0.1)
    assert stopped_at < len(sink.received) <= stopped_at + 256 * 1024
    provider.on_write = None
    sink.resume()
    await pouring
    assert (await peer.hear_command()).status == 0
    assert len(sink.received) == total
    sink.resume()  # after its end: harmless


async def test_requests_beyond_the_window_wait_their_turn(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    at_once: list[int] = []
    running = 0

    async def slow(sink: RecordingSink) -> Response:
        nonlocal running
        running += 1
        at_once.append(running)
        await asyncio.sleep(0.01)
        running -= 1
        return Response(0)

    provider.on_finish = slow
    peer = await dial(await serve())
    await peer.associate()
    data = [bytes([n]) * 3000 for n in range(1, 9)]
    await peer.say(
        *(
            p_data(3, 3, store_command(n, uid=f"1.2.{n}")) + p_data(3, 2, data[n - 1])
            for n in range(1, 9)
        )
    )
    for number in range(1, 9):
        assert (await peer.hear_command()).message_id == number
    assert [bytes(s.received) for s in provider.sinks] == data
    assert set(at_once) == {1}


async def test_an_agreed_window_lets_that_many_run_at_once(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    at_once: list[int] = []
    running = 0

    async def slow(sink: RecordingSink) -> Response:
        nonlocal running
        running += 1
        at_once.append(running)
        await asyncio.sleep(0.02)
        running -= 1
        return Response(0)

    provider.on_finish = slow
    provider.async_ops = (3, 1)
    peer = await dial(await serve())
    await peer.associate(request_pdu(async_ops=(3, 1)))
    await peer.say(
        *(p_data(3, 3, store_command(n)) + p_data(3, 2, bytes(3000)) for n in range(1, 10))
    )
    answered = [(await peer.hear_command()).message_id for _ in range(9)]
    assert sorted(answered) == list(range(1, 10))
    assert max(at_once) == 3


async def test_a_message_id_in_use_is_a_duplicate_invocation(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    async def slow(sink: RecordingSink) -> Response:
        await asyncio.sleep(0.05)
        return Response(0)

    provider.on_finish = slow
    provider.async_ops = (0, 0)
    peer = await dial(await serve())
    await peer.associate(request_pdu(async_ops=(0, 0)))
    await peer.say(p_data(3, 3, store_command(1)) + p_data(3, 2, b"ab"))
    await peer.say(p_data(3, 3, store_command(1)) + p_data(3, 2, b"cd"))
    assert (await peer.hear_command()).status == dimse.DUPLICATE_INVOCATION
    assert (await peer.hear_command()).status == 0
    assert len(provider.sinks) == 1


async def test_a_role_that_was_not_agreed_is_refused(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    provider.roles = True
    peer = await dial(await serve())
    await peer.associate(request_pdu(roles={CT: (False, True)}))
    context = provider.handlers[0].association.contexts[3]
    assert (context.as_scu, context.as_scp) == (True, False)
    await peer.say(p_data(3, 3, store_command(1)) + p_data(3, 2, b"ab"))
    assert (await peer.hear_command()).status == dimse.SOP_CLASS_NOT_SUPPORTED


# -- time -----------------------------------------------------------------------------------


@pytest.mark.spec("DN-11")
async def test_a_connection_that_asks_for_nothing_is_closed(serve: Serve, dial: Dial) -> None:
    server = await serve(artim_s=0.1)
    silent, half = await dial(server), await dial(server)
    await half.say(request_pdu()[:50])
    assert await silent.hear() == (0, b"")
    assert await half.hear() == (0, b"")
    assert not server.connections


async def test_a_request_dripped_byte_by_byte_does_not_stretch_artim(
    serve: Serve, dial: Dial
) -> None:
    server = await serve(artim_s=0.15)
    peer = await dial(server)

    async def drip() -> None:
        for number in range(100):
            await peer.say(request_pdu()[number : number + 1])
            await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    assert await peer.hear() == (0, b"")
    assert server.connections == 0
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)


async def test_silence_in_the_middle_of_a_message_aborts(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    peer = await dial(await serve(message_idle_s=0.1))
    await peer.associate()
    await peer.say(p_data(3, 3, store_command()), p_data(3, 0, bytes(100)))
    assert await peer.hear() == (7, bytes(4))
    assert provider.closed == [CloseReason.TIMEOUT]
    assert provider.sinks[0].discarded


async def test_silence_in_the_middle_of_a_pdu_aborts(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    peer = await dial(await serve(message_idle_s=0.1))
    await peer.associate()
    await peer.say(b"\4\0\0")
    assert await peer.hear() == (7, bytes(4))
    assert provider.closed == [CloseReason.TIMEOUT]


@pytest.mark.spec("DN-11")
async def test_a_message_that_drips_is_aborted_for_its_throughput(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    peer = await dial(await serve(message_idle_s=0.2, min_bytes_per_s=10_000))
    await peer.associate()
    await peer.say(p_data(3, 3, store_command()), p_data(3, 0, bytes(60_000))[:100])

    async def drip() -> None:
        while True:
            await peer.say(b"x")
            await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    assert await peer.hear() == (7, bytes(4))
    assert provider.closed == [CloseReason.TIMEOUT]
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)


async def test_a_message_that_begins_late_in_a_window_is_not_called_slow(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    peer = await dial(await serve(message_idle_s=0.2, min_bytes_per_s=100_000))
    await peer.associate()
    await asyncio.sleep(0.15)
    await peer.say(p_data(3, 3, store_command()))
    await asyncio.sleep(0.1)
    await peer.say(p_data(3, 2, bytes(50_000)))
    assert (await peer.hear_command()).status == 0


async def test_an_association_that_idles_too_long_is_aborted(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    peer = await dial(await serve(association_idle_s=0.15))
    await peer.associate()
    await peer.say(p_data(1, 3, echo_command()))
    await peer.hear_command()
    assert await peer.hear() == (7, bytes(4))
    assert provider.closed == [CloseReason.TIMEOUT]


async def test_our_own_slowness_is_not_held_against_the_peer(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    async def slow(sink: RecordingSink) -> Response:
        await asyncio.sleep(0.4)
        return Response(0)

    provider.on_write = lambda sink: False
    provider.on_finish = slow
    peer = await dial(await serve(association_idle_s=0.1, message_idle_s=0.1))
    await peer.associate()
    await peer.say(p_data(3, 3, store_command()), p_data(3, 0, bytes(100)))
    await asyncio.sleep(0.4)
    provider.sinks[0].resume()
    await peer.say(p_data(3, 2, b"ab"))
    assert (await peer.hear_command()).status == 0


async def test_a_peer_that_does_not_read_is_aborted_and_memory_stays_flat(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    sent = 0

    async def flood(operation: Operation) -> None:
        nonlocal sent
        while True:
            await operation.respond(0xFF00, data=bytes(10_000))
            sent += 10_000

    provider.on_serve = flood
    peer = await dial(await serve(message_idle_s=0.2))
    await peer.associate(request_pdu(FIND_CONTEXT))
    peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await find(peer, 1)
    assert await provider.until_closed() == [CloseReason.TIMEOUT]
    assert sent < 20_000_000  # what the kernel's buffers took


async def test_an_abort_that_the_peer_does_not_follow_ends_with_artim(
    serve: Serve, dial: Dial
) -> None:
    server = await serve(artim_s=0.1)
    peer = await dial(server)
    await peer.associate()
    await peer.say(RELEASE_RP)
    assert (await peer.hear())[0] == 7
    assert await peer.hear() == (0, b"")
    assert not server.connections


@pytest.mark.spec("DN-11")
async def test_idle_connections_keep_no_real_sender_out(serve: Serve, dial: Dial) -> None:
    server = await serve(max_connections=20, max_associations=5)
    idle = [await dial(server) for _ in range(60)]
    peer = await dial(server)
    await peer.associate()
    await peer.say(p_data(1, 3, echo_command()))
    assert (await peer.hear_command()).status == 0
    assert server.connections <= 20
    assert await idle[0].hear() == (0, b"")


async def test_a_closing_server_lets_the_running_object_end(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    server = await serve()
    busy, idle = await dial(server), await dial(server)
    await busy.associate()
    await idle.associate()
    await busy.say(p_data(3, 3, store_command(8)), p_data(3, 0, b"ab"))
    while not provider.sinks:
        await asyncio.sleep(0.01)
    closing = asyncio.create_task(server.close(grace_s=5))
    assert await idle.hear() == (7, bytes(4))
    await busy.say(p_data(3, 2, b"cd"))
    assert (await busy.hear_command()).message_id == 8
    assert await busy.hear() == (7, bytes(4))
    await asyncio.gather(busy.close(), idle.close())
    await closing
    assert provider.sinks[0].finished == 1
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", server.port or 1)


async def test_a_closing_server_cancels_what_outlives_its_grace(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    async def forever(sink: RecordingSink) -> Response:
        await asyncio.sleep(100)
        return Response(0)

    provider.on_finish = forever
    server = await serve()
    peer = await dial(server)
    await peer.associate()
    await peer.say(p_data(3, 3, store_command()), p_data(3, 2, b"cd"))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        await server.close(grace_s=0.05)
    assert provider.closed == [CloseReason.ABORTED_BY_US]
