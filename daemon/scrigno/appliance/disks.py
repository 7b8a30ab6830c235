# SPDX-License-Identifier: Apache-2.0
"""The volumes as an administrator handles them: paused, resumed, forced, adopted, retired."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from scrigno.access.audit import Action, AuditTrail
from scrigno.catalogue.catalogue import Catalogue
from scrigno.core.errors import CommandError, ScrignoError
from scrigno.core.events import EventBus, SettingsChanged
from scrigno.settings.schema import Settings, VolumeRole, VolumeSetting
from scrigno.settings.store import SettingsStore
from scrigno.volumes.states import Role, VolumeSpec
from scrigno.volumes.volume import Volumes

log = logging.getLogger(__name__)


def specs_of(settings: Settings) -> list[VolumeSpec]:
    """Return the volumes that the settings want in service."""
    return [
        VolumeSpec(name=each.name, role=Role(each.role.value), path=each.path)
        for each in settings.volumes
    ]


class Disks:
    """Acts on volumes; each raises CommandError or VolumeError in words. Loop thread only."""

    def __init__(
        self,
        *,
        settings: SettingsStore,
        volumes: Volumes,
        catalogue: Catalogue,
        replaced: Callable[[str], Awaitable[int]],
        audit: AuditTrail,
        bus: EventBus,
    ) -> None:
        """`replaced` owes every image to a volume that is another disk now."""
        self._settings = settings
        self._volumes = volumes
        self._catalogue = catalogue
        self._replaced = replaced
        self._audit = audit
        self._bus = bus
        self._turn = asyncio.Lock()  # one act at a time: protects the set of volumes
        self._applying: set[asyncio.Task[None]] = set()
        self._unsubscribe: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Follow the settings from now on."""
        self._unsubscribe = self._bus.subscribe(SettingsChanged, self._settings_changed)

    async def close(self) -> None:
        """Stop following; idempotent."""
        self._unsubscribe()
        for task in tuple(self._applying):
            task.cancel()
        await asyncio.gather(*self._applying, return_exceptions=True)

    # what the settings say ---------------------------------------------------------------------

    def _settings_changed(self, _event: SettingsChanged) -> None:
        task = asyncio.get_running_loop().create_task(self._apply(), name="apply volumes")
        self._applying.add(task)
        task.add_done_callback(self._applying.discard)

    async def _apply(self) -> None:
        async with self._turn:
            wanted = specs_of(self._settings.current)
            if sorted(wanted, key=str) == sorted(self._in_service(), key=str):
                return
            try:
                await self._volumes.configure(wanted)
            except ScrignoError as error:
                log.error("volumes: the settings could not be put in force: %s", error.reason)  # noqa: TRY400 - the reason says it all
                return
            log.info("volumes: now %s", ", ".join(each.name for each in wanted) or "none")

    def _in_service(self) -> list[VolumeSpec]:
        return [volume.spec for volume in self._volumes.ordered]

    # acts --------------------------------------------------------------------------------------

    async def pause(self, name: str, *, reason: str, user: str) -> None:
        """Take a volume out of service until `resume`; it stays so over a restart."""
        await self._volumes.pause(self._known(name), reason)
        self._write_down(user, "pause", name)

    async def resume(self, name: str, *, user: str) -> None:
        """Let a paused volume come back; it proves itself and catches up first."""
        await self._volumes.resume(self._known(name))
        self._write_down(user, "resume", name)

    async def force(self, name: str, *, user: str) -> None:
        """Do not wait for the damping of a volume that has come back."""
        await self._volumes.force(self._known(name))
        self._write_down(user, "force", name)

    async def adopt(self, name: str, *, force: bool, user: str) -> None:
        """Make what stands at the path this volume; it is owed every image it has not got."""
        async with self._turn:
            await self._volumes.adopt(self._known(name), force=force)
            await self._replaced(name)
        self._write_down(user, "adopt", name)

    async def add(self, name: str, path: Path, *, user: str) -> None:
        """Take a further volume into service; it gets a copy of everything."""
        new = VolumeSetting(name=name, role=VolumeRole.BACKUP, path=path)

        def with_it(before: Settings) -> Settings:
            if any(each.name == new.name for each in before.volumes):
                raise CommandError(f"volume {new.name}: there is one of this name already.")
            role = VolumeRole.BACKUP if before.volumes else VolumeRole.DATA
            return replace(before, volumes=(*before.volumes, replace(new, role=role)))

        await self._settings.change(with_it, author=user, why=f"volume {new.name} added")
        await self._apply()
        self._write_down(user, "add", new.name)

    async def retire(self, name: str, *, user: str) -> None:
        """Take a volume out for good; its files stay on the disk as they are.

        Refused where images stand on no other volume; the data volume is refused while it is the
        only one, else the first backup takes its place.
        """
        self._known(name)
        async with self._turn:
            alone = await self._catalogue.only_on(name)
            if alone:
                raise CommandError(
                    f"volume {name}: {alone} images stand on no other volume.",
                    next_step="Wait until the other volumes have caught up, then retire it.",
                )
            await self._volumes.retire(name)
            await self._settings.change(
                lambda before: _without(before, name), author=user, why=f"volume {name} retired"
            )
            await self._volumes.configure(specs_of(self._settings.current))
            await self._catalogue.forget_volume(name)
        self._write_down(user, "retire", name)

    def _write_down(self, user: str, act: str, name: str) -> None:
        self._audit.record(
            user, Action.HARDWARE_CONFIGURATION, f"volume {name}", details={"act": act}
        )

    def _known(self, name: str) -> str:
        if all(volume.name != name for volume in self._volumes.ordered):
            raise CommandError(
                f"There is no volume {name}.", next_step="`scrigno volume list` names them all."
            )
        return name


def _without(before: Settings, name: str) -> Settings:
    left = [each for each in before.volumes if each.name != name]
    if not left:
        raise CommandError(
            f"volume {name}: it is the only one.", next_step="Add another volume first."
        )
    if all(each.role is not VolumeRole.DATA for each in left):
        left[0] = replace(left[0], role=VolumeRole.DATA)
    return replace(before, volumes=tuple(left))
