# SPDX-License-Identifier: Apache-2.0
"""Passwords: what is refused (ASVS 5.0 section 6.2), and argon2id within bounds."""

import asyncio
import itertools
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from .common import COMMON
from .errors import TooManyAttempts, WeakPassword

T = TypeVar("T")

MIN_LENGTH: Final = 8  # ASVS 6.2.1; the pages advise 15
MAX_LENGTH: Final = 128
ADVISED_LENGTH: Final = 15
HASHES_AT_ONCE: Final = 2  # 19 MiB and one core each
HASHES_WAITING: Final = 32  # about a second of work; more is an attack or a broken client


def normalised(password: str) -> str:
    """Return the password so that every keyboard gives the same bytes (NFKC, RFC 8265)."""
    return unicodedata.normalize("NFKC", password)


def require_strong(password: str, user: str) -> None:
    """Raise WeakPassword unless the password may be used; no rules about kinds of letters."""
    text = normalised(password)
    if len(text) < MIN_LENGTH:
        raise WeakPassword("short", f"The password has fewer than {MIN_LENGTH} characters.")
    if len(text) > MAX_LENGTH:
        raise WeakPassword("long", f"The password has more than {MAX_LENGTH} characters.")
    folded = text.casefold()
    bare = folded.strip("0123456789!?.,-_*#@$ ")
    if folded in COMMON or bare in COMMON or len(set(folded)) < 4 or _is_run(folded):
        raise WeakPassword("common", "The password is one of those that are tried first.")
    name = user.strip().casefold()
    if name and (folded == name or folded == name[::-1] or bare == name):
        raise WeakPassword("user-name", "The password is the user name.")


def _is_run(text: str) -> bool:
    """Tell whether every character is the neighbour of the one before, as in 12345678."""
    steps = {ord(b) - ord(a) for a, b in itertools.pairwise(text)}
    return steps in ({1}, {-1})


class Hasher:
    """Hashes and verifies in a bounded pool of threads, never on the loop."""

    def __init__(self) -> None:
        """Start no thread yet; the stand-in hash makes unknown users cost the same time."""
        # argon2id with the cost of OWASP's Password Storage Cheat Sheet, 19 MiB
        self._argon2 = PasswordHasher(memory_cost=19456, time_cost=2, parallelism=1)
        self._threads = ThreadPoolExecutor(HASHES_AT_ONCE, thread_name_prefix="argon2")
        self._waiting = 0
        self._stand_in = ""

    async def prepare(self) -> None:
        """Make the stand-in hash; once, at start."""
        self._stand_in = await self.hash(secrets.token_urlsafe(16))

    def close(self) -> None:
        """End the threads once their hash is done."""
        self._threads.shutdown(wait=False)

    async def hash(self, password: str) -> str:
        """Return the argon2id hash with its parameters and salt."""
        text = normalised(password)
        return await self._run(lambda: self._argon2.hash(text))

    async def verify(self, kept: str | None, password: str) -> tuple[bool, str | None]:
        """Tell whether the password is right, and a hash of today's cost if the kept one is not.

        Without a kept hash it takes as long and answers False.
        """
        text = normalised(password[: MAX_LENGTH * 4])

        def check() -> tuple[bool, str | None]:
            try:
                self._argon2.verify(kept or self._stand_in, text)
            except (VerificationError, InvalidHashError):
                return False, None
            if kept is None:
                return False, None
            renew = self._argon2.check_needs_rehash(kept)
            return True, self._argon2.hash(text) if renew else None

        return await self._run(check)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= HASHES_WAITING:
            raise TooManyAttempts(retry_after_s=2)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
