# SPDX-License-Identifier: Apache-2.0
"""The grammar of the commands about looking after images."""

import argparse
from pathlib import Path
from typing import Any


def add_care(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add them to the commands (what `add_subparsers` gave)."""

    def verbs_of(name: str, about: str) -> Any:
        parser = commands.add_parser(name, help=about)
        return parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    scrub = verbs_of("scrub", "the reading anew of every copy")
    scrub.add_parser("status", parents=parents, help="say how far it is and what it found")
    running = scrub.add_parser("run", parents=parents, help="begin a pass now")
    running.add_argument("volume", nargs="?", metavar="VOLUME", help="only this volume")
    scrub.add_parser("pause", parents=parents, help="read nothing until it is resumed")
    scrub.add_parser("resume", parents=parents, help="go on")

    aside = commands.add_parser(
        "quarantine", parents=parents, help="damaged copies set aside, images without a good copy"
    )
    aside.add_argument("volume", nargs="?", metavar="VOLUME", help="only this volume")

    trash = verbs_of("trash", "what was deleted and can be brought back")
    trash.add_parser("list", parents=parents, help="list it, the newest first")
    restore = trash.add_parser("restore", parents=parents, help="bring an item back as it was")
    restore.add_argument("id", type=int, metavar="ITEM")
    purge = trash.add_parser("purge", parents=parents, help="remove an item for good, now")
    purge.add_argument("id", type=int, metavar="ITEM")
    purge.add_argument("--confirm", type=int, metavar="ITEM", help="the same number once more")

    deleting = commands.add_parser(
        "delete-study", parents=parents, help="move a study to the trash, for some days"
    )
    deleting.add_argument("uid", metavar="UID")
    deleting.add_argument("--series", metavar="UID", help="only this series of it")
    deleting.add_argument("--reason", required=True, metavar="TEXT", help="why, in a few words")
    protect = commands.add_parser("protect", parents=parents, help="let nobody delete a study")
    protect.add_argument("uid", metavar="UID")
    protect.add_argument("--off", action="store_true", help="take the protection away")

    inbox = verbs_of("inbox", "what was kept aside and waits for a decision")
    inbox.add_parser("list", parents=parents, help="list it, and the last decisions")
    for name, what, about in (
        ("accept", "ITEM", "take an item into the archive"),
        ("reject", "ITEM", "take an item out of the inbox; it can be had back for some days"),
        ("undo", "DECISION", "take a decision back"),
    ):
        verb = inbox.add_parser(name, parents=parents, help=about)
        verb.add_argument("id", type=int, metavar=what)
        verb.add_argument("--why", default="", metavar="TEXT", help="kept with the decision")

    bundle = commands.add_parser(
        "support-bundle", parents=parents, help="pack what support needs; no patient data in it"
    )
    bundle.add_argument("--output", type=Path, metavar="FILE", help="where it is to stand")

    commands.add_parser("alerts", parents=parents, help="say what is wrong, the worst first")

    index = verbs_of("index", "the index and its backups on the volumes")
    index.add_parser("backups", parents=parents, help="list them, the newest first")
    chosen = index.add_parser(
        "restore", parents=parents, help="put a backup into force; the box runs on"
    )
    chosen.add_argument("volume", metavar="VOLUME")
    chosen.add_argument("name", metavar="BACKUP")

    audit = verbs_of("audit", "who did what")
    audit.add_parser("verify", parents=parents, help="check that no line was changed or taken out")
