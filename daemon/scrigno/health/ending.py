# SPDX-License-Identifier: Apache-2.0
"""Ending tasks for sure."""

import asyncio
from collections.abc import Iterable
from typing import Final

_AGAIN_S: Final = 0.5


async def ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they are done.

    One cancellation is not enough: Python's `asyncio.wait_for`, used by libraries, swallows it when
    what it waits for comes at the same moment (python/cpython#86296, mended in 3.12).
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_S)
