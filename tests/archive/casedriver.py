# SPDX-License-Identifier: Apache-2.0
"""What operators do, as a process that a failpoint ends.

Each job (`folder:what:failpoint`) is done in a child of its own; its exit code is printed.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from archivebox import Made, made
from casebox import CaseBox, opened

from scrigno.archive import failpoints
from scrigno.archive.ingest import IngestRules

ONE, RIVAL = made(), made(PatientName="Other^Name")
ELSEWHERE = made(1, study=2, SOPInstanceUID=ONE.uid)
BROKEN = Made("", "", "1.2.3.4", b"\xff" * 500)
GIVEN = {"study_instance_uid": "1.9.1", "series_instance_uid": "1.9.2", "patient_name": "A^B"}
ACTIONS = ("reject", "accept", "replace", "elsewhere", "beside", "index", "merge")


def shape_of(what: str) -> dict[str, Any]:
    """Return how the box is made: with two volumes where the order between them matters."""
    names = ("data", "backup1") if what in TWO else ("data",)
    rules = IngestRules(max_object_bytes=64 << 20, ack_copies=len(names))
    return {"names": names, "rules": rules}


TWO = ("replace", "merge", "accept", "undo-accept", "purge-reject")


async def prepare(box: CaseBox, what: str) -> None:
    """Bring the objects in that the action is about."""
    match what.removeprefix("undo-").removeprefix("purge-"):
        case "reject" | "accept":
            await box.store(ONE, hold="unapproved-node")
        case "replace" | "beside":
            await box.store(ONE)
            await box.store(RIVAL)
        case "elsewhere":
            await box.store(ONE)
            await box.store(ELSEWHERE)
        case "index":
            await box.store(BROKEN)
        case "merge":
            await box.store(ONE)
            await box.store(made(study=2, PatientID="P1", PatientName="Other^Name"))
    await box.store(made(5))


async def act(box: CaseBox, what: str) -> int:
    """Decide; returns the number of the decision."""
    items = await box.inbox.items()
    item = items[0].inbox_id if items else 0
    match what:
        case "reject":
            await box.inbox.reject(item, user="anna", why="told by Rossi")
        case "accept":
            await box.inbox.accept(item, user="anna")
        case "replace" | "elsewhere":
            await box.inbox.replace(item, user="anna")
        case "beside":
            await box.inbox.keep_beside(item, user="anna")
        case "index":
            await box.inbox.index(item, GIVEN, user="anna")
        case "merge":
            (case,) = await box.cases.patients()
            await box.cases.merge(
                case.study_uid, into=case.other_study_uid, version=case.version, user="anna"
            )
    return (await box.cases.history())[0].decision_id


async def main(root: Path, what: str, failpoint: str) -> None:
    box = await opened(root, **shape_of(what))
    await prepare(box, what)
    if what.startswith("undo-"):
        decision = await act(box, what.removeprefix("undo-"))
        failpoints._armed = failpoint
        await box.cases.undo(decision, user="bob")
    elif what.startswith("purge-"):
        decision = await act(box, what.removeprefix("purge-"))
        failpoints._armed = failpoint
        await box.inbox.purge(decision)
    else:
        failpoints._armed = failpoint
        await act(box, what)
    await box.close()


if __name__ == "__main__":
    for job in sys.argv[1:]:
        root, what, failpoint = job.split(":")
        child = os.fork()
        if not child:
            asyncio.run(main(Path(root), what, failpoint))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
