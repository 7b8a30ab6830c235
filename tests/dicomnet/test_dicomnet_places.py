# SPDX-License-Identifier: Apache-2.0
"""A place that an association takes is given back, however short the visit."""

import asyncio

import pytest
from dicomnet_kit import ABORT, Dial, RawPeer, Serve, request_pdu


@pytest.mark.spec("DN-11")
async def test_a_request_and_an_abort_in_one_segment_take_no_place(
    serve: Serve, dial: Dial
) -> None:
    """The negotiation is cancelled before it has begun to run."""
    server = await serve(max_associations_per_peer=2, max_associations_per_host=2)
    for _ in range(3):
        peer = RawPeer(*await asyncio.open_connection("127.0.0.1", server.port))
        await peer.say(request_pdu() + ABORT)
        await peer.close()
    async with asyncio.timeout(5):
        while server.connections:
            await asyncio.sleep(0.01)
    peer = await dial(server)
    await peer.say(request_pdu())
    assert (await peer.hear())[0] == 2  # A-ASSOCIATE-AC
