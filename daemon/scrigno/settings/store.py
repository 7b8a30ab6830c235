# SPDX-License-Identifier: Apache-2.0
"""The live settings: one revision in force, every earlier one kept.

`<state_dir>/settings/000001.yaml` and so on. A file begins with comment lines that say who, when
and why, so it can be read with any tool; the rest is a settings document as `export` gives it.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import yaml

from scrigno.core.clock import Clock
from scrigno.core.errors import CommandError, ConfigError
from scrigno.core.events import EventBus, SettingsChanged
from scrigno.host.files import write_durably

from .boot import read_settings
from .document import InvalidSettingsError, Plain, from_plain, from_yaml
from .rules import problems_of
from .schema import Settings
from .secrets import hidden, revealed
from .shapes import SETTINGS

MAX_REVISIONS_READ: Final = 1_000
_FILE = re.compile(r"([0-9]{6,})\.yaml")
_HEAD = re.compile(r"# (author|at|why): (.*)")

Change = Callable[[Settings], Settings]


class UnknownRevisionError(CommandError):
    """No revision has that number."""

    code = "unknown-revision"


class CorruptSettingsError(ConfigError):
    """The newest revision on disk cannot be used; the box does not start on an older one."""

    code = "corrupt-settings"


class StaleSettingsError(CommandError):
    """Somebody else changed the settings since the caller read them."""

    code = "settings-changed-meanwhile"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """Who changed the settings, when and why."""

    number: int
    author: str
    why: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A revision with the settings it put in force."""

    revision: Revision
    settings: Settings


class RevisionFiles:
    """The folder of revisions. Blocking; also used by commands while the daemon is stopped."""

    def __init__(self, state_dir: Path) -> None:
        """Touch nothing yet."""
        self.folder = state_dir / "settings"

    def numbers(self) -> list[int]:
        """Return every revision number, newest first."""
        if not self.folder.is_dir():
            return []
        found = (_FILE.fullmatch(entry.name) for entry in self.folder.iterdir())
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def path(self, number: int) -> Path:
        """Return where a revision stands."""
        return self.folder / f"{number:06}.yaml"

    def read(self, number: int) -> Record:
        """Return a revision; raises UnknownRevisionError, InvalidSettingsError, OSError."""
        path = self.path(number)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise UnknownRevisionError(f"settings: there is no revision {number}.") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: this is not UTF-8 text.") from error
        revision = _heading(text, number, path)
        return Record(
            revision=revision,
            settings=read_settings(from_yaml(text, source=str(path)), source=str(path)),
        )

    def heading(self, number: int) -> Revision:
        """Return who, when and why of a revision without reading its values."""
        path = self.path(number)
        return _heading(path.read_text(encoding="utf-8"), number, path)

    def write(self, record: Record) -> None:
        """Make a revision durable."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        revision = record.revision
        head = (
            f"# author: {_one_line(revision.author)}\n"
            f"# at: {revision.at.isoformat(timespec='seconds')}\n"
            f"# why: {_one_line(revision.why)}\n"
        )
        write_durably(self.path(revision.number), (head + to_yaml(record.settings)).encode())

    def newest(self) -> Record | None:
        """Return the newest revision, None when there is none yet.

        Raises CorruptSettingsError when it cannot be used: falling back to an older one would
        bring devices and volumes back that somebody took away.
        """
        numbers = self.numbers()
        if not numbers:
            return None
        try:
            return self.read(numbers[0])
        except (ConfigError, OSError) as error:
            raise CorruptSettingsError(
                f"settings: {self.path(numbers[0])} is in force and cannot be used: {error}",
                next_step=(
                    "Repair the file, or take an earlier revision with `scrigno config history` "
                    "and `scrigno config revert N`."
                ),
            ) from error

    def revert(self, number: int, *, author: str, clock: Clock) -> int:
        """Put an earlier revision in force while the daemon is stopped; returns the new number."""
        record = self.read(number)
        revision = Revision(
            number=self.numbers()[0] + 1,
            author=author,
            why=f"back to revision {number}",
            at=clock.now(),
        )
        self.write(Record(revision=revision, settings=record.settings))
        return revision.number


def _heading(text: str, number: int, path: Path) -> Revision:
    matches = (_HEAD.fullmatch(line) for line in text.splitlines()[:5])
    found = {match[1]: match[2] for match in matches if match}
    try:
        at = datetime.fromisoformat(found["at"])
        return Revision(number=number, author=found["author"], why=found.get("why", ""), at=at)
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{path}: the lines '# author' and '# at' are missing.") from error


def _one_line(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)[:200]


def to_plain(settings: Settings) -> Plain:
    """Return the settings as a document of JSON values."""
    return SETTINGS.plain(settings)


def to_yaml(settings: Settings, *, secrets: bool = True) -> str:
    """Return the settings as a YAML document that `import_` takes."""
    document = to_plain(settings)
    shown = document if secrets else hidden(document)
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=100)


class SettingsStore:
    """Owns `<state_dir>/settings/`; publishes `SettingsChanged` after each change."""

    def __init__(self, state_dir: Path, *, bus: EventBus, clock: Clock) -> None:
        """Touch nothing yet; `open` reads."""
        self._files = RevisionFiles(state_dir)
        self._bus = bus
        self._clock = clock
        self._lock = asyncio.Lock()  # one change at a time: protects _record
        self._record: Record | None = None

    async def open(self, initial: Settings) -> None:
        """Read the newest revision, or write `initial` as revision 1 when there is none."""
        self._record = await asyncio.to_thread(self._files.newest)
        if self._record is None:
            _refuse_problems(initial)
            await self._put(initial, number=1, author="first start", why="configuration file")

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
        self, change: Settings | Change, *, author: str, why: str, based_on: int | None = None
    ) -> int:
        """Check, make durable, put in force, publish; returns the revision's number.

        A function gets the settings in force and returns the new ones, so that two changes at
        once do not undo each other; callers that hold a copy say which revision it was
        (`based_on`) and get StaleSettingsError when it is no longer in force. Settings that are
        equal make no revision. Raises InvalidSettingsError and then nothing has changed.
        """
        # shielded: a caller that goes away must not leave a file that is not in force
        return await asyncio.shield(self._change(change, author, why, based_on))

    async def _change(
        self, change: Settings | Change, author: str, why: str, based_on: int | None
    ) -> int:
        async with self._lock:
            before = self._in_force()
            if based_on is not None and based_on != before.revision.number:
                raise StaleSettingsError(
                    f"settings: revision {based_on} is no longer in force.",
                    next_step="Load the page again and repeat the change.",
                )
            after = change(before.settings) if callable(change) else change
            if after == before.settings:
                return before.revision.number
            # through the document and back: what could not be read again is refused now
            after = read_settings(from_plain(to_plain(after)), source="")
            return await self._put(after, number=before.revision.number + 1, author=author, why=why)

    async def _put(self, settings: Settings, *, number: int, author: str, why: str) -> int:
        revision = Revision(number=number, author=author, why=why, at=self._clock.now())
        record = Record(revision=revision, settings=settings)
        await asyncio.to_thread(self._files.write, record)
        self._record = record
        self._bus.publish(SettingsChanged(revision=number))
        return number

    async def history(self, limit: int = 100) -> list[Revision]:
        """Return the newest revisions first."""

        def read() -> list[Revision]:
            newest = self._files.numbers()[: min(limit, MAX_REVISIONS_READ)]
            return [self._files.heading(number) for number in newest]

        return await asyncio.to_thread(read)

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
