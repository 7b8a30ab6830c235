# SPDX-License-Identifier: Apache-2.0
"""One at a time works on a key of a volume; different keys never wait for each other. Any thread.

A name that is visible is not durable before the fsync of its folder, and is taken back when that
fails. Who looks at it in between would call a file its own that is gone a moment later.
"""

import threading
from typing import Final

from .files import Alive

SAY_EVERY_S: Final = 0.5  # that a request which waits has not died


class _Turn:
    """A key that somebody works on, and how many want it."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 1


class KeyTurns:
    """Hands out turns; a key that nobody works on takes no room. Under 2 µs each."""

    def __init__(self) -> None:
        """Nobody works on anything yet."""
        self._lock = threading.Lock()  # protects _turns and the counts in it; never held in I/O
        self._turns: dict[str, _Turn] = {}

    def of(self, *keys: str, alive: Alive) -> "_Holding":
        """Return what holds the turns of these keys in a `with`; not to be nested.

        `alive` is called now and then while it waits: whoever is before it may write a large
        object, and when that one hangs, its own silence tells.
        """
        return _Holding(self, keys if len(keys) == 1 else tuple(sorted(set(keys))), alive)

    def take(self, key: str, alive: Alive) -> None:
        """Wait until nobody works on the key."""
        with self._lock:
            turn = self._turns.get(key)
            if turn is None:
                turn = self._turns[key] = _Turn()
                turn.lock.acquire()  # nobody else has it yet, so this never waits
                return
            turn.users += 1
        while not turn.lock.acquire(timeout=SAY_EVERY_S):
            try:
                alive()
            except BaseException:
                self._leave(key, turn)
                raise

    def give(self, key: str) -> None:
        """Let the next one work on the key."""
        turn = self._turns[key]
        turn.lock.release()
        self._leave(key, turn)

    def _leave(self, key: str, turn: _Turn) -> None:
        with self._lock:
            turn.users -= 1
            if not turn.users:
                del self._turns[key]

    def __len__(self) -> int:
        """Return how many keys are worked on."""
        return len(self._turns)


class _Holding:
    """The turns of some keys; always taken in the same order, so nobody waits in a circle."""

    __slots__ = ("_alive", "_keys", "_turns")

    def __init__(self, turns: KeyTurns, keys: tuple[str, ...], alive: Alive) -> None:
        self._turns = turns
        self._keys = keys
        self._alive = alive

    def __enter__(self) -> None:
        taken = 0
        try:
            for key in self._keys:
                self._turns.take(key, self._alive)
                taken += 1
        except BaseException:
            for key in self._keys[:taken]:
                self._turns.give(key)
            raise

    def __exit__(self, *_: object) -> None:
        for key in self._keys:
            self._turns.give(key)
