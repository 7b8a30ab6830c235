# SPDX-License-Identifier: Apache-2.0
"""What people add to images, and how other systems launch them; made, tied and stopped together."""

from dataclasses import dataclass

from scrigno.access.audit import AuditTrail
from scrigno.access.otp import OneTimeKeys
from scrigno.reading.launching import LaunchTokens
from scrigno.reading.reading import Reading
from scrigno.settings.schema import BootConfig

from .stores import Common, Stores


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingParts:
    """Everything of the room that lives as long as the daemon."""

    launches: LaunchTokens
    one_time_keys: OneTimeKeys
    reading: Reading

    async def open(self) -> None:
        """Open the database; the volumes have been started. Raises DatabaseError, OSError."""
        await self.reading.open()

    def start(self) -> None:
        """Give the volumes what they are owed; returns at once."""
        self.reading.start()

    async def close(self) -> None:
        """Stop; idempotent."""
        await self.one_time_keys.close()
        await self.reading.close()


def make_reading(
    config: BootConfig, stores: Stores, common: Common, audit: AuditTrail
) -> ReadingParts:
    """Make the room and tell it what it may not import: whether a study may still be wanted."""
    reading = Reading(
        config.state_dir,
        volumes=stores.volumes,
        bus=common.bus,
        counters=common.counters,
        clock=common.clock,
        audit=audit.record,
    )
    catalogue = stores.catalogue

    async def is_wanted(study_uid: str) -> bool:
        if await catalogue.seen({study_uid}):
            return True
        return bool(await catalogue.lifecycle.items_of_study(study_uid))

    reading.is_wanted = is_wanted
    return ReadingParts(
        launches=LaunchTokens(clock=common.clock),
        one_time_keys=OneTimeKeys(clock=common.clock, counters=common.counters),
        reading=reading,
    )
