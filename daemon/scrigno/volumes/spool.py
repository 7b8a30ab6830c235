# SPDX-License-Identifier: Apache-2.0
"""The spare spool: memory that takes an arriving object when staging cannot.

Bounded per object and in total, because memory is what the whole box lives on. What stands here
does not survive anything, so nothing is acknowledged on its account: its bytes are only the source
from which the volumes copy.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from scrigno.core.errors import ScrignoError

from .hands import Hands

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

OBJECT_BYTES: Final = 256 << 20  # larger than nearly all single objects; a multi-frame may not fit
TOTAL_BYTES: Final = 1 << 30
THREADS: Final = 4


class SpareFull(ScrignoError):
    """The spare spool cannot take the object."""

    code: ClassVar[str] = "spare-full"


class Spool:
    """Memory files and the threads that fill them; none of them ever waits for a disk."""

    def __init__(self, *, object_bytes: int = OBJECT_BYTES, total_bytes: int = TOTAL_BYTES) -> None:
        """Hold nothing yet."""
        self.used_bytes = 0
        self._object_bytes = object_bytes
        self._total_bytes = total_bytes
        self._hands: Hands | None = None

    def reserve(self, size: int, more: int) -> None:
        """Count `more` bytes for an object that has `size` with them; raises SpareFull in words."""
        if size > self._object_bytes:
            raise SpareFull(
                f"the spare memory takes objects up to {self._object_bytes >> 20} MiB",
                next_step="Mend or free the staging disk.",
            )
        if self.used_bytes + more > self._total_bytes:
            raise SpareFull(
                f"the {self._total_bytes >> 20} MiB of spare memory are taken by other objects",
                next_step="Mend or free the staging disk; send again a little later.",
            )
        self.used_bytes += more

    def give_back(self, size: int) -> None:
        """Count `size` bytes less."""
        self.used_bytes -= size

    def run(
        self, job: Callable[..., T], *args: object, over: Callable[[], None] | None = None
    ) -> "asyncio.Future[T]":
        """Work on memory files in a thread; see `Hands.run`."""
        if self._hands is None:
            self._hands = Hands(THREADS, "spare")
        return self._hands.run(job, *args, over=over)

    def close_fd(self, fd: int) -> None:
        """Close a memory file; giving back hundreds of megabytes takes the kernel a while."""
        _ = self.run(os.close, fd)

    def close(self) -> None:
        """Let the threads go; idempotent."""
        hands, self._hands = self._hands, None
        if hands is not None:
            hands.dismiss()


def memory_file() -> int:
    """Return a new, empty memory file."""
    return os.memfd_create("scrigno-spare", os.MFD_CLOEXEC)
