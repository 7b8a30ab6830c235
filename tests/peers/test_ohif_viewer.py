# SPDX-License-Identifier: Apache-2.0
"""OHIF's published build, unchanged, in a real Chromium: it lists studies and shows pictures."""

import io
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from made_objects import write_series
from ohif_site import FOLDER, OhifSite
from running_box import RunningBox

USER, PASSWORD = "anna", "corretto cavallo batteria"
pytestmark = [
    pytest.mark.skipif(
        not (FOLDER / "index.html").is_file(),
        reason="needs OHIF's build: tools/need-test-packages fetches it",
    ),
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets of selenium
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--lang=en-US",
        "--disable-background-networking", "--window-size=1400,900",
        "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, real_data: Path | None) -> Iterator[RunningBox]:
    """A box with a made series of 12 images and, where they are, some real ones."""
    root = tmp_path_factory.mktemp("ohif")
    running = RunningBox(root / "box")
    running.start()
    assert running.cli("claim", "--user", USER, stdin=PASSWORD + "\n").returncode == 0
    write_series(root / "made", images=12, patient=1, size=256)
    folders = [root / "made"]
    if real_data is not None:
        folders.append(real_data / "pydicom-data")
    assert running.cli("import", *map(str, folders)).returncode in (0, 1)
    yield running
    running.kill()


def ask(url: str, method: str = "GET", body: Any = None, **headers: str) -> Any:
    request = urllib.request.Request(
        url, method=method, data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **headers},
    )  # fmt: skip
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or b"null")


def until(driver: Chrome, code: str, seconds: float = 60) -> Any:
    """Wait until a JavaScript expression is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = driver.execute_script(f"return {code}")
        if found:
            return found
        time.sleep(0.25)
    raise AssertionError(f"never: {code}\n{driver.get_log('browser')[-5:]}")


def picture_appears(driver: Chrome, seconds: float = 90) -> None:
    """Wait until the middle of the viewport shows more than one colour."""
    end = time.monotonic() + seconds
    spread = 0.0
    while time.monotonic() < end:
        box = driver.execute_script(
            "const c = document.querySelector('.cornerstone-viewport-element, "
            "[data-cy=viewport-pane] canvas, .viewport-element');"
            "if (!c) return null; const r = c.getBoundingClientRect();"
            "return [r.left, r.top, r.right, r.bottom]"
        )
        if box and box[2] - box[0] > 100:
            shot = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("L")
            left, top, right, bottom = box
            width, height = right - left, bottom - top
            middle = shot.crop((
                int(left + width * 0.3), int(top + height * 0.3),
                int(right - width * 0.3), int(bottom - height * 0.3),
            ))  # fmt: skip
            spread = float(np.std(np.asarray(middle)))
            if spread > 8:
                return
        time.sleep(0.5)

    raise AssertionError(f"the viewport stays empty (spread {spread}): {console(driver)}")


def console(driver: Chrome) -> list[str]:
    return [line["message"][:300] for line in driver.get_log("browser")]


def calls(driver: Chrome) -> tuple[int, list[str]]:
    """Return how many calls went to DICOMweb, and those that failed."""
    asked, failed = {}, []
    for line in driver.get_log("performance"):
        message = json.loads(line["message"])["message"]
        said = message["params"]
        match message["method"]:
            case "Network.responseReceived" if "/dicom-web" in said["response"]["url"]:
                asked[said["requestId"]] = said["response"]["url"]
                if said["response"]["status"] >= 400:
                    failed.append(f"{said['response']['status']} {said['response']['url']}")
            case "Network.loadingFailed" if not said.get("canceled"):
                if said["requestId"] in asked or said.get("corsErrorStatus"):
                    failed.append(f"{said['errorText']} {asked.get(said['requestId'])}")
    return len(asked), failed


def made_study(box: RunningBox, token: str) -> tuple[str, str]:
    """Return UID and accession number of the made study."""
    found = ask(
        f"http://127.0.0.1:{box.web_port}/dicom-web/studies?limit=100",
        Authorization=f"Bearer {token}",
    )
    [study] = [
        each for each in found
        if each["00201208"]["Value"][0] == 12 and each["00080061"].get("Value") == ["CT"]
    ]  # fmt: skip
    return study["0020000D"]["Value"][0], study["00080050"]["Value"][0]


def log_in(box: RunningBox) -> str:
    url = f"http://127.0.0.1:{box.web_port}/viewer/api/login"
    return str(ask(url, "POST", {"user": USER, "password": PASSWORD})["token"])


@pytest.mark.spec("IN-5")
def test_ohif_lists_and_shows_a_study_beside_the_pages_of_the_box(
    chromium: Chrome, box: RunningBox
) -> None:
    site = OhifSite("", box.web_port)
    try:
        chromium.get(f"{site.origin}/viewer/api/openapi.json")
        status = chromium.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "fetch('/viewer/api/login', {method: 'POST', credentials: 'same-origin', headers:"
            " {'Content-Type': 'application/json'}, body: JSON.stringify({user: arguments[0],"
            " password: arguments[1], cookie: true})}).then(a => done(a.status))",
            USER, PASSWORD,
        )  # fmt: skip
        assert status == 200
        chromium.get_log("performance")
        chromium.get(f"{site.origin}/")
        study, accession = made_study(box, log_in(box))
        # the list itself: how many studies there are, and the row of one of them
        until(chromium, r"/[1-9][0-9]* of [1-9]/.test(document.body.innerText)")
        until(chromium, f"document.body.innerText.includes({json.dumps(accession)})")
        chromium.get(f"{site.origin}/viewer?StudyInstanceUIDs={study}")
        picture_appears(chromium)
        count, failed = calls(chromium)
        assert count > 12, count
        assert not failed
    finally:
        site.close()


@pytest.mark.spec("IN-5")
def test_ohif_on_an_origin_of_its_own_shows_a_study_with_a_bearer_token(
    chromium: Chrome, box: RunningBox
) -> None:
    token = log_in(box)
    site = OhifSite(f"http://127.0.0.1:{box.web_port}/dicom-web")
    try:
        allow(box, token, site.origin)
        study, _ = made_study(box, token)
        chromium.get_log("performance")
        chromium.get(f"{site.origin}/viewer?StudyInstanceUIDs={study}&token={token}")
        picture_appears(chromium)
        count, failed = calls(chromium)
        assert count > 12, count
        assert not failed
    finally:
        site.close()


def allow(box: RunningBox, token: str, origin: str) -> None:
    """Name the origin in the settings, as an administrator does."""
    url = f"http://127.0.0.1:{box.web_port}/viewer/api/settings"
    patch = {"settings": {"web": {"dicomweb_origins": [origin]}}, "why": "a viewer"}
    ask(url, "PATCH", patch, Authorization=f"Bearer {token}")
