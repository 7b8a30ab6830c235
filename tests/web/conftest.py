# SPDX-License-Identifier: Apache-2.0
"""The whole box in this process, on ports of its own, and a client that speaks to its pages."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from blockbuster import BlockBuster

from declared_answers import checked
from made_objects import write_series
from ports import free_port
from scrigno.app.logs import Logs
from scrigno.app.parts import Parts, start
from scrigno.app.starter import Starter
from scrigno.settings.boot import parse_config
from scrigno.settings.schema import LogConfig, LogLevel

CONFIG = """
state_dir: {root}/state
staging_dir: {root}/staging
web: {{host: 127.0.0.1, port: 0, tls_port: {tls}}}
initial:
  volumes:
    - {{name: data, role: data, path: {root}/data}}
    - {{name: backup1, role: backup, path: {root}/backup1}}
  dicom:
    providers:
      - {{name: Scrigno, ae_title: SCRIGNO, port: {dicom}, host: 127.0.0.1, unregistered: hold}}
  ingest: {{ack_copies: 2, count_shared_device: true}}
"""
USER = "anna"
PASSWORD = "corretto cavallo batteria"


@dataclass
class Box:
    """A running box and an anonymous client for it."""

    parts: Parts
    root: Path
    url: str
    http: aiohttp.ClientSession

    def api(self, path: str) -> str:
        return f"{self.url}/viewer/api{path}"

    async def take_in(self, *, images: int = 2, patient: int = 0, size: int = 64) -> list[str]:
        """Import a made study; returns the SOP Instance UIDs in their order."""
        folder = self.root / f"incoming-{patient}-{images}"
        made = await asyncio.to_thread(
            write_series, folder, images=images, patient=patient, size=size
        )
        report = await self.parts.importer.import_paths([folder])
        assert report.new == images, report
        return list(made)


@dataclass
class Client:
    """Somebody who is logged in by bearer token."""

    box: Box
    token: str
    uids: list[list[str]] = field(default_factory=list)  # of the images of each study

    async def ask(
        self, method: str, path: str, *, status: int = 200, **more
    ) -> aiohttp.ClientResponse:
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        answer = await self.box.http.request(method, self.box.api(path), headers=headers, **more)
        assert answer.status == status, (path, answer.status, await answer.text())
        return answer

    async def json(self, method: str, path: str, *, status: int = 200, **more):
        return await (await self.ask(method, path, status=status, **more)).json(content_type=None)


@pytest.fixture(autouse=True)
def _answers_are_as_declared() -> Iterator[None]:
    """Hold every answer against the type that its route declares."""
    with checked():
        yield


@pytest.fixture
def _proc_may_be_read(_no_blocking_calls_in_the_loop: BlockBuster) -> None:
    """Let the app look for its pages once, and the gauges read /proc, which is no disk."""
    for function in _no_blocking_calls_in_the_loop.functions.values():
        function.can_block_in("scrigno/app/facts.py", {"__init__", "gauges"})
        function.can_block_in("scrigno/app/places.py", {"pages_folder"})


@asynccontextmanager
async def running(root: Path, *, tls_port: str = "null") -> AsyncIterator[Box]:
    """Run a new box below `root`; `tls_port` 0 serves https on a free port too."""
    for name in ("state", "staging", "data", "backup1"):
        (root / name).mkdir(parents=True)
    logs = Logs(LogConfig(level=LogLevel.INFO))
    starter = Starter()
    try:
        parts = await start(
            parse_config(CONFIG.format(root=root, dicom=free_port(), tls=tls_port), source="test"),
            logs,
            starter,
        )
        jar = aiohttp.CookieJar(unsafe=True)  # cookies of an address without a name
        async with aiohttp.ClientSession(cookie_jar=jar) as http:
            yield Box(parts, root, f"http://127.0.0.1:{parts.web_ports[0]}", http)
    finally:
        await starter.stop()
        await asyncio.to_thread(logs.close)


async def administrator(box: Box) -> Client:
    """Claim the box and log in."""
    await box.parts.access.claim_locally(USER, PASSWORD)
    made = await box.parts.access.login(USER, PASSWORD, address="127.0.0.1")
    return Client(box, made.token)


@pytest.fixture
async def box(tmp_path: Path, _proc_may_be_read: None) -> AsyncIterator[Box]:
    """A new box for one test."""
    async with running(tmp_path / "box") as made:
        yield made


@pytest.fixture
async def anna(box: Box) -> Client:
    """The administrator of the new box."""
    return await administrator(box)


@pytest.fixture
async def secure_box(tmp_path: Path, _proc_may_be_read: None) -> AsyncIterator[Box]:
    """A new box that serves https too."""
    async with running(tmp_path / "box", tls_port="0") as made:
        yield made


@pytest.fixture
async def secure_anna(secure_box: Box) -> Client:
    """Its administrator."""
    return await administrator(secure_box)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def archive(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """The administrator of a box that the tests of one module share and only read.

    It holds four studies of four patients, with 1, 2, 3 and 4 images.
    """
    async with running(tmp_path_factory.mktemp("shared") / "box") as made:
        client = await administrator(made)
        for patient in range(4):
            client.uids.append(await made.take_in(images=1 + patient, patient=patient, size=256))
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def claimed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """The administrator of an empty box that the tests of one module share."""
    async with running(tmp_path_factory.mktemp("claimed") / "box") as made:
        yield await administrator(made)
