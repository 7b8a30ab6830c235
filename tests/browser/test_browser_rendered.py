# SPDX-License-Identifier: Apache-2.0
"""Pictures rendered by the box, for weak devices: by mouse, keys and touch."""

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from window import TABLET, Browser

# of all the red on the canvas
SUM = """
const canvas = document.querySelector('.stage canvas');
const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
let sum = 0;
for (let i = 0; i < data.length; i += 4) sum += data[i];
return sum;
"""
POSITION, WINDOW = ".corner.bottom-right", ".corner.bottom-left"


def open_study(browser: Browser, patient_id: str = "FR-88") -> None:
    browser.log_in()
    row = "[...document.querySelectorAll('.studies tr')].find((r) => r.textContent.includes('{}'))"
    link = f"{row.format(patient_id)}?.querySelector('a')"
    browser.until(f"{link} !== undefined && {link} !== null")
    browser.script(f"location.hash = {link}.hash + '&mode=rendered'")
    browser.until_text(WINDOW, "W ")


@pytest.mark.spec("VW-3", "VW-4")
def test_the_wheel_the_drag_and_the_keys_scroll(browser: Browser) -> None:
    open_study(browser)
    canvas = browser.one(".stage canvas")
    ActionChains(browser.driver).scroll_from_origin(
        ScrollOrigin.from_element(canvas), 0, 120
    ).perform()
    browser.until_text(POSITION, "4 / 12")
    ActionChains(browser.driver).move_to_element(canvas).click_and_hold().move_by_offset(
        0, 45
    ).release().perform()
    browser.until_text(POSITION, "7 / 12")
    canvas.send_keys(Keys.ARROW_DOWN)
    browser.until_text(POSITION, "8 / 12")
    canvas.send_keys(Keys.END)
    browser.until_text(POSITION, "12 / 12")
    canvas.send_keys(Keys.ARROW_DOWN)
    browser.until_text(POSITION, "12 / 12")
    canvas.send_keys(Keys.HOME)
    browser.until_text(POSITION, "1 / 12")
    assert "1 / 12" in canvas.get_attribute("aria-label")
    browser.script(
        "const rail = document.querySelector('.rail'); rail.value = 9;"
        "rail.dispatchEvent(new Event('input'))"
    )
    browser.until_text(POSITION, "9 / 12")


@pytest.mark.spec("VW-3")
def test_the_right_button_the_presets_and_the_sliders_change_the_window(browser: Browser) -> None:
    open_study(browser)
    browser.until_text(WINDOW, "W 400  C 1,040")
    stored = browser.script(SUM)
    canvas = browser.one(".stage canvas")
    actions = ActionChains(browser.driver)
    actions.w3c_actions.pointer_action.move_to(canvas)
    actions.w3c_actions.pointer_action.pointer_down(button=2)
    actions.w3c_actions.pointer_action.move_by(40, -60)
    actions.w3c_actions.pointer_action.pointer_up(button=2)
    actions.perform()
    browser.until("!document.querySelector(arguments[0]).textContent.includes('W 400')", WINDOW)
    browser.until(f"(() => {{ {SUM} }})() !== {stored}")
    Select(browser.one(".window-tools select")).select_by_value("lung")
    browser.until_text(WINDOW, "W 1,600  C -400")
    canvas.send_keys(Keys.ESCAPE)
    browser.until_text(WINDOW, "W 400  C 1,040")
    assert browser.one(".window-tools select").get_attribute("value") == ""
    browser.script(
        "const s = document.querySelector('.window-tools input'); s.value = 500;"
        "s.dispatchEvent(new Event('input'))"
    )
    browser.until_text(WINDOW, "C 500")
    assert browser.one(".window-tools select").get_attribute("value") == "own"


@pytest.mark.spec("VW-10")
def test_one_finger_scrolls_and_two_change_the_window(browser: Browser) -> None:
    browser.size(*TABLET, touch=True)
    open_study(browser)
    middle = browser.script(
        "const b = document.querySelector('.stage canvas').getBoundingClientRect();"
        "return [b.x + b.width / 2, b.y + b.height / 2]"
    )

    def touch(kind: str, *points: tuple[float, float]) -> None:
        where = [
            {"x": middle[0] + x, "y": middle[1] + y, "id": i} for i, (x, y) in enumerate(points)
        ]
        browser.driver.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": where}
        )

    touch("touchStart", (0, 0))
    touch("touchMove", (0, 30))
    touch("touchMove", (0, 60))
    touch("touchEnd")
    browser.until_text(POSITION, "5 / 12")
    touch("touchStart", (0, 0))
    touch("touchStart", (0, 0), (80, 0))
    touch("touchMove", (60, 0), (140, 0))
    touch("touchEnd", (60, 0))
    touch("touchMove", (60, 90))
    touch("touchEnd")
    browser.until("!document.querySelector(arguments[0]).textContent.includes('W 400')", WINDOW)
    assert "5 / 12" in browser.text(POSITION)


@pytest.mark.spec("VW-1")
def test_a_study_that_is_not_here_says_so(browser: Browser) -> None:
    browser.expected.append("status of 404")
    browser.log_in()
    browser.open("#/viewer?StudyInstanceUID=1.2.3.4")
    browser.until_text("h1", "This study is not here")
    browser.until_text(".stage-message", "No study in this archive has this UID")


@pytest.mark.spec("VW-1")
def test_the_address_of_a_study_opens_it_blind_to_case(browser: Browser) -> None:
    open_study(browser, "JP-7001")
    address = browser.driver.current_url
    assert "studyinstanceuid=" in address
    browser.open(address.partition("/viewer/")[2].replace("studyinstanceuid", "StudyInstanceUID"))
    browser.until_text("h1", "Yamada, Tarou")
    browser.until_text(".corner.top-left", "山田 太郎")
