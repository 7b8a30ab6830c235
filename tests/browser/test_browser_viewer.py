# SPDX-License-Identifier: Apache-2.0
"""The viewer with full pixels in a real browser: values are compared, not pictures of the page."""

import math
from pathlib import Path

import numpy as np
import pydicom
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from window import TABLET, Browser

POSITION, WINDOW, PANE = ".corner.bottom-right", ".corner.bottom-left", ".pane"
MARKS = "[...document.querySelectorAll('.pane svg text')].map((each) => each.textContent).join(' ')"


def open_study(browser: Browser, patient_id: str = "FR-88") -> None:
    browser.log_in()
    rows = "[...document.querySelectorAll('.studies tr')]"
    row = f"{rows}.find((r) => r.textContent.includes('{patient_id}'))"
    browser.until(f"{row}?.querySelector('a') != null")
    browser.script(f"{row}.querySelector('a').click()")
    browser.until("document.querySelector('.pane')?.dataset.full === '1'")
    browser.until_text(WINDOW, "W ")


def key(browser: Browser, *keys: str) -> None:
    actions = ActionChains(browser.driver)
    for each in keys:
        actions.send_keys(each)
    actions.perform()


def tool(browser: Browser, name: str) -> None:
    browser.click(f"[data-command={name}]")
    browser.until(
        "document.querySelector(arguments[0]).getAttribute('aria-pressed') === 'true'",
        f"[data-command={name}]",
    )


def drag(browser: Browser, start: tuple[int, int], *moves: tuple[int, int]) -> None:
    place = browser.one(".picture")
    actions = ActionChains(browser.driver, duration=60)
    actions.move_to_element_with_offset(place, *start).click_and_hold()
    for move in moves:
        actions.move_by_offset(*move)
    actions.release().perform()


def scale(browser: Browser, rows: int) -> float:
    """Return how many millimetres a pixel of the page is; the picture fills the pane."""
    box = browser.script(
        "const b = document.querySelector('.picture').getBoundingClientRect();"
        "return [b.width, b.height]"
    )
    return 0.7 * rows / min(box)


@pytest.mark.spec("VW-3")
def test_keys_and_the_rail_go_through_the_stack(browser: Browser) -> None:
    open_study(browser)
    key(browser, Keys.ARROW_DOWN)
    browser.until_text(POSITION, "2 / 12")
    key(browser, Keys.END)
    browser.until_text(POSITION, "12 / 12")
    key(browser, Keys.ARROW_UP)
    browser.until_text(POSITION, "11 / 12")
    key(browser, Keys.HOME)
    browser.until_text(POSITION, "1 / 12")
    browser.script(
        "const rail = document.querySelector('.rail'); rail.value = 9;"
        "rail.dispatchEvent(new Event('input'))"
    )
    browser.until_text(POSITION, "9 / 12")
    assert "9 / 12" in browser.one(".picture").get_attribute("aria-label")


@pytest.mark.spec("VW-3")
def test_the_window_is_that_of_the_file_and_follows_presets_and_the_hand(browser: Browser) -> None:
    open_study(browser)
    browser.until_text(WINDOW, "W 400  C 1,040")
    key(browser, "2")
    browser.until_text(WINDOW, "W 1,600  C -400")
    assert browser.one(".window-tools select").get_attribute("value") == "lung"
    key(browser, "0")
    browser.until_text(WINDOW, "W 400  C 1,040")
    drag(browser, (0, 0), (60, 0), (40, 30))
    browser.until("!document.querySelector(arguments[0]).textContent.includes('W 400')", WINDOW)
    key(browser, Keys.ESCAPE)
    browser.until_text(WINDOW, "W 400  C 1,040")


@pytest.mark.spec("VW-3", "VW-5")
def test_a_length_is_right_and_is_there_again_on_another_device(browser: Browser) -> None:
    open_study(browser)
    tool(browser, "length")
    drag(browser, (-150, -20), (100, 10), (100, 30))
    browser.until(f"{MARKS}.includes('mm')")
    shown = float(browser.script(f"return {MARKS}").split()[0])
    wanted = math.hypot(200, 40) * scale(browser, 256)
    assert shown == pytest.approx(wanted, rel=0.02)
    browser.until_text(".saved", "Saved")

    browser.script("sessionStorage.clear(); localStorage.clear()")
    browser.driver.refresh()
    browser.until("document.querySelector('.pane')?.dataset.full === '1'")
    browser.until(f"{MARKS}.includes('mm')")
    again = float(browser.script(f"return {MARKS}").split()[0])
    assert again == pytest.approx(shown, abs=0.11)
    tool(browser, "length")
    key(browser, Keys.BACKSPACE)
    browser.until(f"!{MARKS}.includes('mm')")
    browser.until_text(".saved", "Saved")


@pytest.mark.spec("VW-3")
def test_the_mean_of_a_region_is_that_of_the_pixels(browser: Browser) -> None:
    open_study(browser)
    tool(browser, "rectangle")
    drag(browser, (-200, -200), (200, 200), (200, 200))
    browser.until(f"{MARKS}.includes('Mean')")
    words = browser.script(
        "return [...document.querySelectorAll('.pane svg tspan')].map((t) => t.textContent)"
    )
    mean = float(next(each for each in words if each.startswith("Mean")).split()[1])
    uid = browser.script("return location.hash").partition("studyinstanceuid=")[2].partition("&")[0]
    folder = Path(browser.box.root) / "data" / "studies" / uid
    image = min(
        (pydicom.dcmread(path) for path in folder.glob("*/*.dcm")), key=lambda d: d.InstanceNumber
    )
    pixels = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
    half = round(200 * scale(browser, 256) / 0.7)
    middle = image.Rows // 2
    inside = pixels[middle - half : middle + half, middle - half : middle + half]
    assert mean == pytest.approx(float(np.mean(inside)), abs=abs(float(np.std(inside))) * 0.05)
    key(browser, Keys.BACKSPACE)
    browser.until(f"!{MARKS}.includes('Mean')")
    browser.until_text(".saved", "Saved")


@pytest.mark.spec("VW-3")
def test_panes_stand_side_by_side_and_go_full(browser: Browser) -> None:
    open_study(browser)
    key(browser, Keys.F4)
    browser.until("document.querySelectorAll('.pane').length === 4")
    assert browser.one(".grid-pick").get_attribute("value") == "2×2"
    key(browser, Keys.ENTER)
    browser.until("document.querySelectorAll('.pane:not([hidden])').length === 1")
    key(browser, Keys.ENTER)
    key(browser, Keys.F1)
    browser.until("document.querySelectorAll('.pane').length === 1")


@pytest.mark.spec("VW-3")
def test_three_planes_are_made_of_a_stack(browser: Browser) -> None:
    open_study(browser)
    key(browser, "c")
    browser.until("document.querySelector('.planes')?.dataset.ready === 'yes'", seconds=40)
    key(browser, "c")
    browser.until("document.querySelector('.planes') === null")


@pytest.mark.spec("VW-3", "VW-5")
def test_a_key_image_stays_one(browser: Browser) -> None:
    open_study(browser, "JP-7001")
    pressed = "document.querySelector('[data-command=keyimage]').getAttribute('aria-pressed')"
    key(browser, "k")
    browser.until(f"{pressed} === 'true'")
    browser.until_text(".saved", "Saved")
    browser.driver.refresh()
    browser.until("document.querySelector('.pane')?.dataset.full === '1'")
    browser.until(f"{pressed} === 'true'")
    key(browser, "k")
    browser.until(f"{pressed} !== 'true'")
    browser.until_text(".saved", "Saved")


@pytest.mark.spec("VW-3")
def test_the_attributes_of_the_image_can_be_searched(browser: Browser) -> None:
    open_study(browser)
    key(browser, "T")
    browser.one("dialog[open] input").send_keys("0028,0010")
    browser.until("document.querySelectorAll('dialog[open] tbody tr').length === 1")
    assert "256" in browser.text("dialog[open] tbody")


@pytest.mark.spec("VW-10")
def test_two_fingers_zoom_and_three_scroll(browser: Browser) -> None:
    browser.size(*TABLET, touch=True)
    open_study(browser)
    middle = browser.script(
        "const b = document.querySelector('.picture').getBoundingClientRect();"
        "return [b.x + b.width / 2, b.y + b.height / 2]"
    )

    def touch(kind: str, *points: tuple[float, float]) -> None:
        where = [
            {"x": middle[0] + x, "y": middle[1] + y, "id": i} for i, (x, y) in enumerate(points)
        ]
        browser.driver.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": where}
        )

    three = [(-60, 0), (0, 0), (60, 0)]
    touch("touchStart", *three)
    for step in range(1, 7):
        touch("touchMove", *((x, step * 25) for x, _ in three))
    touch("touchEnd")
    browser.until("!document.querySelector(arguments[0]).textContent.startsWith('1 /')", POSITION)


@pytest.mark.spec("VW-1")
def test_a_study_that_is_not_here_says_so(browser: Browser) -> None:
    browser.expected.append("status of 404")
    browser.log_in()
    browser.open("#/viewer?StudyInstanceUID=1.2.3.4")
    browser.until_text("h1", "This study is not here")
    browser.until_text(".stage-message", "No study in this archive has this UID")
