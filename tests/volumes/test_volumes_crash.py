# SPDX-License-Identifier: Apache-2.0
"""kill -9 at any moment: what was acknowledged is whole, nothing half made is visible."""

import asyncio
import hashlib
import os
import random
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from contents import names_under
from scrigno.core.counters import Counters
from scrigno.volumes.staging import Staging

STORER = textwrap.dedent("""
    import asyncio, hashlib, os, sys
    from pathlib import Path
    from scrigno.core.clock import SystemClock
    from scrigno.core.counters import Counters
    from scrigno.core.events import EventBus
    from scrigno.volumes.placement import IngestPolicy, Placement
    from scrigno.volumes.staging import Staging
    from scrigno.volumes.states import Role, VolumeSpec
    from scrigno.volumes.volume import Volumes

    base, seed = Path(sys.argv[1]), sys.argv[2]

    async def main():
        counters = Counters()
        staging = Staging(base / "staging", capacity_bytes=1 << 30, counters=counters)
        await staging.open()
        specs = [VolumeSpec(name="data", role=Role.DATA, path=base / "data")]
        async with Volumes(specs, state_dir=base / "state", counters=counters, bus=EventBus(),
                           clock=SystemClock()) as volumes:
            placement = Placement(staging, volumes, lambda: IngestPolicy(count_shared_device=True))

            async def sender(n):
                for i in range(10_000):
                    size = (1000, 130_000, 1_500_000)[(n + i) % 3]
                    content = f"{seed}-{n}-{i}".encode() * (size // 10)
                    thing = staging.begin(content, limit_bytes=1 << 30)
                    sealed = thing.seal_early() or await thing.seal()
                    key = f"studies/{seed}.{n}/s{i % 5}/{i}.dcm"
                    await placement.store(sealed, key, {"key": key, "digest": sealed.digest})
                    sealed.close()
                    # the outside ledger: the pipe is read by a process that lives on
                    os.write(1, f"{key} {hashlib.sha256(content).hexdigest()}\\n".encode())

            await asyncio.gather(*(sender(n) for n in range(3)))

    asyncio.run(main())
""")


@pytest.mark.spec("ST-2")
@pytest.mark.timeout(120)
async def test_thirty_kills_lose_no_acknowledged_object_and_show_no_partial_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "data").mkdir()
    acknowledged: dict[str, str] = {}
    rng = random.Random(4)
    for number in range(30):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            STORER,
            str(tmp_path),
            str(number),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        first = await asyncio.wait_for(process.stdout.readline(), 20)
        await asyncio.sleep(rng.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        lines = first + await process.stdout.read()
        await process.wait()
        for line in lines.decode().splitlines():
            key, _, digest = line.partition(" ")
            if len(digest) == 64:
                acknowledged[key] = digest
    await asyncio.sleep(0.2)  # the last worker leaves
    visible = names_under(tmp_path / "data")
    digests = {
        name: hashlib.sha256((tmp_path / "data" / name).read_bytes()).hexdigest()
        for name in visible
    }
    assert len(acknowledged) > 60
    assert {key: digests.get(key) for key in acknowledged} == acknowledged
    for name in visible:  # acknowledged or not: whole
        seed_and_sender, _, i = name.split("/")[1], None, Path(name).stem
        seed, n = seed_and_sender.split(".")
        unit = f"{seed}-{n}-{i}".encode()
        size = (1000, 130_000, 1_500_000)[(int(n) + int(i)) % 3]
        assert digests[name] == hashlib.sha256(unit * (size // 10)).hexdigest()
    staging = Staging(tmp_path / "staging", capacity_bytes=1 << 40, counters=Counters())
    await staging.open()
    journal = {entry.note["key"]: entry for entry in await staging.journal()}
    assert set(acknowledged) <= set(journal)
    for entry in journal.values():
        content = entry.path.read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry.note["digest"]
    await staging.close()
    assert os.listdir(tmp_path / "staging") == ["journal"]
