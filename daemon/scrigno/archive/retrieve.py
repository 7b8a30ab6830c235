# SPDX-License-Identifier: Apache-2.0
"""Reading stored objects: the best healthy copy first, the next one inside the same request."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from scrigno.catalogue.records import StoredInstance


@dataclass(frozen=True, slots=True)
class ObjectStream:
    """One object being read; iterate `chunks` (each at most 1 MiB) exactly once."""

    transfer_syntax_uid: str
    size: int | None  # bytes that will come, where known before reading
    chunks: AsyncIterator[bytes]


class Retrieval:
    """Reads objects from wherever they stand."""

    def open(self, instance: StoredInstance) -> ObjectStream:
        """Read the whole Part 10 file; iterating raises ObjectUnavailable when no copy is left."""
        raise NotImplementedError

    async def data_set(self, instance: StoredInstance) -> ObjectStream:
        """Read the data set alone, without preamble and file meta; raises ObjectUnavailable."""
        raise NotImplementedError

    async def read(self, instance: StoredInstance, *, limit_bytes: int) -> bytes:
        """Read a whole Part 10 file into memory; raises ObjectUnavailable, also over the limit."""
        raise NotImplementedError
