# SPDX-License-Identifier: Apache-2.0
"""From what somebody chose to the tree of its files: folders, files, ZIP, disc images, uploads.

What a file is, its first bytes say, never its name.
"""

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from scrigno.imaging.errors import ImagingError
from scrigno.imaging.workers import ImagingPool

from .import_errors import SourceGone, SourceRefused
from .import_iso import IsoTree, descriptor, is_image
from .import_trees import Entry, FileTree, FolderTree, Places, Readable, Tree, open_below, words
from .import_uploads import Uploads
from .import_zip import MAGIC, ZipTree
from .importer import Threads
from .sources import OpenFile

DICM_AT: Final = 128
MOST_UPLOADS: Final = 20_000


class ImportSources:
    """Opens what a job is to import from."""

    def __init__(
        self, *, places: Callable[[], Places], uploads: Uploads, imaging: ImagingPool
    ) -> None:
        """`places` is asked each time, so that settings act at once."""
        self._places = places
        self._uploads = uploads
        self._imaging = imaging

    async def open(self, params: dict[str, Any], threads: Threads, folder: Path) -> Tree:
        """Return the tree of a job's `params`; `folder` is the job's own. See TreeMaker.

        Raises SourceRefused, UnknownUpload.
        """
        recursive = bool(params.get("recursive", True))
        if "uploads" in params:
            return await self._of_uploads(params["uploads"], threads, folder)
        path = self._places().require(params["path"])
        try:
            is_folder = await threads.run(_is_folder, self._places(), path)
            if is_folder:
                make = partial(FolderTree, self._places(), path, recursive=recursive)
                return await threads.run(make)
            opened = _opening(self._places(), path)
            inner = await self._inside(opened, threads, folder / "listing")
        except OSError as error:
            raise SourceGone(words(error)) from error
        return inner or FileTree(self._places(), path)

    async def _inside(
        self, opened: Callable[[], OpenFile], threads: Threads, listing: Path
    ) -> Tree | None:
        """Return the tree inside an archive or image, None when the file is neither."""
        file: OpenFile | None = await threads.run(opened)
        assert file is not None  # noqa: S101 - until a tree owns it
        try:
            kind = await threads.run(kind_of, file)
            if kind == "iso":
                tree: Tree = IsoTree(file, await self._listing(file, threads, listing))
                file = None
                return tree
            if kind == "zip":
                return await threads.run(ZipTree, partial(_python_file, file))
        finally:
            if file is not None:
                await threads.run(file.close)
        return None

    async def _listing(self, file: OpenFile, threads: Threads, path: Path) -> bytes:
        """Let a worker list an image, once for each job: offsets of the plan stay right."""
        if await threads.run(path.is_file):
            return await threads.run(path.read_bytes)
        fd = await threads.run(descriptor, file)
        try:
            _, memory = await self._imaging.media("listing", fd)
        except ImagingError as error:
            raise SourceRefused(f"The disc image cannot be read. {error.reason}") from error
        finally:
            os.close(fd)
        with memory:
            content = memory.read()
        await threads.run(path.write_bytes, content)
        return content

    async def _of_uploads(self, ids: Sequence[str], threads: Threads, folder: Path) -> Tree:
        parts: list[tuple[str, Callable[[], OpenFile], Tree | None]] = []
        try:
            for number, upload_id in enumerate(ids[:MOST_UPLOADS]):
                path = self._uploads.path(upload_id)
                opened = _opening_ours(path)
                inner = await self._inside(opened, threads, folder / f"listing-{number}")
                parts.append((self._uploads.name(upload_id), opened, inner))
        except BaseException as error:
            for _, _, inner in parts:
                if inner is not None:
                    await asyncio.shield(threads.run(inner.close))
            if isinstance(error, OSError):
                raise SourceGone(words(error)) from error
            raise
        return UploadTree(parts)

    async def forget(self, params: dict[str, Any]) -> None:
        """Let go of uploads that are all in."""
        await self._uploads.remove(params.get("uploads", ()))


class UploadTree:
    """Uploaded files side by side; archives among them are looked into."""

    def __init__(self, parts: Sequence[tuple[str, Callable[[], OpenFile], Tree | None]]) -> None:
        """Each part has its name, a way to open it, and its tree when it is an archive."""
        self._parts = parts
        self._by_name = {
            tuple(part.upper() for part in _name(name)): number
            for number, (name, _, tree) in enumerate(parts)
            if tree is None
        }

    def entries(self) -> Iterator[Entry]:
        """Yield every file; see Tree."""
        for number, (name, _, tree) in enumerate(self._parts):
            if tree is None:
                yield Entry(parts=_name(name), ref=[number, None])
                continue
            for each in tree.entries():
                yield replace(each, parts=(*_name(name), *each.parts), ref=_within(number, each))

    def below(self, folder: Sequence[str], parts: Sequence[str]) -> Entry | None:
        """Find a file that a DICOMDIR names, among the uploads or in the same archive."""
        wanted = tuple(part.upper() for part in (*folder, *parts))
        number = self._by_name.get(wanted)
        if number is not None:
            return Entry(parts=_name(self._parts[number][0]), ref=[number, None])
        for number, (name, _, tree) in enumerate(self._parts):
            outer = _name(name)
            if tree is not None and tuple(folder[: len(outer)]) == outer:
                found = tree.below(folder[len(outer) :], parts)
                if found is not None:
                    return replace(found, parts=(*outer, *found.parts), ref=_within(number, found))
        return None

    def open(self, ref: Any) -> Readable:
        """Open a file of it."""
        number, inner = ref
        _, opened, tree = self._parts[int(number)]
        if tree is None:
            return opened()
        return tree.open(inner)

    def require_there(self) -> None:
        """They stand on the system disk."""

    def close(self) -> None:
        """Close the archives among them."""
        for _, _, tree in self._parts:
            if tree is not None:
                tree.close()


def _within(number: int, entry: Entry) -> list[Any] | None:
    return None if entry.ref is None else [number, entry.ref]


def _name(name: str) -> tuple[str, ...]:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in {"", "."}]
    return tuple(parts[:64]) or ("file",)


def kind_of(file: OpenFile) -> str:
    """Return what a file is by its bytes: "dicom", "zip", "iso" or ""."""
    if file.read(DICM_AT, 4) == b"DICM":
        return "dicom"
    if file.read(0, 4) in MAGIC:
        return "zip"
    return "iso" if is_image(file) else ""


def _is_folder(places: Places, path: Path) -> bool:
    root = places.root_of(path)
    if root is None:
        return False
    if path == root:
        return True
    try:
        open_below(root, path.relative_to(root).parts).close()
    except IsADirectoryError:
        return True
    except OSError as error:
        if error.errno == 0:  # no regular file: a folder, or something that FolderTree refuses
            return True
        raise
    return False


def _opening(places: Places, path: Path) -> Callable[[], OpenFile]:
    root = places.root_of(path)
    assert root is not None  # noqa: S101 - it was allowed
    parts = path.relative_to(root).parts
    return lambda: open_below(root, parts)


def _opening_ours(path: Path) -> Callable[[], OpenFile]:
    return lambda: OpenFile(path)


def _python_file(file: OpenFile) -> Any:
    """Return a file object of its own on the same file."""
    return os.fdopen(descriptor(file), "rb")
