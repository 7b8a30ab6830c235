# SPDX-License-Identifier: Apache-2.0
"""Bytes of a connection into PDUs and PDV fragments, as they come (PS3.8 sections 9.3.1, 9.3.5).

Data fragments are handed on in pieces straight from the receive buffer, never joined, so memory
does not depend on any length the peer names. Every length is checked against our own limits
before a byte is kept for it.
"""

from struct import Struct
from typing import Final, Protocol

from .errors import UnreadablePdu
from .limits import Limits
from .pdu import INVALID_PARAMETER, UNRECOGNIZED_PDU, PduType

_PDU_HEADER: Final = Struct(">BxI")
_PDV_HEADER: Final = Struct(">IBB")
_HEADER_LENGTH: Final = 6  # of both
# Headers and pieces in one go: more than any sound peer puts into one read (64 PDUs of 4 KiB), and
# about a millisecond, so that a flood of empty fragments does not stop the loop for the others.
_STEPS: Final = 512
_FIXED_LENGTH: Final = 4  # A-ASSOCIATE-RJ, A-RELEASE-RQ, A-RELEASE-RP, A-ABORT


class PduListener(Protocol):
    """Who hears of what a reader found."""

    def pdu_received(self, kind: PduType, body: bytes) -> None:
        """A whole PDU other than P-DATA-TF; `body` is what follows the length."""

    def data_pdu_begins(self) -> bool:
        """A P-DATA-TF begins; False skips it."""

    def fragment_received(
        self, context_id: int, control: int, piece: memoryview, *, complete: bool
    ) -> None:
        """Take a piece of a PDV's fragment; `complete` with its last piece.

        `control` is the message control header (PS3.8 annex E.2): bit 0 command, bit 1 last.
        The view dies when this returns.
        """


class PduReader:
    """Cuts a stream into PDUs; one per connection. Holds at most an association PDU."""

    __slots__ = (
        "_body_left",
        "_context_id",
        "_control",
        "_fragment_left",
        "_held",
        "_kept",
        "_kind",
        "_limits",
        "_listener",
        "_partial",
        "_pdu_left",
        "_skip_left",
        "_swallow",
        "tired",
    )

    def __init__(self, listener: PduListener, limits: Limits) -> None:
        self._listener = listener
        self._limits = limits
        self._partial = bytearray()  # of a header or of an association PDU's body
        self._kind = PduType.ABORT
        self._body_left = 0  # of a PDU that is not P-DATA-TF
        self._pdu_left = 0  # of a P-DATA-TF, PDV headers included
        self._fragment_left = 0
        self._skip_left = 0
        self._context_id = 0
        self._control = 0
        self._held = False
        self._kept: memoryview | None = None
        self._swallow = False
        self.tired = False  # it stopped for the sake of others; `go_on` soon

    @property
    def inside_pdu(self) -> bool:
        """Tell whether a PDU has begun and is not yet complete."""
        return bool(
            self._pdu_left or self._body_left or self._partial or self._skip_left or self._kept
        )

    @property
    def held(self) -> bool:
        """Tell whether `hold` is in force."""
        return self._held

    def hold(self) -> None:
        """Keep what follows the piece in hand until `resume`."""
        self._held = True

    def resume(self) -> None:
        """End the hold and go on."""
        self._held = False
        self.go_on()

    def go_on(self) -> None:
        """Take what was kept, unless it is held; raises as `feed` does."""
        self.tired = False
        if self._kept is not None and not self._held:
            kept, self._kept = self._kept, None
            self._feed(kept, mine=True)

    def swallow(self) -> None:
        """Throw away everything from now on: the stream has lost its frame."""
        self._swallow = True
        self._kept = None
        self._partial.clear()

    def feed(self, data: memoryview) -> None:
        """Take bytes that arrived; raises UnreadablePdu at what is no PDU."""
        if self._kept is not None:
            self._kept = memoryview(bytes(self._kept) + data)
        else:
            self._feed(data, mine=False)

    def _feed(self, data: memoryview, *, mine: bool) -> None:
        at = 0
        end = len(data)
        steps = 0
        while at < end and not self._swallow:
            steps += 1
            self.tired = steps > _STEPS
            if self._held or self.tired:
                # `mine`: it is a view of what was kept before, which nobody overwrites.
                self._kept = data[at:] if mine else memoryview(bytes(data[at:]))
                return
            if self._fragment_left:
                at = self._take_fragment(data, at, end)
            elif self._pdu_left:
                at = self._take_pdv_header(data, at, end)
            elif self._body_left:
                at = self._take_body(data, at, end)
            elif self._skip_left:
                taken = min(self._skip_left, end - at)
                self._skip_left -= taken
                at += taken
            else:
                at = self._take_pdu_header(data, at, end)

    def _header(self, data: memoryview, at: int, end: int) -> tuple[memoryview | None, int]:
        """Return the six bytes of a header when they are there, and where to go on."""
        if not self._partial and end - at >= _HEADER_LENGTH:
            return data[at : at + _HEADER_LENGTH], at + _HEADER_LENGTH
        taken = min(_HEADER_LENGTH - len(self._partial), end - at)
        self._partial += data[at : at + taken]
        if len(self._partial) < _HEADER_LENGTH:
            return None, at + taken
        header = memoryview(bytes(self._partial))
        self._partial.clear()
        return header, at + taken

    def _take_pdu_header(self, data: memoryview, at: int, end: int) -> int:
        if not self._partial:
            # The type alone tells a stranger (HTTP, TLS, a port scan) from a DICOM peer.
            self._check_kind(data[at])
        header, at = self._header(data, at, end)
        if header is None:
            return at
        number, length = _PDU_HEADER.unpack(header)
        kind = PduType(number)
        self._check_length(kind, length)
        if kind is PduType.P_DATA_TF:
            if self._listener.data_pdu_begins():
                self._pdu_left = length
            else:
                self._skip_left = length
        else:
            self._kind = kind
            self._body_left = length
        return at

    @staticmethod
    def _check_kind(number: int) -> None:
        if not PduType.ASSOCIATE_RQ <= number <= PduType.ABORT:
            raise UnreadablePdu(f"PDU type {number:#04x} does not exist", UNRECOGNIZED_PDU)

    def _check_length(self, kind: PduType, length: int) -> None:
        match kind:
            case PduType.P_DATA_TF:
                least, most = _HEADER_LENGTH, self._limits.hard_max_pdu
            case PduType.ASSOCIATE_RQ | PduType.ASSOCIATE_AC:
                least, most = 68, self._limits.max_associate_pdu  # fixed part, PS3.8 table 9-11
            case _:
                least = most = _FIXED_LENGTH
        if not least <= length <= most:
            raise UnreadablePdu(
                f"{kind.name} of {length} bytes; from {least} to {most} are allowed",
                INVALID_PARAMETER,
            )

    def _take_pdv_header(self, data: memoryview, at: int, end: int) -> int:
        header, at = self._header(data, at, end)
        if header is None:
            return at
        length, context_id, control = _PDV_HEADER.unpack(header)
        # The length counts context id and control header, not itself.
        if length < 2 or length + 4 > self._pdu_left:
            raise UnreadablePdu(
                f"PDV of {length} bytes in the last {self._pdu_left} bytes of a P-DATA-TF",
                INVALID_PARAMETER,
            )
        left = self._pdu_left - length - 4
        if 0 < left < _HEADER_LENGTH:
            raise UnreadablePdu(f"{left} stray bytes after a PDV", INVALID_PARAMETER)
        self._pdu_left -= _HEADER_LENGTH
        self._fragment_left = length - 2
        self._context_id = context_id
        self._control = control
        if not self._fragment_left:
            self._listener.fragment_received(context_id, control, data[:0], complete=True)
        return at

    def _take_fragment(self, data: memoryview, at: int, end: int) -> int:
        taken = min(self._fragment_left, end - at)
        self._fragment_left -= taken
        self._pdu_left -= taken
        # Released at once: whoever keeps the view gets an error instead of another image's bytes.
        with data[at : at + taken] as piece:
            self._listener.fragment_received(
                self._context_id, self._control, piece, complete=not self._fragment_left
            )
        return at + taken

    def _take_body(self, data: memoryview, at: int, end: int) -> int:
        taken = min(self._body_left, end - at)
        self._partial += data[at : at + taken]
        self._body_left -= taken
        if not self._body_left:
            body = bytes(self._partial)
            self._partial.clear()
            self._listener.pdu_received(self._kind, body)
        return at + taken
