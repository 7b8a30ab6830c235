# SPDX-License-Identifier: Apache-2.0
"""Every alert says what is wrong and what to do, in every language of the product."""

import re
import runpy
from pathlib import Path

import pytest

from scrigno.health.codes import CLASSES, Kind, Level
from scrigno.health.conditions import condition
from scrigno.health.texts import (
    CATALOGUES,
    PLACEHOLDER,
    AlertText,
    Value,
    alert_text,
    word,
    written,
)

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ["en", "fr", "it", "ja", "ko", "vi"]
PARTS = ("summary", "explanation", "next_step")
EXAMPLES: dict[str, Value] = {
    "percent": 91.4, "bytes": 5.2e12, "s": 5400.0, "c": 61, "day": "2026-09-01", "count": 1234,
}  # fmt: skip


def _names(text: str) -> set[str]:
    return set(PLACEHOLDER.findall(text))


def _parts(text: AlertText) -> dict[str, str]:
    return {part: getattr(text, part) for part in PARTS}


def test_the_languages_of_the_pages_are_the_languages_of_the_alerts() -> None:
    assert sorted(CATALOGUES) == LANGUAGES
    pages = {path.stem for path in (ROOT / "webui" / "public" / "locales").glob("*.json")}
    assert set(LANGUAGES) == pages


@pytest.mark.spec("AD-11")
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_alert_has_its_words_and_nothing_else_has(language: str) -> None:
    catalogue, english = CATALOGUES[language], CATALOGUES["en"]
    assert sorted(catalogue.alerts) == sorted(CLASSES)
    assert sorted(catalogue.words) == sorted(english.words)
    for name, text in catalogue.words.items():
        assert text.strip() or name == "group", name
        assert _names(text) == _names(english.words[name]), name


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_names_the_same_values_as_the_english_one(language: str) -> None:
    for code, text in CATALOGUES[language].alerts.items():
        english = _parts(CATALOGUES["en"].alerts[code])
        for part, sentence in _parts(text).items():
            assert _names(sentence) == _names(english[part]), (code, part)


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_short_plain_and_whole(language: str) -> None:
    for code, text in CATALOGUES[language].alerts.items():
        assert len(text.summary) <= 90, code
        for part, sentence in _parts(text).items():
            where = (code, part)
            assert sentence == " ".join(sentence.split()), where
            assert sentence.endswith((".", "。")), where
            assert not re.search(r"[{}]", PLACEHOLDER.sub("", sentence)), where
            assert not re.search(r"[<>|*_]|\.\.|!", PLACEHOLDER.sub("", sentence)), where


@pytest.mark.parametrize("language", [each for each in LANGUAGES if each != "en"])
def test_nothing_was_left_in_english(language: str) -> None:
    for code, text in CATALOGUES[language].alerts.items():
        english = _parts(CATALOGUES["en"].alerts[code])
        for part, sentence in _parts(text).items():
            assert sentence != english[part], (code, part)
    script = {"ja": r"[\u3040-\u30ff]", "ko": r"[\uac00-\ud7a3]", "vi": r"[\u1ea0-\u1ef9đĐ]"}
    if language in script:
        for code, text in CATALOGUES[language].alerts.items():
            assert re.search(script[language], " ".join(_parts(text).values())), code


def test_texts_use_only_values_that_the_class_promises() -> None:
    for code, about in CLASSES.items():
        text = CATALOGUES["en"].alerts[code]
        used = set().union(*(_names(sentence) for sentence in _parts(text).values()))
        allowed = about.values | ({"subject"} if about.subject else set())
        assert used <= allowed, code
        assert about.values <= used, f"{code}: a value nobody reads"
        if about.subject:
            assert "subject" in _names(text.summary), f"{code}: which one?"


def test_codes_are_plain_and_levels_fit() -> None:
    for code, about in CLASSES.items():
        assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", code)
        assert about.code == code
        assert "patient" not in about.values | {about.subject}
        if about.data_at_risk:
            assert about.level.rank >= Level.WARNING.rank, code
    assert {about.kind for about in CLASSES.values()} == set(Kind)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_filled_text_has_no_gap_whether_its_values_are_known_or_not(language: str) -> None:
    for code, about in CLASSES.items():
        given = {
            name: next((EXAMPLES[end] for end in EXAMPLES if name.endswith(end)), "EIO")
            for name in about.values
        }
        for values in (given, {}):
            for sentence in _parts(alert_text(code, "data", values, language)).values():
                assert "{" not in sentence
                assert "None" not in sentence
                assert "\n" not in sentence


@pytest.mark.parametrize(
    ("name", "value", "language", "expected"),
    [
        ("used_percent", 85.4, "en", "85%"),
        ("used_percent", 85, "fr", "85 %"),
        ("free_bytes", 5_200_000_000, "en", "5.2 GB"),
        ("free_bytes", 5_200_000_000, "fr", "5,2 Go"),
        ("free_bytes", 999, "en", "999 B"),
        ("free_bytes", 3.1e18, "it", "3.100,0 PB"),
        ("rate_per_s", 52_400_000, "ja", "52 MB/秒"),
        ("age_s", 80, "en", "80 s"),
        ("age_s", 5400, "ko", "2시간"),
        ("age_s", 36 * 3600, "vi", "36 giờ"),
        ("age_s", 20 * 86400, "it", "20 giorni"),
        ("step_s", -7200, "en", "-2 h"),
        ("temperature_c", 61, "en", "61 °C"),
        ("count", 12345, "en", "12,345"),
        ("count", 12345, "fr", "12\u202f345"),
        ("count", 12345, "it", "12.345"),
        ("load", 9.52, "vi", "9,5"),
        ("full_day", "2026-09-01", "ja", "2026-09-01"),
        ("devices", 1, "en", "1"),
        ("count", None, "it", "non noto"),
        ("reason", "", "it", "nessun motivo indicato"),
        ("reason", "  EIO\non write. ", "en", "EIO on write"),
    ],
)
def test_values_are_written_as_the_language_writes_them(
    name: str, value: Value | None, language: str, expected: str
) -> None:
    assert written(name, value, language) == expected


def test_an_unknown_language_is_english_and_an_unknown_code_stands_for_itself() -> None:
    assert alert_text("no-storage", "", {}, "tlh").summary == "No image can be stored."
    assert word("test.subject", "tlh") == "Test message"
    assert alert_text("of-a-newer-version", "data", {}).summary == "of-a-newer-version data"


def test_braces_in_a_value_are_just_braces() -> None:
    text = alert_text("volume-offline", "{reason}", {"reason": "{subject} {0} {x}"})
    assert text.summary == "Volume {reason} has failed."
    assert text.explanation == "It reports: {subject} {0} {x}."


def test_a_condition_takes_the_level_of_its_class_and_leaves_out_what_is_not_known() -> None:
    one = condition("volume-recovering", subject="data", percent=41.2, left_s=None)
    assert (one.level, one.values) == (Level.NOTICE, {"percent": 41.2})
    assert "time left: not known" in one.explanation
    with pytest.raises(KeyError):
        condition("no-such-code")


@pytest.mark.spec("AD-11")
def test_the_page_for_administrators_lists_every_alert_as_it_is() -> None:
    page = runpy.run_path(str(ROOT / "tools" / "alerts_page.py"))["page"]()
    assert (ROOT / "docs" / "admin" / "alerts.md").read_text(encoding="utf-8") == page
    for code in CLASSES:
        assert page.count(f"| `{code}`") == 1
