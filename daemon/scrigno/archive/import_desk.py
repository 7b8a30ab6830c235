# SPDX-License-Identifier: Apache-2.0
"""What people do about imports: see where from, begin one, fetch the files that failed."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scrigno.core.errors import ScrignoError
from scrigno.host.filesystems import Mount, parse_mountinfo
from scrigno.jobs.jobs import Jobs
from scrigno.jobs.model import FailedItem, Grant, Job

from .export_zip import ZipWriter
from .import_errors import FileRefused, PlaceNotAllowed, SourceGone, SourceRefused
from .import_job import KIND, PLAN
from .import_plan import read_plan
from .import_sources import ImportSources
from .import_trees import Places, Tree, descend, words
from .import_uploads import Uploads
from .importer import Threads

MOST_LISTED: Final = 5_000
MOST_FAILED: Final = 10_000
CHUNK_BYTES: Final = 1 << 20
SEND_BYTES: Final = 1 << 20
_DISCS: Final = frozenset({"iso9660", "udf"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A folder that may be imported from: an allowed one, or a medium mounted below one."""

    path: str
    kind: str  # "folder", "disc" or "stick"
    read_only: bool = False
    device: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One line of a folder."""

    name: str
    folder: bool
    size: int


class ImportDesk:
    """Loop thread only."""

    def __init__(
        self,
        *,
        jobs: Jobs,
        sources: ImportSources,
        uploads: Uploads,
        places: Callable[[], Places],
        mount_table: Path = Path("/proc/self/mountinfo"),
    ) -> None:
        """Tie the parts together."""
        self.uploads = uploads
        self.places = places
        self._jobs = jobs
        self._sources = sources
        self._mount_table = mount_table

    async def seen_places(self) -> list[Place]:
        """Return the allowed folders and what is mounted below them; no disk is touched."""
        places = self.places()
        mounts = parse_mountinfo(await asyncio.to_thread(self._mount_table.read_text))
        found = [Place(path=str(root), kind="folder") for root in places.roots]
        for mount in mounts:
            with suppress(PlaceNotAllowed):
                places.require(mount.point)
                found.append(_place(mount))
        return found

    async def folder(self, path: str) -> list[Listed]:
        """Return what stands in an allowed folder; raises PlaceNotAllowed, SourceGone."""
        places = self.places()
        allowed = places.require(path)
        try:
            return await asyncio.to_thread(_listed, places, allowed)
        except OSError as error:
            raise SourceGone(words(error)) from error

    async def start(
        self,
        *,
        author: str,
        grant: Grant,
        path: str | None = None,
        uploads: list[str] | None = None,
        recursive: bool = True,
    ) -> Job:
        """Begin an import of a path of the box, or of uploads of the author.

        Raises PlaceNotAllowed, UnknownUpload, SourceRefused, TooManyJobs.
        """
        if (path is None) == (uploads is None):
            raise SourceRefused("Name either a path of the box or uploads.")
        if path is not None:
            places = self.places()
            root = places.root_of(places.require(path))
            # the rest of the path may name a patient
            return await self._begin(author, grant, f"{root}", {"path": path}, recursive)
        ids = uploads or []
        waiting = [each for each in ids if not self.uploads.get(each, author=author).complete]
        if waiting or not ids:
            raise SourceRefused(
                f"{len(waiting)} of the uploads are not complete." if ids else "There is no upload."
            )
        title = "1 upload" if len(ids) == 1 else f"{len(ids)} uploads"
        return await self._begin(author, grant, title, {"uploads": ids}, recursive)

    async def _begin(
        self, author: str, grant: Grant, title: str, source: dict[str, object], recursive: object
    ) -> Job:
        return await self._jobs.start(
            KIND,
            author=author,
            title=title,
            params={**source, "recursive": bool(recursive)},
            grant=grant,
        )

    async def failed_files(self, job: Job) -> AsyncGenerator[bytes, None]:
        """Yield a ZIP of the files that an import refused, and a list of all that failed.

        Files that are gone since, or cannot be read, stand only in the list. Raises SourceRefused.
        """
        if job.kind != KIND:
            raise SourceRefused("The job is no import.")
        folder = await self._jobs.folder_of(job.id)
        items = await self._jobs.items(job.id, limit=MOST_FAILED)
        writer = ZipWriter()
        with Threads() as threads:
            tree = await self._tree(job, threads, folder)
            try:
                lines = ["number\tname\tcode\treason\tin this archive\r\n"]
                for item in items:
                    there = False
                    if tree is not None and item.ref:
                        found = _Sending(tree, threads, writer, folder / PLAN)
                        async for content in found.file(item):
                            yield content
                        there = found.whole
                    row = [str(item.seq), item.name, item.code, item.reason, "yes" if there else ""]
                    lines.append("\t".join(" ".join(cell.split()) for cell in row) + "\r\n")
                writer.add("failed.txt", "".join(lines).encode("utf-8-sig", "replace"))
                writer.close()
                yield writer.take()
            finally:
                if tree is not None:
                    await asyncio.shield(threads.run(tree.close))

    async def _tree(self, job: Job, threads: Threads, folder: Path) -> Tree | None:
        try:
            return await self._sources.open(job.params, threads, folder)
        except ScrignoError:
            return None


class _Sending:
    """One failed file on its way into an archive."""

    def __init__(self, tree: Tree, threads: Threads, writer: ZipWriter, plan: Path) -> None:
        self.whole = False
        self._tree = tree
        self._threads = threads
        self._writer = writer
        self._plan = plan

    async def file(self, item: FailedItem) -> AsyncGenerator[bytes, None]:
        """Yield what the archive grows by; a file that breaks off stays as long as it came."""
        try:
            lines = await self._threads.run(read_plan, self._plan, int(item.ref), 1)
            if not lines or lines[0].ref is None:
                return
            source = await self._threads.run(self._tree.open, lines[0].ref)
        except (OSError, ValueError, FileRefused):
            return
        try:
            self._writer.begin(_safe(item.seq, item.name), source.size)
            at = 0
            while at < source.size:
                chunk = await self._threads.run(source.read, at, CHUNK_BYTES)
                if not chunk:
                    break
                self._writer.write(chunk)
                at += len(chunk)
                yield self._writer.take()
            self.whole = at == source.size
        except (OSError, FileRefused):
            return
        finally:
            self._writer.end()
            await asyncio.shield(self._threads.run(source.close))


def _safe(number: int, name: str) -> str:
    """Return a name that leads nowhere wherever the archive is unpacked."""
    parts = [part for part in name.replace("\\", "/").split("/") if part.strip(". ")]
    cleaned = [
        "".join(each if each.isalnum() or each in "._- " else "_" for each in part)[:100].strip()
        for part in parts[-4:]
    ]
    return "/".join([f"{number:05d}", *(part for part in cleaned if part.strip(". "))])


def _place(mount: Mount) -> Place:
    kind = "disc" if mount.kind in _DISCS else "stick"
    return Place(path=mount.point, kind=kind, read_only=mount.read_only, device=mount.source)


def _listed(places: Places, path: Path) -> list[Listed]:
    root = places.root_of(path)
    assert root is not None  # noqa: S101 - it was allowed
    found: list[Listed] = []
    with descend(root, path.relative_to(root).parts) as folder, os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink() or places.is_ours(path / entry.name):
                continue
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder or entry.is_file(follow_symlinks=False):
                size = 0 if is_folder else entry.stat(follow_symlinks=False).st_size
                found.append(Listed(name=entry.name, folder=is_folder, size=size))
            if len(found) >= MOST_LISTED:
                break
    return sorted(found, key=lambda each: (not each.folder, each.name))
