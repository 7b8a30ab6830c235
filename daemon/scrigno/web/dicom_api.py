# SPDX-License-Identifier: Apache-2.0
"""DICOM providers of this box and remote nodes (SPEC DN-1, DN-2, DN-3)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Final, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta

from scrigno.settings.kinds import is_address
from scrigno.settings.peers import UnknownPeerError
from scrigno.settings.schema import (
    Peer,
    PeerState,
    Provider,
    Right,
    Settings,
    Unregistered,
)
from scrigno.settings.shapes import PEER, PROVIDER

from .answers import moment
from .bodies import merged, read_object, shaped
from .echo import EchoAnswer, echo, echo_all
from .errors import NotFound
from .rooms import Rooms, author_of
from .routes import For, Route, Unaudited, audited
from .settings_documents import PeerDocument, PeerPatch, ProviderDocument, ProviderPatch
from .shapes import ONE_LINE, Answer, Moment, Query, path_of, query_of

Named = TypeVar("Named", bound=Provider | Peer)
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=ONE_LINE)]
_ADMIN: Final = For.ADMINISTRATORS


class ProviderAnswer(Answer):
    """A DICOM provider of this box with what it does now."""

    name: str
    ae_title: str
    port: int
    host: str
    unregistered: Unregistered
    enabled: bool
    listening_port: int | None
    error: str
    associations: int


class ProvidersAnswer(Answer):
    """The DICOM providers of this box."""

    providers: list[ProviderAnswer]


class PeerAnswer(Answer):
    """A remote node; `last_seen` is when it last called since the box was started."""

    name: str
    ae_title: str
    host: str
    port: int
    rights: list[Right]
    state: PeerState
    first_seen: Moment | None
    last_seen: Moment | None


class ReleasedAnswer(Answer):
    """How many held images came into the archive, and how many had to stay in the inbox."""

    accepted: int
    kept: int


class ApprovedPeerAnswer(PeerAnswer):
    """A node that was let in, and what became of its held images."""

    released: ReleasedAnswer


class PeersAnswer(Answer):
    """The remote nodes."""

    peers: list[PeerAnswer]


class EchoesAnswer(Answer):
    """What each node answered."""

    answers: list[EchoAnswer]


def _provider(provider: Provider, rooms: Rooms) -> ProviderAnswer:
    now = next((each for each in rooms.box.listening() if each.name == provider.name), None)
    return ProviderAnswer(
        name=provider.name,
        ae_title=provider.ae_title,
        port=provider.port,
        host=provider.host,
        unregistered=provider.unregistered,
        enabled=provider.enabled,
        listening_port=now.port if now else None,
        error=now.error if now else "",
        associations=now.associations if now else 0,
    )


def _peer(peer: Peer, rooms: Rooms) -> PeerAnswer:
    return PeerAnswer(
        name=peer.name,
        ae_title=peer.ae_title,
        host=peer.host,
        port=peer.port,
        rights=[each for each in Right if each in peer.rights],
        state=peer.state,
        first_seen=moment(peer.first_seen),
        last_seen=moment(rooms.peers.last_seen(peer.name)),
    )


async def list_providers(_request: web.Request, rooms: Rooms) -> Any:
    """List the DICOM providers with what they do now."""
    providers = rooms.settings.current.providers
    return ProvidersAnswer(providers=[_provider(each, rooms) for each in providers])


async def add_provider(request: web.Request, rooms: Rooms) -> Any:
    """Add a provider; it listens at once."""
    made: Provider = shaped(PROVIDER, await read_object(request))
    audited(request, made.name)

    def add(settings: Settings) -> Settings:
        return replace(settings, providers=(*settings.providers, made))

    await rooms.settings.change(add, author=author_of(request), why=f"provider {made.name}: new")
    return _provider(made, rooms)


async def change_provider(request: web.Request, rooms: Rooms) -> Any:
    """Change a provider by a merge patch."""
    name, patch = path_of(request)["name"], await read_object(request)
    made: list[Provider] = []

    def change(settings: Settings) -> Settings:
        before = _own(settings, name)
        made.append(shaped(PROVIDER, merged(PROVIDER.plain(before), patch)))
        return replace(settings, providers=_swapped(settings.providers, before, made[0]))

    await rooms.settings.change(change, author=author_of(request), why=f"provider {name}: changed")
    return _provider(made[0], rooms)


async def remove_provider(request: web.Request, rooms: Rooms) -> Any:
    """Remove a provider; it stops listening."""
    name = path_of(request)["name"]

    def remove(settings: Settings) -> Settings:
        return replace(settings, providers=_swapped(settings.providers, _own(settings, name)))

    await rooms.settings.change(remove, author=author_of(request), why=f"provider {name}: removed")


async def list_peers(request: web.Request, rooms: Rooms) -> Any:
    """List the remote nodes, all of them or those of one state."""
    state = query_of(request)["state"]
    peers = rooms.settings.current.peers
    return PeersAnswer(
        peers=[_peer(each, rooms) for each in peers if state is None or each.state == state]
    )


async def add_peer(request: web.Request, rooms: Rooms) -> Any:
    """Add a remote node."""
    made: Peer = shaped(PEER, await read_object(request))
    audited(request, made.name)

    def add(settings: Settings) -> Settings:
        return replace(settings, peers=(*settings.peers, made))

    await rooms.settings.change(add, author=author_of(request), why=f"{made.name}: new")
    return _peer(made, rooms)


async def change_peer(request: web.Request, rooms: Rooms) -> Any:
    """Change a remote node by a merge patch."""
    name, patch = path_of(request)["name"], await read_object(request)
    made: list[Peer] = []

    def change(settings: Settings) -> Settings:
        before = _known(settings, name)
        made.append(shaped(PEER, merged(PEER.plain(before), patch)))
        return replace(settings, peers=_swapped(settings.peers, before, made[0]))

    await rooms.settings.change(change, author=author_of(request), why=f"{name}: changed")
    return _peer(made[0], rooms)


async def remove_peer(request: web.Request, rooms: Rooms) -> Any:
    """Remove a remote node."""
    name = path_of(request)["name"]

    def remove(settings: Settings) -> Settings:
        return replace(settings, peers=_swapped(settings.peers, _known(settings, name)))

    await rooms.settings.change(remove, author=author_of(request), why=f"{name}: removed")


async def approve_peer(request: web.Request, rooms: Rooms) -> Any:
    """Let a pending node in, and its images that were held until now into the archive."""
    peer = await rooms.peers.approve(path_of(request)["name"], author=author_of(request))
    address = peer.host if is_address(peer.host) else None
    released = await rooms.inbox.accept_from(peer.ae_title, address)
    audited(request, released=str(released["accepted"]))
    return ApprovedPeerAnswer(
        **msgspec.structs.asdict(_peer(peer, rooms)), released=ReleasedAnswer(**released)
    )


async def block_peer(request: web.Request, rooms: Rooms) -> Any:
    """Refuse a node from now on."""
    peer = await rooms.peers.block(path_of(request)["name"], author=author_of(request))
    return _peer(peer, rooms)


async def echo_peer(request: web.Request, rooms: Rooms) -> Any:
    """Send a C-ECHO to a node and tell what it answered."""
    settings = rooms.settings.current
    return await echo(_known(settings, path_of(request)["name"]), settings, rooms.clock)


async def echo_peers(_request: web.Request, rooms: Rooms) -> Any:
    """Send a C-ECHO to every node."""
    return EchoesAnswer(answers=await echo_all(rooms.settings.current, rooms.clock))


def _own(settings: Settings, name: str) -> Provider:
    found = settings.provider(name)
    if found is None:
        raise NotFound(f"There is no provider {name}.")
    return found


def _known(settings: Settings, name: str) -> Peer:
    found = settings.peer(name)
    if found is None:
        raise UnknownPeerError(f"peer {name}: there is no such node.")
    return found


def _swapped(items: tuple[Named, ...], old: Named, *new: Named) -> tuple[Named, ...]:
    position = items.index(old)
    return (*items[:position], *new, *items[position + 1 :])


def _routes(
    kind: str,
    what: str,
    works: tuple[Callable[..., Any], ...],
    bodies: tuple[Any, ...],
    answers: tuple[Any, ...],
    query: tuple[Query, ...] = (),
) -> list[Route]:
    listing, adding, changing, removing = works
    path, one, noun = f"/{kind}s", f"/{kind}s/{{name}}", kind
    errors = ("bad-configuration", f"unknown-{kind}" if kind == "peer" else "not-found")
    return [
        Route(
            method="GET", path=path, work=listing, allowed=_ADMIN, about=f"All {what}s",
            answer=answers[0], query=query,
        ),
        Route(
            method="POST", path=path, work=adding, allowed=_ADMIN, about=f"Add a {what}",
            body=bodies[0], answer=answers[1], success=201, audit=f"{noun}-added", errors=errors,
        ),
        Route(
            method="PATCH", path=one, work=changing, allowed=_ADMIN, params={"name": Name},
            about=f"Change a {what} (JSON merge patch)", body=bodies[1], answer=answers[1],
            audit=f"{noun}-changed", errors=errors,
        ),
        Route(
            method="DELETE", path=one, work=removing, allowed=_ADMIN, about=f"Remove a {what}",
            params={"name": Name}, answer=None, audit=f"{noun}-removed", errors=errors,
        ),
    ]  # fmt: skip


ROUTES: Final = (
    *_routes(
        "provider",
        "DICOM provider",
        (list_providers, add_provider, change_provider, remove_provider),
        (ProviderDocument, ProviderPatch),
        (ProvidersAnswer, ProviderAnswer),
    ),
    *_routes(
        "peer",
        "remote DICOM node",
        (list_peers, add_peer, change_peer, remove_peer),
        (PeerDocument, PeerPatch),
        (PeersAnswer, PeerAnswer),
        (Query("state", PeerState, None, "Only those of this state: `pending` waits for you"),),
    ),
    Route(
        method="POST", path="/peers/echo", work=echo_peers, allowed=_ADMIN,
        about="C-ECHO to every node", answer=EchoesAnswer,
        audit=Unaudited("a C-ECHO changes nothing, here or there"),
    ),
    Route(
        method="POST", path="/peers/{name}/approve", work=approve_peer, allowed=_ADMIN,
        about="Let a pending node in, and its held images into the archive",
        answer=ApprovedPeerAnswer, audit="peer-approved", errors=("unknown-peer",),
    ),
    Route(
        method="POST", path="/peers/{name}/block", work=block_peer, allowed=_ADMIN,
        about="Refuse a node from now on", answer=PeerAnswer, audit="peer-blocked",
        errors=("unknown-peer",),
    ),
    Route(
        method="POST", path="/peers/{name}/echo", work=echo_peer, allowed=_ADMIN,
        about="C-ECHO to a node", answer=EchoAnswer, errors=("unknown-peer",),
        audit=Unaudited("a C-ECHO changes nothing, here or there"),
    ),
)  # fmt: skip
