# SPDX-License-Identifier: Apache-2.0
"""Stopping goes on to the last part, whatever one of them does."""

import asyncio

import pytest

from scrigno.app import starter as starting
from scrigno.app.starter import Starter


async def test_parts_are_stopped_in_reverse_though_one_fails_and_one_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(starting, "STOP_LIMIT_S", 0.1)
    stopped: list[str] = []

    def closing(name: str):
        async def close() -> None:
            stopped.append(name)
            if name == "dead disk":
                raise OSError(5, "Input/output error")
            if name == "hung disk":
                await asyncio.sleep(60)

        return close

    starter = Starter()
    for name in ("first", "dead disk", "hung disk", "last"):
        starter.on_stop(name, closing(name))
    await starter.stop()
    assert stopped == ["last", "hung disk", "dead disk", "first"]
    assert "dead disk: did not stop in order" in caplog.text
    assert "hung disk: did not stop in 0 s" in caplog.text
