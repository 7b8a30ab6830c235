# SPDX-License-Identifier: Apache-2.0
"""Peers that mean harm, or died: cut, mutated and endless streams; many at once; memory."""

import asyncio
import gc
import os
import random
import resource
from pathlib import Path

import pytest
from dicomnet_kit import (
    CT,
    EXPLICIT,
    IMPLICIT,
    MANY,
    RELEASE_RQ,
    VERIFICATION,
    Dial,
    RawPeer,
    RecordingProvider,
    Serve,
    echo_command,
    p_data,
    request_pdu,
    store_command,
)

from scrigno.dicomnet import dimse
from scrigno.dicomnet.client import connect

REQUEST = request_pdu()
STORE = p_data(3, 3, store_command()) + p_data(3, 0, bytes(range(100))) + p_data(3, 2, b"last")
STREAM = REQUEST + STORE + RELEASE_RQ


def rss_mib() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


async def drained(peer: RawPeer) -> None:
    """Read until the connection ends, throwing away what comes."""
    try:
        async with asyncio.timeout(10):
            while await peer.reader.read(65536):
                pass
    except ConnectionError:
        pass


async def until_empty(server: object) -> None:
    async with asyncio.timeout(10):
        while server.connections:  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)


@pytest.mark.spec("DN-11")
async def test_a_stream_cut_at_any_byte_leaves_nothing_behind(
    serve: Serve, provider: RecordingProvider
) -> None:
    server = await serve(**MANY)
    before = rss_mib()

    async def cut(at: int) -> None:
        peer = RawPeer(*await asyncio.open_connection("127.0.0.1", server.port))
        await peer.say(REQUEST[:at])
        if at > len(REQUEST):
            assert (await peer.hear())[0] == 2
            await peer.say(STREAM[len(REQUEST) : at])
        if at % 3 == 0:
            peer.reset()
        else:
            peer.writer.write_eof()
            await drained(peer)
        await peer.close()

    for at in range(1, len(STREAM), 40):
        await asyncio.gather(*(cut(n) for n in range(at, min(at + 40, len(STREAM)))))
    await until_empty(server)
    finished = [sink for sink in provider.sinks if sink.finished]
    discarded = [sink for sink in provider.sinks if sink.discarded]
    assert len(finished) + len(discarded) == len(provider.sinks)
    assert all(bytes(s.received) == bytes(range(100)) + b"last" for s in finished)
    # Whole objects: only where the cut came after the last byte of the data set.
    assert len(finished) <= len(STREAM) - len(REQUEST) - len(STORE)
    assert discarded
    assert rss_mib() - before < 50
    await still_alive(server)


async def still_alive(server: object) -> None:
    """A real sender is served as if nothing had happened."""
    association = await connect(
        host="127.0.0.1",
        port=server.port,  # type: ignore[attr-defined]
        called_ae="SCRIGNO",
        calling_ae="REAL",
        contexts=[(VERIFICATION, [IMPLICIT])],
    )
    assert (await association.echo()).status == 0
    await association.release()


@pytest.mark.spec("DN-11")
@pytest.mark.parametrize("seed", range(2))
async def test_mutated_streams_neither_crash_nor_hang_nor_leak(
    serve: Serve, provider: RecordingProvider, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(
        max_associations=1000,
        max_associations_per_peer=1000,
        max_associations_per_host=1000,
        artim_s=0.3,
        message_idle_s=0.3,
    )
    dice = random.Random(seed)
    before = rss_mib()

    def mutated(stream: bytes) -> bytes:
        broken = bytearray(stream)
        for _ in range(dice.randint(1, 5)):
            at = dice.randrange(len(broken))
            match dice.randrange(4):
                case 0:
                    broken[at] ^= 1 << dice.randrange(8)
                case 1:
                    broken[at] = dice.choice((0, 0xFF))
                case 2 if len(broken) > 100:
                    del broken[at : at + dice.randint(1, 30)]
                case _:
                    broken[at:at] = dice.randbytes(dice.randint(1, 30))
        return bytes(broken)

    async def attack() -> None:
        peer = RawPeer(*await asyncio.open_connection("127.0.0.1", server.port))
        rest = mutated((STORE + p_data(1, 3, echo_command(9))) * dice.randint(1, 3) + RELEASE_RQ)
        step = dice.choice((7, 100, 10_000))
        try:
            # Mostly a sound request: what comes after it is what this is about.
            await peer.say(REQUEST if dice.random() < 0.8 else mutated(REQUEST))
            if (await peer.hear())[0] == 2:
                for at in range(0, len(rest), step):
                    await peer.say(rest[at : at + step])
            peer.writer.write_eof()
        except OSError:
            pass
        await drained(peer)
        await peer.close()

    for _ in range(6):
        await asyncio.gather(*(attack() for _ in range(40)))
    await until_empty(server)
    assert any(sink.finished for sink in provider.sinks)
    assert any(sink.discarded for sink in provider.sinks)
    assert rss_mib() - before < 50
    assert not [r for r in caplog.records if r.levelname in ("ERROR", "CRITICAL")]
    await still_alive(server)


@pytest.mark.spec("DN-11")
async def test_lengths_of_four_gigabytes_cost_no_memory(serve: Serve, dial: Dial) -> None:
    server = await serve(**MANY)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for header in (b"\1\0\xff\xff\xff\xff", b"\4\0\xff\xff\xff\xff", b"\1\0\0\0\xff\xff"):
        peers = [await dial(server) for _ in range(100)]
        for peer in peers:
            await peer.say(header)
        await asyncio.sleep(0.05)
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mib < 50
    await still_alive(server)


@pytest.mark.spec("DN-11")
async def test_an_endless_object_needs_no_more_memory_than_a_small_one(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    peer = await dial(await serve())
    await peer.associate()
    await peer.say(p_data(3, 3, store_command()))
    while not provider.sinks:
        await asyncio.sleep(0.01)
    provider.sinks[0].received = Forgetful()  # type: ignore[assignment]
    piece = p_data(3, 0, bytes(1 << 19))
    before = rss_mib()
    for _ in range(400):
        await peer.say(piece)
    await peer.say(p_data(3, 2, b""))
    assert (await peer.hear_command()).status == 0
    assert provider.sinks[0].received.length == 400 << 19  # type: ignore[attr-defined]
    assert rss_mib() - before < 20


class Forgetful:
    """Counts what is added."""

    length = 0

    def __iadd__(self, other: memoryview) -> "Forgetful":
        self.length += len(other)
        return self


@pytest.mark.spec("DN-11")
async def test_a_thousand_idle_and_half_open_connections_harm_no_sender(
    serve: Serve, provider: RecordingProvider
) -> None:
    server = await serve()
    before = rss_mib()
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    for number in range(1000):
        pair = await asyncio.open_connection("127.0.0.1", server.port)
        if number % 2:
            pair[1].write(REQUEST[: 60 + number % 50])
        idle.append(pair)
    while server.connections < 1000:
        await asyncio.sleep(0.01)
    grown = rss_mib() - before
    print(f"1000 idle connections, both ends: {grown:.1f} MiB")
    assert grown < 50  # the peers' ends and their stream objects included
    used = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.sleep(0.5)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    print(f"1000 idle connections: {100 * cpu / 0.5:.2f} % CPU")
    association = await connect(
        host="127.0.0.1",
        port=server.port,
        called_ae="SCRIGNO",
        calling_ae="REAL",
        contexts=[(CT, [EXPLICIT])],
    )

    async def image():  # type: ignore[no-untyped-def]
        yield bytes(130_000)

    for _ in range(20):
        response = await association.store(
            context_id=1, sop_class_uid=CT, sop_instance_uid="1.2", chunks=image()
        )
        assert response.status == 0
    await association.release()
    for _, writer in idle:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in idle), return_exceptions=True)
    await until_empty(server)


@pytest.mark.spec("DN-11")
async def test_forty_idle_associations_do_nothing(
    serve: Serve, dial: Dial, provider: RecordingProvider
) -> None:
    server = await serve(max_associations_per_peer=40)
    peers = [await dial(server) for _ in range(40)]
    for peer in peers:
        await peer.associate()
    used = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.sleep(1)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    print(f"40 idle associations: {100 * cpu:.2f} % CPU")
    timers = [t for t in asyncio.get_running_loop()._scheduled if not t.cancelled()]  # type: ignore[attr-defined]
    assert len(timers) <= 40 + 3  # one each; the rest is this test's
    for peer in peers:
        await peer.say(p_data(1, 3, echo_command()))
        assert (await peer.hear_command()).field == dimse.C_ECHO_RQ | dimse.RESPONSE


@pytest.mark.spec("DN-11")
@pytest.mark.parametrize("unit", [p_data(3, 0, b""), p_data(3, 0, b"xy")], ids=["empty", "tiny"])
async def test_a_flood_of_fragments_does_not_stop_the_loop_for_others(
    serve: Serve, dial: Dial, provider: RecordingProvider, unit: bytes
) -> None:
    server = await serve()
    bad, good = await dial(server), await dial(server)
    await bad.associate()
    await good.associate()
    await bad.say(p_data(3, 3, store_command()))
    count = 200_000

    async def flood() -> None:
        for _ in range(count // 1000):
            await bad.say(unit * 1000)
        await bad.say(p_data(3, 2, b"end!"))
        assert (await bad.hear_command()).status == 0

    flooding = asyncio.create_task(flood())
    slowest = 0.0
    served = 0
    loop = asyncio.get_running_loop()
    while not flooding.done():
        began = loop.time()
        await good.say(p_data(1, 3, echo_command()))
        assert (await good.hear_command()).status == 0
        slowest = max(slowest, loop.time() - began)
        served += 1
    print(f"{served} echoes beside {count} fragments, the slowest took {slowest * 1e3:.1f} ms")
    await flooding
    assert served > 20
    assert len(provider.sinks[0].received) == count * (len(unit) - 12) + 4
