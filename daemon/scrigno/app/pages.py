# SPDX-License-Identifier: Apache-2.0
"""The listening end of the pages and the API: http always, https as the settings want it."""

import asyncio
import logging
from contextlib import suppress
from typing import Final

import psutil
from aiohttp import web

from scrigno.core.errors import CommandError
from scrigno.core.events import EventBus, SettingsChanged
from scrigno.settings.schema import WebConfig
from scrigno.settings.store import SettingsStore
from scrigno.web.broken_requests import Runner
from scrigno.web.certificates import Certificates
from scrigno.web.connections import LOOK_EVERY_S, Connections
from scrigno.web.door import own_names

from .starter import Starter

log = logging.getLogger(__name__)

GRACE_S: Final = 5.0  # for answers on their way when the box stops
HEADER_BYTES: Final = 16 << 10
KEPT_ALIVE_S: Final = 30.0
RENEW_EVERY_S: Final = 3600.0  # names and addresses change, certificates expire
BACKLOG: Final = 128


class SecurePort:
    """The port of https, opened and closed as the settings say. Loop thread only."""

    def __init__(
        self, config: WebConfig, settings: SettingsStore, certificates: Certificates
    ) -> None:
        """Touch nothing yet; `start` opens."""
        self._config = config
        self._settings = settings
        self._certificates = certificates
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._addresses: tuple[str, ...] = ()
        self.port: int | None = None
        self.error = ""  # why it is not open although it should be

    def names(self) -> tuple[str, ...]:
        """Return the names and addresses that the certificate is to hold."""
        return (*sorted(own_names(self._settings.current.web.names)), *self._addresses)

    async def start(self, runner: web.AppRunner, bus: EventBus) -> None:
        """Open the port when it is wanted, and follow the settings from now on."""
        self._runner = runner
        bus.subscribe(SettingsChanged, lambda _event: self._changed.set())
        await self._follow()
        self._tasks = [asyncio.create_task(self._keep_following(), name="https")]

    async def close(self) -> None:
        """Stop following; the runner closes what is open. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.port = None

    async def _keep_following(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RENEW_EVERY_S):
                    await self._changed.wait()
            self._changed.clear()
            await self._follow()

    async def _follow(self) -> None:
        """Bring the port and the certificate to what the settings say; never raises OSError."""
        wanted = self._settings.current.web.https and self._config.tls_port is not None
        try:
            if wanted:
                self._addresses = await asyncio.to_thread(_own_addresses)
                if self._certificates.shown is None:
                    await self._certificates.open(self.names())
                else:
                    await self._certificates.renew(self.names())
                await self._open()
            else:
                await self._shut()
            self.error = ""
        except OSError as error:
            self.error = f"Port {self._config.tls_port}: {error.strerror or error}."
            log.error("https: %s", self.error)  # noqa: TRY400 - the reason says it all

    async def _open(self) -> None:
        if self._site is not None or self._runner is None:
            return
        site = web.TCPSite(
            self._runner,
            self._config.host,
            self._config.tls_port,
            ssl_context=self._certificates.listening_context(),
            backlog=BACKLOG,
        )
        before = {address[1] for address in self._runner.addresses}
        await site.start()
        self._site = site
        after = {address[1] for address in self._runner.addresses}
        self.port = next(iter(after - before), self._config.tls_port)
        log.info("https: served on port %s", self.port)

    async def _shut(self) -> None:
        site, self._site = self._site, None
        if site is not None:
            await site.stop()
            log.info("https: the port is closed")
        self.port = None


async def serve_pages(
    app: web.Application,
    config: WebConfig,
    secure: SecurePort,
    connections: Connections,
    bus: EventBus,
    starter: Starter,
) -> tuple[int, ...]:
    """Serve `app` where the configuration says; returns the ports of http. Raises CommandError."""
    runner = Runner(
        app,
        access_log=None,
        shutdown_timeout=GRACE_S,
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
        keepalive_timeout=KEPT_ALIVE_S,
    )
    await runner.setup()
    starter.on_stop("pages", runner.cleanup)
    try:
        await web.TCPSite(runner, config.host, config.port, backlog=BACKLOG).start()
    except OSError as error:
        raise CommandError(
            f"Port {config.port} for the pages cannot be used: {error.strerror}.",
            next_step="Stop the program that uses it, or set web.port in the configuration.",
        ) from error
    ports = tuple(sorted({address[1] for address in runner.addresses}))
    starter.on_stop("https", secure.close)
    await secure.start(runner, bus)
    watching = asyncio.create_task(_watch(runner, connections), name="web-connections")

    async def stop_watching() -> None:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    starter.on_stop("web connections", stop_watching)
    return ports


async def _watch(runner: web.AppRunner, connections: Connections) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        if runner.server is not None:
            connections.look(runner.server.connections)


def _own_addresses() -> tuple[str, ...]:
    """Return the addresses of this machine's interfaces, loopback first. Blocking."""
    found = (
        address.address.split("%", 1)[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family.name in {"AF_INET", "AF_INET6"}
    )
    usable = {each for each in found if not each.startswith("fe80:")}
    return tuple(sorted(usable | {"127.0.0.1", "::1"}))
