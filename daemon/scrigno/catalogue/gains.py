# SPDX-License-Identifier: Apache-2.0
"""What a transaction adds to counters and sets, gathered and written once before its commit.

A hundred objects of one series that share a transaction change its counters once. What a job
gathers counts only when the job is done; a job that is undone takes its gains with it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from scrigno.db.sqlite import Connection, Value

# How a state stands in the table `copy`.
HELD: Final = 1
OWED: Final = 2
MISSING: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySets:
    """The sets of a study row as they are to stand there."""

    modality_bits: int
    modalities: str
    sop_classes: str
    body_parts: str


@dataclass(slots=True)
class _Sums:
    """Lists of numbers that add up, by row or by volume."""

    # patients, studies, series, instances, bytes
    totals: list[int] = field(default_factory=lambda: [0] * 5)
    # instances, bytes
    series: dict[int, list[int]] = field(default_factory=dict)
    # series, instances, bytes
    studies: dict[int, list[int]] = field(default_factory=dict)
    # held, held bytes, owed, owed bytes, missing, missing bytes
    volumes: dict[str, list[int]] = field(default_factory=dict)
    received: dict[int, int] = field(default_factory=dict)
    sets: dict[int, StudySets] = field(default_factory=dict)
    # rows that were forgotten: their numbers may be given to new rows
    gone_studies: set[int] = field(default_factory=set)
    gone_series: set[int] = field(default_factory=set)

    def forget_series(self, row: int) -> None:
        self.series.pop(row, None)

    def forget_study(self, row: int) -> None:
        for rows in (self.studies, self.received, self.sets):
            rows.pop(row, None)

    def take(self, other: "_Sums") -> None:
        for row in other.gone_series:
            self.forget_series(row)
        for row in other.gone_studies:
            self.forget_study(row)
        _add(self.totals, other.totals)
        for key, numbers in other.series.items():
            _add(self.series.setdefault(key, [0] * len(numbers)), numbers)
        for key, numbers in other.studies.items():
            _add(self.studies.setdefault(key, [0] * len(numbers)), numbers)
        for volume, numbers in other.volumes.items():
            _add(self.volumes.setdefault(volume, [0] * len(numbers)), numbers)
        for key, last in other.received.items():
            self.received[key] = max(last, self.received.get(key, 0))
        self.sets.update(other.sets)


def _add(into: list[int], numbers: list[int]) -> None:
    for place, number in enumerate(numbers):
        into[place] += number


class Gains:
    """Gathers in the writer thread; `flush` belongs right before the commit."""

    def __init__(self) -> None:
        """Start with nothing gained."""
        self._job = _Sums()
        self._kept = _Sums()
        self._touched = False  # whether the job gathered anything

    @property
    def new_studies(self) -> int:
        """How many studies the open transaction has made so far."""
        return self._job.totals[1] + self._kept.totals[1]

    # gathering -----------------------------------------------------------------------------------

    def entities(self, *, patients: int = 0, studies: int = 0) -> None:
        """Count patients and studies that were made or forgotten."""
        self._touched = True
        self._job.totals[0] += patients
        self._job.totals[1] += studies

    def series(self, study: int, number: int) -> None:
        """Count series of a study that were made or forgotten."""
        self._touched = True
        self._job.totals[2] += number
        self._job.studies.setdefault(study, [0, 0, 0])[0] += number

    def series_gone(self, row: int) -> None:
        """Drop what was gathered for a series row that is forgotten."""
        self._touched = True
        self._job.forget_series(row)
        self._job.gone_series.add(row)

    def study_gone(self, row: int) -> None:
        """Drop what was gathered for a study row that is forgotten."""
        self._touched = True
        self._job.forget_study(row)
        self._job.gone_studies.add(row)

    def instances(self, study: int, series: int, number: int, size: int) -> None:
        """Count objects of a series that were made or forgotten."""
        self._touched = True
        job = self._job
        job.totals[3] += number
        job.totals[4] += size
        of_series = job.series.setdefault(series, [0, 0])
        of_series[0] += number
        of_series[1] += size
        of_study = job.studies.setdefault(study, [0, 0, 0])
        of_study[1] += number
        of_study[2] += size

    def received(self, study: int, at: int) -> None:
        """Note when a study got an object."""
        if at > self._job.received.get(study, 0):
            self._job.received[study] = at

    def sets(self, study: int, sets: StudySets) -> None:
        """Note what the sets of a study have become."""
        self._touched = True
        self._job.sets[study] = sets

    def copy(self, volume: str, state: int, number: int, size: int) -> None:
        """Count copies that came to or left `state`."""
        self._touched = True
        tally = self._job.volumes.get(volume)
        if tally is None:
            tally = self._job.volumes[volume] = [0] * 6
        place = (state - 1) * 2
        tally[place] += number
        tally[place + 1] += size

    def copies(self, volumes: Iterable[str], state: int, size: int) -> None:
        """Count a new copy on each of `volumes`."""
        for volume in volumes:
            self.copy(volume, state, 1, size)

    def sets_written(self, study: int) -> None:
        """Drop what was noted of the sets of a study: its row says more by now. Last in a job."""
        self._job.sets.pop(study, None)
        self._kept.sets.pop(study, None)

    # transactions --------------------------------------------------------------------------------

    def job_done(self) -> None:
        """Keep what the job gathered."""
        if self._touched:
            self._kept.take(self._job)
            self._job = _Sums()
            self._touched = False

    def job_undone(self) -> None:
        """Drop what the job gathered."""
        self._job = _Sums()
        self._touched = False

    def group_undone(self) -> None:
        """Drop everything."""
        self.job_undone()
        self._kept = _Sums()

    def flush(self, connection: Connection) -> None:
        """Write what was kept."""
        kept = self._kept
        if any(kept.totals):
            connection.execute(
                "UPDATE totals SET patients = patients + ?, studies = studies + ?, "
                "series = series + ?, instances = instances + ?, size_bytes = size_bytes + ? "
                "WHERE id = 1",
                kept.totals,
            )
        for series, (instances, size) in kept.series.items():
            connection.execute(
                "UPDATE series SET number_of_instances = number_of_instances + ?, "
                "size_bytes = size_bytes + ? WHERE id = ?",
                (instances, size, series),
            )
        for study, numbers in kept.studies.items():
            _flush_study(connection, study, numbers, kept.received.get(study, 0))
        for study, sets in kept.sets.items():
            connection.execute(
                "UPDATE study SET modality_bits = ?, modalities = ?, sop_classes = ?, "
                "body_parts = ? WHERE id = ?",
                (sets.modality_bits, sets.modalities, sets.sop_classes, sets.body_parts, study),
            )
        if kept.volumes:
            _flush_volumes(connection, kept.volumes)
        self._kept = _Sums()


def _flush_study(connection: Connection, study: int, numbers: list[int], received: int) -> None:
    """Name only columns that change: each one named costs a change of its index."""
    series, instances, size = numbers
    changes: list[str] = []
    parameters: list[Value] = []
    if series:
        changes.append("number_of_series = number_of_series + ?")
        parameters.append(series)
    if instances or size:
        changes.append("number_of_instances = number_of_instances + ?")
        changes.append("size_bytes = size_bytes + ?")
        parameters += (instances, size)
    if received:
        changes.append("received_last = max(received_last, ?)")
        parameters.append(received)
    if changes:
        connection.execute(
            f"UPDATE study SET {', '.join(changes)} WHERE id = ?",  # noqa: S608 - texts of above
            (*parameters, study),
        )


def _flush_volumes(connection: Connection, tallies: dict[str, list[int]]) -> None:
    rows = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * len(tallies))
    parameters: list[Value] = []
    for volume, tally in tallies.items():
        parameters += (volume, *tally)
    connection.execute(
        "INSERT INTO volume_tally "  # noqa: S608 - question marks only
        "(volume, held, held_bytes, owed, owed_bytes, missing, missing_bytes) "
        f"VALUES {rows} ON CONFLICT (volume) DO UPDATE SET "
        "held = volume_tally.held + excluded.held, "
        "held_bytes = volume_tally.held_bytes + excluded.held_bytes, "
        "owed = volume_tally.owed + excluded.owed, "
        "owed_bytes = volume_tally.owed_bytes + excluded.owed_bytes, "
        "missing = volume_tally.missing + excluded.missing, "
        "missing_bytes = volume_tally.missing_bytes + excluded.missing_bytes",
        parameters,
    )
