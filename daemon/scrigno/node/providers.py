# SPDX-License-Identifier: Apache-2.0
"""The providers of the box, live: a listener for each, as the settings in force say (SPEC DN-1).

A change of one provider never touches another one's listener or associations; a change of AE
title or policy does not even touch its own, they are read anew for each association.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from scrigno.archive.ingest import Ingest
from scrigno.archive.retrieve import Retrieval
from scrigno.catalogue.catalogue import Catalogue
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus, SettingsChanged
from scrigno.dicomnet.limits import DEFAULT_LIMITS, Limits
from scrigno.imaging.workers import ImagingPool
from scrigno.settings.peers import Peers
from scrigno.settings.schema import Provider
from scrigno.settings.store import SettingsStore

from .admission import GUARD_PER_HOST, GUARD_TOTAL, Admissions
from .destinations import Destinations
from .listeners import Listener
from .outgoing import Outgoing
from .query import QueryService
from .retrieve import RetrieveService
from .visitors import Services

log = logging.getLogger(__name__)

RETRY_S: Final = 5.0  # a port that cannot be had is tried again after this
REMOVAL_GRACE_S: Final = 30.0  # what runs on a provider that was removed may end within this
SENDING_S: Final = 2.0  # an image this long ago: somebody is sending
TOLD_S: Final = 1.5  # for senders to hear that nothing more is taken
TOLD_EVERY_S: Final = 0.05


class ListenerState(StrEnum):
    """Whether a provider can be reached."""

    LISTENING = "listening"
    FAILED = "failed"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderStatus:
    """One provider as the pages show it."""

    name: str
    ae_title: str
    host: str
    port: int
    state: ListenerState
    reason: str  # why it failed, "" otherwise
    associations: int


class Node:
    """The DICOM node: every provider of the settings. Loop thread only."""

    def __init__(
        self,
        *,
        settings: SettingsStore,
        peers: Peers,
        ingest: Ingest,
        catalogue: Catalogue,
        retrieval: Retrieval,
        imaging: ImagingPool,
        bus: EventBus,
        counters: Counters,
        clock: Clock,
        limits: Limits = DEFAULT_LIMITS,
        on_read: Callable[[str], None] = lambda _study_uid: None,
    ) -> None:
        """Serve from these parts; `limits` are the caps of each connection, not how many.

        `on_read` hears the UID of each study that somebody retrieves.
        """
        self._settings = settings
        self._bus = bus
        self._clock = clock
        # How many there may be is decided here, over all providers together.
        self._limits = replace(
            limits,
            max_associations=GUARD_TOTAL,
            max_associations_per_peer=GUARD_PER_HOST,
            max_associations_per_host=GUARD_PER_HOST,
        )
        self._admissions = Admissions(settings=settings, peers=peers, bus=bus, counters=counters)
        self._services = _services(
            settings, ingest, catalogue, retrieval, imaging, counters, bus, on_read
        )
        self._listeners: dict[str, Listener] = {}
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._unsubscribe = _nothing
        self._keeper: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on every provider's port; one whose port cannot be had is tried again later."""
        self._unsubscribe = self._bus.subscribe(SettingsChanged, lambda _: self._wake())
        await self._reconcile()
        self._settled.set()
        self._keeper = asyncio.create_task(self._keep(), name="dicom providers")

    async def close(self, grace_s: float = 10) -> None:
        """Stop listening, let what runs end within `grace_s`, abort the rest. Idempotent.

        First new images are refused (A700) on associations that are sending, so that a sender hears
        why and may release, and those on their way come to their end.
        """
        self._services.ingest.refuse_new()
        self._unsubscribe()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        await self._senders_told(min(grace_s, TOLD_S))
        for name in tuple(self._listeners):
            self._retire(name, grace_s)
        await asyncio.gather(*self._closing)

    async def _senders_told(self, limit_s: float) -> None:
        """Give associations over which images came a moment ago the time to hear the refusal."""
        ingest = self._services.ingest
        ends = self._clock.monotonic() + limit_s
        if not ingest.active and self._clock.monotonic() - ingest.last_commit_s > SENDING_S:
            return
        while self.association_count and self._clock.monotonic() < ends:  # noqa: ASYNC110 - a count of others, once in a life
            await asyncio.sleep(TOLD_EVERY_S)

    async def settled(self) -> None:
        """Wait until the settings in force are what the listeners do."""
        await self._settled.wait()

    async def restart(self, name: str) -> None:
        """Close a provider's listener and open it anew; its associations may end meanwhile."""
        if name in self._listeners:
            self._retire(name, REMOVAL_GRACE_S)
        await asyncio.sleep(0)  # the closing task frees the port
        self._wake()
        await self.settled()

    @property
    def association_count(self) -> int:
        """Return how many associations are in now, over all providers."""
        return self._admissions.count

    def statuses(self) -> list[ProviderStatus]:
        """Return each provider of the settings and whether it can be reached."""
        return [self._status(each) for each in self._settings.current.providers]

    def _status(self, provider: Provider) -> ProviderStatus:
        listener = self._listeners.get(provider.name)
        state, reason = ListenerState.LISTENING, ""
        if not provider.enabled:
            state = ListenerState.DISABLED
        elif listener is None or listener.failure:
            state = ListenerState.FAILED
            reason = listener.failure if listener else "It is not started yet."
        return ProviderStatus(
            name=provider.name,
            ae_title=provider.ae_title,
            host=provider.host,
            port=provider.port,
            state=state,
            reason=reason,
            associations=len(listener.visitors) if listener else 0,
        )

    def _wake(self) -> None:
        self._settled.clear()
        self._changed.set()

    async def _keep(self) -> None:
        while True:
            failing = any(each.failure for each in self._listeners.values())
            try:
                async with asyncio.timeout(RETRY_S if failing else None):
                    await self._changed.wait()
            except TimeoutError:
                pass  # time to try the failing ones again
            self._changed.clear()
            try:
                await self._reconcile()
            except Exception:
                # A fault of ours in one provider must not leave all of them unattended.
                log.exception("providers: the settings could not be put in force")
                await asyncio.sleep(RETRY_S)
                self._changed.set()
            if not self._changed.is_set():
                self._settled.set()

    async def _reconcile(self) -> None:
        """Make the listeners what the settings say."""
        wanted = {each.name: each for each in self._settings.current.providers if each.enabled}
        for name, listener in tuple(self._listeners.items()):
            provider = wanted.get(name)
            if provider is None or (provider.host, provider.port) != listener.address:
                self._retire(name, REMOVAL_GRACE_S)
        # The closing tasks begin here, which frees their ports for the providers below.
        await asyncio.sleep(0)
        for name, provider in wanted.items():
            await self._listen(name, provider)
        for listener in tuple(self._listeners.values()):
            await listener.look_again()

    async def _listen(self, name: str, provider: Provider) -> None:
        known = self._listeners.get(name)
        if known is not None and not known.failure:
            return
        listener = known or Listener(
            provider, admissions=self._admissions, services=self._services, limits=self._limits
        )
        self._listeners[name] = listener
        try:
            await listener.server.start()
        except OSError as error:
            reason = f"Port {provider.port} cannot be used: {error.strerror or error}."
            if reason != listener.failure:  # once per reason, not at every try
                log.error("provider %s: %s", name, reason)  # noqa: TRY400 - the reason says it all
            listener.failure = reason
            return
        listener.failure = ""
        log.info(
            "provider %s: %s listens on port %d", name, provider.ae_title, listener.server.port
        )

    def _retire(self, name: str, grace_s: float) -> None:
        listener = self._listeners.pop(name)
        log.info("provider %s: no longer listens on port %d", name, listener.address[1])
        task = asyncio.create_task(listener.server.close(grace_s), name=f"closing provider {name}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _nothing() -> None:
    """Stand where there is nothing to undo yet."""


def _services(
    settings: SettingsStore,
    ingest: Ingest,
    catalogue: Catalogue,
    retrieval: Retrieval,
    imaging: ImagingPool,
    counters: Counters,
    bus: EventBus,
    on_read: Callable[[str], None],
) -> Services:
    def default_character_set() -> str:
        return settings.current.default_character_set

    return Services(
        ingest=ingest,
        query=QueryService(
            catalogue,
            default_character_set=default_character_set,
            counters=counters,
            told=bus.publish,
        ),
        retrieve=RetrieveService(
            catalogue,
            Outgoing(retrieval, imaging),
            Destinations(settings),
            default_character_set=default_character_set,
            counters=counters,
            on_read=on_read,
            told=bus.publish,
        ),
        settings=settings,
        counters=counters,
        bus=bus,
    )
