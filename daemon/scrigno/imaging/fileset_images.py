# SPDX-License-Identifier: Apache-2.0
"""What stands in a disc image (ISO 9660 with Joliet or UDF beside it), read in an imaging worker.

Only where each file lies is told; the other side reads the spans itself.
"""

import json
import os
from typing import Any, Final

import pycdlib
from pycdlib.pycdlibexception import PyCdlibException

from .errors import DecodeFailed

MOST_FILES: Final = 500_000
MOST_DEPTH: Final = 64
SECTOR_BYTES: Final = 2048


def listing_of(fd: int) -> bytes:
    """Return JSON `[[parts, offset, size], …]` of the image in `fd`; raises DecodeFailed."""
    with os.fdopen(os.dup(fd), "rb") as file:
        actual = file.seek(0, os.SEEK_END)
        file.seek(0)
        image = pycdlib.PyCdlib()
        try:
            image.open_fp(file)
            files = _files(image, "iso_path", actual) or (
                _files(image, "udf_path", actual) if image.has_udf() else []
            )
        except (PyCdlibException, ValueError, IndexError, KeyError, RecursionError) as error:
            raise DecodeFailed("The disc image is damaged, or of a kind not known here.") from error
    return json.dumps(files).encode()


def _files(image: Any, kind: str, actual: int) -> list[tuple[list[str], int, int]]:
    found: list[tuple[list[str], int, int]] = []
    # of an image that is cut short pycdlib makes the files shorter without a word
    ends = actual if image.pvd.space_size * SECTOR_BYTES > actual else None
    seen: set[str] = set()
    for folder, _, names in image.walk(**{kind: "/"}):
        if folder in seen or folder.count("/") > MOST_DEPTH:
            continue
        seen.add(folder)
        for name in sorted(names):
            record = image.get_record(**{kind: f"{folder.rstrip('/')}/{name}"})
            inode = getattr(record, "inode", None)
            size = record.get_data_length()
            if inode is None and size:
                continue
            offset = 0 if inode is None else inode.fp_offset
            whole = inode is None or (inode.data_length == size and offset + size != ends)
            parts = [part for part in f"{folder}/{name}".split("/") if part]
            parts[-1] = parts[-1].split(";")[0].rstrip(".") or parts[-1]
            # a file in several pieces cannot be read as one span: it is told as cut short
            found.append((parts, offset if whole else -1, size))
            if len(found) > MOST_FILES:
                raise DecodeFailed(f"The disc image holds more than {MOST_FILES} files.")
    return found
