# SPDX-License-Identifier: Apache-2.0
"""Files on a volume that no row of the index names.

The name of a file tells the object it should be; a batch of names is one question to the index.
Images go on coming in meanwhile, so what looks alien is looked at a second time.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final

from scrigno.catalogue.catalogue import Catalogue
from scrigno.catalogue.fixity import AlienFile
from scrigno.core.uids import is_uid, path_part
from scrigno.imaging.errors import NotDicom
from scrigno.imaging.part10 import split
from scrigno.volumes.states import VolumeError
from scrigno.volumes.volume import Volume

from .copies import OBJECTS_PREFIX
from .retrieve import META_BYTES

BATCH: Final = 256  # names asked of the index at once


async def aliens_on(
    volume: Volume,
    catalogue: Catalogue,
    *,
    now: datetime,
    second_look_s: float,
    on_step: Callable[[], None],
) -> list[AlienFile]:
    """Return the files under `studies/` that no row names.

    `on_step` is called now and then and may raise to stop. Raises VolumeError, DatabaseError.
    """
    doubtful: dict[str, int] = {}
    batch: dict[str, int] = {}
    async with aclosing(volume.walk(OBJECTS_PREFIX)) as walk:
        async for key, size in walk:
            batch[key] = size
            if len(batch) >= BATCH:
                on_step()
                doubtful |= await _unknown(catalogue, batch)
                batch.clear()
    doubtful |= await _unknown(catalogue, batch)
    if doubtful:
        await asyncio.sleep(second_look_s)  # an object on its way has its row by then
    leaving = await _leaving(catalogue) if doubtful else set()
    found: list[AlienFile] = []
    for key, size in doubtful.items():
        on_step()
        if key.split("/")[1] in leaving:
            continue
        if not await _has_row(volume, catalogue, key):
            found.append(AlienFile(volume=volume.name, key=key, size=size, found_at=now))
    return found


async def _unknown(catalogue: Catalogue, batch: dict[str, int]) -> dict[str, int]:
    known = await catalogue.known_keys(list(batch))
    return {key: size for key, size in batch.items() if key not in known}


async def _leaving(catalogue: Catalogue) -> set[str]:
    """Return the folders of studies whose files are on their way into the trash."""
    return {path_part(uid) for uid in await catalogue.lifecycle.leaving()}


async def _has_row(volume: Volume, catalogue: Catalogue, key: str) -> bool:
    """Tell whether a row names the file after all, or the file is gone."""
    uid = PurePosixPath(key).stem
    try:
        if await volume.stat(key) is None:
            return True
        if not is_uid(uid):
            uid = split(await volume.head(key, META_BYTES)).sop_instance_uid
    except (VolumeError, NotDicom):
        return False
    instance = await catalogue.instance(uid)
    if instance is not None and instance.key == key:
        return True
    return await catalogue.lifecycle.claims(volume.name, uid, key)  # on its way into the trash
