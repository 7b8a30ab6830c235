# SPDX-License-Identifier: Apache-2.0
"""Roles: what their accounts may do, and which studies they see."""

from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from scrigno.access.permissions import Permission
from scrigno.access.roles import MOST_VALUES, Role
from scrigno.core.sight import Sight

from .rooms import Rooms
from .routes import For, Route, audited
from .shapes import ONE_LINE, Answer, Body, Line, Word, path_of, read_body

Value = Annotated[str, Meta(min_length=1, max_length=128, pattern=ONE_LINE)]
Values = Annotated[list[Value], Meta(max_length=MOST_VALUES)]


class RoleAnswer(Answer):
    """One role. An empty list is no condition; all conditions must hold for a study to be seen."""

    name: str
    about: str
    built_in: bool
    permissions: list[Permission]
    modalities: list[str]
    body_parts: list[str]
    institutions: list[str]
    sources: list[str]


class RolesAnswer(Answer):
    """All roles, the built-in ones first."""

    roles: list[RoleAnswer]


class RoleBody(Body, kw_only=True):
    """What a role may do and sees: studies with one of each list that is not empty."""

    permissions: list[Permission]
    about: Line = ""
    modalities: Values = msgspec.field(default_factory=list)
    body_parts: Values = msgspec.field(default_factory=list)
    institutions: Values = msgspec.field(default_factory=list)
    sources: Values = msgspec.field(default_factory=list)


class NewRoleBody(RoleBody, kw_only=True):
    """A role that is to be made."""

    name: Word


def role_answer(role: Role) -> RoleAnswer:
    """Return a role as its answer."""
    return RoleAnswer(
        name=role.name,
        about=role.about,
        built_in=role.built_in,
        permissions=[each for each in Permission if each in role.permissions],
        modalities=list(role.sight.modalities),
        body_parts=list(role.sight.body_parts),
        institutions=list(role.sight.institutions),
        sources=list(role.sight.sources),
    )


def _role(name: str, body: RoleBody) -> Role:
    return Role(
        name=name,
        about=body.about,
        permissions=frozenset(body.permissions),
        sight=Sight(
            modalities=tuple(dict.fromkeys(body.modalities)),
            body_parts=tuple(dict.fromkeys(body.body_parts)),
            institutions=tuple(dict.fromkeys(body.institutions)),
            sources=tuple(dict.fromkeys(body.sources)),
        ),
    )


async def list_roles(request: web.Request, rooms: Rooms) -> RolesAnswer:
    """List all roles."""
    return RolesAnswer(roles=[role_answer(each) for each in await rooms.access.roles.all()])


async def add_role(request: web.Request, rooms: Rooms) -> RoleAnswer:
    """Make a role."""
    body = await read_body(request, NewRoleBody)
    _note(request, body, body.name)
    return role_answer(await rooms.access.accounts.add_role(_role(body.name, body)))


async def change_role(request: web.Request, rooms: Rooms) -> RoleAnswer:
    """Change what a role may do and sees; running sessions know at once."""
    body = await read_body(request, RoleBody)
    name = path_of(request)["name"]
    _note(request, body, name)
    return role_answer(await rooms.access.change_role(_role(name, body)))


async def remove_role(request: web.Request, rooms: Rooms) -> Any:
    """Remove a role that nobody has."""
    await rooms.access.accounts.remove_role(path_of(request)["name"])


def _note(request: web.Request, body: RoleBody, name: str) -> None:
    audited(request, name, permissions=" ".join(sorted(body.permissions)))


_ADMIN: Final = For.ADMINISTRATORS

ROUTES: Final = (
    Route(
        method="GET", path="/roles", work=list_roles, allowed=_ADMIN, about="All roles",
        answer=RolesAnswer,
    ),
    Route(
        method="POST", path="/roles", work=add_role, allowed=_ADMIN, success=201,
        about="Make a role", body=NewRoleBody, answer=RoleAnswer, audit="role-added",
        errors=("bad-role",),
    ),
    Route(
        method="PUT", path="/roles/{name}", work=change_role, allowed=_ADMIN,
        about="Change what a role may do and which studies it sees", body=RoleBody,
        answer=RoleAnswer, audit="role-changed",
        errors=("unknown-role", "bad-role", "last-administrator"),
    ),
    Route(
        method="DELETE", path="/roles/{name}", work=remove_role, allowed=_ADMIN, answer=None,
        about="Remove a role that nobody has", audit="role-removed",
        errors=("unknown-role", "bad-role", "role-in-use"),
    ),
)  # fmt: skip
