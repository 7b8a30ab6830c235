# SPDX-License-Identifier: Apache-2.0
"""The live settings: one revision in force, every earlier one kept."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from scrigno.core.clock import Clock
from scrigno.core.events import EventBus

from .schema import Settings

type_change = Callable[[Settings], Settings]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """Who changed the settings, when and why."""

    number: int
    author: str
    why: str
    at: datetime


class SettingsStore:
    """Owns `<state_dir>/settings/`; publishes `SettingsChanged` after each change."""

    def __init__(self, state_dir: Path, *, bus: EventBus, clock: Clock) -> None:
        """Touch nothing yet; `open` reads."""
        raise NotImplementedError

    async def open(self, initial: Settings) -> None:
        """Read the newest revision, or write `initial` as revision 1 when there is none."""
        raise NotImplementedError

    @property
    def current(self) -> Settings:
        """Return the settings in force."""
        raise NotImplementedError

    @property
    def revision(self) -> int:
        """Return the number of the revision in force."""
        raise NotImplementedError

    async def change(self, change: Settings | type_change, *, author: str, why: str) -> int:
        """Check, make durable, put in force, publish; returns the new revision's number."""
        raise NotImplementedError

    async def history(self, limit: int = 100) -> list[Revision]:
        """Return the newest revisions first."""
        raise NotImplementedError

    async def revert(self, number: int, *, author: str) -> int:
        """Put the values of an earlier revision in force as a new revision."""
        raise NotImplementedError

    def export(self) -> str:
        """Return the settings in force as YAML that `import_` takes."""
        raise NotImplementedError

    async def import_(self, text: str, *, author: str) -> int:
        """Replace all settings by those of an export."""
        raise NotImplementedError
