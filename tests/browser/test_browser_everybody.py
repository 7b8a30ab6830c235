# SPDX-License-Identifier: Apache-2.0
"""Pages for everybody: six languages, targets for fingers, contrast in both themes."""

import json
from pathlib import Path

import pytest
from window import DESKTOP, TABLET, Browser

from scrigno.settings.schema import Language

PAGES = ("#/list", "#/dashboard", "#/admin/server/connection", "#/profile", "#/about")

HERE = Path(__file__).resolve().parent
CONTRAST = (HERE / "contrast.js").read_text()
SMALL = (HERE / "targets.js").read_text()


def go(browser: Browser, route: str) -> None:
    browser.script("location.hash = arguments[0]", route)
    browser.until(
        "document.querySelector('h1') && !document.querySelector('.page .spinner, .ghost')"
    )
    if route == "#/list":
        browser.until("document.querySelectorAll('.col-patient a').length === 4")


def open_first(browser: Browser) -> None:
    go(browser, "#/list")
    browser.script("document.querySelector('.col-patient a').click()")
    browser.until("document.querySelector('.corner.bottom-left')?.textContent")


@pytest.mark.spec("VW-10")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_contrast_enough(browser: Browser, theme: str) -> None:
    browser.theme(theme)
    browser.open()
    browser.one("input[name=password]")
    assert browser.script(CONTRAST) == []
    browser.log_in()
    for route in PAGES:
        go(browser, route)
        assert browser.script(CONTRAST) == [], route
    open_first(browser)
    assert browser.script(CONTRAST) == []


@pytest.mark.spec("VW-10")
@pytest.mark.parametrize("size", [DESKTOP, TABLET, (390, 844)], ids=["desktop", "tablet", "phone"])
def test_fingers_find_every_control_and_nothing_is_cut_off(browser: Browser, size) -> None:
    browser.size(*size, touch=size is not DESKTOP)
    browser.log_in()
    wide = "document.documentElement.scrollWidth <= innerWidth"
    for route in PAGES:
        go(browser, route)
        assert browser.script(SMALL) == [], route
        assert browser.script(f"return {wide}"), route
    open_first(browser)
    if size is not DESKTOP:
        assert browser.script(SMALL) == []
    assert browser.script(f"return {wide}")


@pytest.mark.spec("VW-8")
@pytest.mark.parametrize("language", list(Language))
def test_every_page_speaks_the_language_that_was_picked(browser: Browser, language: str) -> None:
    browser.open()
    browser.one(".language-pick select")
    browser.script(
        "const s = document.querySelector('.language-pick select'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('change'))",
        language,
    )
    browser.until("document.documentElement.lang === arguments[0]", str(language))
    browser.size(*TABLET)
    browser.log_in(here=True)
    texts = json.loads(
        browser.script(
            "const r = new XMLHttpRequest(); r.open('GET', `locales/${arguments[0]}.json`, false);"
            "r.send(); return r.responseText",
            language,
        )
    )
    for route in PAGES:
        go(browser, route)
        shown = browser.script("return document.body.innerText")
        assert not [key for key in texts if "." in key and key in shown.split()], route
        assert browser.script("return document.documentElement.scrollWidth <= innerWidth"), route
    go(browser, "#/about")
    assert browser.text("h1") == texts["menu.about"]


@pytest.mark.spec("VW-8")
def test_the_language_follows_the_log_in(browser: Browser) -> None:
    browser.log_in()
    go(browser, "#/profile")
    browser.script(
        "const s = document.querySelector('.language-pick select'); s.value = 'fr';"
        "s.dispatchEvent(new Event('change'))"
    )
    browser.until_text("h1", "Profil")
    browser.script("localStorage.clear()")
    browser.open()
    browser.until("document.documentElement.lang === 'fr'")
    browser.until_text("h1", "Examens")
    go(browser, "#/profile")
    browser.script(
        "const s = document.querySelector('.language-pick select'); s.value = 'en';"
        "s.dispatchEvent(new Event('change'))"
    )
    browser.until_text("h1", "Profile")
