# SPDX-License-Identifier: Apache-2.0
"""Audit, syslog, webhooks, outgoing calls, https and the support bundle, as the settings want."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scrigno.access.audit import AuditTrail
from scrigno.access.audit_syslog import Forwarder, SyslogRules, Transport
from scrigno.core.events import (
    AlertChanged,
    EventBus,
    InstanceHeld,
    InstanceStored,
    JobChanged,
    PeerRegistered,
    ReadingChanged,
    SettingsChanged,
    StudyRemoved,
    StudyReturned,
    VolumeChanged,
)
from scrigno.health.conditions import Condition, condition
from scrigno.health.outgoing import Outgoing
from scrigno.health.webhook_store import WebhookStore
from scrigno.health.webhooks import EndpointRules, WebhookRules, Webhooks
from scrigno.reading.documents import Kind
from scrigno.settings.schema import BootConfig
from scrigno.settings.store import SettingsStore
from scrigno.volumes.volume import Volumes
from scrigno.web.certificates import Certificates
from scrigno.web.connections import Connections
from scrigno.web.looks import Looks

from .audit_ears import AuditEars
from .facts import FactBook
from .health_parts import HealthParts
from .logs import Logs
from .pages import SecurePort
from .starter import Starter
from .stores import Common, Stores
from .support import SupportBundle


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustParts:
    """What others rely on."""

    certificates: Certificates
    connections: Connections
    looks: Looks
    outgoing: Outgoing
    secure_port: SecurePort
    support: SupportBundle
    support_folder: Path
    syslog: Forwarder
    webhooks: Webhooks

    def for_rooms(self) -> dict[str, Any]:
        """Return the parts by the names of `web.rooms.Rooms`."""
        names = self.__dataclass_fields__.keys() - {"support_folder"}
        return {name: getattr(self, name) for name in names}


async def start_trust(
    config: BootConfig,
    settings: SettingsStore,
    stores: Stores,
    facts: FactBook,
    health: HealthParts,
    audit: AuditTrail,
    certificates: Certificates,
    logs: Logs,
    common: Common,
    starter: Starter,
) -> TrustParts:
    """Make and start them; what was started is registered with `starter`. Raises DatabaseError."""
    _follow_audit_quota(settings, audit, common.bus)
    ears = AuditEars(audit, settings, common.clock)
    starter.on_stop("audit of arrivals", ears.close)
    ears.listen(common.bus)
    outgoing = Outgoing(allowed=lambda: settings.current.outgoing.allowed)
    syslog = Forwarder(
        audit,
        config.state_dir,
        rules=lambda: syslog_rules(settings),
        counters=common.counters,
    )
    starter.on_stop("audit syslog", syslog.close)
    syslog.start()
    webhooks = Webhooks(
        store=WebhookStore(config.state_dir),
        rules=lambda: webhook_rules(settings),
        outgoing=outgoing,
        clock=common.clock,
        counters=common.counters,
    )
    starter.on_stop("webhooks", webhooks.close)
    await webhooks.open()
    webhooks.start()
    hear(common.bus, webhooks)

    def reconfigured(_event: SettingsChanged) -> None:
        webhooks.reconfigure()
        syslog.nudge()

    common.bus.subscribe(SettingsChanged, reconfigured)
    health.sources.add("trust", lambda: conditions(syslog, webhooks))
    _show_too(facts, syslog, webhooks)
    return TrustParts(
        certificates=certificates,
        connections=Connections(common.counters),
        looks=Looks(audit, common.clock),
        outgoing=outgoing,
        secure_port=SecurePort(config.web, settings, certificates),
        support=SupportBundle(
            config=config,
            settings=settings,
            facts=facts,
            alerts=health.book,
            catalogue=stores.catalogue,
            logs=logs,
            clock=common.clock,
            counters=common.counters,
            more={
                "volumes.json": lambda: _volumes(stores.volumes),
                "trust.json": lambda: _trust(audit, syslog, webhooks, certificates),
            },
        ),
        support_folder=config.state_dir / "support",
        syslog=syslog,
        webhooks=webhooks,
    )


def hear(bus: EventBus, webhooks: Webhooks) -> None:
    """Let webhooks hear what happens; only ids, UIDs and words of our own go out."""
    tell = webhooks.tell
    bus.subscribe(InstanceStored, lambda e: webhooks.stored(e.study_uid))
    bus.subscribe(JobChanged, lambda e: webhooks.job(str(e.job_id), str(e.state)))
    bus.subscribe(
        StudyRemoved,
        lambda e: tell(
            "study.deleted", {"study_instance_uid": e.study_uid, "trash_id": e.trash_id}
        ),
    )
    bus.subscribe(
        StudyReturned,
        lambda e: tell(
            "study.restored", {"study_instance_uid": e.study_uid, "trash_id": e.trash_id}
        ),
    )
    bus.subscribe(
        InstanceHeld,
        lambda e: tell("inbox.held", {"inbox_id": e.inbox_id, "reason": e.reason}),
    )
    bus.subscribe(ReadingChanged, partial(_report, webhooks))
    bus.subscribe(PeerRegistered, lambda e: tell("node.pending", {"node": e.peer_name}))
    bus.subscribe(
        AlertChanged,
        lambda e: tell(
            "alert.changed",
            {
                "alert_id": e.alert_id,
                "code": e.code,
                "level": str(e.level),
                "subject": e.subject,
                "action": str(e.action),
            },
        ),
    )
    bus.subscribe(
        VolumeChanged,
        lambda e: tell(
            "volume.changed", {"volume": e.volume, "before": e.before, "after": e.after}
        ),
    )
    bus.subscribe(SettingsChanged, lambda e: tell("settings.changed", {"revision": e.revision}))


def _report(webhooks: Webhooks, event: ReadingChanged) -> None:
    if event.kind == Kind.REPORT_STATE:
        told = {"study_instance_uid": event.study_uid, "revision": event.revision}
        webhooks.tell("report.state", told)


def syslog_rules(settings: SettingsStore) -> SyslogRules | None:
    """Return where audit lines go, as the settings say now; None: nowhere."""
    now = settings.current.audit.syslog
    if not now.enabled:
        return None
    return SyslogRules(
        host=now.host, port=now.port, transport=Transport(now.transport.value), ca=now.ca
    )


def webhook_rules(settings: SettingsStore) -> WebhookRules:
    """Return who is told of events, as the settings say now."""
    now = settings.current.webhooks
    return WebhookRules(
        endpoints=tuple(
            EndpointRules(
                name=each.name,
                url=each.url,
                secret=each.secret,
                kinds=frozenset(kind.value for kind in each.events),
            )
            for each in now.endpoints
            if each.enabled
        ),
        complete_after_s=now.study_complete_after_s,
    )


def conditions(syslog: Forwarder, webhooks: Webhooks) -> list[Condition]:
    """Return what is wrong here."""
    found = webhooks.conditions()
    if syslog.failing:
        status = syslog.status()
        found.append(condition("audit-syslog-failed", reason=status.reason, waiting=status.waiting))
    return found


def _show_too(facts: FactBook, syslog: Forwarder, webhooks: Webhooks) -> None:
    before = facts.elsewhere

    def all_of_them() -> Iterable[Condition]:
        return (*before(), *conditions(syslog, webhooks))

    facts.elsewhere = all_of_them


def _follow_audit_quota(settings: SettingsStore, audit: AuditTrail, bus: EventBus) -> None:
    def follow(_event: SettingsChanged | None = None) -> None:
        audit.set_quota(settings.current.audit.quota_mib << 20)

    follow()
    bus.subscribe(SettingsChanged, follow)


async def _volumes(volumes: Volumes) -> Any:
    return list(volumes.statuses())


async def _trust(
    audit: AuditTrail, syslog: Forwarder, webhooks: Webhooks, certificates: Certificates
) -> Mapping[str, Any]:
    first, last, size = await audit.extent()
    return {
        "audit": {
            "first": first,
            "last": last,
            "size_bytes": size,
            "failure": audit.failure,
            "dropped": audit.dropped,
        },
        "syslog": syslog.status(),
        "webhooks": [
            {
                "waiting": each.waiting,
                "dead": each.dead,
                "failures": each.failures,
                "reason": each.reason,
            }
            for each in await webhooks.statuses()
        ],
        "certificate": certificates.shown,
    }
