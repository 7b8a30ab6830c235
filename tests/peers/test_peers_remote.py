# SPDX-License-Identifier: Apache-2.0
"""Query and retrieve at DCMTK's archive: every level, limits, character sets, C-MOVE and C-GET."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE, evt

from made_objects import PATIENTS, write_series
from ports import free_port
from running_node import RunningNode, data_set_bytes, run, running_node
from scrigno.catalogue.query import Level
from scrigno.core.clock import SystemClock
from scrigno.jobs.jobs import Jobs
from scrigno.jobs.model import ENDED, Job
from scrigno.node.remote import own_ae_title
from scrigno.node.remote_query import QueryRefused, RemoteQuery
from scrigno.node.remote_retrieve import RetrieveRunner
from scrigno.settings.schema import Peer

STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"


@dataclass
class Pacs:
    """DCMTK's dcmqrscp."""

    port: int
    studies: dict[str, dict[str, Path]]

    def peer(self) -> Peer:
        return Peer(name="pacs", ae_title="QR", host="127.0.0.1", port=self.port)


@asynccontextmanager
async def pacs_running(root: Path, box: RunningNode) -> AsyncIterator[Pacs]:
    """Run dcmqrscp, which knows the box by address, with three studies."""
    (root / "db").mkdir(parents=True)
    port = free_port()
    config = root / "dcmqrscp.cfg"
    config.write_text(
        f"""
NetworkTCPPort  = {port}
MaxPDUSize      = 16384
MaxAssociations = 16
HostTable BEGIN
box = (SCRIGNO, 127.0.0.1, {box.port})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QR {root / "db"} RW (10, 1024mb) ANY
AETable END
"""
    )
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/dcmqrscp",
        "-c",
        str(config),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=root,
    )
    try:
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                break
        studies = {}
        for patient in (0, 1, 3):
            paths = write_series(
                root / f"sent{patient}", images=2 + patient, patient=patient, size=16
            )
            await run("storescu", "-aec", "QR", "127.0.0.1", str(port), *map(str, paths.values()))
            first = dcmread(next(iter(paths.values())), stop_before_pixels=True)
            studies[str(first.StudyInstanceUID)] = paths
        yield Pacs(port, studies)
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[RunningNode]:
    async with running_node(tmp_path / "box") as running:
        yield running


@pytest.fixture
async def pacs(tmp_path: Path, box: RunningNode) -> AsyncIterator[Pacs]:
    async with pacs_running(tmp_path / "pacs", box) as running:
        await box.change(peers=(running.peer(),))
        yield running


@pytest.fixture
def query(box: RunningNode) -> RemoteQuery:
    return RemoteQuery(
        ae_title=lambda: own_ae_title(box.settings),
        default_character_set=lambda: "ISO_IR 100",
        clock=SystemClock(),
        counters=box.counters,
    )


@pytest.fixture
async def jobs(box: RunningNode) -> AsyncIterator[Jobs]:
    made = Jobs(
        box.root / "state",
        box.root / "spool",
        bus=box.bus,
        clock=SystemClock(),
        counters=box.counters,
    )
    made.register(
        RetrieveRunner(
            settings=box.settings,
            ingest=box.ingest,
            catalogue=box.catalogue,
            ae_title=lambda: own_ae_title(box.settings),
            bus=box.bus,
            counters=box.counters,
        )
    )
    await made.open()
    made.start_all()
    yield made
    await made.close()


async def ended(jobs: Jobs, job: Job, within_s: float = 40) -> Job:
    async with asyncio.timeout(within_s):
        while (job := await jobs.get(job.id)).state not in ENDED:
            await asyncio.sleep(0.02)
    return job


async def fetched(jobs: Jobs, node: str, how: str, *wanted: dict[str, str]) -> Job:
    params = {"node": node, "how": how, "wanted": list(wanted)}
    return await ended(jobs, await jobs.start("retrieve", author="anna", title="t", params=params))


@pytest.mark.spec("DN-9")
async def test_a_remote_archive_is_asked_at_every_level(pacs: Pacs, query: RemoteQuery) -> None:
    peer = pacs.peer()
    found = await query.find(peer, Level.STUDY, {}, limit=100, timeout_s=20)
    assert (found.code, found.complete) == ("", True), found
    assert {row["StudyInstanceUID"] for row in found.rows} == set(pacs.studies)
    names = {row["PatientID"]: row["PatientName"] for row in found.rows}
    for patient in (0, 1, 3):  # Latin, Japanese with code extensions, UTF-8
        assert names[PATIENTS[patient][2]] == PATIENTS[patient][0]
    (study, paths) = next(iter(pacs.studies.items()))
    series = await query.find(
        peer, Level.SERIES, {"StudyInstanceUID": study}, limit=100, timeout_s=20
    )
    (one,) = series.rows
    assert one["Modality"] == "CT"
    keys = {"StudyInstanceUID": study, "SeriesInstanceUID": one["SeriesInstanceUID"]}
    images = await query.find(peer, Level.IMAGE, keys, limit=100, timeout_s=20)
    assert {row["SOPInstanceUID"] for row in images.rows} == set(paths)
    patients = await query.find(
        peer, Level.PATIENT, {"PatientName": "Rossi*"}, limit=100, timeout_s=20
    )
    assert [row["PatientID"] for row in patients.rows] == ["IT-001"]


@pytest.mark.spec("DN-9")
async def test_a_query_stops_at_its_limit_and_says_that_there_is_more(
    pacs: Pacs, query: RemoteQuery
) -> None:
    found = await query.find(pacs.peer(), Level.STUDY, {}, limit=2, timeout_s=20)
    assert len(found.rows) == 2
    assert (found.code, found.complete) == ("", False)


@pytest.mark.spec("DN-9")
async def test_a_node_that_answers_slowly_is_told_to_stop(query: RemoteQuery) -> None:
    import time

    cancelled: list[bool] = []

    def find(event: evt.Event):
        for number in range(200):
            if event.is_cancelled:
                cancelled.append(True)
                yield 0xFE00, None
                return
            time.sleep(0.05)
            answer = event.identifier
            answer.StudyInstanceUID = f"1.2.{number}"
            yield 0xFF00, answer

    entity = AE(ae_title="SLOW")
    entity.add_supported_context(STUDY_FIND)
    port = free_port()
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_FIND, find)]
    )
    try:
        peer = Peer(name="slow", ae_title="SLOW", host="127.0.0.1", port=port)
        found = await query.find(peer, Level.STUDY, {}, limit=1000, timeout_s=1)
        assert found.code == "timeout"
        assert found.rows
        found = await query.find(peer, Level.STUDY, {}, limit=3, timeout_s=20)
        assert len(found.rows) == 3
        async with asyncio.timeout(10):
            while len(cancelled) < 2:
                await asyncio.sleep(0.05)
    finally:
        server.shutdown()


@pytest.mark.spec("DN-9")
async def test_what_cannot_be_asked_is_refused_and_who_does_not_answer_is_named(
    query: RemoteQuery,
) -> None:
    peer = Peer(name="away", ae_title="AWAY", host="127.0.0.1", port=free_port())
    with pytest.raises(QueryRefused):
        await query.find(peer, Level.STUDY, {"PixelData": "1"}, limit=1, timeout_s=1)
    with pytest.raises(QueryRefused):
        await query.find(peer, Level.IMAGE, {"StudyInstanceUID": "1.2"}, limit=1, timeout_s=1)
    found = await query.find(peer, Level.STUDY, {}, limit=1, timeout_s=5)
    assert (found.code, found.complete, found.rows) == ("dicom-connect-failed", False, ())


@pytest.mark.spec("DN-9")
@pytest.mark.parametrize("how", ["move", "get"])
async def test_studies_and_series_are_fetched_byte_for_byte(
    box: RunningNode, pacs: Pacs, jobs: Jobs, query: RemoteQuery, how: str
) -> None:
    (one, one_paths), (two, two_paths), (three, _) = pacs.studies.items()
    series = await query.find(
        pacs.peer(), Level.SERIES, {"StudyInstanceUID": two}, limit=9, timeout_s=20
    )
    job = await fetched(
        jobs,
        "pacs",
        how,
        {"study": one},
        {"study": two, "series": series.rows[0]["SeriesInstanceUID"]},
    )
    assert (job.state, job.counts, job.failed_items) == (
        "done",
        {"received": len(one_paths) + len(two_paths)},
        0,
    ), (job, await jobs.items(job.id))
    for study, paths in ((one, one_paths), (two, two_paths)):
        assert len(await box.catalogue.instances(study)) == len(paths)
    for uid, path in one_paths.items():
        assert data_set_bytes(box.stored_file(uid)) == data_set_bytes(path)
    assert await box.catalogue.instances(three) == []


@pytest.mark.spec("DN-9")
async def test_what_does_not_come_is_named_with_its_reason(
    box: RunningNode, pacs: Pacs, jobs: Jobs
) -> None:
    job = await fetched(jobs, "pacs", "move", {"study": "1.2.3.4.5"})
    # DCMTK answers success with no sub-operation: nothing failed, nothing came
    assert job.failed_items == 0
    assert job.counts.get("received", 0) == 0
    await box.change(peers=(Peer(name="pacs", ae_title="QR", host="127.0.0.1", port=1),))
    study = next(iter(pacs.studies))
    params = {"node": "pacs", "how": "move", "wanted": [{"study": study}]}
    started = await jobs.start("retrieve", author="anna", title="t", params=params)
    job = await ended(jobs, started)
    assert (job.state, job.code) == ("failed", "retrieve-failed")
    (item,) = await jobs.items(job.id)
    assert (item.name, item.code) == (study, "dicom-connect-failed")
