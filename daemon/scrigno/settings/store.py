# SPDX-License-Identifier: Apache-2.0
"""The live settings: one revision in force, every earlier one kept (`revisions`)."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from scrigno.core.clock import Clock
from scrigno.core.errors import CommandError
from scrigno.core.events import EventBus, SettingsChanged

from .boot import read_settings
from .document import InvalidSettingsError, from_plain, from_yaml
from .revisions import Record, Revision, RevisionFiles, to_plain, to_yaml
from .rules import problems_of
from .schema import Settings
from .secrets import revealed

MAX_REVISIONS_READ: Final = 1_000

Change = Callable[[Settings], Settings]


class StaleSettingsError(CommandError):
    """Somebody else changed the settings since the caller read them."""

    code = "settings-changed-meanwhile"


class SettingsStore:
    """Owns `<state_dir>/settings/`; publishes `SettingsChanged` after each change."""

    def __init__(self, state_dir: Path, *, bus: EventBus, clock: Clock) -> None:
        """Touch nothing yet; `open` reads."""
        self._files = RevisionFiles(state_dir)
        self._bus = bus
        self._clock = clock
        self._lock = asyncio.Lock()  # one change at a time: protects _record
        self._record: Record | None = None
        self._newest = 0  # the highest number ever given
        self._damage = ""

    async def open(self, initial: Settings) -> None:
        """Read the newest revision, or write `initial` as revision 1 when there is none.

        A revision that cannot be used is set aside, and the newest one before it that can be is in
        force; `damage` says so. With none left it is `initial`, which is not written then: only a
        person confirms it.
        """
        found = await asyncio.to_thread(self._files.last_good)
        self._record, self._newest, self._damage = found.record, found.newest, found.damage
        if self._record is not None:
            return
        _refuse_problems(initial)
        if not self._damage:
            await self._put(initial, author="first start", why="configuration file")
            return
        revision = Revision(number=0, author="first start", why="", at=self._clock.now())
        self._record = Record(revision=revision, settings=initial)

    @property
    def damage(self) -> str:
        """Return in words which newer revision could not be used; empty once somebody has saved."""
        return self._damage

    @property
    def current(self) -> Settings:
        """Return the settings in force."""
        return self._in_force().settings

    @property
    def revision(self) -> int:
        """Return the number of the revision in force."""
        return self._in_force().revision.number

    @property
    def author(self) -> str:
        """Return who put the revision in force."""
        return self._in_force().revision.author

    def _in_force(self) -> Record:
        if self._record is None:
            raise RuntimeError("the settings store was not opened")
        return self._record

    async def change(
        self,
        change: Settings | Change,
        *,
        author: str,
        why: str,
        based_on: int | None = None,
        by_person: bool = True,
    ) -> int:
        """Check, make durable, put in force, publish; returns the revision's number.

        A function gets the settings in force and returns the new ones, so that two changes at
        once do not undo each other; callers that hold a copy say which revision it was
        (`based_on`) and get StaleSettingsError when it is no longer in force. Settings that are
        equal make no revision, unless a person confirms them after damage. Raises
        InvalidSettingsError and then nothing has changed.
        """
        # shielded: a caller that goes away must not leave a file that is not in force
        return await asyncio.shield(
            self._change(change, author, why, based_on, by_person=by_person)
        )

    async def _change(
        self,
        change: Settings | Change,
        author: str,
        why: str,
        based_on: int | None,
        *,
        by_person: bool,
    ) -> int:
        async with self._lock:
            before = self._in_force()
            if based_on is not None and based_on != before.revision.number:
                raise StaleSettingsError(
                    f"settings: revision {based_on} is no longer in force.",
                    next_step="Load the page again and repeat the change.",
                )
            after = change(before.settings) if callable(change) else change
            if after == before.settings and not (self._damage and by_person):
                return before.revision.number
            # through the document and back: what could not be read again is refused now
            after = read_settings(from_plain(to_plain(after)), source="")
            damage = "" if by_person else self._damage
            return await self._put(after, author=author, why=why, damage=damage)

    async def _put(self, settings: Settings, *, author: str, why: str, damage: str = "") -> int:
        number = self._newest + 1
        revision = Revision(number=number, author=author, why=why, at=self._clock.now())
        record = Record(revision=revision, settings=settings, damage=damage)
        await asyncio.to_thread(self._files.write, record)
        self._record, self._newest, self._damage = record, number, damage
        self._bus.publish(SettingsChanged(revision=number))
        return number

    async def history(self, limit: int = 100) -> list[Revision]:
        """Return the newest revisions first."""
        most = min(limit, MAX_REVISIONS_READ)
        return await asyncio.to_thread(self._files.headings, most)

    async def at(self, number: int) -> Settings:
        """Return the settings of a revision."""
        return (await asyncio.to_thread(self._files.read, number)).settings

    async def revert(self, number: int, *, author: str) -> int:
        """Put the values of an earlier revision in force as a new revision."""
        settings = await self.at(number)
        return await self.change(settings, author=author, why=f"back to revision {number}")

    def export(self, *, secrets: bool = True) -> str:
        """Return the settings in force as YAML that `import_` takes; `secrets`: with passwords."""
        return to_yaml(self.current, secrets=secrets)

    async def import_(self, text: str, *, author: str) -> int:
        """Replace all settings by those of an export; a hidden secret stays as it is in force."""
        imported = read_settings(from_yaml(text, source="import"), source="import")

        def change(before: Settings) -> Settings:
            document = revealed(to_plain(imported), to_plain(before))
            return read_settings(from_plain(document), source="import")

        return await self.change(change, author=author, why="import")


def _refuse_problems(settings: Settings) -> None:
    problems = problems_of(settings)
    if problems:
        raise InvalidSettingsError(problems)
