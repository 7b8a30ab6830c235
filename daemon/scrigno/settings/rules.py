# SPDX-License-Identifier: Apache-2.0
"""What must hold between settings that are each fine on their own. Pure functions."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path as FilePath
from typing import TypeVar

from .care import AlertSettings, CareSettings
from .document import Path, Problem
from .schema import Peer, Provider, Settings, VolumeRole

T = TypeVar("T")


def problems_of(settings: Settings) -> list[Problem]:
    """Return everything that does not go together; paths are those of a settings document."""
    return [
        *_volumes(settings),
        *_providers(settings.providers),
        *_peers(settings.peers),
        *_care(settings.care),
        *_alerts(settings.alerts),
        *_trust(settings),
    ]


def boot_problems(state_dir: FilePath, staging_dir: FilePath, initial: Settings) -> list[Problem]:
    """Return where the box's own folders and its volumes are in each other's way."""
    found: list[Problem] = []
    for i, volume in enumerate(initial.volumes):
        for name, own in (("state_dir", state_dir), ("staging_dir", staging_dir)):
            if _overlap(volume.path, own):
                found.append(
                    Problem(
                        path=("initial", "volumes", i, "path"),
                        what=f"{volume.path} and {name} {own} lie in one another",
                        allowed="folders apart from each other",
                    )
                )
    if state_dir == staging_dir:
        found.append(
            Problem(path=("staging_dir",), what="is the state_dir", allowed="a folder of its own")
        )
    return found


def _volumes(settings: Settings) -> Iterator[Problem]:
    volumes = settings.volumes
    data = [i for i, volume in enumerate(volumes) if volume.role is VolumeRole.DATA]
    if volumes and not data:
        yield Problem(
            path=("volumes",), what="no volume has the role data", allowed="exactly one data volume"
        )
    for i in data[1:]:
        yield Problem(
            path=("volumes", i, "role"),
            what="this is a second data volume",
            allowed="exactly one data volume; the others are backup",
        )
    yield from _doubled(volumes, lambda volume: volume.name, ("volumes",), "name")
    for i, volume in enumerate(volumes):
        for other in volumes[:i]:
            if _overlap(volume.path, other.path):
                yield Problem(
                    path=("volumes", i, "path"),
                    what=f"{volume.path} and volume {other.name} {other.path} lie in one another",
                    allowed="folders apart from each other, each on its own disk",
                )


def _providers(providers: tuple[Provider, ...]) -> Iterator[Problem]:
    where: Path = ("dicom", "providers")
    yield from _doubled(providers, lambda each: each.name, where, "name")
    listening = [each.port if each.enabled and each.port else None for each in providers]
    yield from _doubled(listening, lambda port: port, where, "port")


def _peers(peers: tuple[Peer, ...]) -> Iterator[Problem]:
    where: Path = ("dicom", "users")
    yield from _doubled(peers, lambda each: each.name, where, "name")
    yield from _doubled(peers, lambda each: f"{each.ae_title} at {each.host}", where, "ae_title")


def _care(care: CareSettings) -> Iterator[Problem]:
    where: Path = ("care", "retention")
    yield from _doubled(care.retention, lambda each: each.name, where, "name")
    for i, rule in enumerate(care.retention):
        if rule.older_than_days is None and rule.unread_for_days is None:
            yield Problem(
                path=(*where, i),
                what="has no condition and would take every study",
                allowed="older_than_days or unread_for_days, or both",
            )


def _alerts(alerts: AlertSettings) -> Iterator[Problem]:
    yield from _doubled(alerts.mail, lambda each: each.name, ("alerts", "mail"), "name")
    yield from _doubled(alerts.webhooks, lambda each: each.name, ("alerts", "webhooks"), "name")
    for i, mail in enumerate(alerts.mail):
        if not mail.recipients:
            yield Problem(
                path=("alerts", "mail", i, "recipients"),
                what="is empty",
                allowed="at least one address",
            )


def _trust(settings: Settings) -> Iterator[Problem]:
    endpoints = settings.webhooks.endpoints
    yield from _doubled(endpoints, lambda each: each.name, ("webhooks", "endpoints"), "name")
    yield from _doubled(settings.log_levels, lambda each: each.part, ("log_levels",), "part")
    syslog = settings.audit.syslog
    if syslog.enabled and not syslog.host:
        yield Problem(
            path=("audit", "syslog", "host"), what="is empty", allowed="the server that gets them"
        )
    if settings.web.redirect and not settings.web.https:
        yield Problem(
            path=("web", "redirect"),
            what="https is off, so nobody could reach the pages",
            allowed="true only while web.https is true",
        )


def _doubled(
    items: Iterable[T], key: Callable[[T], object], where: Path, name: str
) -> Iterator[Problem]:
    seen: set[object] = set()
    for i, item in enumerate(items):
        value = key(item)
        if value is not None and value in seen:
            yield Problem(path=(*where, i, name), what=f"{value} is used twice", allowed="once")
        seen.add(value)


def _overlap(one: FilePath, other: FilePath) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)
