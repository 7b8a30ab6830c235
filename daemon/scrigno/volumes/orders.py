# SPDX-License-Identifier: Apache-2.0
"""Which orders of an operator make sense now; a refusal says state, reason and next step."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from scrigno.core.errors import CommandError

from .states import VolumeState

if TYPE_CHECKING:
    from .operations import Volume

_TAKES_IMAGES: Final = (VolumeState.ONLINE, VolumeState.SUSPECT)
_FORCE_NEXT: Final = {
    VolumeState.STARTING: "Wait until it has shown its state.",
    VolumeState.FOREIGN: "Put the right disk there, or adopt what is there.",
}


def may_pause(volume: "Volume", others: Iterable["Volume"]) -> None:
    """Raise CommandError unless it can be paused."""
    _not_stopped(volume)
    _somebody_stays(volume, others, "paused")


def may_resume(volume: "Volume") -> None:
    """Raise CommandError unless it is paused."""
    if volume.retired:
        raise CommandError(
            f"Volume {volume.name} is retired, it cannot be resumed.",
            next_step="Adopt its disk to use it again.",
        )
    if not volume.paused:
        raise CommandError(f"Volume {volume.name} is not paused, it is {volume.state}.")


def may_force(volume: "Volume") -> None:
    """Raise CommandError unless there is a waiting time that can be left out."""
    _not_stopped(volume)
    if volume.state is VolumeState.ONLINE:
        raise CommandError(f"Volume {volume.name} is online: there is nothing to force.")
    if volume.state in _FORCE_NEXT:
        raise CommandError(
            f"Volume {volume.name} cannot be forced, it is {volume.state}: {volume.reason}.",
            next_step=_FORCE_NEXT[volume.state],
        )


def may_retire(volume: "Volume", others: Iterable["Volume"]) -> None:
    """Raise CommandError unless it can leave for good."""
    if volume.retired:
        raise CommandError(f"Volume {volume.name} is retired already.")
    _somebody_stays(volume, others, "retired")


def may_adopt(volume: "Volume") -> None:
    """Raise CommandError unless what stands at its path can be asked for."""
    if volume.paused:
        raise CommandError(
            f"Volume {volume.name} is paused.", next_step="Resume it, then adopt the disk."
        )


def _not_stopped(volume: "Volume") -> None:
    if volume.retired:
        raise CommandError(
            f"Volume {volume.name} is retired.", next_step="Adopt its disk to use it again."
        )
    if volume.paused:
        raise CommandError(
            f"Volume {volume.name} is paused: {volume.operator_reason}.",
            next_step="Resume it first.",
        )


def _somebody_stays(volume: "Volume", others: Iterable["Volume"], what: str) -> None:
    """Refuse to take away the only volume that takes images."""
    if volume.state not in _TAKES_IMAGES:
        return  # nothing is taken away
    if not any(other.state in _TAKES_IMAGES for other in others if other is not volume):
        raise CommandError(
            f"Volume {volume.name} cannot be {what}: no other volume takes images now.",
            next_step="Bring another volume online first.",
        )
