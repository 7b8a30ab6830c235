# SPDX-License-Identifier: Apache-2.0
"""What an imaging worker does for media: directories, disc images, de-identified copies."""

import json
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from .deidentify import Deidentifier, Wishes
from .errors import DecodeFailed
from .fileset import directory_of, records_of
from .fileset_images import listing_of
from .protocol import memory_file, seal

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


def _deidentify(request: Mapping[str, Any], fd: int) -> Answer:
    wishes = Wishes(
        key=bytes.fromhex(request["key"]),
        options=frozenset(request["options"]),
        patient_name=request["patient_name"],
        patient_id=request["patient_id"],
        days=request["days"],
    )
    result = os.memfd_create("scrigno-deidentified", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        answer = _deidentifier(wishes).copy(fd, result)
        seal(result)
    except BaseException:
        os.close(result)
        raise
    return answer, result


@lru_cache(maxsize=4)
def _deidentifier(wishes: Wishes) -> Deidentifier:
    return Deidentifier(wishes)


_VERBS: Final[dict[str, Callable[[Mapping[str, Any], int], Answer]]] = {
    "listing": _listing,
    "records": _records,
    "directory": _directory,
    "deidentify": _deidentify,
}
