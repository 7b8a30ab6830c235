# SPDX-License-Identifier: Apache-2.0
"""One function a command: ask the daemon, print the answer."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from scrigno import __version__
from scrigno.core.errors import CommandError, ConfigError, ScrignoError
from scrigno.settings.boot import load_config

from . import accounts, care, lone, words
from .asking import DONE, FAILED, WRONG_USE, ask, complain, say, show
from .client import RefusedByDaemon


def run_command(options: argparse.Namespace) -> int:
    """Run what the parser found; returns the exit code."""
    name = f"{options.command} {options.verb}" if hasattr(options, "verb") else options.command
    try:
        return COMMANDS[name](options)
    except ConfigError as error:
        complain(error.sentence())
        return WRONG_USE
    except RefusedByDaemon as error:
        complain(error.sentence())
        return WRONG_USE if error.remote_code == ConfigError.code else FAILED
    except ScrignoError as error:
        complain(error.sentence())
        return FAILED
    except KeyboardInterrupt:
        complain("Stopped; what was done until now stays done.")
        return FAILED


def _version(_options: argparse.Namespace) -> int:
    say(f"scrigno {__version__}")
    return DONE


def _setup_code(options: argparse.Namespace) -> int:
    say(ask(options, "setup-code")["code"])
    return DONE


def _claim(options: argparse.Namespace) -> int:
    password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise CommandError(
            "No password came on standard input.",
            next_step=f"Give it like this: echo … | scrigno claim --user {options.user}",
        )
    ask(options, "claim", user=options.user, password=password)
    say(f"The box is claimed; {options.user} can log in.")
    return DONE


def _status(options: argparse.Namespace) -> int:
    result = ask(options, "status")
    show(options, result, words.status)
    return DONE if result["ready"] else FAILED


def _import(options: argparse.Namespace) -> int:
    missing = [path for path in options.paths if not path.exists()]
    if missing:
        raise CommandError(
            f"There is no {missing[0]}.", next_step="Name a file or folder that exists."
        )
    result = ask(
        options,
        "import",
        progress=True,
        paths=[str(path.resolve()) for path in options.paths],
        recursive=not options.no_recursive,
    )
    show(options, result, words.import_report)
    return FAILED if result["counts"].get("refused") else DONE


def _verify(options: argparse.Namespace) -> int:
    if options.path is not None:
        return lone.verify(options)
    result = ask(options, "verify", progress=True, study=options.study)
    show(options, result, words.verify_report)
    return DONE if result["copies_bad"] == result["repaired"] else FAILED


def _rebuild(options: argparse.Namespace) -> int:
    result = ask(options, "rebuild-index", progress=True, volume=options.from_volume)
    show(options, result, words.rebuild_report)
    return DONE


def _reconcile(options: argparse.Namespace) -> int:
    result = ask(options, "reconcile", progress=True, fix=options.fix)
    show(options, result, words.reconcile_report)
    return DONE if result["found"] == result["fixed"] else FAILED


def _config_check(options: argparse.Namespace) -> int:
    load_config(options.config)
    say(f"{options.config} can be used.")
    return DONE


def _config_export(options: argparse.Namespace) -> int:
    say(ask(options, "config-export")["yaml"])
    return DONE


def _config_import(options: argparse.Namespace) -> int:
    if str(options.file) == "-":
        text = sys.stdin.read()
    else:
        try:
            text = options.file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{options.file} cannot be read: {error}.") from error
    result = ask(options, "config-import", yaml=text)
    say(f"Revision {result['revision']} is in force.")
    return DONE


def _config_history(options: argparse.Namespace) -> int:
    for row in ask(options, "config-history"):
        say(f"{row['revision']:5}  {row['at']}  {row['author']:12}  {row['why']}")
    return DONE


def _config_revert(options: argparse.Namespace) -> int:
    result = ask(options, "config-revert", revision=options.revision)
    say(f"Revision {result['revision']} is in force, with the values of {options.revision}.")
    return DONE


def _volume_list(options: argparse.Namespace) -> int:
    show(options, ask(options, "volume-list"), words.volume_table)
    return DONE


def _volume_verb(options: argparse.Namespace) -> int:
    verb = "adopt" if options.verb == "replace" else options.verb
    given: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value
        for name in ("force", "reason", "path")
        if (value := getattr(options, name, None)) is not None
    }
    result = ask(options, f"volume-{verb}", name=options.name, **given)
    show(options, result, words.volume_table)
    return DONE


COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "version": _version,
    "setup-code": _setup_code,
    "claim": _claim,
    "status": _status,
    "import": _import,
    "verify": _verify,
    "rebuild-index": _rebuild,
    "reconcile": _reconcile,
    "config check": _config_check,
    "config export": _config_export,
    "config import": _config_import,
    "config history": _config_history,
    "config revert": _config_revert,
    "volume list": _volume_list,
    **{
        f"volume {verb}": _volume_verb
        for verb in ("adopt", "replace", "add", "pause", "resume", "force", "retire")
    },
    **care.COMMANDS,
    **accounts.COMMANDS,
}
