# SPDX-License-Identifier: Apache-2.0
"""The limit of studies (AD-8), checked before the first byte of a new study is written."""

from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from scrigno.catalogue import records
from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.query import FindKey, FindQuery, Level, Single
from scrigno.db.errors import DatabaseError

from .errors import CapacityReached, IndexUnavailable

KNOWN_STUDIES: Final = 4096  # study UIDs remembered, so that only a first image asks the index


class StudyLimit:
    """Lets objects pass whose study is known or still fits. Loop thread only."""

    def __init__(self, catalogue: Catalogue, limit: Callable[[], int | None]) -> None:
        """`limit` is asked for each object; None is unlimited."""
        self._catalogue = catalogue
        self._limit = limit
        self._known: OrderedDict[str, None] = OrderedDict()
        self._arriving: Counter[str] = Counter()  # new studies whose first row is not yet there

    @asynccontextmanager
    async def room_for(self, study_uid: str) -> AsyncIterator[None]:
        """Keep room for the study while its object is taken in; raises CapacityReached."""
        limit = self._limit()
        self._arriving[study_uid] += 1
        try:
            if limit is not None and study_uid not in self._known:
                await self._refuse_over(limit, study_uid)
            yield
        finally:
            self._arriving[study_uid] -= 1
            if not self._arriving[study_uid]:
                del self._arriving[study_uid]

    def remember(self, study_uid: str) -> None:
        """Take note that the study is in the index."""
        self._known[study_uid] = None
        if len(self._known) > KNOWN_STUDIES:
            self._known.popitem(last=False)

    def forget(self) -> None:
        """Forget which studies are known; whoever removes studies calls this."""
        self._known.clear()

    async def _refuse_over(self, limit: int, study_uid: str) -> None:
        try:
            studies = (await self._catalogue.totals()).studies
            # those that came before this one have the first claim on what is left
            if studies + list(self._arriving).index(study_uid) < limit:
                return
            key = FindKey(keyword="StudyInstanceUID", matching=Single(study_uid))
            known = await self._catalogue.find_count(FindQuery(level=Level.STUDY, keys=(key,)))
        except DatabaseError as error:
            raise IndexUnavailable(
                "The index cannot be asked now.", next_step=error.next_step
            ) from error
        if not known:
            reached = records.CapacityReached(limit=limit)
            raise CapacityReached(reached.reason, next_step=reached.next_step)
