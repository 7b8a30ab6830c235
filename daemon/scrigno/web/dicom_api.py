# SPDX-License-Identifier: Apache-2.0
"""DICOM providers of this box and remote nodes (SPEC DN-1, DN-2, DN-3)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

from aiohttp import web

from scrigno.settings.kinds import is_address
from scrigno.settings.peers import UnknownPeerError
from scrigno.settings.schema import Peer, Provider, Settings
from scrigno.settings.shapes import PEER, PROVIDER

from .bodies import merged, read_object, shaped
from .echo import echo, echo_all
from .errors import NotFound
from .rooms import Rooms, author_of
from .routes import For, Route

Named = TypeVar("Named", bound=Provider | Peer)
_ADMIN: Final = For.ADMINISTRATORS


def _provider(provider: Provider, rooms: Rooms) -> dict[str, Any]:
    now = next((each for each in rooms.box.listening() if each.name == provider.name), None)
    plain = PROVIDER.plain(provider)
    assert isinstance(plain, dict)  # noqa: S101 - a group is a dictionary; for the type checker
    return {
        **plain,
        "listening_port": now.port if now else None,
        "error": now.error if now else "",
        "associations": now.associations if now else 0,
    }


def _peer(peer: Peer, rooms: Rooms) -> dict[str, Any]:
    plain = PEER.plain(peer)
    assert isinstance(plain, dict)  # noqa: S101 - a group is a dictionary; for the type checker
    seen = rooms.peers.last_seen(peer.name)
    return {**plain, "last_seen": seen.isoformat(timespec="seconds") if seen else None}


async def list_providers(request: web.Request, rooms: Rooms) -> Any:
    """List the DICOM providers with what they do now."""
    providers = rooms.settings.current.providers
    return {"providers": [_provider(each, rooms) for each in providers]}


async def add_provider(request: web.Request, rooms: Rooms) -> Any:
    """Add a provider; it listens at once."""
    made: Provider = shaped(PROVIDER, await read_object(request))

    def add(settings: Settings) -> Settings:
        return replace(settings, providers=(*settings.providers, made))

    await rooms.settings.change(add, author=author_of(request), why=f"provider {made.name}: new")
    return web.json_response(_provider(made, rooms), status=201)


async def change_provider(request: web.Request, rooms: Rooms) -> Any:
    """Change a provider by a merge patch."""
    name, patch = request.match_info["name"], await read_object(request)
    made: list[Provider] = []

    def change(settings: Settings) -> Settings:
        before = settings.provider(name)
        if before is None:
            raise NotFound(f"There is no provider {name}.")
        made.append(shaped(PROVIDER, merged(PROVIDER.plain(before), patch)))
        return replace(settings, providers=_swapped(settings.providers, before, made[0]))

    await rooms.settings.change(change, author=author_of(request), why=f"provider {name}: changed")
    return _provider(made[0], rooms)


async def remove_provider(request: web.Request, rooms: Rooms) -> Any:
    """Remove a provider; it stops listening."""
    name = request.match_info["name"]

    def remove(settings: Settings) -> Settings:
        before = settings.provider(name)
        if before is None:
            raise NotFound(f"There is no provider {name}.")
        return replace(settings, providers=_swapped(settings.providers, before))

    await rooms.settings.change(remove, author=author_of(request), why=f"provider {name}: removed")


async def list_peers(request: web.Request, rooms: Rooms) -> Any:
    """List the remote nodes."""
    return {"peers": [_peer(each, rooms) for each in rooms.settings.current.peers]}


async def add_peer(request: web.Request, rooms: Rooms) -> Any:
    """Add a remote node."""
    made: Peer = shaped(PEER, await read_object(request))

    def add(settings: Settings) -> Settings:
        return replace(settings, peers=(*settings.peers, made))

    await rooms.settings.change(add, author=author_of(request), why=f"{made.name}: new")
    return web.json_response(_peer(made, rooms), status=201)


async def change_peer(request: web.Request, rooms: Rooms) -> Any:
    """Change a remote node by a merge patch."""
    name, patch = request.match_info["name"], await read_object(request)
    made: list[Peer] = []

    def change(settings: Settings) -> Settings:
        before = _known(settings, name)
        made.append(shaped(PEER, merged(PEER.plain(before), patch)))
        return replace(settings, peers=_swapped(settings.peers, before, made[0]))

    await rooms.settings.change(change, author=author_of(request), why=f"{name}: changed")
    return _peer(made[0], rooms)


async def remove_peer(request: web.Request, rooms: Rooms) -> Any:
    """Remove a remote node."""
    name = request.match_info["name"]

    def remove(settings: Settings) -> Settings:
        return replace(settings, peers=_swapped(settings.peers, _known(settings, name)))

    await rooms.settings.change(remove, author=author_of(request), why=f"{name}: removed")


async def approve_peer(request: web.Request, rooms: Rooms) -> Any:
    """Let a pending node in, and its images that were held until now into the archive."""
    approve = rooms.peers.approve
    peer = await approve(request.match_info["name"], author=author_of(request))
    address = peer.host if is_address(peer.host) else None
    released = await rooms.inbox.accept_from(peer.ae_title, address)
    return {**_peer(peer, rooms), "released": released}


async def block_peer(request: web.Request, rooms: Rooms) -> Any:
    """Refuse a node from now on."""
    block = rooms.peers.block
    return _peer(await block(request.match_info["name"], author=author_of(request)), rooms)


async def echo_peer(request: web.Request, rooms: Rooms) -> Any:
    """Send a C-ECHO to a node and tell what it answered."""
    settings = rooms.settings.current
    return await echo(_known(settings, request.match_info["name"]), settings, rooms.clock)


async def echo_peers(request: web.Request, rooms: Rooms) -> Any:
    """Send a C-ECHO to every node."""
    return {"answers": await echo_all(rooms.settings.current, rooms.clock)}


def _known(settings: Settings, name: str) -> Peer:
    found = settings.peer(name)
    if found is None:
        raise UnknownPeerError(f"peer {name}: there is no such node.")
    return found


def _swapped(items: tuple[Named, ...], old: Named, *new: Named) -> tuple[Named, ...]:
    position = items.index(old)
    return (*items[:position], *new, *items[position + 1 :])


def _routes(
    kind: str, what: str, works: tuple[Callable[..., Any], ...], schema: Any
) -> list[Route]:
    listing, adding, changing, removing = works
    path, one = f"/{kind}", f"/{kind}/{{name}}"
    errors = ("bad-configuration",)
    return [
        Route(method="GET", path=path, work=listing, allowed=_ADMIN, about=f"All {what}s"),
        Route(
            method="POST", path=path, work=adding, allowed=_ADMIN, about=f"Add a {what}",
            body=schema, errors=errors,
        ),
        Route(
            method="PATCH", path=one, work=changing, allowed=_ADMIN,
            about=f"Change a {what} (JSON merge patch)", body={"type": "object"}, errors=errors,
        ),
        Route(
            method="DELETE", path=one, work=removing, allowed=_ADMIN, about=f"Remove a {what}"
        ),
    ]  # fmt: skip


ROUTES: Final = (
    *_routes(
        "providers",
        "DICOM provider",
        (list_providers, add_provider, change_provider, remove_provider),
        PROVIDER.json_schema(),
    ),
    *_routes(
        "peers",
        "remote DICOM node",
        (list_peers, add_peer, change_peer, remove_peer),
        PEER.json_schema(),
    ),
    Route(
        method="POST", path="/peers/echo", work=echo_peers, allowed=_ADMIN,
        about="C-ECHO to every node",
    ),
    Route(
        method="POST", path="/peers/{name}/approve", work=approve_peer, allowed=_ADMIN,
        about="Let a pending node in, and its held images into the archive",
        errors=("unknown-peer",),
    ),
    Route(
        method="POST", path="/peers/{name}/block", work=block_peer, allowed=_ADMIN,
        about="Refuse a node from now on", errors=("unknown-peer",),
    ),
    Route(
        method="POST", path="/peers/{name}/echo", work=echo_peer, allowed=_ADMIN,
        about="C-ECHO to a node", errors=("unknown-peer",),
    ),
)  # fmt: skip
