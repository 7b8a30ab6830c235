# SPDX-License-Identifier: Apache-2.0
"""The built pages: read once into memory, so that no name from outside ever reaches a path."""

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from .errors import NotFound

CONTENT_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
}
FOLDERS: Final = frozenset({"", "locales", "images", "assets"})
LARGEST_BYTES: Final = 16 << 20
# decoders are WebAssembly in workers of our own; the engine styles the texts of marks in place
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; "
    "frame-src 'self' blob:; base-uri 'none'; frame-ancestors 'none'"
)
FOREVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Page:
    """One file as gzip; nearly every browser takes it so."""

    packed: bytes
    content_type: str
    tag: str


def read_pages(folder: Path) -> dict[str, Page]:
    """Read the files that may be served, by their name relative to `folder`. Blocking."""
    pages: dict[str, Page] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        kind = CONTENT_TYPES.get(path.suffix)
        top = name.rpartition("/")[0].partition("/")[0]
        if kind is None or top not in FOLDERS or not path.is_file():
            continue
        if path.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"pages: {path} is larger than {LARGEST_BYTES} bytes")
        content = path.read_bytes()
        tag = hashlib.sha256(content).hexdigest()[:20]
        packed = path.with_name(f"{path.name}.gz")  # made by the build
        pages[name] = Page(
            packed.read_bytes() if packed.is_file() else gzip.compress(content, mtime=0), kind, tag
        )
    return pages


class Pages:
    """Serves the files under /viewer/."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; `load` reads it at start."""
        self._folder = folder
        self._pages: dict[str, Page] = {}

    async def load(self, _: web.Application) -> None:
        """Read all files."""
        self._pages = await asyncio.to_thread(read_pages, self._folder)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer with the file of that name, `index.html` for the folder itself."""
        page = self._pages.get(request.match_info["name"] or "index.html")
        if page is None:
            raise NotFound("There is no such page.")
        # the names under assets/ hold a digest; for the others no-cache is "ask again each time":
        # after an update no browser shows old pages
        hashed = request.match_info["name"].startswith("assets/")
        headers = {
            hdrs.ETAG: f'"{page.tag}"',
            hdrs.CACHE_CONTROL: FOREVER if hashed else "no-cache",
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
            "Content-Security-Policy": PAGE_POLICY,
        }
        if page.tag in request.headers.get(hdrs.IF_NONE_MATCH, ""):
            return web.Response(status=304, headers=headers)
        headers[hdrs.CONTENT_TYPE] = page.content_type
        if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            headers[hdrs.CONTENT_ENCODING] = "gzip"
            return web.Response(body=page.packed, headers=headers)
        content = await asyncio.to_thread(gzip.decompress, page.packed)
        return web.Response(body=content, headers=headers)
