# SPDX-License-Identifier: Apache-2.0
"""The folder of revisions: `<state_dir>/settings/000001.yaml` and so on.

A file begins with comment lines that say who, when and why, so it can be read with any tool; the
rest is a settings document as `export` gives it, and the last line says that this was all: half a
document is valid YAML too.

A revision that cannot be used is never used in part and never deleted. It is set aside as
`000002.yaml.damaged`, the newest one that can be used is in force, and `Found.damage` says so until
a person makes a newer revision: that is how what is in force is confirmed.
"""

import logging
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import yaml

from scrigno.core.clock import Clock
from scrigno.core.errors import CommandError, ConfigError
from scrigno.host.files import sync_directory, write_durably

from .boot import read_settings
from .document import Plain, from_yaml
from .schema import Settings
from .secrets import hidden
from .shapes import SETTINGS

log = logging.getLogger(__name__)

_FILE: Final = re.compile(r"([0-9]{6,})\.yaml")
_ASIDE: Final = re.compile(r"([0-9]{6,})\.yaml\.damaged(?:\.[0-9]+)?")
_HEAD: Final = re.compile(r"# (author|at|why|form|damage): (.*)")
_HEAD_LINES: Final = 7
_FORM: Final = "2"  # since then a revision says where it ends
_END: Final = "# end"
MOST_NAMED: Final = 3  # revisions that an alert names


class UnknownRevisionError(CommandError):
    """No revision has that number."""

    code = "unknown-revision"


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
    damage: str = ""  # of an earlier revision, which nobody has looked at yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the folder holds: the newest revision that can be used, and what newer one cannot."""

    record: Record | None
    newest: int  # the highest number ever given, also to a revision that cannot be used
    damage: str = ""  # in words; empty when the newest revision is the one that is in force


class RevisionFiles:
    """The folder of revisions. Blocking; also used by commands while the daemon is stopped."""

    def __init__(self, state_dir: Path) -> None:
        """Touch nothing yet."""
        self.folder = state_dir / "settings"

    def numbers(self) -> list[int]:
        """Return the number of every revision that was not set aside, newest first."""
        return sorted(self._matching(_FILE), reverse=True)

    def _matching(self, pattern: re.Pattern[str]) -> set[int]:
        if not self.folder.is_dir():
            return set()
        found = (pattern.fullmatch(entry.name) for entry in self.folder.iterdir())
        return {int(match[1]) for match in found if match}

    def path(self, number: int) -> Path:
        """Return where a revision stands."""
        return self.folder / f"{number:06}.yaml"

    def read(self, number: int) -> Record:
        """Return a revision; raises UnknownRevisionError, ConfigError, OSError."""
        path = self.path(number)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise UnknownRevisionError(f"settings: there is no revision {number}.") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: this is not UTF-8 text.") from error
        revision = _heading(text, number, path)
        if _fields(text).get("form") == _FORM and text.rstrip().rpartition("\n")[2] != _END:
            raise ConfigError(f"{path}: its end is missing.")
        return Record(
            revision=revision,
            settings=read_settings(from_yaml(text, source=str(path)), source=str(path)),
            damage=_fields(text).get("damage", ""),
        )

    def headings(self, limit: int) -> list[Revision]:
        """Return who, when and why of the newest revisions without reading their values."""
        found: list[Revision] = []
        for number in self.numbers()[:limit]:
            path = self.path(number)
            try:
                found.append(_heading(path.read_text(encoding="utf-8"), number, path))
            except (ConfigError, OSError, UnicodeDecodeError) as error:
                log.warning("settings: revision %d is not shown: %s", number, error)
        return found

    def write(self, record: Record) -> None:
        """Make a revision durable."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        revision = record.revision
        head = (
            f"# author: {_one_line(revision.author)}\n"
            f"# at: {revision.at.isoformat(timespec='seconds')}\n"
            f"# why: {_one_line(revision.why)}\n"
            f"# form: {_FORM}\n"
        )
        if record.damage:
            head += f"# damage: {_one_line(record.damage)}\n"
        text = f"{head}{to_yaml(record.settings)}{_END}\n"
        write_durably(self.path(revision.number), text.encode())

    def last_good(self) -> Found:
        """Return the newest revision that can be used; sets aside each newer one that cannot."""
        record: Record | None = None
        bad: list[str] = []
        for number in self.numbers():
            try:
                record = self.read(number)
            except (ConfigError, OSError) as error:
                bad.append(f"{self._set_aside(number)} ({error})")
                log.error("settings: revision %d cannot be used: %s", number, error)  # noqa: TRY400 - the reason says it all
            else:
                break
        damaged = self._matching(_ASIDE)
        newest = max({*self.numbers(), *damaged}, default=0)
        in_force = 0 if record is None else record.revision.number
        # what an earlier start set aside counts until a newer revision was made
        bad += [
            name
            for name in self._names_aside(than=in_force)
            if not any(each.startswith(name) for each in bad)
        ]
        damage = _damage(bad, in_force) or ("" if record is None else record.damage)
        return Found(record=record, newest=newest, damage=damage)

    def _names_aside(self, *, than: int) -> list[str]:
        if not self.folder.is_dir():
            return []
        found = ((_ASIDE.fullmatch(entry.name), entry.name) for entry in self.folder.iterdir())
        return sorted(name for match, name in found if match and int(match[1]) > than)

    def _set_aside(self, number: int) -> str:
        """Keep a revision under another name; returns the name that it has then."""
        path = self.path(number)
        aside = path.with_name(f"{path.name}.damaged")
        count = 0
        while aside.exists():
            count += 1
            aside = path.with_name(f"{path.name}.damaged.{count}")
        try:
            path.rename(aside)
            sync_directory(self.folder)
        except OSError as error:  # it is found again at the next start
            log.warning("settings: revision %d cannot be set aside: %s", number, error)
            return path.name
        return aside.name

    def revert(self, number: int, *, author: str, clock: Clock) -> int:
        """Put an earlier revision in force while the daemon is stopped; returns the new number."""
        record = self.read(number)
        revision = Revision(
            number=max({*self.numbers(), *self._matching(_ASIDE)}) + 1,
            author=author,
            why=f"back to revision {number}",
            at=clock.now(),
        )
        self.write(Record(revision=revision, settings=record.settings))
        return revision.number


def _damage(bad: list[str], in_force: int) -> str:
    if not bad:
        return ""
    named = ", ".join(bad[:MOST_NAMED]) + (", …" if len(bad) > MOST_NAMED else "")
    since = f"revision {in_force}" if in_force else "the configuration file's first settings"
    return f"{named} set aside in the state directory, {since} is in force"


def _fields(text: str) -> dict[str, str]:
    matches = (_HEAD.fullmatch(line) for line in text.splitlines()[:_HEAD_LINES])
    return {match[1]: match[2] for match in matches if match}


def _heading(text: str, number: int, path: Path) -> Revision:
    found = _fields(text)
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
