# SPDX-License-Identifier: Apache-2.0
"""What was started, and how it is stopped."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

log = logging.getLogger(__name__)

STOP_LIMIT_S: Final = 10.0  # for each part; one that does not stop is left behind and named


class Starter:
    """Remembers what was started and stops it in reverse, each part within STOP_LIMIT_S."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._stack = AsyncExitStack()

    def on_stop(self, name: str, close: Callable[[], Awaitable[None]]) -> None:
        """Call `close` when the box stops; the one registered last is called first."""

        async def within_the_limit() -> None:
            try:
                async with asyncio.timeout(STOP_LIMIT_S):
                    await close()
            except TimeoutError:
                log.error("%s: did not stop in %.0f s and is left behind", name, STOP_LIMIT_S)  # noqa: TRY400 - the stack would only show this wait
            except Exception:  # a dead disk, a fault of ours: the others are stopped all the same
                log.exception("%s: did not stop in order", name)

        self._stack.push_async_callback(within_the_limit)

    async def stop(self) -> None:
        """Stop everything that was started."""
        await self._stack.aclose()
