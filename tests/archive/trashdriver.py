# SPDX-License-Identifier: Apache-2.0
"""A process that deletes, restores or purges until a failpoint ends it.

Arguments: what to do and several jobs (`folder:failpoint`), each for a child of its own; prints how
each child ended.
"""

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from archivebox import made
from trashbox import open_box

from scrigno.archive import failpoints

STUDY = "1.2.826.0.1.1"


async def main(root: Path, what: str, failpoint: str) -> None:
    """Prepare, arm, do."""
    box = await open_box(root)
    for number in (1, 2, 3):
        await box.store(made(number))
    if what != "delete":  # there, staging holds a copy of each too
        await box.replicated()
        item = await box.delete(STUDY)
        await box.settled()
    failpoints._armed = failpoint
    if what == "delete":
        await box.delete(STUDY)
    elif what == "restore":
        await box.trash.restore(item.trash_id, "anna")
    elif what == "purge":
        await box.trash.purge(item.trash_id, "anna")
    await box.settled()
    await box.close()


def in_children(what: str, jobs: list[str]) -> None:
    """Do each job in a child."""
    for job in jobs:
        root, failpoint = job.split(":")
        child = os.fork()
        if not child:
            asyncio.run(main(Path(root), what, failpoint))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    in_children(sys.argv[1], sys.argv[2:])
