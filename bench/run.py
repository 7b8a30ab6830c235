# SPDX-License-Identifier: Apache-2.0
"""What every row needs: the place, the peers, the images, and the order of the legs."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from . import objects
from .clients import store
from .process import ProgramFailed
from .report import OURS, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .objects import ImageSet
    from .peers import Peer, Server

WARM_UP = 12  # images sent before each timed leg


@dataclass(slots=True, kw_only=True)
class Options:
    """What the command line chose."""

    pairs: int = 3
    ct: int = 300
    mr: int = 1000
    studies: int = 500
    sets: Sequence[str] = ("ct", "mr")
    senders: Sequence[str] = ("stock", "tuned")
    associations: Sequence[int] = (1, 4)
    buffer_bytes: int = 262_144  # 64 KB, the old default, is slower; more gains nothing here
    memory_mb: int = 64
    idle_s: float = 10.0
    million: int = 1_000_000


@dataclass
class Bench:
    """One run; every folder it makes is under `place` and goes with it."""

    place: Path
    peers: Sequence[Peer]
    options: Options
    failures: list[str] = field(default_factory=list)

    @cached_property
    def ct(self) -> ImageSet:
        self.say(f"making {self.options.ct} CT images")
        return objects.make_ct(self.place / "ct", self.options.ct)

    @cached_property
    def mr(self) -> ImageSet:
        self.say(f"making {self.options.mr} MR images")
        return objects.make_mr(self.place / "mr", self.options.mr)

    @cached_property
    def studies(self) -> ImageSet:
        self.say(f"making {self.options.studies} small studies")
        return objects.make_studies(self.place / "studies", self.options.studies)

    @cached_property
    def warm_up(self) -> ImageSet:
        return objects.make_mr(self.place / "warm-up", WARM_UP)

    def image_set(self, name: str) -> ImageSet:
        return self.ct if name == "ct" else self.mr

    def say(self, words: str) -> None:
        print(f"bench: {words}", file=sys.stderr, flush=True)

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """A new empty folder on the measured disk, removed afterwards."""
        home = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.place))
        try:
            yield home
        finally:
            shutil.rmtree(home, ignore_errors=True)

    @contextmanager
    def warm(self, peer: Peer, *, tuned: bool, destination: int = 0) -> Iterator[Server]:
        """A running server on a fresh archive that has taken the warm-up; the disk is quiet."""
        with self.folder(peer.name) as home:
            server = peer.server(
                home,
                tuned=tuned,
                destination=destination,
                buffer_bytes=self.options.buffer_bytes,
            )
            with server:
                store(server, self.warm_up.parts(1), tuned=tuned)
                settle()
                yield server

    def able(self, service: str) -> list[Peer]:
        return [peer for peer in self.peers if service in peer.services]

    def interleave(self, peers: Sequence[Peer], leg: Callable[[Peer], dict[str, float]]) -> Table:
        """Run the legs A B A B …; a peer that fails once is reported and left out of the row."""
        table: Table = {}
        out: set[str] = set()
        for pair in range(self.options.pairs):
            for peer in peers:
                if peer.name in out:
                    continue
                try:
                    seen = leg(peer)
                except (ProgramFailed, RuntimeError, OSError) as error:
                    self.fail(f"{peer.name}: {error}")
                    out.add(peer.name)
                    continue
                for measure, value in seen.items():
                    table.setdefault(measure, {}).setdefault(peer.name, []).append(value)
                words = ", ".join(f"{measure} {value:.3f}" for measure, value in seen.items())
                self.say(f"  pair {pair + 1} {peer.name}: {words}")
        return table

    def check(self, server: Server, acknowledged: int, notes: list[str]) -> None:
        """Note it when an archive holds fewer images than it acknowledged; for Scrigno, fail.

        (dcmqrscp 3.6.7 loses some when several associations store at once: its processes choose
        the same file name.)
        """
        held = server.images()
        if held >= acknowledged:
            return
        words = f"{server.name}: acknowledged {acknowledged} images and holds {held}"
        notes.append(words)
        if server.name == OURS:
            self.fail(words)

    def fail(self, words: str) -> None:
        self.failures.append(words)
        self.say(f"FAILED {words}")


Table = dict[str, Values]


def settle() -> None:
    """Let what earlier legs left unwritten reach the disk, so that the next one does not pay."""
    os.sync()
