# SPDX-License-Identifier: Apache-2.0
"""The operator's commands about looking after images, as plain JSON."""

from collections.abc import Mapping
from typing import Any

from scrigno.core.errors import CommandError
from scrigno.core.uids import is_uid
from scrigno.web.alerts_api import alert_json
from scrigno.web.answers import moment
from scrigno.web.care_api import lost_json, scrub_json, set_aside_json
from scrigno.web.inbox_api import decision_json, item_json
from scrigno.web.index_api import backup_json, restore_json
from scrigno.web.trash_api import restored_json, trash_json

from .control import Handler, Progress
from .parts import Parts

Arguments = Mapping[str, Any]
PAGE = 500
MOST_SHOWN = 10_000


class CareCommands:
    """One method a command; `author` is who stands in the audit trail."""

    def __init__(self, parts: Parts, author: str) -> None:
        """Serve from the running parts."""
        self._parts = parts
        self._archive = parts.archive
        self._author = author

    def table(self) -> Mapping[str, Handler]:
        """Return the commands by the names the client uses."""
        return {
            "scrub-status": self.scrub_status,
            "scrub-run": self.scrub_run,
            "scrub-pause": self.scrub_pause,
            "scrub-resume": self.scrub_resume,
            "quarantine": self.quarantine,
            "trash-list": self.trash_list,
            "trash-restore": self.trash_restore,
            "trash-purge": self.trash_purge,
            "delete-study": self.delete_study,
            "protect": self.protect,
            "inbox-list": self.inbox_list,
            "inbox-accept": self.inbox_accept,
            "inbox-reject": self.inbox_reject,
            "inbox-undo": self.inbox_undo,
            "alerts": self.alerts,
            "index-backups": self.index_backups,
            "index-restore": self.index_restore,
            "audit-verify": self.audit_verify,
            "support-bundle": self.support_bundle,
        }

    # scrub -------------------------------------------------------------------------------------

    async def scrub_status(self, _arguments: Arguments, _progress: Progress) -> Any:
        """Say how far the scrub of each volume is."""
        names = [each.name for each in self._parts.volumes.ordered]
        return {
            "paused": self._archive.scrubber.paused,
            "volumes": [scrub_json(self._archive.scrubber.status(name)) for name in names],
        }

    async def scrub_run(self, arguments: Arguments, progress: Progress) -> Any:
        """Begin a pass now."""
        volume = arguments.get("volume")
        self._archive.scrubber.run_now(volume)
        self._note("scrub-run", volume or "all volumes")
        return await self.scrub_status(arguments, progress)

    async def scrub_pause(self, arguments: Arguments, progress: Progress) -> Any:
        """Read nothing until it is resumed."""
        self._archive.scrubber.pause()
        self._note("scrub-pause", "all volumes")
        return await self.scrub_status(arguments, progress)

    async def scrub_resume(self, arguments: Arguments, progress: Progress) -> Any:
        """Go on."""
        self._archive.scrubber.resume()
        self._note("scrub-resume", "all volumes")
        return await self.scrub_status(arguments, progress)

    async def quarantine(self, arguments: Arguments, _progress: Progress) -> Any:
        """List what was set aside, and objects of which no good copy can be read."""
        files = await self._archive.quarantine.items(arguments.get("volume"), MOST_SHOWN)
        lost = await self._parts.catalogue.lost_objects("", MOST_SHOWN)
        return {
            "files": [set_aside_json(each) for each in files],
            "lost": [lost_json(each) for each in lost],
        }

    # trash -------------------------------------------------------------------------------------

    async def trash_list(self, _arguments: Arguments, _progress: Progress) -> Any:
        """List what can be brought back, the newest first."""
        items: list[Any] = []
        before: int | None = None
        while found := await self._archive.trash.items(before, PAGE):
            items += [trash_json(each) for each in found]
            before = found[-1].trash_id
            if len(items) >= MOST_SHOWN:
                break
        return {"items": items, "error": self._archive.trash.error}

    async def trash_restore(self, arguments: Arguments, _progress: Progress) -> Any:
        """Bring an item back."""
        return restored_json(await self._archive.trash.restore(arguments["id"], self._author))

    async def trash_purge(self, arguments: Arguments, _progress: Progress) -> Any:
        """Remove an item for good; the client has asked for its number twice."""
        await self._archive.trash.purge(arguments["id"], self._author)
        return {"purged": arguments["id"]}

    async def delete_study(self, arguments: Arguments, _progress: Progress) -> Any:
        """Move a study, or one of its series, to the trash."""
        item = await self._archive.trash.delete(
            arguments["study"],
            series_uid=arguments.get("series"),
            reason=arguments["reason"],
            user=self._author,
        )
        return trash_json(item)

    async def protect(self, arguments: Arguments, _progress: Progress) -> Any:
        """Protect a study from deletion, or no longer."""
        uid, on = str(arguments["study"]), bool(arguments["on"])
        if not is_uid(uid) or await self._parts.catalogue.study(uid) is None:
            raise CommandError(f"There is no study {uid[:64]}.")
        await self._parts.catalogue.protect(uid, on=on)
        self._archive.trash.nudge()
        self._note("study-protected" if on else "study-unprotected", uid)
        return {"study_instance_uid": uid, "protected": on}

    # inbox -------------------------------------------------------------------------------------

    async def inbox_list(self, _arguments: Arguments, _progress: Progress) -> Any:
        """List what waits, and the last decisions, which can be taken back."""
        items: list[Any] = []
        after = 0
        while found := await self._archive.inbox.items(after=after, limit=PAGE):
            items += [item_json(each) for each in found]
            after = found[-1].inbox_id
            if len(items) >= MOST_SHOWN:
                break
        decided = await self._archive.inbox.decided(0, 20)
        patients = (await self._archive.cases.waiting()).patients
        return {
            "items": items,
            "patients": patients,
            "decisions": [decision_json(each) for each in decided],
        }

    async def inbox_accept(self, arguments: Arguments, _progress: Progress) -> Any:
        """Take a kept object into the archive."""
        receipt = await self._archive.inbox.accept(
            arguments["id"], user=self._author, why=arguments.get("why", "")
        )
        return {"outcome": receipt.outcome, "study_instance_uid": receipt.study_uid}

    async def inbox_reject(self, arguments: Arguments, _progress: Progress) -> Any:
        """Take a kept object out of the inbox."""
        made = await self._archive.inbox.reject(
            arguments["id"], user=self._author, why=arguments.get("why", "")
        )
        return decision_json(made)

    async def inbox_undo(self, arguments: Arguments, _progress: Progress) -> Any:
        """Take a decision back, about a kept object or about a patient."""
        undone = await self._archive.cases.undo(
            arguments["id"], user=self._author, why=arguments.get("why", "")
        )
        return decision_json(undone)

    # alerts, index, audit ----------------------------------------------------------------------

    async def alerts(self, _arguments: Arguments, _progress: Progress) -> Any:
        """List what is open, the worst first, in English as every command."""
        book = self._parts.health.book
        return {"alerts": [alert_json(each, "en") for each in book.open_alerts()]}

    async def index_backups(self, _arguments: Arguments, _progress: Progress) -> Any:
        """List the backups of the index, the newest first."""
        facts = self._archive.keeper.facts
        listed = await self._archive.backups.listed()
        return {
            "state": facts.state,
            "reason": facts.reason,
            "checked_at": moment(facts.checked_at),
            "backups": [backup_json(each) for each in listed],
        }

    async def index_restore(self, arguments: Arguments, _progress: Progress) -> Any:
        """Put a backup into force and take in what is newer."""
        volume, name = arguments["volume"], arguments["name"]
        report = await self._archive.keeper.restore(volume, name)
        self._note("index-restored", name, volume=volume)
        return restore_json(report)

    async def audit_verify(self, _arguments: Arguments, _progress: Progress) -> Any:
        """Read the whole audit trail."""
        try:
            problems = await self._parts.audit.verify_chain()
        except OSError as error:
            raise CommandError(f"The audit trail cannot be read: {error.strerror}.") from error
        return {"whole": not problems, "problems": problems}

    async def support_bundle(self, _arguments: Arguments, _progress: Progress) -> Any:
        """Write what somebody far away needs to know: no patient data, no secrets."""
        path = await self._parts.trust.support.write(self._parts.trust.support_folder)
        self._note("support-bundle", path.name)
        return {"path": str(path)}

    def _note(self, action: str, subject: str, **details: str) -> None:
        self._parts.audit.record(self._author, action, subject, details=details)
