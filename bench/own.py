# SPDX-License-Identifier: Apache-2.0
"""Scrigno as one of the servers: an ordinary box with a data and a backup folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import yaml
from typing_extensions import override

from .clients import DESTINATION_AE, free_port
from .peers import Peer, Server

COMMAND = Path(sys.executable).with_name("scrigno")


class Scrigno(Peer):
    name = "scrigno"
    services = frozenset({"store", "find", "move", "get"})
    binary = str(COMMAND)
    package = "make build"

    @override
    def missing(self) -> str | None:
        return None if COMMAND.exists() else "scrigno is missing: make build"

    @override
    def describe(self) -> str:
        return "two durable copies (fsync) and the committed index row before each Success"

    @override
    def server(
        self, home: Path, *, tuned: bool, destination: int = 0, buffer_bytes: int = 0
    ) -> Server:
        del tuned, buffer_bytes  # nothing to tune: stock senders are answered at once anyway
        port = free_port()
        config = home / "scrigno.yaml"
        config.write_text(yaml.safe_dump(_settings(home, port, destination)))
        return Server(
            name=self.name,
            argv=[str(COMMAND), "serve", "--config", str(config)],
            env=dict(os.environ),
            log=home / "serve.log",
            port=port,
            ae_title="SCRIGNO",
            images=lambda: _images(home / "data"),
            owed_images=lambda: _images(home / "backup1"),
        )


def _images(volume: Path) -> int:
    return sum(1 for _ in (volume / "studies").rglob("*.dcm"))


def _settings(home: Path, port: int, destination: int) -> dict[str, object]:
    for name in ("data", "backup1"):
        (home / name).mkdir()
    users = [
        {
            "name": "Destination",
            "host": "127.0.0.1",
            "port": destination,
            "ae_title": DESTINATION_AE,
            "rights": ["echo", "store", "query", "retrieve"],
        }
    ]
    return {
        "state_dir": str(home / "state"),
        "staging_dir": str(home / "staging"),
        "web": {"host": "127.0.0.1", "port": free_port(), "tls_port": None},
        "log": {"level": "info", "dir": str(home / "log")},
        "initial": {
            "volumes": [
                {"name": "data", "role": "data", "path": str(home / "data")},
                {"name": "backup1", "role": "backup", "path": str(home / "backup1")},
            ],
            "dicom": {
                "providers": [
                    {
                        "name": "Scrigno",
                        "ae_title": "SCRIGNO",
                        "port": port,
                        "unregistered": "accept",
                    }
                ],
                "users": users if destination else [],
            },
            "ingest": {"ack_copies": 2, "count_shared_device": True},
            # as an admin sets them who expects 1,000 nodes to stay connected
            "limits": {"max_dicom_connections": 2000, "max_associations_per_peer": 2000},
            "language": "en",
        },
    }
