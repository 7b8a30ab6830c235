# SPDX-License-Identifier: Apache-2.0
"""Where objects stand, and whether that is enough for staging to let them go."""

from collections.abc import Collection, Sequence

from scrigno.catalogue.records import CopyState, StoredKey
from scrigno.volumes import devices
from scrigno.volumes.volume import Volume, Volumes

from .receipts import IngestRules


def may_release(
    held: Collection[str], usable: Collection[str], devices_held: int, ack_copies: int
) -> bool:
    """Tell whether staging may forget an object: every usable volume and enough devices hold it."""
    return devices_held >= ack_copies and set(usable) <= set(held)


def is_enough(volumes: Sequence[Volume], rules: IngestRules) -> bool:
    """Tell whether copies on these volumes are on as many devices as the rules ask for."""
    return devices.count(volumes, shared=rules.count_shared_device) >= rules.ack_copies


def may_go(
    row: StoredKey, volumes: Volumes, rules: IngestRules, doubted: Collection[str] = ()
) -> bool:
    """Tell whether staging may forget this object; copies on `doubted` volumes do not count."""
    names = set(standing_on(row, volumes)) - set(doubted)
    held = [volume for volume in volumes.ordered if volume.name in names]
    return may_release(
        names,
        [volume.name for volume in volumes.healthy()],
        devices.count(held, shared=rules.count_shared_device),
        rules.ack_copies,
    )


def held_by(row: StoredKey) -> tuple[str, ...]:
    """Return the volumes that hold an object."""
    return tuple(copy.volume for copy in row.copies if copy.state is CopyState.HELD)


def standing_on(row: StoredKey, volumes: Volumes) -> tuple[str, ...]:
    """Return the volumes that hold an object and can be read now; a dead one counts for nothing."""
    readable = {volume.name for volume in volumes.ordered if volume.readable}
    return tuple(name for name in held_by(row) if name in readable)
