# SPDX-License-Identifier: Apache-2.0
"""How the box is: in words and where to send images; for machines, health and metrics."""

from collections.abc import Iterator
from typing import Any, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

import scrigno
from scrigno.health.conditions import Condition
from scrigno.health.texts import alert_text

from .alerts_api import language_of
from .rooms import Rooms
from .routes import Route


def _condition(condition: Condition, language: str) -> dict[str, Any]:
    words = alert_text(condition.code, condition.subject, condition.values, language)
    return {
        "code": condition.code,
        "level": condition.level,
        "subject": condition.subject,
        "values": dict(condition.values),
        "summary": words.summary,
        "explanation": words.explanation,
        "next_step": words.next_step,
    }


async def get_status(request: web.Request, rooms: Rooms) -> Any:
    """Return what the banner and the dashboard show: conditions, totals, where to send images."""
    readiness, totals = rooms.box.readiness(), await rooms.catalogue.totals()
    language = language_of(request, rooms)
    ports = {each.name: each for each in rooms.box.listening()}
    providers = [each for each in rooms.settings.current.providers if each.enabled]
    limits = rooms.settings.current.limits
    return {
        "ready": readiness.ready,
        "reasons": [{"code": code, "detail": words} for code, words in readiness.reasons],
        "conditions": [_condition(each, language) for each in rooms.box.conditions()],
        "totals": {
            "patients": totals.patients,
            "studies": totals.studies,
            "series": totals.series,
            "instances": totals.instances,
            "size_bytes": totals.size_bytes,
        },
        "limits": {
            "max_studies": limits.max_studies,
            "max_web_connections": limits.max_web_connections,
            "max_dicom_connections": limits.max_dicom_connections,
            "web_connections": len(rooms.access.sessions.active()),
        },
        "providers": [
            {
                "name": each.name,
                "ae_title": each.ae_title,
                "port": ports[each.name].port if each.name in ports else None,
                "unregistered": each.unregistered,
            }
            for each in providers
        ],
        "volumes": [
            {"name": each.name, "role": each.role, "state": each.state}
            for each in rooms.volumes.statuses()
        ],
        "version": scrigno.__version__,
        "time": rooms.clock.now().isoformat(timespec="seconds"),
    }


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
        about="Conditions, totals, volumes and where to send images",
    ),
)  # fmt: skip
