# SPDX-License-Identifier: Apache-2.0
"""A process that is killed in the middle loses no row that it had answered for."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from scrigno.catalogue.catalogue import Catalogue
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters

CHILD = """
import asyncio, os, sys
sys.path[:0] = [sys.argv[2], sys.argv[3]]
from pathlib import Path
from made_instances import make_instance
from scrigno.catalogue.catalogue import Catalogue
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters

async def main():
    async with Catalogue(Path(sys.argv[1]), counters=Counters(), clock=SystemClock()) as catalogue:
        async def send(sender):
            number = 0
            while True:
                sop = f"1.{sys.argv[4]}.{sender}.{number}"
                study = f"1.2.{number % 9}"
                new = make_instance(study, series=f"{study}.{sender}", sop=sop,
                                    owed=("b1",), patient_id=f"{number % 4}")
                await catalogue.add(new)
                os.write(1, f"{sop}\\n".encode())  # the outside ledger: only what was answered
                number += 1
        await asyncio.gather(*(send(sender) for sender in range(8)))

asyncio.run(main())
"""


@pytest.mark.spec("DB-1")
async def test_no_committed_row_is_lost_when_the_process_is_killed(index_path: Path) -> None:
    here = Path(__file__)
    ledger: list[str] = []
    for turn in range(3):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, index_path,
            here.parents[2] / "daemon", here.parents[1] / "support",
            str(turn), stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert child.stdout is not None
        wanted = len(ledger) + 150 + 100 * turn
        async with asyncio.timeout(30):
            while len(ledger) < wanted:
                ledger.append((await child.stdout.readline()).decode().strip())
        child.send_signal(signal.SIGKILL)
        rest = (await child.stdout.read()).decode()
        ledger += rest.split("\n")[:-1] if rest else []
        await child.wait()
        async with Catalogue(index_path, counters=Counters(), clock=SystemClock()) as catalogue:
            known = {key.sop_instance_uid async for key in catalogue.all_keys()}
            assert set(ledger) - known == set()
            assert len(known) - len(ledger) <= 8 * (turn + 1)  # answers that were on their way
            assert await catalogue.check() == []
