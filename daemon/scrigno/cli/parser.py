# SPDX-License-Identifier: Apache-2.0
"""The grammar of the command line."""

import argparse
import os
from pathlib import Path
from typing import Final

from .accounts import add_accounts
from .care_parser import add_care

SYSTEM_CONFIG: Final = Path("/etc/scrigno/scrigno.yaml")
CHECKOUT_CONFIG: Final = Path("var/scrigno.yaml")  # what `make run` writes


def default_config() -> Path:
    """Return the configuration file meant when none is named.

    `$SCRIGNO_CONFIG`, else the one of a checkout's trial run in the current folder, else the
    system's.
    """
    named = os.environ.get("SCRIGNO_CONFIG")
    if named:
        return Path(named)
    return CHECKOUT_CONFIG if CHECKOUT_CONFIG.is_file() else SYSTEM_CONFIG


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; each leaves its name in `command`."""
    parser = argparse.ArgumentParser(
        prog="scrigno",
        description="Scrigno, a PACS in a box. Not for diagnostic use where approval is needed.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config",
        type=Path,
        default=default_config(),
        metavar="FILE",
        help="the configuration file (default: %(default)s)",
    )
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="answer in JSON")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", parents=[common], help="run the daemon")
    serve.add_argument(
        "--welcome", action="store_true", help="print how to reach the box once it answers"
    )
    commands.add_parser("setup-code", parents=[common], help="print the one-time setup code")
    claim = commands.add_parser(
        "claim", parents=[common], help="make the first account; the password is read from stdin"
    )
    claim.add_argument("--user", required=True, metavar="NAME")
    commands.add_parser("status", parents=[common, as_json], help="say how the box is")

    importing = commands.add_parser(
        "import", parents=[common, as_json], help="take in files, folders and DICOMDIR media"
    )
    importing.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    importing.add_argument("--no-recursive", action="store_true", help="leave sub-folders out")

    verify = commands.add_parser(
        "verify", parents=[common, as_json], help="read every copy again and compare its digest"
    )
    verify.add_argument("--study", metavar="UID", help="only this study")
    verify.add_argument(
        "--path",
        type=Path,
        metavar="FOLDER",
        help="a volume that was pulled out of the box, mounted here; no daemon is needed",
    )
    rebuild = commands.add_parser(
        "rebuild-index", parents=[common, as_json], help="make the index anew from the volumes"
    )
    rebuild.add_argument("--from", dest="from_volume", metavar="VOLUME", help="only this volume")
    reconcile = commands.add_parser(
        "reconcile", parents=[common, as_json], help="compare the index with the volumes"
    )
    reconcile.add_argument("--fix", action="store_true", help="take in orphans, mend copies")

    _config_verbs(commands.add_parser("config", help="the settings and their history"), common)
    _volume_verbs(commands.add_parser("volume", help="the disks images live on"), [common, as_json])
    add_care(commands, [common, as_json])
    add_accounts(commands, [common, as_json])
    commands.add_parser("version", help="print the version")
    return parser


def _config_verbs(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("check", parents=[common], help="check the configuration file")
    verbs.add_parser("export", parents=[common], help="print the settings in force as YAML")
    importing = verbs.add_parser("import", parents=[common], help="replace the settings")
    importing.add_argument("file", type=Path, metavar="FILE", help="an export; - for stdin")
    verbs.add_parser("history", parents=[common], help="list the revisions")
    revert = verbs.add_parser("revert", parents=[common], help="put an earlier revision in force")
    revert.add_argument("revision", type=int, metavar="NUMBER")


def _volume_verbs(parser: argparse.ArgumentParser, parents: list[argparse.ArgumentParser]) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("list", parents=parents, help="list the volumes and their states")

    def verb(name: str, about: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, parents=parents, help=about)
        made.add_argument("name", metavar="VOLUME")
        return made

    for name, about in (
        ("adopt", "give a volume's folder its identity marker"),
        ("replace", "take the disk that stands at the path now instead of the one before"),
    ):
        taking = verb(name, about)
        taking.add_argument(
            "--force", action="store_true", help="also when the folder is not empty"
        )
    adding = verb("add", "take a further volume into service; it gets a copy of everything")
    adding.add_argument("path", type=Path, metavar="PATH")
    pausing = verb("pause", "let a volume rest until it is resumed")
    pausing.add_argument("--reason", default="", help="shown to everybody who asks why")
    verb("resume", "let a paused volume come back")
    verb("force", "do not wait any longer for a volume that has come back")
    verb("retire", "take a volume out for good; its files stay as they are")
