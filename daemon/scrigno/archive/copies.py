# SPDX-License-Identifier: Apache-2.0
"""Which copies a volume really has, compared with what the index says of it.

A million objects are compared by eight bytes each: a hash of key and size, sorted. Two different
files with one hash are one case in 10^7 archives of that size, and would only hide a missing file
until the next scrub reads it.
"""

from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator
from contextlib import aclosing
from enum import StrEnum
from hashlib import blake2b
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.records import CopyState, StoredKey
from scrigno.volumes.volume import Volume

OBJECTS_PREFIX: Final = "studies"


class KeySet:
    """A set of (key, size) in eight bytes each; `freeze` before asking."""

    def __init__(self) -> None:
        """Start empty."""
        self._hashes = array("Q")

    def add(self, key: str, size: int) -> None:
        """Add one file."""
        self._hashes.append(_hash(key, size))

    def freeze(self) -> None:
        """Make it fit to be asked."""
        self._hashes = array("Q", sorted(self._hashes))

    def __contains__(self, file: tuple[str, int]) -> bool:
        """Tell whether the file is in it."""
        value = _hash(*file)
        place = bisect_left(self._hashes, value)
        return place < len(self._hashes) and self._hashes[place] == value

    def __len__(self) -> int:
        """Return how many files were added."""
        return len(self._hashes)


def _hash(key: str, size: int) -> int:
    return int.from_bytes(blake2b(f"{key}\0{size}".encode(), digest_size=8).digest(), "little")


async def files_of(volume: Volume) -> KeySet:
    """Return what stands on the volume; raises VolumeError."""
    files = KeySet()
    async with aclosing(volume.walk(OBJECTS_PREFIX)) as walk:
        async for key, size in walk:
            files.add(key, size)
    files.freeze()
    return files


async def files_of_index(catalogue: Catalogue) -> KeySet:
    """Return what the index knows; raises DatabaseError."""
    files = KeySet()
    async for row in catalogue.all_keys():
        files.add(row.key, row.size)
    files.freeze()
    return files


class Difference(StrEnum):
    """How a row and a volume disagree."""

    UNRECORDED = "unrecorded"  # the volume has a file that the row does not count as a copy
    GONE = "gone"  # the row counts a copy, the volume has no such file of that size
    UNKNOWN = "unknown"  # neither file nor any record of a copy: nobody would ever make one


async def differences(
    catalogue: Catalogue, volume: Volume, files: KeySet
) -> AsyncIterator[tuple[StoredKey, Difference]]:
    """Compare every row of the index with what stands on one volume; raises DatabaseError."""
    name = volume.spec.name
    async for row in catalogue.all_keys():
        state = next((copy.state for copy in row.copies if copy.volume == name), None)
        stands = (row.key, row.size) in files
        if stands and state is not CopyState.HELD:
            yield row, Difference.UNRECORDED
        elif not stands and state is CopyState.HELD:
            yield row, Difference.GONE
        elif not stands and state is None:
            yield row, Difference.UNKNOWN
