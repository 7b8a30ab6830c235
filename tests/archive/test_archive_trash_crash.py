# SPDX-License-Identifier: Apache-2.0
"""The process dies at every step of deleting, undoing and purging; each is whole afterwards."""

import asyncio
import sys
from pathlib import Path

import pytest
from archivebox import made
from trashbox import TrashBox, open_box

from scrigno.archive.failpoints import EXIT_CODE
from scrigno.catalogue.trash_items import TrashState

DRIVER = Path(__file__).with_name("trashdriver.py")
STUDY = "1.2.826.0.1.1"
BOTH = ("data", "backup1")
STEPS = {
    "delete": ["trash-rows", "trash-recorded", "trash-moved", "trash-released"],
    "restore": ["restore-begun", "trash-recorded", "restore-moved", "restore-rows", "trash-ended"],
    "purge": ["purge-begun", "trash-recorded", "purge-removed", "trash-ended"],
}


async def run_with_failpoints(what: str, jobs: list[str]) -> list[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(DRIVER), what, *jobs, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    return [int(code) for code in said.split()]


async def is_whole(box: TrashBox, what: str) -> None:
    """What was asked for is done, on every volume, and nothing else changed."""
    assert await box.catalogue.check() == []
    assert (await box.reconciler.reconcile()).discrepancies == []
    items = await box.trash.items()
    studies = (await box.catalogue.totals()).studies
    if what == "delete":
        ((state, count),) = [(item.state, item.objects) for item in items]
        assert (state, count, studies) == (TrashState.TRASHED, 3, 0)
        await box.trash.restore(items[0].trash_id, "anna")
        await box.replicated()
        items, studies = await box.trash.items(), (await box.catalogue.totals()).studies
    assert items == []
    assert studies == (0 if what == "purge" else 1)
    assert await box.staged() == 0
    wanted = {} if what == "purge" else {made(n).key: made(n).file for n in (1, 2, 3)}
    for volume in BOTH:
        assert box.on(volume, "studies/") == wanted
        assert box.on(volume, "trash/") == {}
    assert box.recovery.pending == 0


@pytest.mark.spec("ST-7", "ST-2")
@pytest.mark.parametrize("what", STEPS)
async def test_each_step_is_finished_after_a_crash(tmp_path: Path, what: str) -> None:
    jobs = [f"{tmp_path / step}:{step}" for step in STEPS[what]]
    assert await run_with_failpoints(what, jobs) == [EXIT_CODE] * len(jobs)
    for step in STEPS[what]:
        box = await open_box(tmp_path / step)
        try:
            box.recovery.start()
            await asyncio.sleep(0.1)
            await box.until(lambda box=box: box.recovery.pending == 0)
            before = await box.reconciler.reconcile(
                fix=True
            )  # whoever looks now resurrects nothing
            assert before.discrepancies == [], step
            await box.settled()
            await is_whole(box, what)
        finally:
            await box.close()
