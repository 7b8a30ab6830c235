# SPDX-License-Identifier: Apache-2.0
"""An export as a job: into an archive or a disc image to be fetched, or into a folder of the box.

An archive or image that was cut off is made anew from its beginning; what a folder got stays, and
is written over by the same job when it goes on.
"""

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from scrigno.access.permissions import Permission
from scrigno.core.errors import ScrignoError
from scrigno.jobs.model import JsonObject
from scrigno.jobs.running import Running

from .export_sinks import ExportFailed, FileWriter, FolderSink, ZipSink, write_image
from .exporter import Anonymising, Exporter, Leaving, Manner
from .import_trees import Places, descend, words

KIND: Final = "export"
IMAGE_OVERHEAD: Final = 64 << 20
PER_OBJECT: Final = 8 << 10
_OURS: Final = ("DICOM", "DICOMDIR", "INDEX.HTM", "README.TXT")


class NothingToExport(ScrignoError):
    """None of what was named is there, or is seen by who asks."""

    code: ClassVar[str] = "nothing-to-export"


class TargetNotEmpty(ScrignoError):
    """There is a medium already where the export is to go."""

    code: ClassVar[str] = "target-not-empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOrder:
    """What somebody wants. `to` is "zip", "iso" or "folder"."""

    studies: tuple[str, ...]
    series: tuple[str, ...] = ()
    to: str = "zip"
    path: str = ""
    pictures: str = ""
    uncompressed: bool = False
    anonymise: bool = False
    options: tuple[str, ...] = ()
    patient_name: str = ""
    patient_id: str = ""

    def params(self) -> JsonObject:
        """Return the order as a job keeps it, with a key of its own for new UIDs and names."""
        return {
            "studies": list(self.studies),
            "series": list(self.series),
            "to": self.to,
            "path": self.path,
            "pictures": self.pictures,
            "uncompressed": self.uncompressed,
            "anonymise": anonymising(self),
        }


def anonymising(order: ExportOrder) -> JsonObject | None:
    """Return how the order's objects are de-identified, None when they are not."""
    if not order.anonymise:
        return None
    return {
        "key": secrets.token_hex(32),
        "options": list(order.options),
        "patient_name": order.patient_name,
        "patient_id": order.patient_id,
        "days": -secrets.randbelow(3650) - 1,
    }


def manner_of(params: JsonObject) -> Manner:
    """Return how a job's objects leave."""
    how: dict[str, Any] | None = params["anonymise"]
    return Manner(
        pictures=params["pictures"],
        uncompressed=params["uncompressed"],
        anonymising=None
        if how is None
        else Anonymising(
            key=how["key"],
            options=tuple(how["options"]),
            patient_name=how["patient_name"],
            patient_id=how["patient_id"],
            days=how["days"],
        ),
    )


class _Told:
    """Tells a job how its export goes."""

    def __init__(self, job: Running) -> None:
        self._job = job

    async def give_way(self) -> None:
        await self._job.give_way()

    def done(self, count: int, total: int) -> None:
        self._job.progress(count, total, "exporting")

    def counted(self, name: str) -> None:
        self._job.count(name)

    async def failed(self, name: str, code: str, reason: str) -> None:
        await self._job.fail_item(name, code, reason)


class ExportRunner:
    """Does exports."""

    kind = KIND
    needs = Permission.EXPORT.value
    at_once = 1

    def __init__(self, *, exporter: Exporter, places: Callable[[], Places]) -> None:
        """`places` is asked each time, so that settings act at once."""
        self._exporter = exporter
        self._places = places

    async def run(self, job: Running) -> None:
        """Export what `job.params` name; see Runner."""
        params = job.params
        job.progress(0, None, "looking")
        leaving = await self._exporter.leaving(params["studies"], params["series"], job.sights)
        if not leaving.objects:
            raise NothingToExport("Nothing of what was named is there.")
        began = bool(job.state)
        job.progress(0, len(leaving.objects), "exporting")
        await job.checkpoint({"began": True})
        match params["to"]:
            case "folder":
                await self._to_folder(job, leaving, again=began)
            case "iso":
                await self._to_image(job, leaving)
            case _:
                await self._to_zip(job, leaving)

    async def _to_zip(self, job: Running, leaving: Leaving) -> None:
        await job.reserve(leaving.size + PER_OBJECT * len(leaving.objects))
        path = await job.folder() / "export.zip"
        async with FileWriter(path) as file:
            manner = manner_of(job.params)
            await self._exporter.write(leaving, manner, ZipSink(file.send), _Told(job))
        await job.add_result(path, name=f"export-{job.id}.zip", media_type="application/zip")

    async def _to_image(self, job: Running, leaving: Leaving) -> None:
        size = leaving.size + PER_OBJECT * len(leaving.objects)
        await job.reserve(2 * size + IMAGE_OVERHEAD)
        folder = await job.folder()
        medium, image = folder / "medium", folder / "export.iso"
        await asyncio.to_thread(_fresh, medium)
        manner = manner_of(job.params)
        await self._exporter.write(leaving, manner, FolderSink(medium), _Told(job))
        job.progress(len(leaving.objects), len(leaving.objects), "writing-image")
        await asyncio.to_thread(write_image, medium, image, label="SCRIGNO")
        await job.add_result(
            image, name=f"export-{job.id}.iso", media_type="application/x-iso9660-image"
        )

    async def _to_folder(self, job: Running, leaving: Leaving, *, again: bool) -> None:
        places = self._places()
        path = places.require(job.params["path"])
        async with _opened(places, path) as folder:
            if not again:
                await asyncio.to_thread(_require_free, folder)
            await asyncio.to_thread(_require_room, folder, leaving.size)
            manner = manner_of(job.params)
            sink = FolderSink(folder, again=again)
            await self._exporter.write(leaving, manner, sink, _Told(job))


@asynccontextmanager
async def _opened(places: Places, path: Path) -> AsyncIterator[Path]:
    """Yield a name of the folder that stays the same folder whatever happens to its path."""
    root = places.root_of(path)
    assert root is not None  # noqa: S101 - it was allowed
    opening = descend(root, path.relative_to(root).parts)
    try:
        fd = await asyncio.to_thread(opening.__enter__)
    except OSError as error:
        raise ExportFailed(f"The target cannot be used: {words(error)}") from error
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        with suppress(OSError):
            await asyncio.shield(asyncio.to_thread(opening.__exit__, None, None, None))


def _fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _require_free(folder: Path) -> None:
    names = {each.name.upper() for each in folder.iterdir()}
    taken = [name for name in _OURS if name in names]
    if taken:
        raise TargetNotEmpty(
            f"There is a {taken[0]} already.", next_step="Choose an empty folder or another medium."
        )


def _require_room(folder: Path, size: int) -> None:
    space = os.statvfs(folder)
    if space.f_bavail * space.f_frsize < size:
        raise ExportFailed(
            f"The target has {space.f_bavail * space.f_frsize >> 20} MiB free, "
            f"{size >> 20} MiB are needed.",
            next_step="Choose a larger medium, or export less at once.",
        )
