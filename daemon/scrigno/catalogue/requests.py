# SPDX-License-Identifier: Apache-2.0
"""Items of the Request Attributes Sequence (0040,0275) of a series, kept whole and by keyword."""

import json
from collections.abc import Mapping, Sequence

from scrigno.db.sqlite import Connection


def requests_as_text(items: Sequence[Mapping[str, str]]) -> str:
    """Return the items for the column `request_attributes`; empty when there are none."""
    return json.dumps([dict(item) for item in items], ensure_ascii=False) if items else ""


def requests_of_text(text: str) -> tuple[Mapping[str, str], ...]:
    """Return the items of the column `request_attributes`."""
    return tuple(json.loads(text)) if text else ()


def insert_requests(
    connection: Connection, series: int, items: Sequence[Mapping[str, str]]
) -> None:
    """Keep each attribute of each item for matching. Writer only."""
    for number, item in enumerate(items):
        for keyword, value in item.items():
            connection.execute(
                "INSERT INTO series_request (series, item, keyword, value) VALUES (?, ?, ?, ?)",
                (series, number, keyword, value),
            )
