# SPDX-License-Identifier: Apache-2.0
"""Passwords in settings documents: hidden on the way out, put back on the way in.

A document for the pages holds `HIDDEN` in the place of each secret. When it comes back, that word
stands for the secret in force of the entry with the same name, at the same server: a page must
not be able to send a secret that it cannot read somewhere else.
"""

from dataclasses import dataclass
from typing import Final

from .document import Plain

HIDDEN: Final = "********"


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret of each entry of a list, or of one group when `listed` is false.

    `place` is the key that must be as before for a hidden secret to stay.
    """

    path: tuple[str, ...]
    key: str
    place: str
    listed: bool = True


SECRETS: Final = (
    Secret(("alerts", "mail"), "password", "host"),
    Secret(("alerts", "webhooks"), "secret", "url"),
    Secret(("webhooks", "endpoints"), "secret", "url"),
    Secret(("access", "oidc"), "client_secret", "issuer", listed=False),
)


def hidden(document: Plain) -> Plain:
    """Return the document with every secret hidden; the one given stays as it is."""
    for secret in SECRETS:
        document = _changed(document, {}, secret, secret.path, hide=True)
    return document


def revealed(document: Plain, current: Plain) -> Plain:
    """Return the document with every hidden secret put back from the document in force."""
    for secret in SECRETS:
        document = _changed(document, current, secret, secret.path, hide=False)
    return document


def _changed(
    document: Plain, current: Plain, secret: Secret, path: tuple[str, ...], *, hide: bool
) -> Plain:
    if path:
        name, *rest = path
        if not isinstance(document, dict) or name not in document:
            return document
        before = current.get(name, {}) if isinstance(current, dict) else {}
        part = _changed(document[name], before, secret, tuple(rest), hide=hide)
        return {**document, name: part}
    if not secret.listed:
        rows = [current] if isinstance(current, dict) else []
        return _hidden(document, secret) if hide else _revealed(document, rows, secret)
    if not isinstance(document, list):
        return document
    if hide:
        return [_hidden(row, secret) for row in document]
    rows = [row for row in current if isinstance(row, dict)] if isinstance(current, list) else []
    return [_revealed(row, rows, secret) for row in document]


def _hidden(row: Plain, secret: Secret) -> Plain:
    return {**row, secret.key: HIDDEN} if isinstance(row, dict) and row.get(secret.key) else row


def _revealed(row: Plain, current: list[dict[str, Plain]], secret: Secret) -> Plain:
    if not isinstance(row, dict) or row.get(secret.key) != HIDDEN:
        return row
    for before in current:
        same_place = before.get(secret.place) == row.get(secret.place)
        if before.get("name") == row.get("name") and same_place:
            return {**row, secret.key: before.get(secret.key, "")}
    return {**row, secret.key: ""}
