# SPDX-License-Identifier: Apache-2.0
"""What the daemon does for each command of the operator. Answers are plain JSON."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from scrigno import __version__
from scrigno.core.events import IndexRebuilt
from scrigno.web.answers import moment

from .account_commands import AccountCommands
from .care_commands import CareCommands
from .control import Handler, Progress
from .parts import Parts

AUTHOR: Final = "operator"  # in the history of the settings: whoever may use the control socket

Arguments = Mapping[str, Any]


class Commands:
    """One method a command."""

    def __init__(self, parts: Parts) -> None:
        """Serve from the running parts."""
        self._parts = parts
        self._one_at_a_time = asyncio.Lock()  # import, verify, rebuild and reconcile

    def table(self) -> Mapping[str, Handler]:
        """Return the commands by the names the client uses."""
        return {
            "status": self.status,
            "setup-code": self.setup_code,
            "claim": self.claim,
            "import": self.import_,
            "verify": self.verify,
            "rebuild-index": self.rebuild_index,
            "reconcile": self.reconcile,
            "config-export": self.config_export,
            "config-import": self.config_import,
            "config-history": self.config_history,
            "config-revert": self.config_revert,
            "volume-list": self.volume_list,
            "volume-adopt": self.volume_adopt,
            "volume-add": self.volume_add,
            "volume-pause": self.volume_pause,
            "volume-resume": self.volume_resume,
            "volume-force": self.volume_force,
            "volume-retire": self.volume_retire,
            **CareCommands(self._parts, AUTHOR).table(),
            **AccountCommands(self._parts, AUTHOR).table(),
        }

    async def status(self, _arguments: Arguments, _progress: Progress) -> Any:
        """Say how the box is."""
        facts = self._parts.facts
        await facts.refresh()
        ready = facts.readiness()
        totals = facts.totals
        return {
            "version": __version__,
            "ready": ready.ready,
            "reasons": [sentence for _code, sentence in ready.reasons],
            "claimed": self._parts.access.claimed,
            "totals": {
                "patients": totals.patients,
                "studies": totals.studies,
                "series": totals.series,
                "instances": totals.instances,
                "bytes": totals.size_bytes,
            },
            "inbox": sum(facts.inbox.values()),
            "volumes": self._volumes(),
            "providers": [asdict(each) for each in self._parts.node.statuses()],
            "web_ports": list(self._parts.web_ports),
            "conditions": [asdict(each) for each in facts.conditions()],
        }

    def _volumes(self) -> list[dict[str, Any]]:
        return [
            {
                **asdict(each),
                "path": str(each.path),
                "devices": sorted(each.devices),
                "since": None if each.since is None else each.since.isoformat(timespec="seconds"),
                "owed": self._parts.facts.owed(each.name),
            }
            for each in self._parts.volumes.statuses()
        ]

    async def setup_code(self, _arguments: Arguments, _progress: Progress) -> Any:
        """Tell the one-time code of a box that nobody has claimed."""
        return {"code": await self._parts.access.setup_code()}

    async def claim(self, arguments: Arguments, _progress: Progress) -> Any:
        """Make the first account."""
        account = await self._parts.access.claim_locally(arguments["user"], arguments["password"])
        return {"user": account.name}

    async def import_(self, arguments: Arguments, progress: Progress) -> Any:
        """Take files and folders in."""
        async with self._one_at_a_time:
            report = await self._parts.importer.import_paths(
                [Path(path) for path in arguments["paths"]],
                recursive=bool(arguments["recursive"]),
                user=AUTHOR,
                progress=lambda done, found: progress(done, found, "files"),
            )
        return {
            "counts": {
                "found": report.found,
                "new": report.new,
                "same": report.same,
                "conflict": report.conflict,
                "unreadable kept": report.unreadable_kept,
                "directories": report.directories,
                "refused": report.refused_files,
            },
            "refused": [asdict(each) for each in report.refused],
            "cancelled": report.cancelled,
        }

    async def verify(self, arguments: Arguments, progress: Progress) -> Any:
        """Read copies anew and compare their digests."""
        async with self._one_at_a_time:
            report = await self._parts.verifier.verify(
                study_uid=arguments.get("study"),
                progress=lambda done, total: progress(done, total, "images"),
            )
        return {**asdict(report), "verified_on": moment(report.verified_on)}

    async def rebuild_index(self, arguments: Arguments, progress: Progress) -> Any:
        """Make the index anew from the volumes."""
        began = asyncio.get_running_loop().time()
        async with self._one_at_a_time:
            report = await self._parts.rebuilder.rebuild(
                volume=arguments.get("volume"),
                progress=lambda done, total: progress(done, total, "files"),
            )
            await self._parts.archive.cases.sync()  # what was decided by hand is decided again
            instances = (await self._parts.catalogue.totals()).instances
            self._parts.bus.publish(IndexRebuilt(instances=instances))
        seconds = asyncio.get_running_loop().time() - began
        return {**asdict(report), "seconds": round(seconds, 3)}

    async def reconcile(self, arguments: Arguments, progress: Progress) -> Any:
        """Compare index and volumes."""
        async with self._one_at_a_time:
            report = await self._parts.reconciler.reconcile(
                fix=bool(arguments["fix"]),
                progress=lambda done, total: progress(done, total, "files"),
            )
        return asdict(report)

    async def config_export(self, _arguments: Arguments, _progress: Progress) -> Any:
        """Give the settings in force as YAML."""
        return {"yaml": self._parts.settings.export()}

    async def config_import(self, arguments: Arguments, _progress: Progress) -> Any:
        """Replace the settings."""
        revision = await self._parts.settings.import_(arguments["yaml"], author=AUTHOR)
        return {"revision": revision}

    async def config_history(self, _arguments: Arguments, _progress: Progress) -> Any:
        """List the revisions, newest first."""
        return [
            {
                "revision": each.number,
                "at": each.at.isoformat(timespec="seconds"),
                "author": each.author,
                "why": each.why,
            }
            for each in await self._parts.settings.history()
        ]

    async def config_revert(self, arguments: Arguments, _progress: Progress) -> Any:
        """Put an earlier revision in force as a new one."""
        revision = await self._parts.settings.revert(int(arguments["revision"]), author=AUTHOR)
        return {"revision": revision}

    async def volume_list(self, _arguments: Arguments, _progress: Progress) -> Any:
        """List the volumes and their states."""
        return await self._volumes_now()

    async def volume_adopt(self, arguments: Arguments, _progress: Progress) -> Any:
        """Make what stands at a volume's path this volume; it is owed every image."""
        await self._parts.disks.adopt(
            arguments["name"], force=bool(arguments["force"]), user=AUTHOR
        )
        return await self._volumes_now()

    async def volume_add(self, arguments: Arguments, _progress: Progress) -> Any:
        """Take a further volume into service."""
        await self._parts.disks.add(arguments["name"], Path(arguments["path"]), user=AUTHOR)
        return await self._volumes_now()

    async def volume_pause(self, arguments: Arguments, _progress: Progress) -> Any:
        """Let a volume rest."""
        await self._parts.disks.pause(arguments["name"], reason=arguments["reason"], user=AUTHOR)
        return await self._volumes_now()

    async def volume_resume(self, arguments: Arguments, _progress: Progress) -> Any:
        """Let a paused volume come back."""
        await self._parts.disks.resume(arguments["name"], user=AUTHOR)
        return await self._volumes_now()

    async def volume_force(self, arguments: Arguments, _progress: Progress) -> Any:
        """Do not wait for the damping of a volume that has come back."""
        await self._parts.disks.force(arguments["name"], user=AUTHOR)
        return await self._volumes_now()

    async def volume_retire(self, arguments: Arguments, _progress: Progress) -> Any:
        """Take a volume out for good."""
        await self._parts.disks.retire(arguments["name"], user=AUTHOR)
        return await self._volumes_now()

    async def _volumes_now(self) -> list[dict[str, Any]]:
        await self._parts.facts.refresh()
        return self._volumes()
