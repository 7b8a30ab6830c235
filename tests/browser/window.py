# SPDX-License-Identifier: Apache-2.0
"""One browser window for one box: what the tests do in it and what they wait for."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from running_box import RunningBox

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
    assert not console, console
