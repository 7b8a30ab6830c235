# SPDX-License-Identifier: Apache-2.0
"""A node with a real archive, and a short way to open an association to it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from running_node import AE_TITLE, RunningNode, running_node
from scrigno.dicomnet.association import Association
from scrigno.dicomnet.client import connect

Opener = Callable[..., Awaitable[RunningNode]]
Caller = Callable[..., Awaitable[Association]]

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def open_box(stack: AsyncExitStack, tmp_path: Path) -> Opener:
    """Return a function that starts a node with these settings."""

    async def start(**settings: Any) -> RunningNode:
        return await stack.enter_async_context(running_node(tmp_path / "box", **settings))

    return start


@pytest.fixture
def call(stack: AsyncExitStack) -> Caller:
    """Return a function that opens an association to a node; it is ended with the test."""

    async def associate(
        box: RunningNode,
        *,
        called_ae: str = AE_TITLE,
        calling_ae: str = "TESTER",
        contexts: Sequence[tuple[str, Sequence[str]]] = (
            (VERIFICATION, (EXPLICIT,)),
            (CT, (EXPLICIT,)),
            (STUDY_FIND, (EXPLICIT,)),
        ),
        port: int | None = None,
        **more: Any,
    ) -> Association:
        association = await connect(
            host="127.0.0.1",
            port=port or box.port,
            called_ae=called_ae,
            calling_ae=calling_ae,
            contexts=contexts,
            timeout_s=10,
            **more,
        )
        stack.callback(association.abort)
        return association

    return associate
