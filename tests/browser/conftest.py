# SPDX-License-Identifier: Apache-2.0
"""A real daemon and a real Chromium, driven by Debian's chromedriver."""

import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from made_objects import write_series
from running_box import RunningBox

sys.path.insert(0, str(Path(__file__).parent))  # window

from window import PASSWORD, USER, Browser, visited

CHROMIUM = Path("/usr/bin/chromium")
DRIVER = Path("/usr/bin/chromedriver")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "--headless=new",
        "--no-sandbox",  # the tests may run as root, where Chromium's own sandbox cannot
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--use-gl=angle",  # WebGL by the processor: the viewer needs it and no machine has a GPU
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--lang=en-US",
        "--window-size=1440,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(str(DRIVER)))
    driver.set_page_load_timeout(20)
    driver.set_script_timeout(20)
    yield driver
    driver.quit()


@pytest.fixture
def new_box(tmp_path: Path) -> Iterator[RunningBox]:
    """A box that nobody has claimed."""
    box = RunningBox(tmp_path / "box")
    box.start()
    yield box
    box.kill()


@pytest.fixture
def new_browser(chromium: Chrome, new_box: RunningBox) -> Iterator[Browser]:
    with visited(chromium, new_box) as browser:
        yield browser


@pytest.fixture(scope="session")
def full_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBox]:
    """A claimed box with four studies of 1, 2, 3 and 12 images, shared by all tests."""
    root = tmp_path_factory.mktemp("full")
    box = RunningBox(root / "box")
    box.start()
    assert box.cli("claim", "--user", USER, stdin=PASSWORD + "\n").returncode == 0
    for patient, images in enumerate((1, 2, 3, 12)):
        write_series(root / f"s{patient}", images=images, patient=patient, size=256, seed=patient)
    done = box.cli("import", *(str(root / f"s{patient}") for patient in range(4)))
    assert done.returncode == 0, done.stderr
    yield box
    box.kill()


@pytest.fixture
def browser(chromium: Chrome, full_box: RunningBox) -> Iterator[Browser]:
    speak_english(full_box)  # a language picked in another test goes with the account
    with visited(chromium, full_box) as made:
        yield made


def speak_english(box: RunningBox) -> None:
    """Give the account of the shared box its language back."""

    def ask(method: str, path: str, body: dict[str, str], token: str = "") -> dict[str, str]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{box.web_port}/viewer/api{path}",
            method=method,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"}
            | ({"Authorization": f"Bearer {token}"} if token else {}),
        )
        with urllib.request.urlopen(request) as answer:
            return dict(json.loads(answer.read() or b"{}"))

    token = ask("POST", "/login", {"user": USER, "password": PASSWORD})["token"]
    ask("PATCH", "/account", {"language": "en"}, token)
    ask("POST", "/logout", {}, token)
