# SPDX-License-Identifier: Apache-2.0
"""What nodes do without a person at a page is in the trail, and no scanner fills it."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from scrigno.access.audit import AuditRules, AuditTrail
from scrigno.app.audit_ears import AuditEars
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters
from scrigno.core.events import (
    AssociationRefused,
    EventBus,
    InstanceStored,
    NodeQueried,
    NodeRetrieved,
    SettingsChanged,
    VolumeChanged,
)


@pytest.fixture
async def heard(tmp_path: Path) -> AsyncIterator[tuple[EventBus, AuditEars, AuditTrail]]:
    trail = AuditTrail(tmp_path, SystemClock(), Counters(), AuditRules(group_s=0.01))
    await trail.open()
    bus, settings = EventBus(), SimpleNamespace(author="anna")
    ears = AuditEars(trail, settings, SystemClock())  # type: ignore[arg-type]
    ears.listen(bus)
    yield bus, ears, trail
    await ears.close()
    await trail.close()


@pytest.mark.spec("AD-10")
async def test_what_a_node_brings_is_one_line_at_its_begin_and_one_at_its_end(heard):
    bus, ears, trail = heard
    for number in range(300):
        bus.publish(
            InstanceStored(
                study_uid="1.2.3", series_uid="1.2.3.1", sop_instance_uid=f"1.{number}",
                source="CT1",
            )
        )  # fmt: skip
    await ears.close()
    begun, ended = reversed(await trail.entries(study="1.2.3"))
    assert (begun.who, begun.action) == ("CT1", "begin-transferring-dicom-instances")
    assert (ended.who, ended.action) == ("CT1", "dicom-instances-transferred")
    assert ended.details == {"how": "received", "instances": "300"}


@pytest.mark.spec("AD-10")
async def test_queries_retrievals_settings_and_volumes_are_recorded(heard):
    bus, _, trail = heard
    bus.publish(NodeQueried(calling_ae="WS1", host="10.0.0.4", answers=12))
    bus.publish(
        NodeRetrieved(
            calling_ae="WS1", host="10.0.0.4", how="move", destination="WS2",
            study_uids=("1.2.3", "1.2.4"), completed=7, failed=1,
        )
    )  # fmt: skip
    bus.publish(SettingsChanged(revision=9))
    bus.publish(VolumeChanged(volume="data", before="online", after="offline", reason="gone"))
    found = await trail.entries(who="WS1")
    assert [(each.action, each.subject) for each in reversed(found)] == [
        ("query", "archive"),
        ("dicom-instances-transferred", "1.2.3"),
        ("dicom-instances-transferred", "1.2.4"),
    ]
    assert found[0].details["destination"] == "WS2"
    assert found[0].details["sent"] == "7"
    (changed,) = await trail.entries(who="anna")
    assert changed.subject == "settings 9"
    (volume,) = await trail.entries(action="hardware-configuration")
    assert volume.details == {"before": "online", "after": "offline"}


@pytest.mark.spec("AD-10")
async def test_a_scanner_of_ports_does_not_fill_the_trail(heard):
    bus, _, trail = heard
    for _ in range(1000):
        bus.publish(
            AssociationRefused(
                provider="Scrigno", calling_ae="SCAN", called_ae="ANY", host="10.0.0.66",
                code="calling-ae-unknown", reason="unknown",
            )
        )  # fmt: skip
    refused = await trail.entries(action="node-authentication", limit=1000)
    assert len(refused) == 1
    assert refused[0].outcome == "failure"
