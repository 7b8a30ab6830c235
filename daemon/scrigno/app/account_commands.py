# SPDX-License-Identifier: Apache-2.0
"""The operator's commands about accounts: for whoever is locked out of the pages."""

from collections.abc import Mapping
from typing import Any, Final

from scrigno.access.permissions import Permission
from scrigno.web.account_api import account_answer
from scrigno.web.shapes import as_plain

from .control import Handler, Progress
from .parts import Parts

Arguments = Mapping[str, Any]
NAME: Final = "name"


class AccountCommands:
    """One method a command; `author` is who stands in the audit trail."""

    def __init__(self, parts: Parts, author: str) -> None:
        """Serve from the running parts."""
        self._access = parts.access
        self._audit = parts.audit
        self._author = author

    def table(self) -> Mapping[str, Handler]:
        """Return the commands by the names the client uses."""
        return {
            "account-list": self.list,
            "account-add": self.add,
            "account-reset-password": self.reset_password,
            "account-reset-second-factor": self.reset_second_factor,
            "account-set-role": self.set_role,
            "account-enable": self.enable,
            "account-disable": self.disable,
        }

    async def list(self, _arguments: Arguments, _progress: Progress) -> Any:
        """List the accounts, and what each has of a second factor."""
        found = []
        for account in await self._access.accounts.all():
            having = await self._access.factors.having(account.id)
            passkeys = len(await self._access.passkeys.of(account.id))
            answer = as_plain(account_answer(account))
            found.append(answer | {"totp": having.totp, "passkeys": passkeys})
        return {"accounts": found}

    async def add(self, arguments: Arguments, _progress: Progress) -> Any:
        """Add an account with a temporary password."""
        account, password = await self._access.invite_account(arguments[NAME], arguments["role"])
        self._note("account-added", account.name, role=account.role)
        return {"name": account.name, "role": account.role, "temporary_password": password}

    async def reset_password(self, arguments: Arguments, _progress: Progress) -> Any:
        """Give an account a temporary password; its sessions end."""
        account, password = await self._access.reset_password(arguments[NAME])
        self._note("password-reset", account.name)
        return {"name": account.name, "temporary_password": password}

    async def reset_second_factor(self, arguments: Arguments, _progress: Progress) -> Any:
        """Take every second factor from an account; its sessions end."""
        account = await self._access.reset_factors(arguments[NAME])
        self._note("second-factor-reset", account.name)
        return {"name": account.name}

    async def set_role(self, arguments: Arguments, _progress: Progress) -> Any:
        """Give an account another role."""
        account = await self._access.change_account(arguments[NAME], role=arguments["role"])
        self._note("account-changed", account.name, role=account.role)
        return {"name": account.name, "role": account.role}

    async def enable(self, arguments: Arguments, _progress: Progress) -> Any:
        """Let an account log in again."""
        return await self._disable(arguments, disabled=False)

    async def disable(self, arguments: Arguments, _progress: Progress) -> Any:
        """Let an account log in no more; its sessions end."""
        return await self._disable(arguments, disabled=True)

    async def _disable(self, arguments: Arguments, *, disabled: bool) -> Any:
        account = await self._access.change_account(arguments[NAME], disabled=disabled)
        self._note("account-changed", account.name, disabled=str(disabled).lower())
        administers = Permission.ADMIN in account.permissions
        return {"name": account.name, "disabled": disabled, "administers": administers}

    def _note(self, action: str, subject: str, **details: str) -> None:
        self._audit.record(self._author, action, subject, details=details)
