# SPDX-License-Identifier: Apache-2.0
"""The commands about accounts, for an operator who is locked out of the pages."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any, Final

from .asking import DONE, ask, show


def add_accounts(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add them to the commands (what `add_subparsers` gave)."""
    parser = commands.add_parser("account", help="who may log in")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("list", parents=parents, help="list the accounts")

    def verb(name: str, about: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = verbs.add_parser(name, parents=parents, help=about)
        made.add_argument("name", metavar="NAME")
        return made

    adding = verb("add", "add an account and print its temporary password")
    adding.add_argument("--role", default="user", metavar="ROLE", help="default: %(default)s")
    verb("reset-password", "give a temporary password and end the sessions")
    verb("reset-second-factor", "take app, passkeys and recovery codes away")
    verb("set-role", "give another role").add_argument("role", metavar="ROLE")
    verb("enable", "let an account log in again")
    verb("disable", "let an account log in no more and end its sessions")


def _list(options: argparse.Namespace) -> int:
    show(options, ask(options, "account-list"), _table)
    return DONE


def _table(result: Mapping[str, Any]) -> str:
    lines = [f"{'name':24} {'role':16} {'last log-in':25} second factor"]
    for each in result["accounts"]:
        factors = ["app"] * each["totp"] + [f"{each['passkeys']} passkeys"] * bool(each["passkeys"])
        notes = ", ".join(factors) or "none"
        notes += "; disabled" if each["disabled"] else ""
        notes += "; must change the password" if each["must_change_password"] else ""
        last = each["last_login"] or "never"
        lines.append(f"{each['name']:24} {each['role']:16} {last:25} {notes}")
    return "\n".join(lines)


def _verb(options: argparse.Namespace) -> int:
    given = {"name": options.name}
    if getattr(options, "role", None) is not None:
        given["role"] = options.role
    show(options, ask(options, f"account-{options.verb}", **given), _WORDS[options.verb])
    return DONE


def _temporary(result: Mapping[str, Any]) -> str:
    return (
        f"{result['name']} logs in with {result['temporary_password']} within three days "
        "and then chooses a password."
    )


_WORDS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "add": _temporary,
    "reset-password": _temporary,
    "reset-second-factor": lambda result: f"{result['name']} has no second factor any more.",
    "set-role": lambda result: f"{result['name']} has the role {result['role']} now.",
    "enable": lambda result: f"{result['name']} may log in.",
    "disable": lambda result: f"{result['name']} may not log in any more.",
}

COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "account list": _list,
    **{f"account {verb}": _verb for verb in _WORDS},
}
