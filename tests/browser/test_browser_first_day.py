# SPDX-License-Identifier: Apache-2.0
"""The first day with a box: claim it, see how to send, send, look, log out."""

from pathlib import Path

import pytest
from window import PASSWORD, USER, Browser

from made_objects import write_series


@pytest.mark.spec("AD-1", "VW-1", "VW-4")
def test_from_the_setup_code_to_the_first_picture(new_browser: Browser, tmp_path: Path) -> None:
    browser, box = new_browser, new_browser.box
    browser.expected.append("status of 403")
    browser.open()
    browser.until_text("h1", "Welcome to Scrigno")
    browser.fill("input[name=setup-code]", "00000-00000")
    browser.fill("input[name=username]", USER)
    browser.fill("input[name=password]", PASSWORD)
    browser.click("form button[type=submit]")
    browser.until_text("[role=alert]", "not the setup code")

    code = box.cli("setup-code").stdout.strip()
    browser.fill("input[name=setup-code]", code.lower())
    browser.click("form button[type=submit]")
    browser.until_text(".empty h2", "Send the first image")
    assert "#/list" in browser.driver.current_url
    browser.until_text(".address", "SCRIGNO")
    assert str(box.dicom_port) in browser.text(".address")

    write_series(tmp_path / "new", images=3, size=128)
    box.store(tmp_path / "new")
    browser.until_text(".studies tbody", "Rossi, Anna Lucia")  # by itself
    browser.until("document.querySelector('.studies img')?.naturalWidth > 0")

    browser.click(".col-patient a")
    browser.until_text(".corner.bottom-right", "1 / 3")
    browser.until(HAS_PICTURE)
    browser.click(".viewer-bar a")
    browser.one(".studies")
    browser.click(".menu-foot button")
    browser.one("input[name=password]")
    browser.open("#/list")
    browser.one("input[name=password]")
    assert browser.script("return document.cookie") == ""


HAS_PICTURE = """(() => {
  const canvas = document.querySelector(".stage canvas");
  if (!canvas?.width) return false;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.some((value, i) => i % 4 !== 3 && value > 40);
})()"""


@pytest.mark.spec("AD-7")
def test_a_wrong_password_is_told_without_telling_more(browser: Browser) -> None:
    browser.expected.append("status of 401")
    browser.open("#/viewer?studyinstanceuid=1.2.3")
    browser.fill("input[name=username]", USER)
    browser.fill("input[name=password]", "not this one")
    browser.click("form button[type=submit]")
    browser.until_text("[role=alert]", "ID or password is wrong.")
    assert browser.script("return document.activeElement.name") == "password"
    assert browser.one("input[name=password]").get_attribute("value") == ""


@pytest.mark.spec("VW-1")
def test_after_log_in_the_page_that_was_asked_for_comes(browser: Browser) -> None:
    browser.open("#/about")
    browser.fill("input[name=username]", USER)
    browser.fill("input[name=password]", PASSWORD)
    browser.click("form button[type=submit]")
    browser.until_text("h1", "About")
    assert browser.driver.current_url.endswith("#/about")


@pytest.mark.spec("AD-7")
def test_a_session_that_was_ended_leads_back_to_the_log_in(browser: Browser) -> None:
    browser.expected.append("status of 401")
    browser.log_in()
    cookie = browser.driver.get_cookies()[0]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    browser.driver.delete_all_cookies()
    browser.one("input[name=password]")


@pytest.mark.slow
@pytest.mark.spec("VW-1", "ST-3")
def test_a_lost_disk_is_told_on_every_page(new_browser: Browser) -> None:
    browser, box = new_browser, new_browser.box
    assert box.cli("claim", "--user", USER, stdin=PASSWORD + "\n").returncode == 0
    browser.log_in()
    assert browser.script("return document.querySelector('[data-banner]').childElementCount") == 0
    (box.root / "backup1").rename(box.root / "pulled-out")
    browser.until("document.querySelector('.banner')?.textContent.includes('backup1')", seconds=30)
    browser.open("#/about")
    browser.until("document.querySelector('.banner')?.textContent.includes('backup1')")


@pytest.mark.slow
@pytest.mark.spec("VW-1")
def test_a_box_that_went_away_is_told_and_comes_back_by_itself(new_browser: Browser) -> None:
    browser, box = new_browser, new_browser.box
    browser.expected += ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING"]
    browser.expected.append("ERR_CONNECTION_RESET")
    assert box.cli("claim", "--user", USER, stdin=PASSWORD + "\n").returncode == 0
    browser.log_in()
    box.kill()
    browser.until_text(".banner", "does not answer")
    box.start()
    browser.until("document.querySelector('.banner') === null")
