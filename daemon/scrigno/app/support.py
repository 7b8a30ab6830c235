# SPDX-License-Identifier: Apache-2.0
"""The support bundle: what somebody far away needs to understand this box, and no patient data.

A ZIP of JSON and text. Secrets are left out; addresses and names of machines and people are
replaced by `host-1`, `person-1` and so on, the same one each time, so that what belongs together
stays together. What cannot be collected says why instead of leaving the rest out.
"""

import asyncio
import io
import ipaddress
import json
import os
import re
import socket
import sys
import time
import zipfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from enum import Enum
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

import psutil

from scrigno import __version__
from scrigno.catalogue.catalogue import Catalogue
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.health.book import AlertBook
from scrigno.settings.revisions import to_plain
from scrigno.settings.schema import BootConfig
from scrigno.settings.secrets import HIDDEN, hidden
from scrigno.settings.store import SettingsStore
from scrigno.web.log_files import LogFiles

from .facts import FactBook

MOST_LOG_BYTES: Final = 20 << 20
MOST_LOGS: Final = 3
PART_S: Final = 20.0
KEPT: Final = 3  # bundles written on the box for the command
_ADDRESS: Final = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4})(?![\w:])"
)
# keys whose values name a machine or a person
_HOST_KEYS: Final = frozenset({"host", "url", "names", "allowed", "trusted_proxies", "hostname"})
_PERSON_KEYS: Final = frozenset({"recipients", "sender", "user", "author", "acknowledged_by"})
_SECRET_KEYS: Final = frozenset({"password", "secret", "key", "token", "client_secret", "ca"})

Part = Callable[[], Awaitable[Any]]


class Mask:
    """Gives each name a number, the same each time."""

    def __init__(self) -> None:
        """Know nobody."""
        self._known: dict[tuple[str, str], str] = {}

    def __call__(self, kind: str, text: str) -> str:
        """Return what stands for `text`."""
        if not text:
            return text
        key = (kind, text)
        if key not in self._known:
            count = sum(1 for each in self._known if each[0] == kind)
            self._known[key] = f"{kind}-{count + 1}"
        return self._known[key]

    def addresses(self, text: str) -> str:
        """Return a text with each address in it replaced; loopback and any stay."""

        def replaced(found: re.Match[str]) -> str:
            try:
                address = ipaddress.ip_address(found[0])
            except ValueError:
                return found[0]
            here = address.is_loopback or address.is_unspecified
            return found[0] if here else self("host", found[0])

        return _ADDRESS.sub(replaced, text)

    def document(self, value: Any, key: str = "") -> Any:
        """Return a document of plain values without secrets, its hosts and people masked."""
        if key in _SECRET_KEYS and isinstance(value, str):
            return HIDDEN if value else value
        match value:
            case dict():
                return {name: self.document(part, str(name)) for name, part in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.document(each, key) for each in value]
            case str() if key in _HOST_KEYS:
                return value if value in {"", "*", "0.0.0.0", "localhost"} else self("host", value)  # noqa: S104
            case str() if key in _PERSON_KEYS:
                return self("person", value)
            case str():
                return self.addresses(value)
            case _:
                return value


class SupportBundle:
    """Collects and packs. Loop thread only."""

    def __init__(
        self,
        *,
        config: BootConfig,
        settings: SettingsStore,
        facts: FactBook,
        alerts: AlertBook,
        catalogue: Catalogue,
        logs: LogFiles,
        clock: Clock,
        counters: Counters,
        more: Mapping[str, Part],
    ) -> None:
        """`more` adds parts by file name; each returns plain values or a dataclass."""
        self._config = config
        self._settings = settings
        self._facts = facts
        self._alerts = alerts
        self._catalogue = catalogue
        self._logs = logs
        self._clock = clock
        self._counters = counters
        self._more = more
        self._began_s = time.monotonic()

    def name(self) -> str:
        """Return how the file is to be called."""
        return f"scrigno-support-{self._clock.now():%Y%m%d-%H%M%S}.zip"

    async def make(self) -> bytes:
        """Return the bundle as a ZIP."""
        mask = Mask()
        mask("host", socket.gethostname())
        parts: dict[str, Part] = {
            "about.json": self._about,
            "settings.json": self._settings_now,
            "settings-history.json": self._history,
            "conditions.json": self._conditions,
            "alerts.json": self._open_alerts,
            "metrics.json": self._metrics,
            "database.json": self._database,
            "host.json": lambda: asyncio.to_thread(_host_facts, self._config),
            "packages.json": lambda: asyncio.to_thread(_packages),
            **self._more,
        }
        collected: dict[str, bytes] = {}
        for name, part in parts.items():
            value = mask.document(_plain(await self._collected(part)))
            text = json.dumps(value, indent=1, ensure_ascii=False, default=str)
            collected[name] = text.encode("utf-8", "replace")
        return await asyncio.to_thread(self._packed, collected, mask)

    async def write(self, folder: Path) -> Path:
        """Write the bundle below `folder`, keep the newest few; returns where it stands."""
        content = await self.make()
        return await asyncio.to_thread(_write, folder, self.name(), content)

    async def _collected(self, part: Part) -> Any:
        try:
            async with asyncio.timeout(PART_S):
                return await part()
        except Exception as error:  # noqa: BLE001 - a part that fails must not cost the others
            return {"not collected": type(error).__name__}

    def _packed(self, collected: Mapping[str, bytes], mask: Mask) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in collected.items():
                archive.writestr(name, content)
            left = MOST_LOG_BYTES
            for each in self._logs.files()[:MOST_LOGS]:
                try:
                    content = self._logs.content(each.name)[-left:]
                except OSError as error:
                    content = f"not collected: {error.strerror}".encode()
                left -= len(content)
                text = mask.addresses(content.decode("utf-8", "replace"))
                own = socket.gethostname()
                archive.writestr(f"logs/{each.name}", text.replace(own, mask("host", own)))
                if left <= 0:
                    break
        return packed.getvalue()

    # parts -------------------------------------------------------------------------------------

    async def _about(self) -> Any:
        return {
            "scrigno": __version__,
            "python": sys.version,
            "platform": " ".join((os.uname().sysname, os.uname().release, os.uname().machine)),
            "made_at": self._clock.now().isoformat(timespec="seconds"),
            "running_s": round(time.monotonic() - self._began_s),
            "revision": self._settings.revision,
        }

    async def _settings_now(self) -> Any:
        return hidden(to_plain(self._settings.current))

    async def _history(self) -> Any:
        # without the reasons: people write what they like there
        return [
            {"number": each.number, "author": each.author, "at": each.at.isoformat()}
            for each in await self._settings.history(50)
        ]

    async def _conditions(self) -> Any:
        ready = self._facts.readiness()
        return {
            "ready": ready.ready,
            "reasons": list(ready.reasons),
            "conditions": list(self._facts.conditions()),
        }

    async def _open_alerts(self) -> Any:
        # comments of people are left out
        return [
            {
                "id": each.alert_id,
                "code": each.code,
                "subject": each.subject,
                "level": each.level,
                "state": each.state,
                "values": dict(each.values),
                "since": each.since.isoformat(),
                "count": each.count,
            }
            for each in self._alerts.open_alerts()
        ]

    async def _metrics(self) -> Any:
        counters = [
            {"name": name, "labels": labels, "value": value}
            for name, labels, value in self._counters
        ]
        gauges = [asdict(each) for each in self._facts.gauges()]
        return {"counters": counters, "gauges": gauges}

    async def _database(self) -> Any:
        return {
            "totals": await self._catalogue.totals(),
            "problems": await self._catalogue.check(),  # none is well
        }


def _host_facts(config: BootConfig) -> dict[str, Any]:
    def disk(path: Path) -> dict[str, int]:
        space = os.statvfs(path)
        return {
            "total_bytes": space.f_blocks * space.f_frsize,
            "free_bytes": space.f_bavail * space.f_frsize,
        }

    memory = psutil.virtual_memory()
    return {
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
        "memory_total_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "booted_at": psutil.boot_time(),
        "open_files": psutil.Process().num_fds(),
        "threads": psutil.Process().num_threads(),
        "state_disk": disk(config.state_dir),
        "staging_disk": disk(config.staging_dir),
        "mounts": [
            {"folder": each.mountpoint, "kind": each.fstype, "options": each.opts}
            for each in psutil.disk_partitions(all=False)
        ],
    }


def _packages() -> dict[str, str]:
    return dict(sorted((each.name, each.version) for each in distributions()))


def _plain(value: Any) -> Any:
    """Return dataclasses, enums and times as JSON values."""
    match value:
        case datetime():
            return value.isoformat()
        case Enum():
            return str(value.value)
        case Path():
            return str(value)
        case dict():
            return {str(name): _plain(each) for name, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(each) for each in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
        case _:
            return value


def _write(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in sorted(folder.glob("scrigno-support-*.zip"))[: -(KEPT - 1)]:
        old.unlink(missing_ok=True)
    path = folder / name
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    return path
