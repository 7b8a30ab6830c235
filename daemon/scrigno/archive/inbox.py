# SPDX-License-Identifier: Apache-2.0
"""Objects that were kept aside: listed, accepted into the archive or rejected by an operator."""

from scrigno.archive.ingest import Receipt
from scrigno.catalogue.records import InboxItem


class Inbox:
    """The inbox as doors use it."""

    async def items(self, *, after: int = 0, limit: int = 100) -> list[InboxItem]:
        """List items by id."""
        raise NotImplementedError

    async def accept(self, inbox_id: int) -> Receipt:
        """Take the object into the archive; raises InboxError or IngestError, item then stays."""
        raise NotImplementedError

    async def reject(self, inbox_id: int) -> None:
        """Delete the object everywhere, for good; raises InboxError."""
        raise NotImplementedError
