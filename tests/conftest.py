# SPDX-License-Identifier: Apache-2.0
"""What every test shares: the data directory when it is there, and blockbuster on every loop."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give tests whose bar is a time one more try; which had one is shown (`-rR`).

    No others: an image that is lost once in two runs is lost.
    """
    if config.pluginmanager.hasplugin("rerunfailures"):
        for item in items:
            # a real browser that draws by the processor is waited for: its waits are times
            in_browser = "browser" in item.path.parts
            if in_browser or item.get_closest_marker("timing"):
                item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(autouse=True)
def _no_blocking_calls_in_the_loop(request: pytest.FixtureRequest) -> Iterator[BlockBuster | None]:
    """Raise when the product's own code blocks the event loop."""
    with blockbuster_ctx("scrigno") as bb:
        yield bb


@pytest.fixture(scope="session")
def real_data() -> Path | None:
    """Return the folder of real DICOM files, or None where there is none."""
    named = os.environ.get("SCRIGNO_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    return folder if (folder / "MANIFEST.tsv").is_file() else None
