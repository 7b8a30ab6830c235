# SPDX-License-Identifier: Apache-2.0
"""The live settings: read, changed, reverted, exported, restored (SPEC AD-6)."""

from typing import Any, Final

from aiohttp import web

from scrigno.settings.schema import Settings
from scrigno.settings.secrets import hidden, revealed
from scrigno.settings.shapes import SETTINGS
from scrigno.settings.revisions import to_plain

from .bodies import LARGEST_BYTES, merged, number, read_bytes, read_object, settings_of, text
from .errors import BadBody
from .rooms import Rooms, author_of
from .routes import For, Route

LAST_REVISION: Final = 999_999_999


def _now(rooms: Rooms) -> dict[str, Any]:
    store = rooms.settings
    return {"revision": store.revision, "settings": hidden(to_plain(store.current))}


async def get_settings(request: web.Request, rooms: Rooms) -> Any:
    """Return the settings in force and their revision."""
    return _now(rooms)


async def change_settings(request: web.Request, rooms: Rooms) -> Any:
    """Change settings: `settings` is a merge patch, `based_on` the revision it was made from."""
    body = await read_object(request, limit=LARGEST_BYTES)
    patch = body.get("settings")
    if not isinstance(patch, dict):
        raise BadBody("settings must be an object with the keys to change.")
    based_on = None
    if "based_on" in body:
        based_on = number(body, "based_on", lowest=1, highest=LAST_REVISION)

    def change(before: Settings) -> Settings:
        current = to_plain(before)
        return settings_of(revealed(merged(current, patch), current))

    await rooms.settings.change(
        change,
        author=author_of(request),
        why=text(body, "why", default="", most=200),
        based_on=based_on,
    )
    return _now(rooms)


async def list_revisions(request: web.Request, rooms: Rooms) -> Any:
    """List who changed the settings, when and why, the newest first."""
    limit = number(request.query, "limit", lowest=1, highest=1000, default=100)
    return {
        "revisions": [
            {
                "number": each.number,
                "author": each.author,
                "why": each.why,
                "at": each.at.isoformat(timespec="seconds"),
            }
            for each in await rooms.settings.history(limit)
        ]
    }


async def get_revision(request: web.Request, rooms: Rooms) -> Any:
    """Return the settings of one revision."""
    revision = number(request.match_info, "number", lowest=1, highest=LAST_REVISION)
    return {"revision": revision, "settings": hidden(to_plain(await rooms.settings.at(revision)))}


async def revert_settings(request: web.Request, rooms: Rooms) -> Any:
    """Put an earlier revision in force again."""
    body = await read_object(request)
    revision = number(body, "revision", lowest=1, highest=LAST_REVISION)
    await rooms.settings.revert(revision, author=author_of(request))
    return _now(rooms)


async def export_settings(request: web.Request, rooms: Rooms) -> Any:
    """Return the settings as a YAML file."""
    name = f"scrigno-settings-{rooms.settings.revision}.yaml"
    return web.Response(
        body=rooms.settings.export(secrets=False).encode(),
        content_type="application/yaml",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


async def import_settings(request: web.Request, rooms: Rooms) -> Any:
    """Replace all settings by those of a YAML file, the body."""
    if request.content_type not in {"application/yaml", "text/yaml", "application/x-yaml"}:
        raise BadBody("The body must be application/yaml.")
    try:
        document = (await read_bytes(request, LARGEST_BYTES)).decode()
    except UnicodeDecodeError as error:
        raise BadBody("The body is not UTF-8.") from error
    await rooms.settings.import_(document, author=author_of(request))
    return _now(rooms)


_ADMIN: Final = For.ADMINISTRATORS

ROUTES: Final = (
    Route(
        method="GET", path="/settings", work=get_settings, allowed=_ADMIN,
        about="The settings in force",
    ),
    Route(
        method="PATCH", path="/settings", work=change_settings, allowed=_ADMIN,
        about="Change settings by a JSON merge patch",
        body={
            "type": "object",
            "required": ["settings"],
            "properties": {
                "settings": SETTINGS.json_schema(),
                "based_on": {"type": "integer"},
                "why": {"type": "string"},
            },
        },
        errors=("bad-configuration", "settings-changed-meanwhile"),
    ),
    Route(
        method="GET", path="/settings/history", work=list_revisions, allowed=_ADMIN,
        about="Who changed the settings, when and why", query=("limit",),
    ),
    Route(
        method="GET", path=r"/settings/history/{number:\d+}", work=get_revision, allowed=_ADMIN,
        about="The settings of one revision", errors=("unknown-revision",),
    ),
    Route(
        method="POST", path="/settings/revert", work=revert_settings, allowed=_ADMIN,
        about="Put an earlier revision in force again",
        body={"type": "object", "properties": {"revision": {"type": "integer"}}},
        errors=("unknown-revision", "bad-configuration"),
    ),
    Route(
        method="GET", path="/settings/export", work=export_settings, allowed=_ADMIN,
        about="The settings as a YAML file", answers="application/yaml",
    ),
    Route(
        method="POST", path="/settings/import", work=import_settings, allowed=_ADMIN,
        about="Replace all settings by those of a YAML file", errors=("bad-configuration",),
    ),
)  # fmt: skip
