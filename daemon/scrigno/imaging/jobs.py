# SPDX-License-Identifier: Apache-2.0
"""What an imaging worker can be asked to do: the answers, and each result in a memory file."""

import json
import os
from typing import Any, Final

import numpy as np
import pydicom

from .decode import PixelSource, open_object
from .errors import DecodeFailed
from .protocol import memory_file, seal
from .render import encode, picture
from .transcode import transcode

# of attributes that describe() leaves out: longer than any text, shorter than a look-up table
BULK_BYTES: Final = 2048


def load() -> None:
    """Do everything once that loads code lazily, so that it is there when the files are gone."""
    grey = np.zeros((8, 8), np.uint8)
    for kind in ("png", "jpeg"):
        encode(grey, max_size=4, kind=kind, quality=80)


def run(request: dict[str, Any], fd: int) -> tuple[dict[str, Any], int]:
    """Do one job on the object in `fd`; return the answer and a sealed memory file."""
    match request["job"]:
        case "render":
            return _render(request, fd)
        case "transcode":
            return _transcode(request, fd)
        case "describe":
            return _describe(fd)
        case other:
            raise DecodeFailed(f"There is no job {other!r}.")


def _render(request: dict[str, Any], fd: int) -> tuple[dict[str, Any], int]:
    stream, head = open_object(fd)
    with stream:
        source = PixelSource(stream, head)
        shown = picture(source, request["frame"], request["window"])
        frames = source.frames
    content = encode(
        shown.pixels,
        max_size=request["max_size"],
        kind=request["format"],
        quality=request["quality"],
    )
    window = shown.window
    answer = {
        "width": shown.pixels.shape[1],
        "height": shown.pixels.shape[0],
        "center": window.center if window else None,
        "window_width": window.width if window else None,
        "frames": frames,
    }
    return answer, memory_file(content)


def _transcode(request: dict[str, Any], fd: int) -> tuple[dict[str, Any], int]:
    result = os.memfd_create("scrigno-transcoded", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(os.dup(result), "wb") as target:
            data_offset = transcode(fd, target, request["to"])
        seal(result)
    except BaseException:
        os.close(result)
        raise
    return {"data_offset": data_offset}, result


def _describe(fd: int) -> tuple[dict[str, Any], int]:
    stream, _ = open_object(fd)
    with stream:
        dataset = pydicom.dcmread(stream, force=True, stop_before_pixels=True)
    try:
        described = dataset.to_json_dict(
            bulk_data_threshold=BULK_BYTES,
            bulk_data_element_handler=lambda _element: "",
            suppress_invalid_tags=True,
        )
    except RecursionError:
        raise DecodeFailed("The object's sequences are nested too deep.") from None
    return {}, memory_file(json.dumps(described).encode())
