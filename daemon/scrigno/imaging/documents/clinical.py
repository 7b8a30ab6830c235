# SPDX-License-Identifier: Apache-2.0
"""Clinical documents (HL7 CDA) as HTML: the narrative of their sections, nothing else.

The narrative block is the part that people are meant to read (CDA release 2, 4.3.5). Only a few
tags of it are kept, none of their attributes.
"""

from typing import Final
from xml.etree import ElementTree as ET

from scrigno.imaging.errors import DecodeFailed

from .page import page, text

MAX_BYTES: Final = 16 << 20
MAX_DEPTH: Final = 40
MAX_NODES: Final = 100_000
_V3: Final = "{urn:hl7-org:v3}"
_TAGS: Final = {
    "table": "table", "thead": "thead", "tbody": "tbody", "tr": "tr", "td": "td", "th": "th",
    "list": "ul", "item": "li", "paragraph": "p", "caption": "p", "sub": "sub", "sup": "sup",
}  # fmt: skip


def as_html(content: bytes, *, language: str) -> tuple[bytes, str]:
    """Return the document as a page, and its title; raises DecodeFailed."""
    if len(content) > MAX_BYTES or b"<!ENTITY" in content or b"<!DOCTYPE" in content:
        # entities multiply and fetch; no clinical document needs them
        raise DecodeFailed("The clinical document is too large or declares entities.")
    try:
        root = ET.fromstring(content.rstrip(b"\0 "))  # noqa: S314 - no entities are declared
    except ET.ParseError as error:
        raise DecodeFailed(f"The clinical document is no XML: {error}") from None
    title = (root.findtext(f"{_V3}title") or "").strip() or "Clinical document"
    narrative = _Narrative()
    for section in root.iter(f"{_V3}section"):
        heading = (section.findtext(f"{_V3}title") or "").strip()
        if heading:
            narrative.out.append(f"<h2>{text(heading)}</h2>")
        block = section.find(f"{_V3}text")
        if block is not None:
            narrative.inside(block, 0)
    body = narrative.out or ['<p class="note">The document has no text for people.</p>']
    return page(title, [f"<h1>{text(title)}</h1>", *body], language=language), title


class _Narrative:
    def __init__(self) -> None:
        self.out: list[str] = []
        self._left = MAX_NODES

    def inside(self, node: ET.Element, depth: int) -> None:
        """Write what stands inside a node."""
        if depth > MAX_DEPTH or self._left <= 0:
            return
        if node.text:
            self.out.append(text(node.text))
        for child in node:
            self._left -= 1
            name = str(child.tag).removeprefix(_V3)  # a comment's tag is a function
            if name == "br":
                self.out.append("<br>")
            tag = _TAGS.get(name)
            if tag is not None:
                self.out.append(f"<{tag}>")
            self.inside(child, depth + 1)
            if tag is not None:
                self.out.append(f"</{tag}>")
            if child.tail:
                self.out.append(text(child.tail))
