# SPDX-License-Identifier: Apache-2.0
"""A real daemon and a real Chromium, driven by Debian's chromedriver."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from made_objects import write_series
from running_box import RunningBox

CHROMIUM = Path("/usr/bin/chromium")
DRIVER = Path("/usr/bin/chromedriver")
USER = "anna"
PASSWORD = "corretto cavallo batteria"
DESKTOP = (1440, 900)
TABLET = (820, 1180)


@dataclass
class Browser:
    """One window; every wait ends with what was waited for or fails."""

    driver: Chrome
    box: RunningBox
    # parts of console lines that may come; tests read the canvas, the pages never do
    expected: list[str] = field(default_factory=lambda: ["willReadFrequently"])

    def size(self, width: int, height: int, *, touch: bool = False) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})

    def theme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, route: str = "") -> None:
        self.driver.get(f"http://127.0.0.1:{self.box.web_port}/viewer/{route}")

    def script(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def until(self, code: str, *arguments: Any, seconds: float = 15) -> Any:
        """Wait until the JavaScript expression is true and return it."""
        wait = WebDriverWait(self.driver, seconds, poll_frequency=0.05)
        return wait.until(lambda _: self.script(f"return {code}", *arguments), f"never: {code}")

    def one(self, selector: str) -> WebElement:
        self.until("document.querySelector(arguments[0]) !== null", selector)
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def until_text(self, selector: str, part: str, *, seconds: float = 15) -> None:
        code = "document.querySelector(arguments[0])?.textContent.includes(arguments[1])"
        self.until(code, selector, part, seconds=seconds)

    def click(self, selector: str) -> None:
        self.one(selector).click()

    def fill(self, selector: str, text: str) -> None:
        element = self.one(selector)
        element.clear()
        element.send_keys(text)

    def log_in(self, *, here: bool = False) -> None:
        if not here:
            self.open()
        self.fill("input[name=username]", USER)
        self.fill("input[name=password]", PASSWORD)
        self.click("form button[type=submit]")
        self.one(".menu")

    def forget(self) -> None:
        """Leave the page with nothing kept of it."""
        self.open("images/icon.svg")
        self.script("localStorage.clear()")
        self.driver.delete_all_cookies()
        self.driver.get("about:blank")

    def console(self) -> list[str]:
        """Return what the console says beyond what the test expects."""
        lines = [each["message"] for each in self.driver.get_log("browser")]
        return [each for each in lines if not any(part in each for part in self.expected)]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "--headless=new",
        "--no-sandbox",  # the tests may run as root, where Chromium's own sandbox cannot
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-gpu",
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


@contextlib.contextmanager
def visited(chromium: Chrome, box: RunningBox) -> Iterator[Browser]:
    """Give a browser for a box, and check its console at the end."""
    browser = Browser(chromium, box)
    browser.size(*DESKTOP)
    browser.theme("light")
    chromium.get_log("browser")
    yield browser
    console = browser.console()
    browser.forget()
    assert console == []


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
    with visited(chromium, full_box) as made:
        yield made
