# SPDX-License-Identifier: Apache-2.0
"""What happens without a person at a page, told to the audit trail: nodes, settings, volumes."""

import asyncio
from collections import OrderedDict
from typing import Final

from scrigno.access.audit import OWN, Action, AuditTrail
from scrigno.core.clock import Clock
from scrigno.core.events import (
    AssociationRefused,
    EventBus,
    InstanceStored,
    NodeQueried,
    NodeRetrieved,
    PeerRegistered,
    SettingsChanged,
    VolumeChanged,
)
from scrigno.settings.store import SettingsStore

QUIET_S: Final = 30.0  # without an image: what came is one transfer
RECEIVED: Final = {"how": "received"}
AGAIN_AFTER_S: Final = 300.0
MOST_KNOWN: Final = 5_000
MOST_STUDIES_NAMED: Final = 1000  # in lines of their own; the rest is counted


class AuditEars:
    """Records what is heard on the bus. Loop thread only."""

    def __init__(self, audit: AuditTrail, settings: SettingsStore, clock: Clock) -> None:
        """Hold the trail; `listen` ties it to what happens."""
        self._clock = clock
        # source and study -> images until now, monotonic time of the last
        self._arriving: dict[tuple[str, str], list[float]] = {}
        self._lately: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._audit = audit
        self._settings = settings

    def _first_in_a_while(self, key: tuple[str, ...]) -> bool:
        """Tell whether this is news: a port scanner must not fill the trail."""
        now = self._clock.monotonic()
        last = self._lately.get(key)
        if last is not None and now - last < AGAIN_AFTER_S:
            return False
        self._lately[key] = now
        self._lately.move_to_end(key)
        while len(self._lately) > MOST_KNOWN:
            self._lately.popitem(last=False)
        return True

    def _stored(self, event: InstanceStored) -> None:
        """Count what one source brings of one study: a line at its begin and one at its end."""
        key = (event.source or OWN, event.study_uid)
        if key not in self._arriving:
            if len(self._arriving) >= MOST_KNOWN:
                self._end_of_arrival(next(iter(self._arriving)))
            self._arriving[key] = [0, 0.0]
            self._audit.record(key[0], Action.BEGIN_TRANSFERRING, key[1], details=RECEIVED)
            self._look_later(key, QUIET_S)
        self._arriving[key][0] += 1
        self._arriving[key][1] = self._clock.monotonic()

    def _look_later(self, key: tuple[str, str], delay_s: float) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._quiet, key)

    def _quiet(self, key: tuple[str, str]) -> None:
        found = self._arriving.get(key)
        if found is None:
            return
        left = found[1] + QUIET_S - self._clock.monotonic()
        if left > 0:
            self._look_later(key, left)
        else:
            self._end_of_arrival(key)

    def _end_of_arrival(self, key: tuple[str, str]) -> None:
        count, _ = self._arriving.pop(key)
        details = {**RECEIVED, "instances": str(int(count))}
        self._audit.record(key[0], Action.INSTANCES_TRANSFERRED, key[1], details=details)

    async def close(self) -> None:
        """Tell what has arrived until now; idempotent."""
        for key in tuple(self._arriving):
            self._end_of_arrival(key)

    def listen(self, bus: EventBus) -> None:
        """Hear from now on."""
        bus.subscribe(InstanceStored, self._stored)
        bus.subscribe(NodeQueried, self._queried)
        bus.subscribe(NodeRetrieved, self._retrieved)
        bus.subscribe(AssociationRefused, self._refused)
        bus.subscribe(PeerRegistered, self._registered)
        bus.subscribe(SettingsChanged, self._settings_changed)
        bus.subscribe(VolumeChanged, self._volume_changed)

    def _queried(self, event: NodeQueried) -> None:
        # what was asked for is not written down: it holds names of patients
        details = {"address": event.host, "answers": str(event.answers)}
        self._audit.record(event.calling_ae, Action.QUERY, "archive", details=details)

    def _retrieved(self, event: NodeRetrieved) -> None:
        details = {
            "address": event.host,
            "how": event.how,
            "sent": str(event.completed),
            "failed": str(event.failed),
        }
        if event.destination:
            details["destination"] = event.destination
        outcome = "success" if event.completed or not event.failed else "failure"
        for study_uid in event.study_uids[:MOST_STUDIES_NAMED]:
            self._audit.record(
                event.calling_ae, Action.INSTANCES_TRANSFERRED, study_uid, outcome, details
            )
        if len(event.study_uids) > MOST_STUDIES_NAMED:
            rest = len(event.study_uids) - MOST_STUDIES_NAMED
            self._audit.record(
                event.calling_ae,
                Action.INSTANCES_TRANSFERRED,
                f"{rest} further studies",
                outcome,
                details,
            )

    def _refused(self, event: AssociationRefused) -> None:
        if not self._first_in_a_while((event.calling_ae, event.host, event.code)):
            return
        details = {"address": event.host, "called": event.called_ae, "code": event.code}
        self._audit.record(
            event.calling_ae, Action.NODE_AUTHENTICATION, event.provider, "failure", details
        )

    def _registered(self, event: PeerRegistered) -> None:
        self._audit.record(OWN, Action.NETWORK_CONFIGURATION, event.peer_name)

    def _settings_changed(self, event: SettingsChanged) -> None:
        self._audit.record(
            self._settings.author, Action.SOFTWARE_CONFIGURATION, f"settings {event.revision}"
        )

    def _volume_changed(self, event: VolumeChanged) -> None:
        details = {"before": event.before, "after": event.after}
        self._audit.record(OWN, Action.HARDWARE_CONFIGURATION, event.volume, details=details)
