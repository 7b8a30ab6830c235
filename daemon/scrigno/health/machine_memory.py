# SPDX-License-Identifier: Apache-2.0
"""What is remembered of the machine over restarts, as small JSON files of the state directory.

Blocking, for a thread. A file that cannot be read is set aside (`.bad`) and what it held starts
anew; the reason is kept for the operator, because a disk that vanished meanwhile is not missed.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from scrigno.host.facts import FactsUnreadable, Json
from scrigno.host.files import write_durably
from scrigno.host.smart import Counter
from scrigno.host.topology import Topology, from_json, to_json

from .disk_conditions import DiskMemory, Rise
from .forecast import SpaceSample

FORMAT: Final = 1
MOST_DISKS: Final = 200  # disks that are gone are kept too: they may come back
LARGEST_BYTES: Final = 4 << 20
TOPOLOGY: Final = "topology"
DISKS: Final = "disks"
SPACE: Final = "space"
CLOCK: Final = "clock"
_T = TypeVar("_T")


@dataclass(slots=True, kw_only=True)
class MachineMemory:
    """Everything remembered; the watch changes it and says what is to be written."""

    topology: Topology | None = None
    disks: dict[str, DiskMemory] = field(default_factory=dict)  # by serial
    space: dict[str, tuple[SpaceSample, ...]] = field(default_factory=dict)  # by volume
    wall_s: float | None = None  # the wall clock when it was last noted
    forgotten: dict[str, str] = field(default_factory=dict)  # what could not be read -> why


def load(folder: Path) -> MachineMemory:
    """Return what the folder holds; it is made when it is not there. Raises OSError for that."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    forgotten: dict[str, str] = {}
    return MachineMemory(
        topology=_read(folder, TOPOLOGY, from_json, None, forgotten),
        disks=_read(folder, DISKS, disks_from_json, {}, forgotten),
        space=_read(folder, SPACE, space_from_json, {}, forgotten),
        wall_s=_read(folder, CLOCK, clock_from_json, None, forgotten),
        forgotten=forgotten,
    )


def _read(
    folder: Path,
    name: str,
    parse: Callable[[bytes], _T],
    otherwise: _T,
    forgotten: dict[str, str],
) -> _T:
    path = folder / f"{name}.json"
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES)
        return parse(content)
    except FileNotFoundError:
        return otherwise
    except (FactsUnreadable, OSError) as error:
        forgotten[name] = str(error)
    try:
        path.replace(path.with_suffix(".bad"))
    except OSError as error:
        forgotten[name] += f"; {error}"
    return otherwise


def write(folder: Path, name: str, content: bytes) -> None:
    """Write one file; it survives power loss. Raises OSError."""
    write_durably(folder / f"{name}.json", content)


def content_of(name: str, memory: MachineMemory) -> bytes:
    """Return what one file shall hold."""
    match name:
        case "topology":
            return to_json(memory.topology or Topology())
        case "disks":
            return disks_to_json(memory.disks)
        case "space":
            return space_to_json(memory.space)
        case _:
            return _json({"wall_s": memory.wall_s})


def _json(content: Mapping[str, object]) -> bytes:
    told = {"format": FORMAT, **content}
    return json.dumps(told, indent=1, sort_keys=True).encode() + b"\n"


def _parse(content: bytes, name: str) -> Json:
    told = Json.parse(content, name)
    if told["format"].whole != FORMAT:
        raise FactsUnreadable(name, "unknown format")
    return told


def clock_from_json(content: bytes) -> float | None:
    """Return the wall clock that was noted; raises FactsUnreadable."""
    return _parse(content, CLOCK)["wall_s"].number


def disks_to_json(disks: Mapping[str, DiskMemory]) -> bytes:
    """Return the newest `MOST_DISKS` disks as a file's content."""
    newest = list(disks.items())[-MOST_DISKS:]
    return _json(
        {
            "disks": [
                {
                    "serial": serial,
                    "counters": {name.value: value for name, value in memory.counters.items()},
                    "risen": {
                        name.value: {"before": rise.before, "now": rise.now, "hours": rise.hours}
                        for name, rise in memory.risen.items()
                    },
                }
                for serial, memory in newest
            ]
        }
    )


def disks_from_json(content: bytes) -> dict[str, DiskMemory]:
    """Return the disks a file holds, by serial; raises FactsUnreadable."""
    told = _parse(content, DISKS)
    return {
        row["serial"].text: DiskMemory(
            counters={
                counter: value.whole
                for name, value in row["counters"].items()
                if (counter := _counter(name)) and value.whole is not None
            },
            risen={
                counter: Rise(
                    before=rise["before"].whole or 0,
                    now=rise["now"].whole or 0,
                    hours=rise["hours"].whole,
                )
                for name, rise in row["risen"].items()
                if (counter := _counter(name))
            },
        )
        for row in told["disks"].rows()
    }


def _counter(name: str) -> Counter | None:
    return next((one for one in Counter if one.value == name), None)


def space_to_json(space: Mapping[str, tuple[SpaceSample, ...]]) -> bytes:
    """Return the samples as a file's content."""
    return _json(
        {
            "volumes": [
                {
                    "name": name,
                    "samples": [
                        {"at_s": one.at_s, "used": one.used_bytes, "total": one.total_bytes}
                        for one in samples
                    ],
                }
                for name, samples in space.items()
            ]
        }
    )


def space_from_json(content: bytes) -> dict[str, tuple[SpaceSample, ...]]:
    """Return the samples a file holds, by volume; raises FactsUnreadable."""
    told = _parse(content, SPACE)
    return {
        row["name"].text: tuple(
            SpaceSample(
                at_s=one["at_s"].number or 0.0,
                used_bytes=one["used"].whole or 0,
                total_bytes=one["total"].whole or 0,
            )
            for one in row["samples"].rows()
        )
        for row in told["volumes"].rows()
    }
