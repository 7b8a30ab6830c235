# SPDX-License-Identifier: Apache-2.0
"""Taking one object in: from the first byte to the moment it may be acknowledged."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from scrigno.catalogue.records import Origin


class StoreOutcome(StrEnum):
    """What became of an object that was taken in; every one of them is a success to the sender."""

    NEW = "new"
    SAME = "same"  # the same bytes stand here already
    CONFLICT_KEPT = "conflict-kept"  # same UID, other bytes: kept aside in the inbox
    HELD = "held"  # the door asked to hold it: kept in the inbox
    UNREADABLE_KEPT = "unreadable-kept"  # header cannot be read: kept in the inbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The object is durable on the devices the policy asks for, and recorded."""

    outcome: StoreOutcome
    sop_instance_uid: str
    study_uid: str = ""
    copies: tuple[str, ...] = ()
    degraded: bool = False  # durable on fewer devices than the policy asks for
    inbox_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestRules:
    """The part of the settings that decides about one object; asked anew for each."""

    max_object_bytes: int
    default_character_set: str = ""


class Reception:
    """One object on its way in. Loop thread only; exactly one of commit and discard ends it."""

    on_drain: Callable[[], None] | None

    def write(self, fragment: memoryview | bytes) -> bool:
        """Take the next bytes of the data set; False asks to wait for `on_drain`. Never raises."""
        raise NotImplementedError

    async def commit(self) -> Receipt:
        """Make the object durable and recorded, or raise an IngestError and leave nothing.

        Cancelling the caller does not cut the work short: it ends in the background.
        """
        raise NotImplementedError

    def discard(self, reason: str) -> None:
        """Forget the object; leaves nothing behind. Idempotent, and nothing after commit."""
        raise NotImplementedError


class Ingest:
    """The one way into the archive, for every door."""

    def begin(
        self,
        *,
        origin: Origin,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        hold: str | None = None,
    ) -> Reception:
        """Start one object; `hold` keeps it in the inbox under that reason. Raises IngestError.

        The UIDs are those of the command (or of the file meta); they need not be valid.
        """
        raise NotImplementedError

    async def close(self, grace_s: float) -> None:
        """Refuse new objects (ShuttingDown) and wait for those on their way."""
        raise NotImplementedError
