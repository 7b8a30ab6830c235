# SPDX-License-Identifier: Apache-2.0
"""Passwords in settings documents: hidden on the way out, put back on the way in.

A document for the pages holds `HIDDEN` in the place of each secret. When it comes back, that word
stands for the secret in force of the channel with the same name, at the same server: a page must
not be able to send a secret that it cannot read somewhere else.
"""

from typing import Final

from .document import Plain

HIDDEN: Final = "********"
# list under `alerts`, key of the secret, key that must be as before for the secret to stay
_SECRETS: Final = (("mail", "password", "host"), ("webhooks", "secret", "url"))


def hidden(document: Plain) -> Plain:
    """Return the document with every secret hidden; the one given stays as it is."""
    return _changed(document, {}, hide=True)


def revealed(document: Plain, current: Plain) -> Plain:
    """Return the document with every hidden secret put back from the document in force."""
    return _changed(document, current, hide=False)


def _changed(document: Plain, current: Plain, *, hide: bool) -> Plain:
    if not isinstance(document, dict) or not isinstance(document.get("alerts"), dict):
        return document
    alerts = dict(document["alerts"])  # type: ignore[arg-type]  # a dict: looked at above
    for channels, secret, place in _SECRETS:
        rows = alerts.get(channels)
        if isinstance(rows, list):
            alerts[channels] = [
                _hidden(row, secret) if hide else _revealed(row, current, channels, secret, place)
                for row in rows
            ]
    return {**document, "alerts": alerts}


def _hidden(row: Plain, secret: str) -> Plain:
    return {**row, secret: HIDDEN} if isinstance(row, dict) and row.get(secret) else row


def _revealed(row: Plain, current: Plain, channels: str, secret: str, place: str) -> Plain:
    if not isinstance(row, dict) or row.get(secret) != HIDDEN:
        return row
    for before in _rows(current, channels):
        if before.get("name") == row.get("name") and before.get(place) == row.get(place):
            return {**row, secret: before.get(secret, "")}
    return {**row, secret: ""}


def _rows(document: Plain, channels: str) -> list[dict[str, Plain]]:
    alerts = document.get("alerts") if isinstance(document, dict) else None
    rows = alerts.get(channels) if isinstance(alerts, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
