# SPDX-License-Identifier: Apache-2.0
"""Which studies are being received, sent or looked at, so that no rule takes them away now."""

from collections import OrderedDict
from typing import Final

from scrigno.archive.reads import LastReads
from scrigno.core.clock import Clock
from scrigno.core.events import EventBus, InstanceStored

IN_USE_S: Final = 3600.0  # since an image of it came in or was read
REMEMBERED: Final = 10_000


class StudiesInUse:
    """Remembers what was touched last. Every call is a look into a dictionary. Loop thread only."""

    def __init__(self, reads: LastReads, clock: Clock) -> None:
        """`reads` is told of everything that is read."""
        self._reads = reads
        self._clock = clock
        self._touched: OrderedDict[str, float] = OrderedDict()  # study, monotonic

    def listen(self, bus: EventBus) -> None:
        """Hear of what is received from now on."""
        bus.subscribe(InstanceStored, lambda event: self._touch(event.study_uid))

    def note_read(self, study_uid: str) -> None:
        """Say that something of a study is being retrieved or viewed."""
        self._reads.note(study_uid)
        self._touch(study_uid)

    def is_in_use(self, study_uid: str) -> bool:
        """Tell whether a study was received or read within the last hour."""
        return self._clock.monotonic() - self._touched.get(study_uid, -IN_USE_S) < IN_USE_S

    def _touch(self, study_uid: str) -> None:
        self._touched[study_uid] = self._clock.monotonic()
        self._touched.move_to_end(study_uid)
        if len(self._touched) > REMEMBERED:
            self._touched.popitem(last=False)
