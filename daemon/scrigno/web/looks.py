# SPDX-License-Identifier: Apache-2.0
"""Who looked at which study, told to the audit trail once and not for each picture."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from scrigno.access.audit import Action, AuditTrail
from scrigno.core.clock import Clock

AGAIN_AFTER_S: Final = 600.0  # the same person at the same study is a new look after this
MOST_KNOWN: Final = 50_000


class Looks:
    """Remembers looks for some minutes. Loop thread only."""

    def __init__(self, audit: AuditTrail, clock: Clock) -> None:
        """Record in `audit`."""
        self._audit = audit
        self._clock = clock
        self._known: OrderedDict[tuple[str, ...], float] = OrderedDict()

    def note(
        self,
        session: str,
        who: str,
        study_uid: str,
        *,
        action: str = Action.INSTANCES_ACCESSED,
        details: Mapping[str, str] | None = None,
    ) -> bool:
        """Record that `who` in this session looked at a study; False: it was recorded lately."""
        if not self.is_news(session, study_uid, action):
            return False
        self._audit.record(who, action, study_uid, details=details)
        return True

    def is_news(self, *what: str) -> bool:
        """Tell whether this was not asked in the last minutes: what a stranger can repeat without
        end must not fill the trail.
        """
        now = self._clock.monotonic()
        last = self._known.get(what)
        if last is not None and now - last < AGAIN_AFTER_S:
            return False
        self._known[what] = now
        self._known.move_to_end(what)
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return True
