# SPDX-License-Identifier: Apache-2.0
"""Annotations and key images: a layer for each author, saved as one draws, with history."""

from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from scrigno.access.accounts import fold
from scrigno.access.permissions import Permission
from scrigno.reading.documents import Kind, Place, Scope, Version, short
from scrigno.reading.reading import of_study
from scrigno.reading.shapes import Annotations, KeyImages, plain

from .answers import at
from .errors import NotFound
from .reading_api import VERSIONS
from .reading_saves import (
    MOST_BODY,
    SAVE_ERRORS,
    HistoryAnswer,
    RestoreBody,
    SavedAnswer,
    VersionAnswer,
    history,
    require_account,
    restore,
    save,
    shaped,
    version_json,
    with_tag,
)
from .rooms import Rooms, caller_of
from .routes import Own, Route
from .shapes import Answer, Moment, path_of, query_of, read_body
from .sight import require_study

MINE: Final = "mine"
LayerId = Annotated[str, Meta(pattern=r"^([0-9a-f]{24}|mine)$(?!\n)", min_length=4, max_length=24)]


class AnnotationLayerAnswer(Answer):
    """What one author drew in a study; `layer` is its name in addresses."""

    layer: str
    author: str
    own: bool
    revision: int
    saved_at: Moment | None
    annotations: Annotations


class AnnotationLayersAnswer(Answer):
    """What everybody drew in a study."""

    layers: list[AnnotationLayerAnswer]


class AnnotationVersionAnswer(Answer):
    """One version of what one author drew."""

    version: VersionAnswer
    annotations: Annotations


class KeyImageLayerAnswer(Answer):
    """The key images of one author in a study."""

    layer: str
    author: str
    own: bool
    revision: int
    saved_at: Moment | None
    key_images: KeyImages


class KeyImageLayersAnswer(Answer):
    """The key images of everybody in a study."""

    layers: list[KeyImageLayerAnswer]


class KeyImageVersionAnswer(Answer):
    """One version of the key images of one author."""

    version: VersionAnswer
    key_images: KeyImages


async def _layers(request: web.Request, rooms: Rooms, kind: Kind) -> list[Version]:
    uid = path_of(request)["uid"]
    await require_study(request, rooms, uid)
    return await rooms.reading.documents.of_subject(Scope.STUDY, uid, kind)


def _mine(request: web.Request, kind: Kind) -> Place:
    return of_study(path_of(request)["uid"], kind, require_account(request))


async def _named(request: web.Request, rooms: Rooms, kind: Kind) -> Place:
    """Return the place of a layer by its name in addresses; raises NotFound."""
    uid, wanted = path_of(request)["uid"], path_of(request)["layer"]
    await require_study(request, rooms, uid)
    if wanted == MINE:
        return _mine(request, kind)
    for each in await rooms.reading.documents.of_subject(Scope.STUDY, uid, kind):
        if short(each.place.layer) == wanted:
            return each.place
    raise NotFound("There is no such layer.")


def _head(request: web.Request, version: Version) -> dict[str, Any]:
    session = caller_of(request).session
    return {
        "layer": short(version.place.layer),
        "author": version.place.owner,
        "own": not session.guest and fold(session.account.name) == version.place.layer,
        "revision": version.revision,
        "saved_at": at(version.saved_at),
    }


def _empty(place: Place) -> dict[str, Any]:
    return {
        "layer": short(place.layer),
        "author": place.owner,
        "own": True,
        "revision": 0,
        "saved_at": None,
    }


async def list_annotations(request: web.Request, rooms: Rooms) -> Any:
    """Return what everybody drew in a study."""
    return AnnotationLayersAnswer(
        layers=[
            AnnotationLayerAnswer(
                **_head(request, each), annotations=shaped(each.content, Annotations)
            )
            for each in await _layers(request, rooms, Kind.ANNOTATIONS)
        ]
    )


async def get_own_annotations(request: web.Request, rooms: Rooms) -> Any:
    """Return what the caller drew in a study."""
    await require_study(request, rooms, path_of(request)["uid"])
    place = _mine(request, Kind.ANNOTATIONS)
    found = await rooms.reading.documents.get(place)
    if found is None:
        return with_tag(AnnotationLayerAnswer(**_empty(place), annotations=Annotations()), 0)
    annotations = shaped(found.content, Annotations)
    answer = AnnotationLayerAnswer(**_head(request, found), annotations=annotations)
    return with_tag(answer, found.revision)


async def save_annotations(request: web.Request, rooms: Rooms) -> Any:
    """Save what the caller drew in a study."""
    await require_study(request, rooms, path_of(request)["uid"])
    place = _mine(request, Kind.ANNOTATIONS)
    body = await read_body(request, Annotations, limit=MOST_BODY)
    return await save(request, rooms, place, plain(body), "annotations-saved")


async def list_annotation_versions(request: web.Request, rooms: Rooms) -> Any:
    """List the versions of a layer."""
    place = await _named(request, rooms, Kind.ANNOTATIONS)
    return await history(rooms, place, query_of(request))


async def get_annotation_version(request: web.Request, rooms: Rooms) -> Any:
    """Return one version of a layer."""
    place = await _named(request, rooms, Kind.ANNOTATIONS)
    found = await rooms.reading.documents.version(place, path_of(request)["number"])
    return AnnotationVersionAnswer(
        version=version_json(found), annotations=shaped(found.content, Annotations)
    )


async def restore_annotations(request: web.Request, rooms: Rooms) -> Any:
    """Put an older version of the caller's layer in force again."""
    await require_study(request, rooms, path_of(request)["uid"])
    place = _mine(request, Kind.ANNOTATIONS)
    body = await read_body(request, RestoreBody)
    return await restore(request, rooms, place, body.version, "annotations-saved")


async def list_key_images(request: web.Request, rooms: Rooms) -> Any:
    """Return the key images of everybody in a study."""
    return KeyImageLayersAnswer(
        layers=[
            KeyImageLayerAnswer(**_head(request, each), key_images=shaped(each.content, KeyImages))
            for each in await _layers(request, rooms, Kind.KEY_IMAGES)
        ]
    )


async def get_own_key_images(request: web.Request, rooms: Rooms) -> Any:
    """Return the caller's key images in a study."""
    await require_study(request, rooms, path_of(request)["uid"])
    place = _mine(request, Kind.KEY_IMAGES)
    found = await rooms.reading.documents.get(place)
    if found is None:
        return with_tag(KeyImageLayerAnswer(**_empty(place), key_images=KeyImages()), 0)
    key_images = shaped(found.content, KeyImages)
    answer = KeyImageLayerAnswer(**_head(request, found), key_images=key_images)
    return with_tag(answer, found.revision)


async def save_key_images(request: web.Request, rooms: Rooms) -> Any:
    """Save the caller's key images in a study."""
    await require_study(request, rooms, path_of(request)["uid"])
    place = _mine(request, Kind.KEY_IMAGES)
    body = await read_body(request, KeyImages, limit=MOST_BODY)
    return await save(request, rooms, place, plain(body), "key-images-saved")


async def list_key_image_versions(request: web.Request, rooms: Rooms) -> Any:
    """List the versions of the key images of a layer."""
    place = await _named(request, rooms, Kind.KEY_IMAGES)
    return await history(rooms, place, query_of(request))


async def get_key_image_version(request: web.Request, rooms: Rooms) -> Any:
    """Return one version of the key images of a layer."""
    place = await _named(request, rooms, Kind.KEY_IMAGES)
    found = await rooms.reading.documents.version(place, path_of(request)["number"])
    return KeyImageVersionAnswer(
        version=version_json(found), key_images=shaped(found.content, KeyImages)
    )


async def restore_key_images(request: web.Request, rooms: Rooms) -> Any:
    """Put an older version of the caller's key images in force again."""
    await require_study(request, rooms, path_of(request)["uid"])
    place = _mine(request, Kind.KEY_IMAGES)
    body = await read_body(request, RestoreBody)
    return await restore(request, rooms, place, body.version, "key-images-saved")


_READ: Final = ("not-found", "bad-document")
_OF_VERSION: Final = ("not-found", "unknown-version", "bad-document")
_VIEW, _ANNOTATE = Permission.VIEW, Permission.ANNOTATE
_LAYER: Final = {"layer": LayerId}
_DRAWN, _MARKED = Own("annotations-saved"), Own("key-images-saved")

ROUTES: Final = (
    Route(
        method="GET", path="/studies/{uid}/annotations", work=list_annotations, allowed=_VIEW,
        about="What everybody drew in a study, a layer for each author",
        answer=AnnotationLayersAnswer, errors=_READ,
    ),
    Route(
        method="GET", path="/studies/{uid}/annotations/mine", work=get_own_annotations,
        allowed=_VIEW, about="What the caller drew; the ETag is the revision",
        answer=AnnotationLayerAnswer, errors=_READ,
    ),
    Route(
        method="PUT", path="/studies/{uid}/annotations/mine", work=save_annotations,
        allowed=_ANNOTATE,
        about='Save what the caller drew upon its revision: If-Match: "3", "0" while there is none',
        body=Annotations, answer=SavedAnswer, also=(202,), audit=_DRAWN, errors=SAVE_ERRORS,
    ),
    Route(
        method="GET", path="/studies/{uid}/annotations/{layer}/versions",
        work=list_annotation_versions, allowed=_VIEW, params=_LAYER, query=VERSIONS,
        about="The versions of a layer, the newest first", answer=HistoryAnswer, errors=_READ,
    ),
    Route(
        method="GET", path=r"/studies/{uid}/annotations/{layer}/versions/{number:\d+}",
        work=get_annotation_version, allowed=_VIEW, params=_LAYER,
        about="One version of a layer", answer=AnnotationVersionAnswer, errors=_OF_VERSION,
    ),
    Route(
        method="POST", path="/studies/{uid}/annotations/mine/restore", work=restore_annotations,
        allowed=_ANNOTATE, about="Put an older version of the own layer in force again",
        body=RestoreBody, answer=SavedAnswer, also=(202,), audit=_DRAWN,
        errors=(*SAVE_ERRORS, "unknown-version"),
    ),
    Route(
        method="GET", path="/studies/{uid}/key-images", work=list_key_images, allowed=_VIEW,
        about="The key images of everybody in a study", answer=KeyImageLayersAnswer,
        errors=_READ,
    ),
    Route(
        method="GET", path="/studies/{uid}/key-images/mine", work=get_own_key_images,
        allowed=_VIEW, about="The caller's key images; the ETag is the revision",
        answer=KeyImageLayerAnswer, errors=_READ,
    ),
    Route(
        method="PUT", path="/studies/{uid}/key-images/mine", work=save_key_images,
        allowed=_ANNOTATE, about="Save the caller's key images upon their revision",
        body=KeyImages, answer=SavedAnswer, also=(202,), audit=_MARKED, errors=SAVE_ERRORS,
    ),
    Route(
        method="GET", path="/studies/{uid}/key-images/{layer}/versions",
        work=list_key_image_versions, allowed=_VIEW, params=_LAYER, query=VERSIONS,
        about="The versions of the key images of a layer", answer=HistoryAnswer, errors=_READ,
    ),
    Route(
        method="GET", path=r"/studies/{uid}/key-images/{layer}/versions/{number:\d+}",
        work=get_key_image_version, allowed=_VIEW, params=_LAYER,
        about="One version of the key images of a layer", answer=KeyImageVersionAnswer,
        errors=_OF_VERSION,
    ),
    Route(
        method="POST", path="/studies/{uid}/key-images/mine/restore", work=restore_key_images,
        allowed=_ANNOTATE, about="Put an older version of the own key images in force again",
        body=RestoreBody, answer=SavedAnswer, also=(202,), audit=_MARKED,
        errors=(*SAVE_ERRORS, "unknown-version"),
    ),
)  # fmt: skip
