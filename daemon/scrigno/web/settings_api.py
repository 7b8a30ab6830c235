# SPDX-License-Identifier: Apache-2.0
"""The live settings: read, changed, reverted, exported, restored (SPEC AD-6)."""

from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from scrigno.settings.revisions import to_plain
from scrigno.settings.schema import Settings
from scrigno.settings.secrets import hidden, revealed

from .answers import at
from .bodies import LARGEST_BYTES, merged, read_bytes, settings_of
from .errors import BadBody
from .rooms import Rooms, author_of
from .routes import For, Route, audited
from .settings_documents import SettingsDocument, SettingsPatch
from .shapes import (
    NO_NULL,
    Answer,
    Binary,
    Body,
    Moment,
    limit_of,
    path_of,
    query_of,
    read_body,
)

_ADMIN: Final = For.ADMINISTRATORS
YAML: Final = ("application/yaml", "text/yaml", "application/x-yaml")
Revision = Annotated[int, Meta(ge=1, le=999_999_999)]


class SettingsAnswer(Answer):
    """Settings and their revision; secrets are hidden."""

    revision: int
    settings: SettingsDocument


class RevisionAnswer(Answer):
    """Who changed the settings, when and why."""

    number: int
    author: str
    why: str
    at: Moment


class RevisionsAnswer(Answer):
    """The history of the settings, the newest first."""

    revisions: list[RevisionAnswer]


class ChangeSettingsBody(Body):
    """A merge patch (RFC 7396), and the revision that it was made from."""

    settings: SettingsPatch
    based_on: Revision | None = None
    why: Annotated[str, Meta(max_length=200, pattern=NO_NULL)] = ""


class RevertBody(Body):
    """The revision to put in force again."""

    revision: Revision


def _now(rooms: Rooms) -> SettingsAnswer:
    store = rooms.settings
    return SettingsAnswer(revision=store.revision, settings=_shown(store.current))


def _shown(settings: Settings) -> dict[str, Any]:
    plain = hidden(to_plain(settings))
    assert isinstance(plain, dict)  # noqa: S101 - settings are a dictionary; for the type checker
    return plain


async def get_settings(_request: web.Request, rooms: Rooms) -> Any:
    """Return the settings in force and their revision."""
    return _now(rooms)


async def change_settings(request: web.Request, rooms: Rooms) -> Any:
    """Change settings: `settings` is a merge patch, `based_on` the revision it was made from."""
    body = await read_body(request, ChangeSettingsBody, limit=LARGEST_BYTES)
    audited(request, "settings", keys=", ".join(body.settings)[:200])

    def change(before: Settings) -> Settings:
        current = to_plain(before)
        return settings_of(revealed(merged(current, body.settings), current))

    await rooms.settings.change(
        change, author=author_of(request), why=body.why, based_on=body.based_on
    )
    return _now(rooms)


async def list_revisions(request: web.Request, rooms: Rooms) -> Any:
    """List who changed the settings, when and why, the newest first."""
    return RevisionsAnswer(
        revisions=[
            RevisionAnswer(number=each.number, author=each.author, why=each.why, at=at(each.at))
            for each in await rooms.settings.history(query_of(request)["limit"])
        ]
    )


async def get_revision(request: web.Request, rooms: Rooms) -> Any:
    """Return the settings of one revision."""
    revision: int = path_of(request)["number"]
    return SettingsAnswer(revision=revision, settings=_shown(await rooms.settings.at(revision)))


async def revert_settings(request: web.Request, rooms: Rooms) -> Any:
    """Put an earlier revision in force again."""
    body = await read_body(request, RevertBody)
    audited(request, "settings", revision=str(body.revision))
    await rooms.settings.revert(body.revision, author=author_of(request))
    return _now(rooms)


async def export_settings(request: web.Request, rooms: Rooms) -> Any:
    """Return the settings as a YAML file."""
    audited(request, "settings")
    name = f"scrigno-settings-{rooms.settings.revision}.yaml"
    return web.Response(
        body=rooms.settings.export(secrets=False).encode(),
        content_type="application/yaml",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


async def import_settings(request: web.Request, rooms: Rooms) -> Any:
    """Replace all settings by those of a YAML file, the body."""
    audited(request, "settings")
    if request.content_type not in YAML:
        raise BadBody("The body must be application/yaml.")
    try:
        document = (await read_bytes(request, LARGEST_BYTES)).decode()
    except UnicodeDecodeError as error:
        raise BadBody("The body is not UTF-8.") from error
    await rooms.settings.import_(document, author=author_of(request))
    return _now(rooms)


ROUTES: Final = (
    Route(
        method="GET", path="/settings", work=get_settings, allowed=_ADMIN,
        about="The settings in force", answer=SettingsAnswer,
    ),
    Route(
        method="PATCH", path="/settings", work=change_settings, allowed=_ADMIN,
        about="Change settings by a JSON merge patch", body=ChangeSettingsBody,
        answer=SettingsAnswer, audit="settings-changed",
        errors=("bad-configuration", "settings-changed-meanwhile"),
    ),
    Route(
        method="GET", path="/settings/history", work=list_revisions, allowed=_ADMIN,
        about="Who changed the settings, when and why", query=(limit_of(1000),),
        answer=RevisionsAnswer,
    ),
    Route(
        method="GET", path=r"/settings/history/{number:\d+}", work=get_revision, allowed=_ADMIN,
        about="The settings of one revision", params={"number": Revision},
        answer=SettingsAnswer, errors=("unknown-revision",),
    ),
    Route(
        method="POST", path="/settings/revert", work=revert_settings, allowed=_ADMIN,
        about="Put an earlier revision in force again", body=RevertBody,
        answer=SettingsAnswer, audit="settings-reverted",
        errors=("unknown-revision", "bad-configuration"),
    ),
    Route(
        method="GET", path="/settings/export", work=export_settings, allowed=_ADMIN,
        about="The settings as a YAML file", answers="application/yaml", answer=Binary,
        audit="settings-exported",
    ),
    Route(
        method="POST", path="/settings/import", work=import_settings, allowed=_ADMIN,
        about="Replace all settings by those of a YAML file", body=Binary, body_types=YAML,
        answer=SettingsAnswer, audit="settings-imported", errors=("bad-configuration",),
    ),
)  # fmt: skip
