# SPDX-License-Identifier: Apache-2.0
"""A settings store on a temporary state directory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from scrigno.core.clock import SystemClock
from scrigno.core.events import EventBus
from scrigno.settings.schema import Provider, Settings, VolumeRole, VolumeSetting
from scrigno.settings.store import SettingsStore


@pytest.fixture
def bus() -> EventBus:
    return EventBus()


@pytest.fixture
def initial() -> Settings:
    return Settings(
        volumes=(
            VolumeSetting(name="data", role=VolumeRole.DATA, path=Path("/srv/scrigno/data")),
            VolumeSetting(name="backup1", role=VolumeRole.BACKUP, path=Path("/srv/scrigno/b1")),
        ),
        providers=(Provider(name="Scrigno", ae_title="SCRIGNO", port=104),),
    )


@pytest.fixture
def new_store(tmp_path: Path, bus: EventBus) -> Callable[[], SettingsStore]:
    return lambda: SettingsStore(tmp_path, bus=bus, clock=SystemClock())


@pytest.fixture
async def store(new_store: Callable[[], SettingsStore], initial: Settings) -> SettingsStore:
    opened = new_store()
    await opened.open(initial)
    return opened
