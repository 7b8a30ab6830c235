# SPDX-License-Identifier: Apache-2.0
"""Which request the code at hand works for, so that log line and answer can be put together."""

import secrets
from contextvars import ContextVar
from typing import Final

# Empty outside of a request. Tasks that a request starts inherit it.
REQUEST: Final[ContextVar[str]] = ContextVar("request", default="")


def new_request_id() -> str:
    """Return a short id that is not used twice within years; it says nothing about anybody."""
    return secrets.token_hex(6)
