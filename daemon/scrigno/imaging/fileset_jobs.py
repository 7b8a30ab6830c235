# SPDX-License-Identifier: Apache-2.0
"""What an imaging worker does for media: directories, disc images, de-identified copies."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from .errors import DecodeFailed
from .fileset import directory_of, records_of
from .fileset_images import listing_of
from .protocol import memory_file

Answer = tuple[dict[str, Any], int]


def run(request: Mapping[str, Any], fd: int) -> Answer:
    """Do one job of media on the bytes in `fd`; see `imaging.jobs.run`."""
    verb = _VERBS.get(request["verb"])
    if verb is None:
        raise DecodeFailed(f"There is no job {request['verb']!r} of media.")
    return verb(request, fd)


def _listing(_request: Mapping[str, Any], fd: int) -> Answer:
    return {}, memory_file(listing_of(fd))


def _records(_request: Mapping[str, Any], fd: int) -> Answer:
    with os.fdopen(os.dup(fd), "rb") as stream:
        stream.seek(0)
        return {}, memory_file(json.dumps(records_of(stream)).encode())


def _directory(request: Mapping[str, Any], fd: int) -> Answer:
    with os.fdopen(os.dup(fd), "rb") as lines:
        lines.seek(0)
        return {}, memory_file(directory_of(lines, file_set_id=request["file_set_id"]))


_VERBS: Final[dict[str, Callable[[Mapping[str, Any], int], Answer]]] = {
    "listing": _listing,
    "records": _records,
    "directory": _directory,
}
