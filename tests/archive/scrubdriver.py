# SPDX-License-Identifier: Apache-2.0
"""A process that scrubs until a failpoint or a signal ends it, and says how far it is.

Arguments: folder of the archive, failpoint, bytes per second.
"""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from archivebox import Box

from scrigno.archive import failpoints
from scrigno.archive.scrub import ScrubRules


async def main(root: Path, rate: int) -> None:
    box = await Box(root, scrub_rules=ScrubRules(max_bytes_per_s=rate)).open()
    box.scrubber.start()
    while len(box.scrubber._desks) < 2:
        await asyncio.sleep(0.01)
    box.scrubber.run_now("data")
    for _ in range(500):
        print(box.scrubber.status("data").checked_objects, flush=True)
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    failpoints._armed = sys.argv[2]
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[3]) if len(sys.argv) > 3 else 1 << 40))
