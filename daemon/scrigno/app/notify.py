# SPDX-License-Identifier: Apache-2.0
"""What systemd wants to hear: ready, stopping, still alive (sd_notify(3)).

The keep-alive comes from the event loop itself, so a loop that stands still for longer than half
the watchdog's time is restarted. It is not tied to the health of any volume: a dead data disk must
not become a restart loop.
"""

import asyncio
import contextlib
import os
import socket


def notify(message: str) -> None:
    """Send one message to `$NOTIFY_SOCKET`; nothing happens where there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # abstract namespace, unix(7)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.setblocking(False)  # noqa: FBT003 - the socket's own signature
        out.sendto(message.encode(), address)


async def keep_alive() -> None:
    """Ping the watchdog until cancelled; returns at once when none is set."""
    interval_us = os.environ.get("WATCHDOG_USEC", "")
    if not interval_us.isdigit():
        return
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(int(interval_us) / 2_000_000)
