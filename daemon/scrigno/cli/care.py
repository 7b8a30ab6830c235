# SPDX-License-Identifier: Apache-2.0
"""The commands about looking after images: scrub, trash, inbox, alerts, backups of the index."""

import argparse
import shutil
from collections.abc import Callable, Mapping
from typing import Any, Final

from scrigno.core.errors import CommandError

from . import care_words as words
from .asking import DONE, FAILED, ask, show


def _scrub(options: argparse.Namespace) -> int:
    given: dict[str, Any] = {}
    if options.verb == "run" and options.volume is not None:
        given["volume"] = options.volume
    show(options, ask(options, f"scrub-{options.verb}", **given), words.scrub)
    return DONE


def _quarantine(options: argparse.Namespace) -> int:
    result = ask(options, "quarantine", volume=options.volume)
    show(options, result, words.quarantine)
    return FAILED if result["lost"] else DONE


def _trash_list(options: argparse.Namespace) -> int:
    show(options, ask(options, "trash-list"), words.trash)
    return DONE


def _trash_restore(options: argparse.Namespace) -> int:
    show(options, ask(options, "trash-restore", id=options.id), lambda answer: answer["words"])
    return DONE


def _trash_purge(options: argparse.Namespace) -> int:
    if options.confirm != options.id:
        raise CommandError(
            "What is removed for good cannot be brought back.",
            next_step=f"Repeat its number: scrigno trash purge {options.id} --confirm {options.id}",
        )
    result = ask(options, "trash-purge", id=options.id)
    show(options, result, lambda answer: f"Item {answer['purged']} is removed for good.")
    return DONE


def _delete_study(options: argparse.Namespace) -> int:
    result = ask(
        options, "delete-study", study=options.uid, series=options.series, reason=options.reason
    )
    show(options, result, words.deleted)
    return DONE


def _support_bundle(options: argparse.Namespace) -> int:
    result = ask(options, "support-bundle")
    if options.output is not None:
        try:
            shutil.copyfile(result["path"], options.output)
            options.output.chmod(0o600)
        except OSError as error:
            raise CommandError(f"{options.output} cannot be written: {error.strerror}.") from error
        result["path"] = str(options.output)
    show(options, result, lambda answer: f"The bundle is {answer['path']}")
    return DONE


def _protect(options: argparse.Namespace) -> int:
    result = ask(options, "protect", study=options.uid, on=not options.off)
    show(options, result, words.protected)
    return DONE


def _inbox_list(options: argparse.Namespace) -> int:
    show(options, ask(options, "inbox-list"), words.inbox)
    return DONE


def _inbox_verb(options: argparse.Namespace) -> int:
    result = ask(options, f"inbox-{options.verb}", id=options.id, why=options.why)
    show(options, result, words.decision)
    return DONE


def _alerts(options: argparse.Namespace) -> int:
    show(options, ask(options, "alerts"), words.alerts)
    return DONE


def _index_backups(options: argparse.Namespace) -> int:
    show(options, ask(options, "index-backups"), words.backups)
    return DONE


def _index_restore(options: argparse.Namespace) -> int:
    result = ask(options, "index-restore", volume=options.volume, name=options.name)
    show(options, result, words.restored_index)
    return DONE


def _audit_verify(options: argparse.Namespace) -> int:
    result = ask(options, "audit-verify")
    show(options, result, words.audit)
    return DONE if result["whole"] else FAILED


COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "support-bundle": _support_bundle,
    **{f"scrub {verb}": _scrub for verb in ("status", "run", "pause", "resume")},
    "quarantine": _quarantine,
    "trash list": _trash_list,
    "trash restore": _trash_restore,
    "trash purge": _trash_purge,
    "delete-study": _delete_study,
    "protect": _protect,
    "inbox list": _inbox_list,
    **{f"inbox {verb}": _inbox_verb for verb in ("accept", "reject", "undo")},
    "alerts": _alerts,
    "index backups": _index_backups,
    "index restore": _index_restore,
    "audit verify": _audit_verify,
}
