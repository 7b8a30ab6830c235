# SPDX-License-Identifier: Apache-2.0
"""DICOMweb beside Orthanc's plug-in, side by side in one run: `python -m bench.dicomweb`.

Both hold the same CT study. One client process asks over kept-alive connections, the legs A B A B.
"Fresh" pictures have a window that nobody asked for before, so no cache helps; "again" are the same
pictures once more. With --stream GB it also shows the memory of Scrigno's main process while that
much goes out to a slow reader.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess  # noqa: TID251 - the benches start programs from outside the product
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from . import machine, objects
from .clients import free_port
from .own import COMMAND
from .process import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Leg = Callable[["Server"], tuple[list[str], str]]

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
BUDGETS = {"frames": 5.0, "frames of a film": 5.0, "rendered fresh": 3.0}  # times Orthanc's rate
STORED = "multipart/related; type=application/octet-stream; transfer-syntax=*"
WHOLE = 'multipart/related; type="application/dicom"; transfer-syntax=*'


@dataclass
class Server:
    """One running server with the study in it."""

    name: str
    program: Program
    port: int
    headers: dict[str, str] = field(default_factory=dict)
    rounds: int = 0

    def get(self, path: str, accept: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            return ask(connection, self, path, accept)
        finally:
            connection.close()


def ask(connection: http.client.HTTPConnection, server: Server, path: str, accept: str) -> bytes:
    connection.request("GET", f"/dicom-web{path}", headers={"Accept": accept, **server.headers})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{server.name}: {path}: {answer.status} {content[:200]!r}")
    return content


def orthanc(home: Path) -> Server:
    port = free_port()
    settings = {
        "StorageDirectory": str(home / "storage"), "IndexDirectory": str(home / "storage"),
        "Plugins": [str(PLUGIN)], "HttpPort": port, "DicomServerEnabled": False,
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "KeepAlive": True,
        "TcpNoDelay": True, "HttpThreadsCount": 50,
        "DicomWeb": {"Enable": True, "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
    }  # fmt: skip
    (home / "orthanc.json").write_text(json.dumps(settings))
    program = Program(["/usr/sbin/Orthanc", str(home / "orthanc.json")], env=dict(os.environ),
                      log=home / "log")  # fmt: skip
    return Server("orthanc", program, port)


def scrigno(home: Path) -> Server:
    port = free_port()
    for name in ("data", "backup1"):
        (home / name).mkdir()
    config = {
        "state_dir": str(home / "state"), "staging_dir": str(home / "staging"),
        "web": {"host": "127.0.0.1", "port": port, "tls_port": None},
        "initial": {
            "volumes": [{"name": name, "role": role, "path": str(home / name)}
                        for name, role in (("data", "data"), ("backup1", "backup"))],
            "dicom": {"providers": []},
            "ingest": {"ack_copies": 2, "count_shared_device": True},
        },
    }  # fmt: skip
    (home / "scrigno.yaml").write_text(json.dumps(config))  # JSON is YAML
    program = Program(
        [str(COMMAND), "serve", "--config", str(home / "scrigno.yaml")],
        env=dict(os.environ), log=home / "log",
    )  # fmt: skip
    wait_for(port)
    words = {"input": "corretto cavallo batteria\n", "text": True, "check": True}
    subprocess.run(
        [str(COMMAND), "claim", "--config", str(home / "scrigno.yaml"), "--user", "bench"],
        capture_output=True, **words,
    )  # fmt: skip
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/viewer/api/login",
        data=json.dumps({"user": "bench", "password": words["input"].strip()}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        token = json.load(answer)["token"]
    return Server("scrigno", program, port, {"Authorization": f"Bearer {token}"})


def wait_for(port: int) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("a server does not answer")


def store(server: Server, files: Sequence[Path]) -> float:
    """STOW-RS, twenty objects in a request; return the seconds."""
    wait_for(server.port)
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    for place in range(0, len(files), 20):
        body = b"".join(
            b"--xx\r\nContent-Type: application/dicom\r\n\r\n" + each.read_bytes() + b"\r\n"
            for each in files[place : place + 20]
        ) + b"--xx--\r\n"  # fmt: skip
        connection.request("POST", "/dicom-web/studies", body, {
            "Content-Type": 'multipart/related; type="application/dicom"; boundary=xx',
            "Accept": "application/dicom+json", **server.headers})  # fmt: skip
        answer = connection.getresponse()
        answer.read()
        if answer.status not in (200, 202):
            raise RuntimeError(f"{server.name}: STOW-RS answered {answer.status}")
    connection.close()
    return time.perf_counter() - began


def rate(server: Server, paths: Sequence[str], accept: str, connections: int) -> float:
    """Ask for all paths over some connections; return answers in a second."""
    parts = [paths[number::connections] for number in range(connections)]
    failures: list[Exception] = []

    def work(mine: Sequence[str]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        try:
            for path in mine:
                ask(connection, server, path, accept)
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(each,)) for each in parts]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return len(paths) / (time.perf_counter() - began)


def legs(
    study: str, instances: Sequence[str]
) -> dict[str, Callable[[Server], tuple[list[str], str]]]:
    def fresh(server: Server) -> tuple[list[str], str]:
        server.rounds += 1
        window = f"window=40,{400 + server.rounds},linear"
        return [f"{each}/frames/1/rendered?{window}" for each in instances], "image/jpeg"

    def again(server: Server) -> tuple[list[str], str]:
        window = f"window=40,{400 + server.rounds},linear"
        return [f"{each}/frames/1/rendered?{window}" for each in instances], "image/jpeg"

    return {
        "frames": lambda _: ([f"{each}/frames/1" for each in instances], STORED),
        "instance": lambda _: (list(instances), WHOLE),
        "rendered fresh": fresh,
        "rendered again": again,
        "instance metadata": lambda _: (
            [f"{each}/metadata" for each in instances], "application/dicom+json"),
        "study metadata": lambda _: ([f"{study}/metadata"], "application/dicom+json"),
    }  # fmt: skip


def compare(servers: Sequence[Server], files: Sequence[Path], options: argparse.Namespace) -> bool:
    times = {server.name: store(server, files) for server in servers}
    print(f"STOW-RS of {len(files)} CT: " + ", ".join(f"{n} {s:.2f} s" for n, s in times.items()))
    found = json.loads(servers[0].get("/instances?limit=5000", "application/dicom+json"))
    study = f"/studies/{found[0]['0020000D']['Value'][0]}"
    instances = [
        f"{study}/series/{each['0020000E']['Value'][0]}/instances/{each['00080018']['Value'][0]}"
        for each in found
    ]
    good = True
    film = make_film(files[0], options.film)
    for server in servers:
        store(server, [film])
    every = legs(study, instances)
    uids = identity(film)
    path = f"/studies/{uids[0]}/series/{uids[1]}/instances/{uids[2]}/frames"
    every["frames of a film"] = lambda _: (
        [f"{path}/{number + 1}" for number in range(0, options.film, 5)], STORED)  # fmt: skip
    for name, leg in every.items():
        if options.only and options.only not in name:
            continue
        for connections in (1, 4):
            seen: dict[str, list[float]] = {}
            cpu: dict[str, list[float]] = {}
            for _ in range(options.pairs):
                for server in servers:
                    paths, accept = leg(server)
                    before = server.program.cpu_s()
                    seen.setdefault(server.name, []).append(
                        rate(server, paths, accept, connections)
                    )
                    used = 1000 * (server.program.cpu_s() - before) / len(paths)
                    cpu.setdefault(server.name, []).append(used)
            medians = {each: statistics.median(values) for each, values in seen.items()}
            line = f"{name:18} {connections} conn: " + "  ".join(
                f"{each} {value:8.1f}/s {statistics.median(cpu[each]):6.2f} ms cpu"
                for each, value in medians.items()
            )
            if "orthanc" in medians:
                ratio = medians["scrigno"] / medians["orthanc"]
                budget = BUDGETS.get(name)
                line += f"  = {ratio:.1f} x"
                if budget is not None:
                    line += f" (budget {budget:g})"
                    good = good and ratio >= budget
            print(line, flush=True)
    return good


def stream(server: Server, place: Path, size_gb: float) -> None:
    """Show the memory of the main process while a large study goes to a slow reader."""
    count = max(1, int(size_gb * 1e9 / (2 * 4096 * 4096)))
    files = make_large(place / "large", count)
    study = store_large(server, files)
    before = server.program.main_rss_bytes()
    most, read = before, 0
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.request(
        "GET", f"/dicom-web/studies/{study}", headers={"Accept": WHOLE, **server.headers}
    )
    answer = connection.getresponse()
    began = time.perf_counter()
    while chunk := answer.read(1 << 20):
        read += len(chunk)
        time.sleep(0.005)  # at most 200 MB in a second
        most = max(most, server.program.main_rss_bytes())
    seconds = time.perf_counter() - began
    print(
        f"{read / 1e9:.2f} GB to a slow reader in {seconds:.1f} s: the main process had "
        f"{before / 1e6:.0f} MB before and {most / 1e6:.0f} MB at most"
    )


def make_film(model: Path, frames: int) -> Path:
    """Write one object with that many frames of 512 KB."""
    import pydicom

    dataset = pydicom.dcmread(model)
    dataset.NumberOfFrames = frames
    dataset.StudyInstanceUID = pydicom.uid.generate_uid()
    dataset.SeriesInstanceUID = pydicom.uid.generate_uid()
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PixelData = dataset.PixelData * frames
    path = model.parent.parent / "film.dcm"
    dataset.save_as(path)
    return path


def identity(file: Path) -> tuple[str, str, str]:
    import pydicom

    found = pydicom.dcmread(file, stop_before_pixels=True)
    return found.StudyInstanceUID, found.SeriesInstanceUID, found.SOPInstanceUID


def make_large(folder: Path, count: int) -> list[Path]:
    images = objects.make_ct(folder / "model", 1)
    [model] = [path for path in folder.rglob("*") if path.is_file()][:1]
    import pydicom

    del images
    dataset = pydicom.dcmread(model)
    dataset.Rows = dataset.Columns = 4096
    dataset.StudyInstanceUID = pydicom.uid.generate_uid()
    dataset.SeriesInstanceUID = pydicom.uid.generate_uid()
    files = []
    for number in range(count):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = (
            pydicom.uid.generate_uid()
        )
        dataset.InstanceNumber = number + 1
        dataset.PixelData = os.urandom(64) * (4096 * 4096 * 2 // 64)
        files.append(folder / f"{number}.dcm")
        dataset.save_as(files[-1])
    return files


def store_large(server: Server, files: Sequence[Path]) -> str:
    import pydicom

    for file in files:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        with file.open("rb") as body:
            connection.request("POST", "/dicom-web/studies", body, {
                "Content-Type": "application/dicom", **server.headers})  # fmt: skip
            answer = connection.getresponse()
            answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"STOW-RS answered {answer.status}")
    return str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--film", type=int, default=100, help="frames of the multi-frame object")
    parser.add_argument("--stream", type=float, default=0.0, metavar="GB")
    parser.add_argument("--alone", action="store_true", help="Scrigno without Orthanc")
    parser.add_argument("--only", default="", help="legs whose name holds this")
    options = parser.parse_args()
    if not options.alone and not PLUGIN.exists():
        print("apt-get install orthanc orthanc-dicomweb", file=sys.stderr)
        return 2
    place = Path(tempfile.mkdtemp(prefix="bench-dicomweb-"))
    running: list[Server] = []
    try:
        print(machine.words(machine.facts(place)))
        files = sorted(
            path for path in _made(place / "ct", options.images).rglob("*") if path.is_file()
        )
        makers = [scrigno] if options.alone else [scrigno, orthanc]
        for make in makers:
            home = place / make.__name__
            home.mkdir()
            running.append(make(home))
        good = compare(running, files, options) if files else True
        if options.stream:
            stream(running[0], place, options.stream)
        return 0 if good else 1
    finally:
        for server in running:
            server.program.stop()
        shutil.rmtree(place, ignore_errors=True)


def _made(folder: Path, count: int) -> Path:
    objects.make_ct(folder, count)
    return folder


if __name__ == "__main__":
    sys.exit(main())
