# SPDX-License-Identifier: Apache-2.0
"""The study list in a real browser."""

import pytest
from selenium.webdriver.common.keys import Keys
from window import TABLET, Browser

PATIENTS = "[...document.querySelectorAll('.col-patient .mono')].map((each) => each.textContent)"


def until_patients(browser: Browser, *wanted: str) -> None:
    browser.until(f"JSON.stringify({PATIENTS}) === JSON.stringify(arguments[0])", list(wanted))


@pytest.mark.spec("VW-2")
def test_search_as_you_type_sort_chips_and_periods(browser: Browser) -> None:
    browser.log_in()
    until_patients(browser, "FR-88", "KR-3", "JP-7001", "IT-001")
    browser.until_text(".page-head", "4 studies")
    search = browser.one("input[type=search]")
    search.send_keys("yama")
    until_patients(browser, "JP-7001")
    browser.until_text(".page-head", "1 study")
    search.send_keys(" nobody")
    browser.until_text(".empty h2", "No study matches")
    browser.click(".empty button")
    until_patients(browser, "FR-88", "KR-3", "JP-7001", "IT-001")
    assert search.get_attribute("value") == ""

    browser.click("th.col-images button")
    until_patients(browser, "FR-88", "KR-3", "JP-7001", "IT-001")
    assert browser.one("th.col-images").get_attribute("aria-sort") == "descending"
    browser.click("th.col-images button")
    until_patients(browser, "IT-001", "JP-7001", "KR-3", "FR-88")
    for column in ("patient", "birth", "date", "modality", "description", "accession"):
        browser.click(f"th.col-{column} button")
        browser.until(f"document.querySelector('th.col-{column}').hasAttribute('aria-sort')")

    browser.click(".chip:nth-child(2)")  # MR
    browser.until_text(".empty h2", "No study matches")
    browser.click(".chip:nth-child(1)")  # CT too: any of them
    browser.until("document.querySelectorAll('.col-patient a').length === 4")
    browser.click(".chip:nth-child(2)")
    browser.click(".chip:nth-child(1)")


@pytest.mark.spec("VW-2", "IN-1")
def test_no_name_of_a_patient_stands_in_an_address_or_a_title(browser: Browser) -> None:
    browser.log_in()
    browser.one("input[type=search]").send_keys("Rossi")
    until_patients(browser, "IT-001")
    browser.click(".col-patient a")
    browser.until_text("h1", "Rossi")
    asked = browser.script("return performance.getEntriesByType('resource').map((e) => e.name)")
    asked.append(browser.driver.current_url)
    assert not [each for each in asked if "rossi" in each.lower()]
    assert browser.driver.title == "Scrigno"


@pytest.mark.spec("VW-10")
def test_the_list_is_worked_with_the_keyboard_alone(browser: Browser) -> None:
    browser.log_in()
    until_patients(browser, "FR-88", "KR-3", "JP-7001", "IT-001")
    assert browser.script("return document.activeElement.tagName") == "H1"
    body = browser.driver.switch_to.active_element
    body.send_keys(Keys.TAB)
    assert browser.script("return document.activeElement.type") == "search"
    for _ in range(40):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        if browser.script("return document.activeElement.matches('.col-patient a')"):
            break
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.until_text(".corner.bottom-right", "/ 12")
    assert browser.script("return document.activeElement.matches('.picture')")


@pytest.mark.spec("VW-10")
def test_a_tap_on_a_row_opens_the_study_on_a_tablet(browser: Browser) -> None:
    browser.size(*TABLET, touch=True)
    browser.log_in()
    until_patients(browser, "FR-88", "KR-3", "JP-7001", "IT-001")
    point = browser.script(
        "const box = document.querySelector('.studies tbody tr').getBoundingClientRect();"
        "return {x: box.x + box.width * 0.7, y: box.y + box.height / 2}"
    )
    send = browser.driver.execute_cdp_cmd
    send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    browser.until_text(".corner.bottom-right", "1 / 12")


@pytest.mark.spec("ST-6", "ST-7", "VW-2")
def test_a_protected_study_is_marked_and_the_viewer_says_when_it_was_verified(
    browser: Browser,
) -> None:
    studies = {path.name for path in (browser.box.root / "data" / "studies").iterdir()}
    uid = min(studies)
    assert browser.box.cli("protect", uid).returncode == 0
    browser.box.wait_until_replicated()
    assert browser.box.cli("verify", "--study", uid).returncode == 0
    try:
        browser.log_in()
        browser.until("document.querySelectorAll('.col-description .tag').length === 1")
        assert browser.text(".col-description .tag") == "Protected"
        browser.open(f"#/viewer?studyinstanceuid={uid}")
        browser.until_text(".viewer-title p", "Verified ")
        browser.until_text(".viewer-title p", "Protected")
    finally:
        browser.box.cli("protect", uid, "--off")
