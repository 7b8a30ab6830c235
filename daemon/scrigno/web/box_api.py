# SPDX-License-Identifier: Apache-2.0
"""How the box is: in words and where to send images; for machines, health and metrics."""

from collections.abc import Iterator
from typing import Any, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

import scrigno
from scrigno.catalogue.records import Totals
from scrigno.db.errors import DatabaseError
from scrigno.health.codes import Level
from scrigno.health.conditions import Condition
from scrigno.health.texts import alert_text
from scrigno.settings.schema import Unregistered
from scrigno.volumes.states import Role, VolumeState

from .alerts_api import language_of
from .answers import at
from .rooms import Rooms
from .routes import Route
from .shapes import LANGUAGE, Answer, Moment


class ConditionAnswer(Answer):
    """What is wrong now, in words."""

    code: str
    level: Level
    subject: str
    values: dict[str, str | int | float]
    summary: str
    explanation: str
    next_step: str


class ReasonAnswer(Answer):
    """Why images cannot be stored or read."""

    code: str
    detail: str


class TotalsAnswer(Answer):
    """How much the archive holds."""

    patients: int
    studies: int
    series: int
    instances: int
    size_bytes: int


class LimitsAnswer(Answer):
    """The limits of this box, null for none, and what is in use of them."""

    max_studies: int | None
    max_web_connections: int | None
    max_dicom_connections: int | None
    web_connections: int
    dicom_connections: int


class ListeningAnswer(Answer):
    """Where images may be sent; `port` is null while the provider does not listen."""

    name: str
    ae_title: str
    port: int | None
    unregistered: Unregistered


class VolumeStateAnswer(Answer):
    """One volume in short."""

    name: str
    role: Role
    state: VolumeState


class StatusAnswer(Answer):
    """What the banner and the dashboard show."""

    ready: bool
    reasons: list[ReasonAnswer]
    conditions: list[ConditionAnswer]
    totals: TotalsAnswer
    limits: LimitsAnswer
    providers: list[ListeningAnswer]
    volumes: list[VolumeStateAnswer]
    version: str
    time: Moment


def _condition(condition: Condition, language: str) -> ConditionAnswer:
    words = alert_text(condition.code, condition.subject, condition.values, language)
    return ConditionAnswer(
        code=condition.code,
        level=condition.level,
        subject=condition.subject,
        values=dict(condition.values),
        summary=words.summary,
        explanation=words.explanation,
        next_step=words.next_step,
    )


async def _totals(rooms: Rooms) -> Totals:
    """Return what the archive holds; the last known when the index fails, which is told here."""
    try:
        return await rooms.catalogue.totals()
    except DatabaseError:
        return rooms.box.totals


async def get_status(request: web.Request, rooms: Rooms) -> Any:
    """Return what the banner and the dashboard show: conditions, totals, where to send images."""
    readiness, totals = rooms.box.readiness(), await _totals(rooms)
    language = language_of(request, rooms)
    return StatusAnswer(
        ready=readiness.ready,
        reasons=[ReasonAnswer(code=code, detail=words) for code, words in readiness.reasons],
        conditions=[_condition(each, language) for each in rooms.box.conditions()],
        totals=TotalsAnswer(
            patients=totals.patients,
            studies=totals.studies,
            series=totals.series,
            instances=totals.instances,
            size_bytes=totals.size_bytes,
        ),
        limits=limits_in_use(rooms),
        providers=_listening(rooms),
        volumes=[
            VolumeStateAnswer(name=each.name, role=each.role, state=each.state)
            for each in rooms.volumes.statuses()
        ],
        version=scrigno.__version__,
        time=at(rooms.clock.now()),
    )


def limits_in_use(rooms: Rooms) -> LimitsAnswer:
    """Return the limits and what is in use of them (SPEC AD-8)."""
    limits = rooms.settings.current.limits
    return LimitsAnswer(
        max_studies=limits.max_studies,
        max_web_connections=limits.max_web_connections,
        max_dicom_connections=limits.max_dicom_connections,
        web_connections=len(rooms.access.sessions.active()),
        dicom_connections=sum(each.associations for each in rooms.box.listening()),
    )


def _listening(rooms: Rooms) -> list[ListeningAnswer]:
    ports = {each.name: each.port for each in rooms.box.listening()}
    return [
        ListeningAnswer(
            name=each.name,
            ae_title=each.ae_title,
            port=ports.get(each.name),
            unregistered=each.unregistered,
        )
        for each in rooms.settings.current.providers
        if each.enabled
    ]


def health(rooms: Rooms) -> web.Response:
    """Answer 200 when images can be stored and read, 503 with the reasons when not."""
    readiness = rooms.box.readiness()
    content = {
        "status": "ok" if readiness.ready else "unavailable",
        "reasons": [{"code": code, "detail": words} for code, words in readiness.reasons],
    }
    return web.json_response(content, status=200 if readiness.ready else 503)


class _Collected:
    """Counters and gauges of the box as prometheus_client asks for them."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def collect(self) -> Iterator[Metric]:
        metrics: dict[str, Metric] = {}
        for name, labels, value in self._rooms.counters:
            base = f"scrigno_{name.removesuffix('_total')}"
            metric = metrics.setdefault(base, Metric(base, name.replace("_", " "), "counter"))
            metric.add_sample(f"{base}_total", labels, value)
        for gauge in self._rooms.box.gauges():
            base = f"scrigno_{gauge.name}"
            about = gauge.about or gauge.name.replace("_", " ")
            metric = metrics.setdefault(base, Metric(base, about, "gauge"))
            metric.add_sample(base, dict(gauge.labels), gauge.value)
        yield from metrics.values()


def metrics(rooms: Rooms) -> web.Response:
    """Return every counter and gauge in the text form of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(rooms))
    return web.Response(
        body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )


ROUTES: Final = (
    Route(
        method="GET", path="/status", work=get_status,
        about="Conditions, totals, volumes and where to send images", query=(LANGUAGE,),
        answer=StatusAnswer,
    ),
)  # fmt: skip
