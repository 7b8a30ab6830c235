# SPDX-License-Identifier: Apache-2.0
"""The catalogue of texts: every language has every key with the same placeholders."""

import json
import re
from pathlib import Path

import pytest

from scrigno.health.codes import Level
from scrigno.settings.schema import Language, PeerState, Unregistered
from scrigno.volumes.states import Role, VolumeState

WEBUI = Path(__file__).resolve().parents[2] / "webui"
# CLDR plural categories that matter below a million
PLURALS = {"en": {"one", "other"}, "it": {"one", "other"}, "fr": {"one", "other"}}


def catalogue(language: str) -> dict[str, str | dict[str, str]]:
    return json.loads(
        (WEBUI / "public" / "locales" / f"{language}.json").read_text(encoding="utf-8")
    )


def placeholders(text: str | dict[str, str]) -> set[str]:
    texts = text.values() if isinstance(text, dict) else [text]
    return set().union(*(re.findall(r"\{(\w+)\}", each) for each in texts))


def scripts() -> str:
    sources = (path for path in sorted((WEBUI / "src").rglob("*")) if ".test." not in path.name)
    kinds = {".js", ".ts", ".tsx"}
    return "\n".join(path.read_text() for path in sources if path.suffix in kinds)


@pytest.mark.spec("VW-8")
@pytest.mark.parametrize("language", list(Language))
def test_no_key_is_missing_empty_or_too_much(language: Language):
    english, other = catalogue("en"), catalogue(language)
    assert other.keys() == english.keys()
    for key, text in other.items():
        assert text, key
        assert placeholders(text) == placeholders(english[key]), key
        if isinstance(english[key], dict):
            wanted = PLURALS.get(language, {"other"})
            assert isinstance(text, str) or text.keys() == wanted, key
            assert isinstance(text, dict) or wanted == {"other"}, key


@pytest.mark.spec("VW-8")
def test_there_is_a_catalogue_for_each_language_of_the_box_and_no_other():
    found = {path.stem for path in (WEBUI / "public" / "locales").glob("*.json")}
    assert found == set(Language)
    named = re.search(r"LANGUAGES = \{(.*?)\}", scripts(), re.DOTALL)
    assert named
    assert set(re.findall(r"(\w+):", named[1])) == set(Language)


def test_every_key_that_the_pages_use_exists_and_every_key_is_used():
    text, english = scripts(), catalogue("en")
    used = set(re.findall(r"""["'`]([a-z]+(?:\.[a-z-]+)+)["'`]""", text))
    used |= set(re.findall(r"""\bt\(\s*["']([\w.-]+)["']""", text))
    prefixes = set(re.findall(r"`([a-z]+(?:\.[a-z]+)*\.)\$\{", text))
    missing = {key for key in used if key.partition(".")[0] in roots(english)} - english.keys()
    assert not missing
    unused = {
        key for key in english.keys() - used if not any(key.startswith(each) for each in prefixes)
    }
    assert not unused


def roots(english: dict[str, object]) -> set[str]:
    return {key.partition(".")[0] for key in english}


def test_words_that_the_box_chooses_are_all_there():
    english = catalogue("en")
    wanted = [f"volume.{state}" for state in VolumeState]
    wanted += [f"volume.role.{role}" for role in Role]
    wanted += [f"peer.{state}" for state in PeerState]
    wanted += [f"unregistered.{policy}" for policy in Unregistered]
    assert not [key for key in wanted if key not in english]
    assert set(Level) == {"info", "notice", "warning", "critical"}
