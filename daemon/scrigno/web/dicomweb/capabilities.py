# SPDX-License-Identifier: Apache-2.0
"""What the service can do, for programs to read: JSON, or WADL (PS3.18 section 8.9)."""

from collections.abc import Sequence
from typing import Any, Final
from xml.sax.saxutils import quoteattr

import msgspec
from aiohttp import hdrs, web

import scrigno
from scrigno.web.rooms import Rooms

from .door import Door
from .media import Offer, choose
from .search import ranges_of
from .target import ROOT, base_of

_WADL: Final = "application/vnd.sun.wadl+xml"
_JSON: Final = "application/json"
_OFFERS: Final = (Offer(media=_JSON), Offer(media=_WADL), Offer(media="application/xml"))
_SYNTAXES_OUT: Final = ("as stored (*)", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1",
                        "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")  # fmt: skip


class Capabilities:
    """The handlers of the root of the service."""

    doors: Sequence[Door] = ()  # filled when all are made

    async def get(self, request: web.Request, rooms: Rooms) -> web.StreamResponse:
        """Answer the description of the service."""
        del rooms
        offer, _ = choose(ranges_of(request), _OFFERS)
        if offer.media == _JSON:
            content = msgspec.json.encode(self._described(base_of(request)))
        else:
            content = self._wadl(base_of(request)).encode()
        headers: dict[str, str] = {hdrs.CONTENT_TYPE: offer.media, hdrs.VARY: "Accept"}
        return web.Response(body=content, headers=headers)

    def _described(self, base: str) -> dict[str, Any]:
        paths: dict[str, list[str]] = {}
        for door in self.doors:
            paths.setdefault(_plain(door.path), []).append(door.method)
        return {
            "service": "Scrigno DICOMweb",
            "version": scrigno.__version__,
            "standard": "DICOM PS3.18",
            "base": base,
            "transactions": ["capabilities", "search", "retrieve", "store", "delete", "wado-uri"],
            "resources": [{"path": path, "methods": each} for path, each in paths.items()],
            "search": {
                "levels": ["studies", "series", "instances"],
                "parameters": ["{attribute}", "includefield", "fuzzymatching", "limit", "offset",
                               "orderby"],
                "fuzzymatching": True,
                "maximum_results": 10_000,
                "media_types": ["application/dicom+json", "multipart/related; "
                                'type="application/dicom+xml"'],
            },
            "retrieve": {
                "transfer_syntaxes": _SYNTAXES_OUT,
                "rendered": ["image/jpeg", "image/png", "image/gif", "image/webp", "video/mp4",
                             "application/pdf", "text/html", "image/svg+xml"],
                "rendering_parameters": ["window", "viewport", "quality", "annotation"],
                "range_requests": ["bulkdata", "instances", "frames"],
                "conditional_requests": True,
            },
            "store": {
                "media_types": ['multipart/related; type="application/dicom"', "application/dicom",
                                'multipart/related; type="application/dicom+json"',
                                'multipart/related; type="application/dicom+xml"'],
            },
        }  # fmt: skip

    def _wadl(self, base: str) -> str:
        paths: dict[str, list[str]] = {}
        for door in self.doors:
            paths.setdefault(_plain(door.path), []).append(door.method)
        inside = "".join(
            f"<resource path={quoteattr(path.removeprefix(ROOT).lstrip('/'))}>"
            + "".join(f"<method name={quoteattr(each)}/>" for each in methods)
            + "</resource>"
            for path, methods in paths.items()
            if path.startswith(ROOT)
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<application xmlns="http://wadl.dev.java.net/2009/02">'
            f"<resources base={quoteattr(base)}>{inside}</resources></application>"
        )


def _plain(path: str) -> str:
    return path.replace("{path:.+}", "{path}")
