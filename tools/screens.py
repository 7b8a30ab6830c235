# SPDX-License-Identifier: Apache-2.0
"""Take the pictures under docs/screens: a real box, a real Chromium, drawn phantoms as images.

`make screens` writes them; whoever changes a page runs it, looks at each picture and mends.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "browser")]

from pydicom.dataset import FileMetaDataset  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian  # noqa: E402
from window import DESKTOP, PASSWORD, TABLET, USER, Browser  # noqa: E402

from made_objects import ct_series  # noqa: E402
from running_box import RunningBox, running_box  # noqa: E402

OUT = ROOT / "docs" / "screens"
SIZE = 256
DESCRIPTIONS = ("Torace senza contrasto", "腹部CT", "복부 CT", "Thorax sans injection")


def phantom(slice_number: int, slices: int, kind: int) -> np.ndarray:
    """Draw a cross-section of an invented body in stored values of a CT (HU + 1024)."""
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    z = 2 * slice_number / slices - 1
    body = 0.92 - 0.12 * z * z

    def ellipse(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1

    image = np.full((SIZE, SIZE), 24.0)
    image[ellipse(0, 0, body, body * 0.72)] = 1064
    image[ellipse(0, 0, body * 0.94, body * 0.66)] = 1000
    if kind % 2 == 0:
        lung = 0.27 + 0.03 * z
        image[ellipse(-0.46, -0.04, lung, 0.38)] = 180
        image[ellipse(0.46, -0.04, lung, 0.38)] = 180
        image[ellipse(0.08, -0.1, 0.22, 0.26 - 0.05 * z)] = 1070
    else:
        image[ellipse(-0.35, -0.1, 0.4, 0.36)] = 1085
        image[ellipse(0.45, 0.0, 0.2, 0.22)] = 1075
        image[ellipse(0.1, -0.28, 0.16, 0.1)] = 1120
    image[ellipse(0, 0.5, 0.13, 0.12)] = 1700
    image[ellipse(0, 0.53, 0.05, 0.05)] = 1060
    for angle in np.linspace(0.3, np.pi - 0.3, 7):
        for side in (-1, 1):
            image[ellipse(side * 0.8 * np.sin(angle), -0.56 * np.cos(angle), 0.04, 0.025)] = 1500
    noise = np.random.default_rng(slice_number).normal(0, 14, image.shape)
    return np.clip(image + noise, 0, 4095).astype(np.uint16)


def fill(box: RunningBox, folder: Path) -> None:
    """Send some studies of invented patients."""
    for patient in range(9):
        slices = 24
        for number, (uid, image) in enumerate(
            ct_series(images=slices, patient=patient, size=SIZE, seed=patient)
        ):
            image.PixelData = phantom(number, slices, patient).tobytes()
            image.StudyDate = f"202610{28 - 3 * patient:02}"
            image.StudyDescription = DESCRIPTIONS[patient % 4]
            image.PatientBirthDate = "19580214" if patient % 4 == 3 else image.PatientBirthDate
            image.WindowCenter, image.WindowWidth = 40, 400
            image.file_meta = FileMetaDataset()
            image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
            image.file_meta.MediaStorageSOPInstanceUID = uid
            path = folder / str(patient) / f"{number}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save_as(path, enforce_file_format=True)
    box.store(folder)
    box.wait_until_replicated()


def take(browser: Browser, name: str) -> None:
    """Write one picture when every image on the page has come."""
    browser.until("[...document.images].every(image => image.complete)")
    browser.driver.save_screenshot(str(OUT / f"{name}.png"))
    sys.stdout.write(f"{name}.png\n")


def main() -> None:
    """Take every picture."""
    OUT.mkdir(parents=True, exist_ok=True)
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", "no-first-run"):
        options.add_argument(f"--{flag}")
    with tempfile.TemporaryDirectory() as place, running_box(Path(place) / "box") as box:
        driver = Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        browser = Browser(driver, box)
        try:
            browser.size(*DESKTOP)
            browser.open()
            browser.one("form")
            take(browser, "claim-light")
            box.cli("claim", "--user", USER, stdin=f"{PASSWORD}\n")
            browser.log_in()
            browser.open("#/list")
            browser.one("main")
            take(browser, "list-empty-light")
            fill(box, Path(place) / "send")
            pages(browser)
        finally:
            driver.quit()


VIEWS = (
    ("pc", DESKTOP, "light", "en"),
    ("pc", DESKTOP, "dark", "it"),
    ("tablet", TABLET, "dark", "ja"),
    ("tablet", TABLET, "light", "it"),
)


def pages(browser: Browser) -> None:
    """Take the main pages at both sizes, in both themes and three languages."""
    for name, size, theme, language in VIEWS:
        browser.script("localStorage.setItem('scrigno-language', arguments[0])", language)
        browser.theme(theme)
        browser.size(*size, touch=size == TABLET)
        browser.open("#/list")
        browser.driver.refresh()
        browser.until("document.querySelectorAll('main tbody tr').length > 3")
        take(browser, f"list-{name}-{theme}-{language}")
        browser.until("document.querySelector('main tbody tr a') !== null")
        browser.script("document.querySelector('main tbody tr a').click()")
        browser.until("document.querySelector('.stage canvas') !== null")
        browser.until("document.body.textContent.includes('/ 24')")
        take(browser, f"viewer-{name}-{theme}-{language}")


if __name__ == "__main__":
    main()
