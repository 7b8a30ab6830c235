# SPDX-License-Identifier: Apache-2.0
"""What an imaging worker can be asked to do: the answers, and each result in a memory file."""

import json
import os
from collections.abc import Callable
from typing import Any, Final

import pydicom
from PIL import Image, ImageCms
from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset

from .decode import pixel_header
from .dicomjson import described, value_at
from .documents.said import said_by
from .documents.shown import VIDEO, document_of, video_of
from .drawing import annotate, saved
from .encode import (
    HTJ2K_RPCL,
    JPEG_2000,
    JPEG_BASELINE,
    JPEG_LS,
    content_type_of,
    frame_in,
    warm_up,
)
from .errors import DecodeFailed, NoPixels, NoSuchValue, UnsupportedSyntax
from .fileset_jobs import run as media
from .held import Held, Opened
from .jobs_dicomweb import compose
from .presentation import written
from .protocol import memory_file, seal
from .render import rendered
from .results import look_of
from .transcode import transcode
from .viewerdata import viewer_frame, viewer_metadata

Answer = tuple[dict[str, Any], int]

held: Final = Held()


def load() -> None:
    """Do everything once that loads code lazily, so that it is there when the files are gone."""
    for mode in ("L", "RGB"):
        image = Image.new(mode, (8, 8))
        annotate(image, Dataset(), ["patient"], None)
        for kind in ("png", "jpeg", "gif", "webp"):
            saved([image], kind, quality=80, duration_ms=0)
    ImageCms.createProfile("sRGB")
    for syntax in (HTJ2K_RPCL, JPEG_2000, JPEG_LS, JPEG_BASELINE):
        warm_up(syntax)


def run(request: dict[str, Any], fd: int) -> Answer:
    """Do one job on the object in `fd`; return the answer and a sealed memory file."""
    job = _JOBS.get(request["job"])
    if job is None:
        raise DecodeFailed(f"There is no job {request['job']!r}.")
    if job in _WHOLE:
        return job(request, fd)
    key = request.get("key")
    opened = held.get(key, fd)
    try:
        return job(request, opened)
    finally:
        if key is None:
            opened.close()


def _render(request: dict[str, Any], opened: Opened) -> Answer:
    look = look_of(request["look"])
    source = opened.pixels()
    frame = opened.frame(look.frame) if look.frames == 1 else None
    content, shown = rendered(source, look, frame)
    window = shown.window
    answer = {
        "width": source.attributes.Columns,
        "height": source.attributes.Rows,
        "center": window.center if window else None,
        "window_width": window.width if window else None,
        "frames": source.frames,
    }
    return answer, memory_file(content)


def _frame(request: dict[str, Any], opened: Opened) -> Answer:
    source = opened.pixels()
    content, syntax = frame_in(source, request["frame"], request["to"])
    answer = {
        "syntax": syntax,
        "content_type": content_type_of(syntax),
        "frames": source.frames,
    }
    return answer, memory_file(content)


def _viewer_frame(request: dict[str, Any], opened: Opened) -> Answer:
    source, index = opened.pixels(), request["frame"]
    content = viewer_frame(source, index, opened.frame(index))
    return {"frames": source.frames}, memory_file(content)


def _viewer_metadata(request: dict[str, Any], opened: Opened) -> Answer:
    dataset = _attributes(request, opened)
    try:
        source = opened.pixels()
    except (NoPixels, UnsupportedSyntax):
        source = None
    said = viewer_metadata(dataset, source, lambda: opened.frame(0), request["bulk_uri"])
    return {}, memory_file(json.dumps(said, allow_nan=False).encode())


def _transcode(request: dict[str, Any], fd: int) -> Answer:
    result = os.memfd_create("scrigno-transcoded", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(os.dup(result), "wb") as target:
            data_offset = transcode(fd, target, request["to"])
        seal(result)
    except BaseException:
        os.close(result)
        raise
    return {"data_offset": data_offset}, result


def _attributes(request: dict[str, Any], opened: Opened) -> Dataset:
    opened.stream.seek(0)
    dataset = pydicom.dcmread(opened.stream, force=True, stop_before_pixels=True)
    default = request.get("character_set")
    if default and not dataset.get("SpecificCharacterSet"):
        dataset.SpecificCharacterSet = default
        implicit, little = dataset.original_encoding
        dataset.set_original_encoding(implicit, little, convert_encodings(default))
    return dataset


def _metadata(request: dict[str, Any], opened: Opened) -> Answer:
    bulk_uri = request["bulk_uri"]
    attributes = described(_attributes(request, opened), bulk_uri)
    element = pixel_header(opened.stream, opened.head)
    if element is not None and bulk_uri is not None:
        tag, vr = element
        attributes[f"{tag:08X}"] = {"vr": vr, "BulkDataURI": f"{bulk_uri}/{tag:08X}"}
    return {}, memory_file(json.dumps(attributes, allow_nan=False).encode())


def _bulk(request: dict[str, Any], opened: Opened) -> Answer:
    path = request["path"]
    if path.upper() in ("7FE00008", "7FE00009", "7FE00010"):
        try:
            return {}, memory_file(opened.pixels().value())
        except NoPixels:
            raise NoSuchValue("The object has no pixel data.") from None
    return {}, memory_file(value_at(_attributes(request, opened), path))


def _document(request: dict[str, Any], opened: Opened) -> Answer:
    found = None
    if str(opened.head.transfer_syntax_uid) in VIDEO:
        found = video_of(opened.pixels())
    if found is None:
        found = document_of(_attributes(request, opened), language=request["language"])
    answer = {"kind": found.kind, "content_type": found.content_type, "title": found.title}
    if found.spans:
        return {**answer, "stream": True}, memory_file(json.dumps(found.spans).encode())
    return answer, memory_file(found.content)


def _presentation(request: dict[str, Any], opened: Opened) -> Answer:
    said = said_by(_attributes(request, opened))
    return {}, memory_file(json.dumps(said, allow_nan=False).encode())


def _write(_: dict[str, Any], fd: int) -> Answer:
    with os.fdopen(os.dup(fd), "rb") as stream:
        stream.seek(0)
        order = json.load(stream)
    return {}, memory_file(written(order))


_JOBS: Final[dict[str, Callable[..., Answer]]] = {
    "render": _render,
    "frame": _frame,
    "viewer-frame": _viewer_frame,
    "viewer-metadata": _viewer_metadata,
    "transcode": _transcode,
    "metadata": _metadata,
    "bulk": _bulk,
    "document": _document,
    "presentation": _presentation,
    "write": _write,
    "media": media,
    "compose": compose,
}
_WHOLE: Final = frozenset({_transcode, media, compose, _write})
