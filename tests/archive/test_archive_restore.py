# SPDX-License-Identifier: Apache-2.0
"""The index is damaged, deleted or put back by an operator: afterwards every object is known."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from archivebox import Box

from scrigno.archive.backups import BackupRules, IndexBackup, superfluous


# backups ---------------------------------------------------------------------------------------


def backup_at(hours: float, *, verified: bool = True) -> IndexBackup:
    """Return a backup made so many hours before the first of March."""
    at = datetime(2026, 3, 1, 12, tzinfo=UTC) - timedelta(hours=hours)
    return IndexBackup(
        "data", f"index-backups/{at:%Y%m%dT%H%M%SZ}.db", at, 5, at if verified else None
    )


@pytest.mark.spec("DB-3")
def test_the_newest_backups_and_one_a_day_and_one_a_week_are_kept() -> None:
    all_of_them = [backup_at(6 * number) for number in range(4 * 60)]
    gone = superfluous(all_of_them, BackupRules(last=8, daily=7, weekly=4))
    kept = [one for one in all_of_them if one not in gone]
    ages = [(all_of_them[0].made_at - one.made_at) / timedelta(hours=1) for one in kept]
    assert ages[:8] == [0, 6, 12, 18, 24, 30, 36, 42]
    assert len({one.made_at.date() for one in kept}) >= 7
    assert len({one.made_at.isocalendar()[:2] for one in kept}) == 4
    assert len(kept) <= 8 + 7 + 4
    assert superfluous(kept, BackupRules(last=8, daily=7, weekly=4)) == []
    # as time goes on a weekly one is there to be kept
    later = [backup_at(-24 * 30), *kept]
    assert len(superfluous(later, BackupRules(last=1, daily=0, weekly=4))) > 0


@pytest.mark.spec("DB-3")
def test_the_last_backup_that_was_verified_is_never_pruned() -> None:
    old = backup_at(1000)
    unsure = [backup_at(hours, verified=False) for hours in range(5)]
    assert old not in superfluous([*unsure, old], BackupRules(last=2, daily=0, weekly=0))


@pytest.mark.spec("DB-3")
async def test_a_backup_is_read_back_and_says_what_is_in_it(box: Box) -> None:
    await box.backups.make()
    listed = await box.backups.listed()
    assert {one.volume for one in listed} == {"data", "backup1"}
    for one in listed:
        assert one.verified_at is not None
        assert (one.instances, one.schema_version) == (0, 5)
        assert one.size > 0
    again = await box.backups.named("data", listed[0].name)
    assert again.key == listed[0].key
    (note,) = (box.root / "data" / "index-backups").glob("*.json")
    for text in ("{", "[]", "{}", '{"size": "x"}', json.dumps({"size": 3})):
        note.write_text(text)
        box.backups._notes.clear()
        (one,) = [each for each in await box.backups.listed() if each.volume == "data"]
        assert one.verified_at is None
