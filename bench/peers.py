# SPDX-License-Identifier: Apache-2.0
"""The servers that are measured beside Scrigno: Orthanc, dcmqrscp, storescp.

Every peer runs with the durability it has by default and its whole archive in one folder of the
disk that Scrigno writes to. "Tuned" means Nagle off and 128 KB PDUs, "stock" what a package
installs.
"""

from __future__ import annotations

import json
import shutil
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

from typing_extensions import override

from .clients import CALLING_AE, DESTINATION_AE, STORESCP, free_port, try_association
from .process import Program, environment, output_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

START_S = 30.0
POLL_S = 0.002


class StartFailed(RuntimeError):
    """A server did not accept an association within START_S; the text ends with its log."""


@dataclass(slots=True, kw_only=True)
class Server:
    """One server on one archive: started on entry, stopped on exit, and restartable in between."""

    name: str
    argv: Sequence[str]
    env: dict[str, str]
    log: Path
    port: int
    ae_title: str
    images: Callable[[], int]
    owed_images: Callable[[], int] | None = None  # on volumes that are paid after the Success
    _program: Program | None = field(default=None, init=False)

    @property
    def program(self) -> Program:
        if self._program is None:
            raise StartFailed(f"{self.name}: is not running")
        return self._program

    def start(self) -> float:
        """Seconds from the start of the process to the first accepted association."""
        began = time.perf_counter()
        self._program = Program(self.argv, env=self.env, log=self.log)
        while not try_association(self.port, self.ae_title):
            if self._program.ended or time.perf_counter() - began > START_S:
                words = self._program.tail()
                self.stop()
                raise StartFailed(f"{self.name}: accepts no association\n{words}")
            time.sleep(POLL_S)
        return time.perf_counter() - began

    def launch(self) -> None:
        """Start the process and do not wait for anything."""
        self._program = Program(self.argv, env=self.env, log=self.log)

    def stop(self) -> None:
        if self._program is not None:
            self._program.stop()
            self._program = None

    def kill(self) -> None:
        self.program.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Peer(ABC):
    """A kind of server: what it can do, what it needs, and how it is set up in an empty folder."""

    name: ClassVar[str]
    services: ClassVar[frozenset[str]]
    binary: ClassVar[str]
    package: ClassVar[str]

    def missing(self) -> str | None:
        """What to install, or None when the peer is here."""
        if shutil.which(self.binary):
            return None
        return f"{self.name} is missing: apt-get install {self.package}"

    @abstractmethod
    def describe(self) -> str:
        """Version and durability, one line for the report."""

    @abstractmethod
    def server(
        self, home: Path, *, tuned: bool, destination: int = 0, buffer_bytes: int = 0
    ) -> Server:
        """A server not yet started, on a new archive in `home`; `destination` is a C-MOVE port."""


class Orthanc(Peer):
    name = "orthanc"
    services = frozenset({"store", "find", "move", "get"})
    binary = "/usr/sbin/Orthanc"
    package = "orthanc"

    @override
    def describe(self) -> str:
        version = output_of([self.binary, "--version"]).partition("\n")[0]
        return f"{version}, plug-ins off, SyncStorageArea true (its default: fsync of each file)"

    @override
    def server(
        self, home: Path, *, tuned: bool, destination: int = 0, buffer_bytes: int = 0
    ) -> Server:
        storage, port = home / "storage", free_port()
        settings = {
            "Name": "bench",
            "StorageDirectory": str(storage),
            "IndexDirectory": str(storage),
            "Plugins": [],
            "HttpServerEnabled": False,
            "DicomAet": "ORTHANC",
            "DicomPort": port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "MaximumPduLength": 131072 if tuned else 16384,
            "DicomModalities": {
                "bench": [CALLING_AE, "127.0.0.1", 104],
                "destination": [DESTINATION_AE, "127.0.0.1", destination or 104],
            },
        }
        config = home / "orthanc.json"
        config.write_text(json.dumps(settings, indent=1))
        return Server(
            name=self.name,
            argv=[self.binary, str(config)],
            env=environment(tuned=tuned, buffer_bytes=buffer_bytes),
            log=home / "orthanc.log",
            port=port,
            ae_title="ORTHANC",
            images=lambda: _files(storage, but=("index",)),
        )


class Dcmqrscp(Peer):
    name = "dcmqrscp"
    services = frozenset({"store", "find", "move", "get"})
    binary = "/usr/bin/dcmqrscp"
    package = "dcmtk"

    @override
    def describe(self) -> str:
        return f"{_dcmtk_version(self.binary)}, one process per association, never syncs"

    @override
    def server(
        self, home: Path, *, tuned: bool, destination: int = 0, buffer_bytes: int = 0
    ) -> Server:
        storage, port = home / "storage", free_port()
        storage.mkdir()
        config = home / "dcmqrscp.cfg"
        config.write_text(
            f"NetworkTCPPort = {port}\n"
            f"MaxPDUSize = {131072 if tuned else 16384}\n"
            "MaxAssociations = 64\n"
            "HostTable BEGIN\n"
            f"destination = ({DESTINATION_AE}, localhost, {destination or 104})\n"
            f"bench = ({CALLING_AE}, localhost, 104)\n"
            "HostTable END\nVendorTable BEGIN\nVendorTable END\n"
            "AETable BEGIN\n"
            f"DCMQRSCP {storage} RW (100000, 1024mb) ANY\n"
            "AETable END\n"
        )
        return Server(
            name=self.name,
            argv=[self.binary, "-c", str(config)],
            env=environment(tuned=tuned, buffer_bytes=buffer_bytes),
            log=home / "dcmqrscp.log",
            port=port,
            ae_title="DCMQRSCP",
            images=lambda: _files(storage, but=("index.dat",)),
        )


class Storescp(Peer):
    name = "storescp"
    services = frozenset({"store"})
    binary = STORESCP
    package = "dcmtk"

    @override
    def describe(self) -> str:
        return f"{_dcmtk_version(self.binary)}, writes files, no index, never syncs"

    @override
    def server(
        self, home: Path, *, tuned: bool, destination: int = 0, buffer_bytes: int = 0
    ) -> Server:
        storage, port = home / "storage", free_port()
        storage.mkdir()
        pdu = ["-pdu", "131072"] if tuned else []
        return Server(
            name=self.name,
            argv=[self.binary, "--fork", "-od", str(storage), *pdu, str(port)],
            env=environment(tuned=tuned, buffer_bytes=buffer_bytes),
            log=home / "storescp.log",
            port=port,
            ae_title="STORESCP",
            images=lambda: _files(storage, but=()),
        )


def _files(folder: Path, *, but: tuple[str, ...]) -> int:
    return sum(
        1 for path in folder.rglob("*") if path.is_file() and not path.name.startswith(but or "\0")
    )


def _dcmtk_version(binary: str) -> str:
    return output_of([binary, "--version"]).partition("\n")[0].replace("$dcmtk: ", "").strip(" $")
