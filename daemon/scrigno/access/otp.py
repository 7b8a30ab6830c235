# SPDX-License-Identifier: Apache-2.0
"""One-time keys for logging in by an address: the caller encrypts, the box decrypts, once.

The code names no key, so every live key tries it, with every padding, whatever comes out: a code
that is no code costs the same work and gets the same answer as one with a wrong password. PKCS#1
v1.5 is decrypted with implicit rejection (OpenSSL 3.2 and newer): wrong padding gives other bytes
and no error, so there is nothing to learn from trying (Bleichenbacher 1998, RFC 8017 7.2.2 note).
"""

import asyncio
import base64
import binascii
import logging
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import unquote

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from scrigno.core.clock import Clock
from scrigno.core.counters import Counters

from .errors import AccessDenied

log = logging.getLogger(__name__)

KEY_BITS: Final = 2048
KEY_BYTES: Final = KEY_BITS // 8
LIFETIME_S: Final = 60.0
MOST_LIVE: Final = 100  # each costs three decryptions of 0.3 ms at every code
MOST_PER_ADDRESS: Final = 40  # one server of a hospital asks for many users
READY: Final = 4  # made ahead: making one takes 50 ms, sometimes a second
KEY_WAIT_S: Final = 5.0
MOST_CODE: Final = 4096
MOST_WAITING: Final = 16  # codes at once; more is an attack

T = TypeVar("T")

_PADDINGS: Final[tuple[padding.AsymmetricPadding, ...]] = (
    padding.PKCS1v15(),
    padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None),  # noqa: S303 - what callers' libraries default to
    padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
)


class TooManyCodes(AccessDenied):
    """As many one-time keys are alive as the box gives out."""

    code = "too-many-codes"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """What the caller gets; `pem` is SubjectPublicKeyInfo, modulus and exponent are its numbers."""

    pem: str
    modulus: int
    exponent: int
    lifetime_s: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Live:
    key: rsa.RSAPrivateKey = field(repr=False)
    address: str
    until: float


class OneTimeKeys:
    """The live keys, in memory only: a restart ends them all. Loop thread only."""

    def __init__(self, *, clock: Clock, counters: Counters) -> None:
        """Make no key yet."""
        self._clock = clock
        self._counters = counters
        self._live: deque[_Live] = deque()
        self._ready: asyncio.Queue[rsa.RSAPrivateKey] = asyncio.Queue(READY)
        self._maker: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()  # one at a time: decrypting takes a whole core
        self._waiting = 0

    async def close(self) -> None:
        """Make no more keys. Idempotent."""
        maker, self._maker = self._maker, None
        if maker is not None:
            maker.cancel()
            await asyncio.gather(maker, return_exceptions=True)

    def prepare(self) -> None:
        """Begin to make keys ahead; returns at once."""
        if self._maker is None:
            self._maker = asyncio.create_task(self._make(), name="one-time keys")

    async def _make(self) -> None:
        while True:
            await self._ready.put(await asyncio.to_thread(_new_key))

    async def issue(self, address: str) -> PublicKey:
        """Return the public part of a new key; raises TooManyCodes."""
        self.prepare()
        self._forget_old()
        mine = sum(each.address == address for each in self._live)
        if len(self._live) >= MOST_LIVE or mine >= MOST_PER_ADDRESS:
            raise self._refused()
        try:
            async with asyncio.timeout(KEY_WAIT_S):
                key = await self._ready.get()
        except TimeoutError as error:
            raise self._refused() from error
        until = self._clock.monotonic() + LIFETIME_S
        self._live.append(_Live(key=key, address=address, until=until))
        self._counters.add("otp_keys_total")
        public = key.public_key()
        numbers = public.public_numbers()
        pem = public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return PublicKey(
            pem=pem.decode("ascii"),
            modulus=numbers.n,
            exponent=numbers.e,
            lifetime_s=int(LIFETIME_S),
        )

    async def open(self, code: str, read: Callable[[str], T | None]) -> T | None:
        """Return what `read` makes of the text in a code, None for all that is none; never raises.

        The key of a code that was understood is dead afterwards, whatever becomes of the log-in.
        """
        self._forget_old()
        if self._waiting >= MOST_WAITING:
            return None
        self._waiting += 1
        try:
            async with self._opening:
                live, ciphertext = tuple(self._live), _ciphertext(code)
                found = await asyncio.to_thread(lambda: _try_all(ciphertext, live, read))
        finally:
            self._waiting -= 1
        if found is None or found[0] not in self._live:
            self._counters.add("otp_codes_total", outcome="refused")
            return None
        self._live.remove(found[0])
        self._counters.add("otp_codes_total", outcome="understood")
        return found[1]

    def _forget_old(self) -> None:
        now = self._clock.monotonic()
        while self._live and self._live[0].until <= now:
            self._live.popleft()

    def _refused(self) -> TooManyCodes:
        self._counters.add("otp_refused_total")
        return TooManyCodes(
            "Too many one-time keys are waiting to be used.", next_step="Try again in a minute."
        )


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


def _ciphertext(code: str) -> bytes:
    """Return the bytes of a code: base64, base64url or hex, percent-encoded or not.

    What is none of these becomes random bytes, which cost the same work.
    """
    text = "".join(unquote(code[:MOST_CODE]).replace(" ", "+").split())
    if len(text) == 2 * KEY_BYTES:
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass
    plain = text.translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        found = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    return found if len(found) == KEY_BYTES else b"\0" + secrets.token_bytes(KEY_BYTES - 1)


def _try_all(
    ciphertext: bytes, live: tuple[_Live, ...], read: Callable[[str], T | None]
) -> tuple[_Live, T] | None:
    """Decrypt with each key and padding, to the end even when one has succeeded. In a thread."""
    found: tuple[_Live, T] | None = None
    for each in live:
        for one in _PADDINGS:
            try:
                plain = each.key.decrypt(ciphertext, one)
            except ValueError:
                plain = b""
            said = read(plain.decode("utf-8", "surrogateescape"))
            if said is not None and found is None:
                found = (each, said)
    return found
