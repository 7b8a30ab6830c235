# SPDX-License-Identifier: Apache-2.0
"""Jobs as the settings want them, behind clinical work, and for people who may still do it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from scrigno.access.access import Access
from scrigno.archive.export_job import ExportRunner
from scrigno.archive.exporter import Exporter
from scrigno.archive.import_desk import ImportDesk
from scrigno.archive.import_job import ImportRunner
from scrigno.archive.import_sources import ImportSources
from scrigno.archive.import_trees import Places
from scrigno.archive.import_uploads import Uploads
from scrigno.core.clock import Clock
from scrigno.core.counters import Counters
from scrigno.core.sight import Sight
from scrigno.imaging.workers import ImagingPool
from scrigno.jobs.jobs import Jobs
from scrigno.jobs.model import Job, JobState
from scrigno.settings.schema import BootConfig
from scrigno.settings.store import SettingsStore

from .archive_parts import ArchiveParts
from .stores import Common, Stores

QUIET_S: Final = 1.0  # without an image from a modality for this long, jobs take all they can get
MOST_JOBS: Final = 1000
_GO_ON: Final = (JobState.WAITING, JobState.RUNNING, JobState.PAUSED, JobState.FAILED)
OPERATOR: Final = "operator"  # whoever may use the control socket


def make_jobs(config: BootConfig, settings: SettingsStore, common: Common) -> Jobs:
    """Make the room; its runners are registered before `start_all`."""

    def days(count: Callable[[], int]) -> Callable[[], timedelta]:
        return lambda: timedelta(days=count())

    return Jobs(
        config.state_dir,
        config.staging_dir / "jobs",
        bus=common.bus,
        clock=common.clock,
        counters=common.counters,
        keep=days(lambda: settings.current.transfer.jobs_days),
        keep_results=days(lambda: settings.current.transfer.results_days),
        results_bytes=lambda: settings.current.transfer.results_gib << 30,
    )


def make_uploads(config: BootConfig, settings: SettingsStore, common: Common) -> Uploads:
    """Make the place for files on their way from browsers."""
    return Uploads(
        config.staging_dir / "uploads",
        clock=common.clock,
        capacity_bytes=lambda: settings.current.transfer.uploads_gib << 30,
        keep=lambda: timedelta(hours=settings.current.transfer.uploads_hours),
    )


def tie_jobs(
    jobs: Jobs,
    settings: SettingsStore,
    stores: Stores,
    archive: ArchiveParts,
    imaging: ImagingPool,
    uploads: Uploads,
    exporter: Exporter,
    config: BootConfig,
    common: Common,
) -> ImportDesk:
    """Let jobs know what they must, and who does them; before `start_all`."""

    def places() -> Places:
        volumes = tuple(volume.path for volume in settings.current.volumes)
        return Places(
            roots=settings.current.transfer.roots,
            ours=(*volumes, config.state_dir, config.staging_dir),
        )

    sources = ImportSources(places=places, uploads=uploads, imaging=imaging)
    jobs.register(
        ImportRunner(
            ingest=archive.ingest,
            catalogue=stores.catalogue,
            clock=common.clock,
            make_tree=sources.open,
            forget=sources.forget,
        )
    )
    jobs.register(ExportRunner(exporter=exporter, places=places))
    jobs.busy = ClinicalWork(common.counters, common.clock).busy

    async def standing(job: Job) -> tuple[str, Sight | None]:
        return await standing_of(stores.access, job, jobs.needs(job.kind))

    async def purge_uploads() -> None:
        kept = await jobs.page(kinds=[ImportRunner.kind], states=_GO_ON, limit=MOST_JOBS)
        used = {upload for job in kept for upload in job.params.get("uploads", ())}
        uploads.in_use = used.__contains__
        await uploads.purge()

    jobs.also_purge.append(purge_uploads)
    jobs.standing = standing
    return ImportDesk(jobs=jobs, sources=sources, uploads=uploads, places=places)


class ClinicalWork:
    """Knows whether images arrive from modalities: imports by people are not counted."""

    def __init__(self, counters: Counters, clock: Clock) -> None:
        """Look at the counters whenever somebody asks."""
        self._counters = counters
        self._clock = clock
        self._seen = self._arrived()
        self._seen_at = float("-inf")

    def _arrived(self) -> float:
        return sum(
            value
            for name, labels, value in self._counters
            if name == "ingest_objects" and labels.get("door") != "import"
        )

    def busy(self) -> bool:
        """Tell whether one came within the last second or so."""
        arrived, now = self._arrived(), self._clock.monotonic()
        if arrived != self._seen:
            self._seen, self._seen_at = arrived, now
        return now - self._seen_at < QUIET_S


async def standing_of(access: Access, job: Job, needs: str) -> tuple[str, Sight | None]:
    """Return why the author may not do the job (any more), "" when he may, and what he sees."""
    if job.author == OPERATOR:
        return "", None
    accounts = {account.name: account for account in await access.accounts.all()}
    account = accounts.get(job.author)
    if account is None or account.disabled:
        return "The account that started it is gone or disabled.", None
    if needs and needs not in account.permissions:
        return f"The account that started it no longer has the right “{needs}”.", None
    return "", account.sight
