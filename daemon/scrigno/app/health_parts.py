# SPDX-License-Identifier: Apache-2.0
"""Everything that watches the box and tells people, composed and tied to the rooms it watches."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from scrigno.access.audit import AuditTrail
from scrigno.core.events import SettingsChanged, VolumeChanged
from scrigno.health.book import AlertBook
from scrigno.health.channels import MailRules, Security, Senders, WebhookRules
from scrigno.health.codes import Level
from scrigno.health.dispatch import Dispatcher, NotifyRules
from scrigno.health.history import MIRROR_KEY, MOST_BYTES, History, Mirror
from scrigno.health.outbox import Outbox
from scrigno.health.sources import Sources
from scrigno.health.storage_watch import WatchedVolume
from scrigno.health.texts import Value
from scrigno.health.watch import MachineRules, MachineWatch
from scrigno.host.linux_machine import LinuxMachine
from scrigno.settings.schema import BootConfig
from scrigno.settings.store import SettingsStore
from scrigno.volumes.states import READABLE_STATES, ErrorKind, VolumeError
from scrigno.volumes.volume import Volume, Volumes
from scrigno.web.certificates import Certificates

from .facts import FactBook
from .mishaps import Mishaps
from .starter import Starter
from .stores import Common


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthParts:
    """The alert book with what feeds it and what carries its alerts away."""

    book: AlertBook
    dispatcher: Dispatcher
    history: History
    sources: Sources
    watch: MachineWatch


async def start_health(
    config: BootConfig,
    settings: SettingsStore,
    volumes: Volumes,
    facts: FactBook,
    audit: AuditTrail,
    certificates: Certificates,
    common: Common,
    starter: Starter,
) -> HealthParts:
    """Make and start everything of health; what was started is registered with `starter`."""
    folder = config.state_dir / "health"
    clock, counters, bus = common.clock, common.counters, common.bus
    history = History(
        folder / "alerts", clock=clock, counters=counters, mirrors=partial(_mirrors, volumes)
    )
    await history.open()
    history.start()
    starter.on_stop("alert history", history.close)
    book = AlertBook(clock=clock, bus=bus, counters=counters, history=history)
    outbox = Outbox(folder / "alerts", counters=counters)
    await outbox.open()
    dispatcher = Dispatcher(
        rules=partial(notify_rules, settings),
        outbox=outbox,
        senders=Senders(clock=clock, allowed=lambda: settings.current.outgoing.allowed),
        clock=clock,
        counters=counters,
    )
    dispatcher.dropped = lambda channel, count: _raise(
        book, "alerts-dropped", channel, {"count": count}
    )
    starter.on_stop("alert channels", dispatcher.close)
    sources = Sources(book, counters=counters)
    watch = MachineWatch(
        LinuxMachine(),
        folder=folder / "machine",
        volumes=partial(_watched, volumes),
        rules=partial(_machine_rules, config, settings, certificates),
        on_change=sources.nudge,
        on_event=lambda code, subject, values: _raise(book, code, subject, values),
    )
    starter.on_stop("machine watch", watch.close)
    await watch.start()
    facts.elsewhere = lambda: (
        *watch.conditions(),
        *dispatcher.conditions(),
        *history.conditions(),
    )
    book.listen(dispatcher.take)
    dispatcher.start()
    sources.add("the archive", facts.archive_conditions)
    sources.add("the machine", watch.conditions)
    sources.add("alert channels", dispatcher.conditions)
    sources.add("alert history", history.conditions)
    starter.on_stop("alert sources", sources.close)
    sources.start()
    Mishaps(book).listen(bus)
    bus.subscribe(VolumeChanged, lambda _event: sources.nudge())
    bus.subscribe(SettingsChanged, lambda _event: dispatcher.reconfigure())
    audit.record("scrigno", "application-start", "scrigno")
    return HealthParts(
        book=book, dispatcher=dispatcher, history=history, sources=sources, watch=watch
    )


def _raise(book: AlertBook, code: str, subject: str, values: Mapping[str, Value]) -> None:
    book.raise_once(code, subject, values)


def notify_rules(settings: SettingsStore) -> NotifyRules:
    """Return who is told, as the settings say now."""
    now = settings.current
    mails = (
        MailRules(
            name=each.name,
            host=each.host,
            port=each.port,
            security=Security(each.security.value),
            user=each.user,
            password=each.password,
            sender=each.sender,
            recipients=each.recipients,
            level=Level(each.level.value),
        )
        for each in now.alerts.mail
    )
    webhooks = (
        WebhookRules(
            name=each.name, url=each.url, secret=each.secret, level=Level(each.level.value)
        )
        for each in now.alerts.webhooks
    )
    return NotifyRules(
        channels=(*mails, *webhooks), box=socket.gethostname(), language=now.language.value
    )


def _machine_rules(
    config: BootConfig, settings: SettingsStore, certificates: Certificates
) -> MachineRules:
    return MachineRules(
        ups=settings.current.alerts.ups,
        certificates={"https": certificates.path} if certificates.shown is not None else {},
        places={"state": config.state_dir, "staging": config.staging_dir},
    )


def _watched(volumes: Volumes) -> Mapping[str, WatchedVolume]:
    return {
        each.name: WatchedVolume(
            path=each.path,
            right=each.uuid is not None and each.state in READABLE_STATES,
            total_bytes=each.total_bytes,
            free_bytes=each.free_bytes,
        )
        for each in volumes.statuses()
    }


def _mirrors(volumes: Volumes) -> list[Mirror]:
    return [
        Mirror(
            name=f"volume {volume.name}",
            read=partial(_read_history, volume),
            write=partial(volume.put_bytes, MIRROR_KEY, from_reserve=True),
        )
        for volume in volumes.healthy()
    ]


async def _read_history(volume: Volume) -> bytes | None:
    try:
        return await volume.head(MIRROR_KEY, MOST_BYTES)
    except VolumeError as error:
        if error.kind is ErrorKind.MISSING:
            return None
        raise
