# SPDX-License-Identifier: Apache-2.0
"""Stored objects on their way out: as stored where the peer takes that, else transcoded.

What leaves is compared with the digest of reception before its last bytes go: a peer gets the
object that was sent to us or none, never a damaged one.
"""

import hashlib
import os
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from scrigno.archive.retrieve import Retrieval
from scrigno.catalogue.records import StoredInstance
from scrigno.core.counters import Counters
from scrigno.core.errors import ScrignoError
from scrigno.imaging import part10
from scrigno.imaging.errors import NotDicom
from scrigno.imaging.workers import ImagingPool

# Objects up to this size are verified whole before their first byte leaves; of larger ones the
# last chunk is held back until the digest is right. Bounds the memory of one retrieval.
VERIFY_FIRST_BYTES: Final = 4 << 20
HEAD_BYTES: Final = 4096  # holds preamble and file meta of every file we write
CHUNK_BYTES: Final = 1 << 20

# What an object can be transcoded to, best first: nothing is lost in any of them.
TRANSCODE_TARGETS: Final = (
    str(ExplicitVRLittleEndian),
    str(ImplicitVRLittleEndian),
    str(ExplicitVRBigEndian),
    str(DeflatedExplicitVRLittleEndian),
)


class ObjectChanged(ScrignoError):
    """A copy is not what was received; it is not sent."""

    code = "object-changed"


class Outgoing:
    """Reads objects for sending."""

    def __init__(self, retrieval: Retrieval, imaging: ImagingPool, *, counters: Counters) -> None:
        """Read through `retrieval`, transcode in `imaging`."""
        self._retrieval = retrieval
        self._imaging = imaging
        self._counters = counters

    def data_set(
        self, instance: StoredInstance, transfer_syntax: str
    ) -> AsyncGenerator[bytes, None]:
        """Yield the data set in this transfer syntax, chunk by chunk.

        Iterating raises ObjectUnavailable, ObjectChanged or an ImagingError, for objects up to
        `VERIFY_FIRST_BYTES` before the first chunk.
        """
        if transfer_syntax == instance.transfer_syntax_uid:
            return self._as_stored(instance)
        return self._transcoded(instance, transfer_syntax)

    async def _file(self, instance: StoredInstance) -> AsyncGenerator[bytes, None]:
        """Yield the verified file; at least one chunk stays behind until the digest is right."""
        digest = hashlib.sha256()
        held: deque[bytes] = deque()
        held_bytes = 0
        async for chunk in self._retrieval.open(instance).chunks:
            digest.update(chunk)
            held.append(chunk)
            held_bytes += len(chunk)
            while held_bytes > VERIFY_FIRST_BYTES and len(held) > 1:
                held_bytes -= len(held[0])
                yield held.popleft()
        if digest.hexdigest() != instance.digest:
            self._counters.add("dicom_sent_objects_changed_total")
            raise ObjectChanged(
                f"Object {instance.sop_instance_uid}: the copy is not what was received."
            )
        while held:
            yield held.popleft()

    async def _as_stored(self, instance: StoredInstance) -> AsyncGenerator[bytes, None]:
        head = b""
        in_data_set = False
        async with aclosing(self._file(instance)) as chunks:
            async for chunk in chunks:
                if in_data_set:
                    yield chunk
                    continue
                head += chunk
                if len(head) < min(HEAD_BYTES, instance.size):
                    continue
                in_data_set = True
                offset = part10.split(head[:HEAD_BYTES]).data_offset
                if len(head) > offset:
                    yield memoryview(head)[offset:].tobytes()
        if not in_data_set:
            raise NotDicom(f"Object {instance.sop_instance_uid}: the file ends in its head.")

    async def _transcoded(
        self, instance: StoredInstance, transfer_syntax: str
    ) -> AsyncGenerator[bytes, None]:
        source = os.memfd_create("scrigno-transcode", os.MFD_CLOEXEC)
        try:
            async with aclosing(self._file(instance)) as chunks:
                async for chunk in chunks:
                    os.write(source, chunk)
            made = await self._imaging.transcode(source, to_transfer_syntax=transfer_syntax)
        finally:
            os.close(source)
        try:
            for offset in range(made.data_offset, made.size, CHUNK_BYTES):
                yield os.pread(made.fd, min(CHUNK_BYTES, made.size - offset), offset)
        finally:
            made.close()


def targets(instance: StoredInstance) -> Sequence[str]:
    """Return the transfer syntaxes an object may be sent in, best first."""
    stored = instance.transfer_syntax_uid
    return (stored, *(each for each in TRANSCODE_TARGETS if each != stored))
