# SPDX-License-Identifier: Apache-2.0
"""A process that stores objects until a failpoint or a signal ends it.

Each acknowledged object is written to a ledger outside the archive first thing. Arguments: folder
of the archive, ledger, what to do; or what to do and several jobs, each for a child of its own.
"""

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from archivebox import Box, Made, made

from scrigno.archive import failpoints


def cases(what: str) -> list[tuple[Made, dict[str, str]]]:
    """Return objects and the further arguments of their reception."""
    if what == "held":
        return [(made(number), {"hold": "unapproved-node"}) for number in range(1, 4)]
    if what == "conflict":
        return [(made(1), {}), (made(1, PatientName="Other^Name"), {}), (made(2), {})]
    if what == "moved":
        first = made(1)
        return [(first, {}), (made(1, study=2, SOPInstanceUID=first.uid), {}), (made(2), {})]
    number_of_objects = 120 if what == "many" else 3
    return [(made(number, pixels=30_000), {}) for number in range(1, number_of_objects + 1)]


async def main(root: Path, ledger: Path, what: str) -> None:
    box = await Box(root, replicating=what == "many").open()
    fd = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def store(one: Made, more: dict[str, str]) -> None:
        await box.store(one, **more)
        os.write(fd, f"{one.digest}\n".encode())

    if what == "many":
        queue = iter(cases(what))

        async def sender() -> None:
            for one, more in queue:
                await store(one, more)

        await asyncio.gather(*(sender() for _ in range(4)))
    else:
        for one, more in cases(what):
            await store(one, more)
    await box.close()


def in_children(what: str, jobs: list[str]) -> None:
    """Do each job (`folder:ledger:failpoint`) in a child and print how it ended."""
    for job in jobs:
        root, ledger, failpoint = job.split(":")
        child = os.fork()
        if not child:
            failpoints._armed = failpoint
            asyncio.run(main(Path(root), Path(ledger), what))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    if len(sys.argv) == 4 and ":" not in sys.argv[2]:
        asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
    else:
        in_children(sys.argv[1], sys.argv[2:])
