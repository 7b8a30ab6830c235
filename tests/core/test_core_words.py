# SPDX-License-Identifier: Apache-2.0
"""The shared words: UIDs and paths, masked patient texts, counters, events."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrigno.core.attributes import PersonName
from scrigno.core.counters import Counters
from scrigno.core.events import EventBus, PeerRegistered, SettingsChanged
from scrigno.core.phi import Phi
from scrigno.core.uids import is_uid, object_key, path_part


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "1.",
        ".1",
        "1..2",
        "../../etc",
        "1.2.3 ",
        "1.2.3\0",
        "1" * 65,
        "1.2.a",
        "１.２",
        "1\n",
    ],
)
def test_what_is_no_uid_never_becomes_a_path_as_it_is(text: str) -> None:
    assert not is_uid(text)
    assert len(path_part(text)) == 64
    assert set(path_part(text)) <= set("0123456789abcdef")


def test_a_uid_of_64_characters_is_its_own_path() -> None:
    uid = "1." + "2" * 62
    assert path_part(uid) == uid
    assert object_key("1.2", "1.2.3", uid) == f"studies/1.2/1.2.3/{uid}.dcm"


@pytest.mark.spec("ST-8")
@given(st.text(max_size=100), st.text(max_size=100), st.text(max_size=100))
def test_no_text_of_a_peer_leaves_the_studies_folder(study: str, series: str, sop: str) -> None:
    parts = object_key(study, series, sop).split("/")
    assert len(parts) == 4
    assert all(part not in ("", ".", "..") and "\0" not in part for part in parts)


@given(st.lists(st.text(max_size=20), min_size=2, max_size=2, unique=True))
def test_different_texts_have_different_paths(texts: list[str]) -> None:
    assert path_part(texts[0]) != path_part(texts[1])


def test_a_patient_text_is_masked_where_logs_and_dataclasses_print_it() -> None:
    name = PersonName.parse("Rossi^Anna=露西")
    assert "Rossi" not in repr(name)
    assert "Rossi" not in f"{Phi('Rossi')!r}"
    assert name.text() == "Rossi^Anna=露西"


def test_counters_add_up_by_labels() -> None:
    counters = Counters()
    counters.add("stores_total", door="dicom")
    counters.add("stores_total", 2, door="dicom")
    counters.add("stores_total", door="import")
    assert counters.value("stores_total", door="dicom") == 3
    assert list(counters) == [
        ("stores_total", {"door": "dicom"}, 3),
        ("stores_total", {"door": "import"}, 1),
    ]


def test_a_subscriber_that_fails_does_not_keep_the_others_from_hearing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus = EventBus()
    heard: list[int] = []

    def fail(_event: SettingsChanged) -> None:
        raise RuntimeError

    bus.subscribe(SettingsChanged, fail)
    unsubscribe = bus.subscribe(SettingsChanged, lambda event: heard.append(event.revision))
    with caplog.at_level(logging.ERROR):
        bus.publish(SettingsChanged(revision=4))
    bus.publish(PeerRegistered(peer_name="CT"))
    unsubscribe()
    bus.publish(SettingsChanged(revision=5))
    assert heard == [4]
    assert "a subscriber failed" in caplog.text
