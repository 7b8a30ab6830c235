# SPDX-License-Identifier: Apache-2.0
"""Launch tokens: another system lets a browser look at exactly these studies, once, within 60 s.

The token is signed and names nothing: what it is good for stands in memory and dies with it, so a
restart ends them all. It travels in the fragment of an address, which no server and no log sees.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from scrigno.access.permissions import Permission
from scrigno.core.clock import Clock
from scrigno.core.sight import Sight

from .errors import LaunchOver, TooMany

LONGEST_S: Final = 60
MOST_LIVE: Final = 10_000
MOST_STUDIES: Final = 100
_HEAD: Final = struct.Struct(">16sQ")  # number of the token, milliseconds when it ends
_MAC_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a token is good for."""

    studies: tuple[str, ...]
    permissions: frozenset[Permission]
    author: str  # who asked for it
    sight: Sight  # no more than the author sees
    session_s: int  # how long the session lasts


class LaunchTokens:
    """Gives tokens out and takes each once. Loop thread only."""

    def __init__(self, *, clock: Clock) -> None:
        """Sign with a key of this process."""
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._live: OrderedDict[bytes, tuple[float, Grant]] = OrderedDict()

    def make(self, grant: Grant, *, lifetime_s: int = LONGEST_S) -> str:
        """Return a token of at most LONGEST_S seconds; raises TooMany."""
        now = self._clock.monotonic()
        for number, (until, _) in list(self._live.items()):
            if until <= now:
                del self._live[number]
        if len(self._live) >= MOST_LIVE:
            raise TooMany("Too many launches wait.", next_step="Try again in a minute.")
        number = secrets.token_bytes(16)
        until = now + min(lifetime_s, LONGEST_S)
        self._live[number] = (until, grant)
        head = _HEAD.pack(number, int(until * 1000))
        return base64.urlsafe_b64encode(head + self._mac(head)).decode("ascii").rstrip("=")

    def take(self, token: str) -> Grant:
        """Return what a token is good for and end it; raises LaunchOver."""
        head = self._checked(token)
        if head is not None:
            number, _ = _HEAD.unpack(head)
            until, grant = self._live.pop(number, (0.0, None))
            if grant is not None and until > self._clock.monotonic():
                return grant
        raise LaunchOver("The launch is over.", next_step="Open the images again where you were.")

    def _checked(self, token: str) -> bytes | None:
        try:
            content = base64.b64decode(token[:128] + "==", altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        head, mac = content[: _HEAD.size], content[_HEAD.size :]
        return head if hmac.compare_digest(mac, self._mac(head)) else None

    def _mac(self, head: bytes) -> bytes:
        return hmac.digest(self._key, head, hashlib.sha256)[:_MAC_BYTES]
