# SPDX-License-Identifier: Apache-2.0
"""Roles: named sets of permissions, and which studies somebody of that role sees.

An account has one role, and may have permissions of its own beside it. Whoever may administer the
box sees every study: he could give himself the right, and the box must not pretend otherwise.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from scrigno.core.sight import EVERYTHING, Sight
from scrigno.db.engine import Database
from scrigno.db.sqlite import Connection, Row

from . import permissions
from .errors import BadRole, RoleInUse, UnknownRole
from .permissions import EVERY_PERMISSION, Permission

NOTHING: Final = Sight(study_uids=frozenset())
MOST_ROLES: Final = 500
MOST_VALUES: Final = 200  # of one condition
MOST_TEXT: Final = 128


class BuiltIn(StrEnum):
    """The roles that every box has. `administrator` is fixed, the others may be changed."""

    ADMINISTRATOR = "administrator"  # everything, settings and accounts included
    USER = "user"  # a physician: reads, reports, shares
    TECHNICIAN = "technician"  # brings images in, corrects, sends
    VIEWER = "viewer"  # looks and nothing else


PERMISSIONS_OF: Final = {
    BuiltIn.ADMINISTRATOR: EVERY_PERMISSION,
    BuiltIn.USER: frozenset(
        {
            *(Permission.VIEW, Permission.ANNOTATE, Permission.REPORT, Permission.SHARE),
            *(Permission.EXPORT, Permission.IMPORT, Permission.SEND, Permission.QUERY),
        }
    ),
    BuiltIn.TECHNICIAN: frozenset(
        {
            *(Permission.VIEW, Permission.ANNOTATE, Permission.EXPORT, Permission.IMPORT),
            *(Permission.EDIT, Permission.SEND, Permission.QUERY),
        }
    ),
    BuiltIn.VIEWER: frozenset({Permission.VIEW}),
}
_ABOUT: Final = {
    BuiltIn.ADMINISTRATOR: "Everything, settings and accounts included",
    BuiltIn.USER: "Reads studies, annotates, reports and shares",
    BuiltIn.TECHNICIAN: "Brings images in, corrects patients, sends studies",
    BuiltIn.VIEWER: "Looks at studies",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One role; `sight` is what its accounts see unless they may administer the box."""

    name: str
    about: str = ""
    permissions: frozenset[Permission] = frozenset()
    sight: Sight = EVERYTHING
    built_in: bool = False


COLUMNS: Final = "role.name, role.about, role.permissions, role.sight, role.built_in"


class Roles:
    """The table of roles."""

    def __init__(self, database: Database) -> None:
        """Use an open database with the access schema."""
        self._database = database

    async def all(self) -> list[Role]:
        """Return all roles, the built-in ones first."""
        query = f"SELECT {COLUMNS} FROM role ORDER BY built_in DESC, folded"  # noqa: S608 - constants
        rows = await self._database.read(lambda db: db.execute(query).fetchall())
        return [role_of(row) for row in rows]

    async def named(self, name: str) -> Role:
        """Return one role; raises UnknownRole."""
        return await self._database.read(lambda db: one(db, name))


def one(db: Connection, name: str) -> Role:
    """Return the role of that name; raises UnknownRole."""
    query = f"SELECT {COLUMNS} FROM role WHERE folded = ?"  # noqa: S608 - constants
    row = db.execute(query, (name.strip().casefold(),)).fetchone()
    if row is None:
        raise UnknownRole("There is no such role.")
    return role_of(row)


def insert(db: Connection, role: Role) -> None:
    """Add a role; raises BadRole when the name is taken. Writer only."""
    count = db.execute("SELECT count(*) FROM role").fetchone()
    if count is not None and count[0] >= MOST_ROLES:
        raise BadRole(f"There are {MOST_ROLES} roles already.")
    folded = role.name.casefold()
    if db.execute("SELECT 1 FROM role WHERE folded = ?", (folded,)).fetchone():
        raise BadRole("There is a role of this name already.")
    db.execute(
        "INSERT INTO role (name, folded, about, permissions, sight, built_in) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (role.name, folded, *_values(role), int(role.built_in)),
    )


def update(db: Connection, role: Role) -> None:
    """Change what a role may do and sees; raises BadRole for the fixed one. Writer only."""
    if role.name == BuiltIn.ADMINISTRATOR:
        raise BadRole(
            "The administrator's role is fixed.", next_step="Make another role with less in it."
        )
    db.execute(
        "UPDATE role SET about = ?, permissions = ?, sight = ? WHERE folded = ?",
        (*_values(role), role.name.casefold()),
    )


def delete(db: Connection, name: str) -> None:
    """Remove a role that nobody has; raises BadRole, RoleInUse, UnknownRole. Writer only."""
    role = one(db, name)
    if role.built_in:
        raise BadRole("A role that every box has cannot be removed.")
    if db.execute("SELECT 1 FROM account WHERE role = ?", (role.name,)).fetchone():
        raise RoleInUse(
            "Somebody has this role.", next_step="Give these accounts another role first."
        )
    db.execute("DELETE FROM role WHERE folded = ?", (role.name.casefold(),))


def require_role(role: Role) -> Role:
    """Return a role as it may stand in the table; raises BadRole."""
    name = " ".join(role.name.split())
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise BadRole("The name of a role has 1 to 64 printable characters.")
    if len(role.about) > 256:
        raise BadRole("What a role is about has at most 256 characters.")
    sight = role.sight
    for values in (sight.modalities, sight.body_parts, sight.institutions, sight.sources):
        if len(values) > MOST_VALUES or any(not 0 < len(each) <= MOST_TEXT for each in values):
            raise BadRole(f"A condition has at most {MOST_VALUES} values of 1 to {MOST_TEXT} each.")
    if sight.study_uids is not None:
        raise BadRole("A role names no studies.")
    return Role(
        name=name,
        about=role.about.strip(),
        permissions=role.permissions,
        sight=sight,
        built_in=role.built_in,
    )


def built_in_roles() -> list[Role]:
    """Return the roles of a new box."""
    return [
        Role(name=each, about=_ABOUT[each], permissions=PERMISSIONS_OF[each], built_in=True)
        for each in BuiltIn
    ]


def role_of(row: Row) -> Role:
    """Return the role of a row of `COLUMNS`."""
    name, about, words, sight, built_in = row
    return Role(
        name=name,
        about=about,
        permissions=permissions.read(words),
        sight=sight_of_text(sight),
        built_in=bool(built_in),
    )


def _values(role: Role) -> tuple[str, str, str]:
    return role.about, permissions.written(role.permissions), text_of_sight(role.sight)


def text_of_sight(sight: Sight) -> str:
    """Return a sight as it stands in the database; empty is everything."""
    if sight.everything:
        return ""
    parts: dict[str, object] = {
        name: list(values)
        for name in ("modalities", "body_parts", "institutions", "sources")
        if (values := getattr(sight, name))
    }
    if sight.study_uids is not None:
        parts["study_uids"] = sorted(sight.study_uids)
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))


def sight_of_text(text: str) -> Sight:
    """Return the sight of a text; a condition that this release does not know hides everything."""
    if not text:
        return EVERYTHING
    try:
        parts = json.loads(text)
        uids = parts.pop("study_uids", None)
        values = {name: tuple(str(each) for each in given) for name, given in parts.items()}
        return Sight(**values, study_uids=None if uids is None else frozenset(uids))
    except (ValueError, TypeError, AttributeError):
        return NOTHING
