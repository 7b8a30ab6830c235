# SPDX-License-Identifier: Apache-2.0
"""An archive whose decisions are heard and cared for, with a clock that tests move."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from archivebox import Box

from scrigno.archive.cases import Cases
from scrigno.archive.inbox import Inbox
from scrigno.core.clock import SystemClock


class MovedClock(SystemClock):
    """The machine's clock and a lead that tests give it."""

    def __init__(self) -> None:
        self.wall = timedelta(0)
        self.running_s = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + self.wall

    def monotonic(self) -> float:
        return super().monotonic() + self.running_s


@dataclass
class CaseBox(Box):
    """A box with `cases`; `caring` starts them."""

    caring: bool = False
    moved: MovedClock = field(default_factory=MovedClock)
    audited: list[tuple[str, ...]] = field(default_factory=list)

    def _compose(self) -> None:
        super()._compose()
        self.inbox = Inbox(
            catalogue=self.catalogue,
            volumes=self.volumes,
            staging=self.staging,
            ingest=self.ingest,
            retrieval=self.retrieval,
            turn=self.taking.turn,
            clock=self.moved,
            audit=self.heard,
            forget_studies=self.taking.forget_studies,
        )
        self.cases = Cases(
            catalogue=self.catalogue,
            volumes=self.volumes,
            inbox=self.inbox,
            bus=self.bus,
            counters=self.counters,
            clock=self.moved,
            audit=self.heard,
            round_s=0.1,
        )
        if self.caring:
            self.cases.start()

    def heard(
        self,
        who: str,
        action: str,
        subject: str,
        outcome: str = "success",
        details: dict[str, str] | None = None,
    ) -> None:
        """Stand in the place of the audit trail."""
        self.audited.append((who, action, subject, str(details)))

    async def close(self) -> None:
        await self.cases.close()
        await super().close()

    def objects(self, volume: str) -> dict[str, bytes]:
        """Return key and content of every object on a volume, decisions and sidecars left out."""
        return {key: content for key, content in self.on(volume).items() if key.endswith(".dcm")}

    async def truth(self) -> dict[str, Any]:
        """Return all that doors show and all that stands on the volumes."""
        rows = {
            row.sop_instance_uid: (row.key, row.digest, row.size)
            async for row in self.catalogue.all_keys()
        }
        items = [
            (one.item.key, one.item.reason, one.item.comment, str(one.item.patient_name.text()))
            for one in await self.inbox.items()
        ]
        return {
            "rows": rows,
            "items": sorted(items),
            "counts": await self.inbox.counts(),
            "totals": await self.catalogue.totals(),
            "volumes": {name: self.objects(name) for name in self.names},
        }


async def opened(root: Path, **more: Any) -> CaseBox:
    """Return one that is open."""
    box = CaseBox(root, **more)
    await box.open()
    return box
