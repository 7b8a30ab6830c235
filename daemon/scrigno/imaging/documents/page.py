# SPDX-License-Identifier: Apache-2.0
"""HTML without a template engine: every text goes through `escape`, every tag is written here."""

from html import escape
from typing import Final

MAX_TEXT: Final = 100_000  # characters of one value

_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:60rem;padding:0 1rem;"
    "color:#15191f;background:#fff}"
    "h1{font-size:1.4rem}h2{font-size:1.15rem}h3,h4,h5,h6{font-size:1rem}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.5rem 0}"
    "dt{font-weight:600}dd{margin:0;overflow-wrap:anywhere}section{margin:.4rem 0 .4rem 1rem}"
    "table{border-collapse:collapse}td,th{border:1px solid #c5ccd6;padding:.2rem .5rem;"
    "text-align:start}.uid{font-family:ui-monospace,monospace;font-size:.85em}"
    ".note{color:#4b5666}@media(prefers-color-scheme:dark){body{color:#dde3ea;background:#0b0e13}"
    "td,th{border-color:#3a4350}.note{color:#9aa6b5}}"
)


def text(value: object) -> str:
    """Return a value as HTML text: escaped, control characters gone, lines kept."""
    shown = str(value)[:MAX_TEXT].replace("\r\n", "\n").replace("\r", "\n")
    kept = "".join(each for each in shown if each in "\n\t" or each.isprintable())
    return escape(kept).replace("\n", "<br>")


def page(title: str, body: list[str], *, language: str = "en") -> bytes:
    """Return a whole document around a body that is already HTML."""
    head = (
        f'<!doctype html><html lang="{escape(language)}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(title)}</title><style>{_STYLE}</style></head><body>"
    )
    return "".join([head, *body, "</body></html>"]).encode("utf-8", "replace")
