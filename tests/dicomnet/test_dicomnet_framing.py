# SPDX-License-Identifier: Apache-2.0
"""Cutting a stream into PDUs: any split of the bytes tells the same story."""

import random

import pytest
from dicomnet_kit import ABORT, RELEASE_RQ, p_data, request_pdu

from scrigno.dicomnet.errors import UnreadablePdu
from scrigno.dicomnet.framing import PduReader
from scrigno.dicomnet.limits import Limits
from scrigno.dicomnet.pdu import PduType

Story = list[tuple[object, ...]]


class Listener:
    """Writes down what it hears, fragments joined."""

    def __init__(
        self, *, hold_after: int = 0, reader_holder: list[PduReader] | None = None
    ) -> None:
        self.story: Story = []
        self.fragment = bytearray()
        self.hold_after = hold_after
        self.reader: PduReader | None = None

    def pdu_received(self, kind: PduType, body: bytes) -> None:
        self.story.append((kind, body))

    def data_pdu_begins(self) -> bool:
        self.story.append(("data",))
        return True

    def fragment_received(
        self, context_id: int, control: int, piece: memoryview, *, complete: bool
    ) -> None:
        self.fragment += piece
        if complete:
            self.story.append((context_id, control, bytes(self.fragment)))
            self.fragment.clear()
            if self.reader and self.hold_after and len(self.story) % self.hold_after == 0:
                self.reader.hold()


def two_pdvs(first: bytes, second: bytes) -> bytes:
    one, two = p_data(1, 3, first), p_data(3, 0, second)
    return b"\4\0" + (len(one) + len(two) - 12).to_bytes(4, "big") + one[6:] + two[6:]


STREAM = b"".join(
    (
        request_pdu(),
        p_data(1, 3, b"command"),
        p_data(1, 0, bytes(range(256)) * 4),
        two_pdvs(b"x" * 50, b"y" * 77),
        p_data(1, 2, b""),
        RELEASE_RQ,
        ABORT,
    )
)


def told(pieces: list[bytes], *, hold_after: int = 0) -> Story:
    listener = Listener(hold_after=hold_after)
    reader = listener.reader = PduReader(listener, Limits())
    for piece in pieces:
        reader.feed(memoryview(piece))
    while reader.held or reader.tired:
        if reader.held:
            reader.resume()
        else:
            reader.go_on()
    assert not reader.inside_pdu
    return listener.story


def test_every_split_in_two_tells_the_same() -> None:
    whole = told([STREAM])
    assert [entry[0] for entry in whole].count("data") == 4
    assert (1, 0, bytes(range(256)) * 4) in whole
    for at in range(1, len(STREAM)):
        assert told([STREAM[:at], STREAM[at:]]) == whole


def test_one_byte_at_a_time_tells_the_same() -> None:
    assert told([STREAM[at : at + 1] for at in range(len(STREAM))]) == told([STREAM])


@pytest.mark.parametrize("hold_after", [1, 2, 3, 5])
def test_what_is_held_back_is_told_later_and_in_order(hold_after: int) -> None:
    dice = random.Random(hold_after)
    whole = told([STREAM])
    assert told([STREAM], hold_after=hold_after) == whole
    for _ in range(50):
        cuts = sorted(dice.sample(range(1, len(STREAM)), 8))
        pieces = [STREAM[a:b] for a, b in zip([0, *cuts], [*cuts, len(STREAM)], strict=True)]
        assert told(pieces, hold_after=hold_after) == whole


@pytest.mark.parametrize("hold_after", [0, 7])
def test_a_reader_that_rests_tells_the_same(hold_after: int) -> None:
    stream = STREAM + p_data(1, 0, b"ab") * 2000
    whole = told([stream[at : at + 100] for at in range(0, len(stream), 100)])
    assert told([stream], hold_after=hold_after) == whole
    assert told([stream[:9000], stream[9000:]], hold_after=hold_after) == whole


@pytest.mark.spec("DN-11")
def test_a_length_is_refused_before_anything_is_kept_for_it() -> None:
    for kind in range(1, 8):
        reader = PduReader(Listener(), Limits())
        with pytest.raises(UnreadablePdu):
            reader.feed(memoryview(bytes([kind, 0, 0xFF, 0xFF, 0xFF, 0xFF])))
        assert len(reader._partial) == 0


@pytest.mark.parametrize(("length", "allowed"), [(1 << 20, True), ((1 << 20) + 1, False)])
def test_the_hard_cap_of_a_data_pdu_is_our_own(length: int, allowed: bool) -> None:
    reader = PduReader(Listener(), Limits(hard_max_pdu=1 << 20))
    header = b"\4\0" + length.to_bytes(4, "big")
    if allowed:
        reader.feed(memoryview(header))
    else:
        with pytest.raises(UnreadablePdu) as raised:
            reader.feed(memoryview(header))
        assert raised.value.abort_reason == 6


def test_an_association_pdu_leaves_no_buffer_behind() -> None:
    reader = PduReader(Listener(), Limits())
    reader.feed(memoryview(request_pdu()))
    assert reader._partial.__sizeof__() < 200


def test_after_the_frame_is_lost_everything_is_thrown_away() -> None:
    listener = Listener()
    reader = PduReader(listener, Limits())
    with pytest.raises(UnreadablePdu):
        reader.feed(memoryview(b"GARBAGE"))
    reader.swallow()
    reader.feed(memoryview(STREAM))
    assert listener.story == []
