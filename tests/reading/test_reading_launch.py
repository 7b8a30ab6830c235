# SPDX-License-Identifier: Apache-2.0
"""The launch grammar: every key, operator and example of the specification, and anything else."""

import contextlib
from datetime import date, timedelta
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrigno.catalogue.records import FilterOperator, ListFilter
from scrigno.catalogue.studies import FILTERS
from scrigno.reading.errors import LaunchRefused
from scrigno.reading.launch import (
    FIELDS,
    OPERATORS,
    Launch,
    fallback_codecs,
    month_before,
    parse_credentials,
    parse_list,
    parse_viewer,
)

TODAY = date(2026, 3, 31)
SIGNS = {
    "=": FilterOperator.EQUAL,
    "===": FilterOperator.EQUAL,
    "=!=": FilterOperator.NOT_EQUAL,
    "=>>": FilterOperator.GREATER,
    "=>=": FilterOperator.GREATER_OR_EQUAL,
    "=<<": FilterOperator.LESS,
    "=<=": FilterOperator.LESS_OR_EQUAL,
    "=**": FilterOperator.CONTAINS,
}
DATES = {"patientbirthdate", "studydate", "seriesdate"}
TIMES = {"studytime", "seriestime"}


def listed(query: str) -> tuple[ListFilter, ...]:
    return parse_list(query, today=TODAY).filters


def value_for(key: str) -> tuple[str, str]:
    """Return a value as a caller writes it and as the study list takes it."""
    if key in DATES:
        return "2013/11/25", "20131125"
    if key in TIMES:
        return "12:30:05", "123005"
    return ("7", "7") if key == "seriesnumber" else ("CT", "CT")


@pytest.mark.spec("IN-2")
@pytest.mark.parametrize("key", sorted(FIELDS))
@pytest.mark.parametrize("sign", sorted(SIGNS))
def test_every_key_is_understood_with_every_operator(key: str, sign: str) -> None:
    written, wanted = value_for(key)
    if key == "modality" and SIGNS[sign] not in (
        FilterOperator.EQUAL,
        FilterOperator.NOT_EQUAL,
        FilterOperator.CONTAINS,
    ):
        with pytest.raises(LaunchRefused):
            listed(f"{key}{sign}{written}")
        return
    for spelled in (key, key.upper(), key.title()):
        (found,) = listed(f"{spelled}{sign}{written}")
        assert found.field == FIELDS[key]
        if sign == "=**" and key in ("studydate", "seriesdate"):
            assert found.values == (wanted, wanted)
        else:
            assert (found.operator, found.values) == (SIGNS[sign], (wanted,))
        (again,) = listed(
            f"{spelled}={quote(sign[1:] + written, safe='')}"
        )  # as RIS and browsers do
        assert again == found


@pytest.mark.spec("IN-2")
def test_the_list_knows_all_nineteen_keys_of_the_specification() -> None:
    assert set(FIELDS) == {
        "studyinstanceuid", "seriesinstanceuid", "sopinstanceuid", "patientid", "patientname",
        "patientcomments", "patientbirthdate", "patientsex", "studydescription", "studyid",
        "studydate", "studytime", "accessionnumber", "seriesnumber", "seriesdate", "seriestime",
        "seriesdescription", "modality", "bodypartexamined",
    }  # fmt: skip
    assert set(FIELDS.values()) <= FILTERS | {"modality"}


@pytest.mark.spec("IN-2")
def test_a_range_of_dates_is_inclusive_and_may_be_open() -> None:
    (found,) = listed("studydate==~2013/11/25~2016/08/31")
    wanted = ListFilter(
        field="study_date", operator=FilterOperator.RANGE, values=("20131125", "20160831")
    )
    assert found == wanted
    assert listed("studydate==~2013-11-25~20160831")[0] == wanted
    assert listed("studydate==~2013/11/25~")[0].values == ("20131125", "")
    assert listed("studytime==~8:00~12")[0].values == ("0800", "12")
    for wrong in ("studydate==~", "studydate==~2013/11/25", "studydate==~~", "patientid==~1~2"):
        with pytest.raises(LaunchRefused):
            listed(wrong)


@pytest.mark.spec("IN-2")
def test_relative_dates_end_today() -> None:
    def values(word: str) -> tuple[str, ...]:
        (found,) = listed(f"StudyDate={word}")
        return found.values

    assert values("today") == values("TODAY") == ("20260331",)
    assert values("yesterday") == ("20260330",)
    assert values("pastweek") == ("20260324", "20260331")
    assert values("pastmonth") == ("20260228", "20260331")
    assert month_before(date(2024, 3, 31)) == date(2024, 2, 29)
    assert month_before(date(2026, 1, 15)) == date(2025, 12, 15)


@pytest.mark.spec("IN-2")
@given(st.dates(min_value=date(1900, 2, 1), max_value=date(2999, 1, 1)))
def test_a_past_month_is_28_to_31_days(day: date) -> None:
    before = month_before(day)
    assert timedelta(days=28) <= day - before <= timedelta(days=31)


@pytest.mark.spec("IN-2")
def test_repeated_patients_and_modalities_are_alternatives_and_all_else_holds_together() -> None:
    found = listed("patientid=1&modality=ct&PatientID===2&modality=MR&patientname=**rossi")
    assert {each.field: each.values for each in found} == {
        "patient_id": ("1", "2"),
        "modality": ("CT", "MR"),
        "patient_name": ("rossi",),
    }
    names = listed("patientname=**a&patientname=**b")
    assert [each.values for each in names] == [("a",), ("b",)]
    (mixed,) = listed("patientid=7&patientid=**X&patientid=>>9")
    assert (mixed.operator, mixed.values) == (FilterOperator.EQUAL, ("7",))
    assert [(each.operator, each.values) for each in mixed.alternatives] == [
        (FilterOperator.CONTAINS, ("X",)),
        (FilterOperator.GREATER, ("9",)),
    ]
    neither = listed("patientid=!=1&patientid=!=2")
    assert [each.values for each in neither] == [("1",), ("2",)]


@pytest.mark.spec("IN-2")
def test_three_signs_take_what_follows_as_it_is() -> None:
    assert listed("patientid===**7")[0].values == ("**7",)
    assert listed("patientid====7")[0].values == ("=7",)
    assert listed("patientid===")[0].values == ("",)
    assert listed("patientid=&studyid=") == ()  # a template with nothing filled in


@pytest.mark.spec("IN-2", "DN-12")
def test_japanese_comes_as_utf_8_or_as_shift_jis() -> None:
    name = "山田^太郎"
    for encoded in (quote(name), quote(name.encode("cp932")), name):
        (found,) = parse_list(f"patientname={encoded}", today=TODAY, codecs=("cp932",)).filters
        assert found.values == (name,)
    latin = quote("Müller".encode("latin-1"))
    codecs = fallback_codecs("it", "")
    assert parse_list(f"patientname={latin}", today=TODAY, codecs=codecs).filters[0].values == (
        "Müller",
    )
    assert fallback_codecs("ja", "")[0] == "cp932"
    assert fallback_codecs("en", "\\ISO 2022 IR 87")[0] == "cp932"
    assert fallback_codecs("ko", "")[0] == "cp949"


@pytest.mark.spec("IN-1")
def test_credentials_are_taken_as_they_are_and_never_printed() -> None:
    launch = parse_list("ID=anna&Password=**p%26+%3D&code=a%2Bb%3D&patientid=7", today=TODAY)
    assert launch.credentials is not None
    assert (launch.credentials.user, launch.credentials.password) == ("anna", "**p& =")
    assert launch.code == "a%2Bb%3D"  # base64 is undone where it is known to be base64
    assert [each.field for each in launch.filters] == ["patient_id"]
    for secret in ("anna", "p&", "a%2Bb"):
        assert secret not in repr(launch)
    assert parse_list("id=anna", today=TODAY).credentials is None


@pytest.mark.spec("IN-3")
def test_what_a_code_says_is_read_like_an_address_or_not_at_all() -> None:
    found = parse_credentials("id=admin&password=pass%20word")
    assert found is not None
    assert (found.user, found.password) == ("admin", "pass word")
    assert parse_credentials("password=b&id=a") is not None
    assert parse_credentials("\x02garbage\xff") is None
    assert parse_credentials("x" * 10_000) is None


@pytest.mark.spec("IN-2")
def test_the_viewer_takes_five_keys_and_equality() -> None:
    found = parse_viewer("studyinstanceuid=1.2.3&patientid=1&patientid=2", today=TODAY)
    assert {each.field: each.values for each in found.filters} == {
        "study_instance_uid": ("1.2.3",),
        "patient_id": ("1", "2"),
    }
    assert parse_viewer("AccessionNumber===A1&modality=CT", today=TODAY).ignored == ("modality",)
    for wrong in ("patientid=**1", "accessionnumber=!=1", "patientid=1&patientid=>>2"):
        with pytest.raises(LaunchRefused):
            parse_viewer(wrong, today=TODAY)


@pytest.mark.spec("IN-2")
@pytest.mark.parametrize(
    "query",
    [
        "studydate=2013/13/45", "studydate=soon", "studytime=25:00", "seriesnumber=one",
        "patientname=" + "x" * 300, "a=1&" * 100, "x" * 9000, "studydate=**x", "patientid=%00",
    ],
)  # fmt: skip
def test_nonsense_is_refused_without_repeating_it(query: str) -> None:
    with pytest.raises(LaunchRefused) as refused:
        listed(query)
    value = query.partition("=")[2][:40]
    assert not value or value not in refused.value.reason


@pytest.mark.spec("IN-3")
@given(st.binary(max_size=300))
def test_any_bytes_of_a_decrypted_code_are_credentials_or_none(content: bytes) -> None:
    """A failure here would tell codes with wrong padding from others."""
    text = content.decode("utf-8", "surrogateescape")
    for each in (text, f"id={text}&password={text}"):
        parse_credentials(each)


@pytest.mark.spec("IN-2")
@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_any_text_is_understood_or_refused(text: str) -> None:
    for parse in (parse_list, parse_viewer):
        with contextlib.suppress(LaunchRefused):
            assert isinstance(parse(text, today=TODAY), Launch)


_TEXTS = sorted(set(FIELDS) - DATES - TIMES - {"seriesnumber", "modality", "patientsex"})
_VALUES = st.text(min_size=1, max_size=60).filter(
    lambda text: "\0" not in text and text.strip() == text
)


@pytest.mark.spec("IN-2")
@given(
    st.lists(
        st.tuples(st.sampled_from(_TEXTS), st.sampled_from(sorted(OPERATORS)), _VALUES), max_size=8
    ),
    st.booleans(),
)
def test_what_is_written_is_what_is_read(pairs: list[tuple[str, str, str]], whole: bool) -> None:
    pairs = [(k, o, v) for k, o, v in pairs if o != "=~" and k != "patientid"]
    written = "&".join(
        f"{key}={quote(sign + value, safe='')}" if whole else f"{key}={sign}{quote_plus(value)}"
        for key, sign, value in pairs
    )
    assert listed(written) == tuple(
        ListFilter(field=FIELDS[key], operator=OPERATORS[sign], values=(value,))
        for key, sign, value in pairs
    )
