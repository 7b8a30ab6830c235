# SPDX-License-Identifier: Apache-2.0
"""The requesting side."""

import ssl
from collections.abc import Mapping, Sequence

from scrigno.core.counters import Counters

from .association import Association
from .limits import DEFAULT_LIMITS, Limits
from .service import AssociationHandler, UserIdentity


async def connect(
    *,
    host: str,
    port: int,
    called_ae: str,
    calling_ae: str,
    contexts: Sequence[tuple[str, Sequence[str]]],
    roles: Mapping[str, tuple[bool, bool]] | None = None,
    extended: Mapping[str, bytes] | None = None,
    async_ops: tuple[int, int] | None = None,
    user_identity: UserIdentity | None = None,
    handler: AssociationHandler | None = None,
    limits: Limits = DEFAULT_LIMITS,
    tls: ssl.SSLContext | None = None,
    timeout_s: float = 30,
    counters: Counters | None = None,
) -> Association:
    """Connect and negotiate. `contexts` are (abstract syntax, transfer syntaxes), at most 128.

    `roles` is (we are SCU, we are SCP) by SOP class; `handler` serves what the peer asks of us
    (C-GET sub-operations); without one such requests are refused. `timeout_s` covers TCP, TLS
    and the answer together. Raises ConnectFailed, AssociationRejected, and AssociationLost when
    the peer aborts instead of answering.
    """
    raise NotImplementedError
