# SPDX-License-Identifier: Apache-2.0
"""Folding and words: pure functions of text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrigno.catalogue.names import (
    fold,
    key,
    name_keys,
    name_pieces,
    search_words,
    searched_piece,
    words,
)
from scrigno.core.attributes import PersonName


@pytest.mark.spec("DN-5", "DN-12")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("MÜLLER^JÜRGEN", "muller jurgen"),
        ("Straße", "STRASSE"),
        ("Ｙａｍａｄａ", "yamada"),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ", "ヤマダ^タロウ"),
        ("ｶﾞ", "ガ"),
        ("Élève", "ELEVE"),
        ("김^희중", unicodedata.normalize("NFD", "김 희중")),
        ("İSTANBUL", "istanbul"),
        ("Łódź", "łódz"),
        ("  A ^^ B  ", "a b"),
        ("①", "1"),
    ],
)
def test_texts_that_mean_the_same_fold_to_the_same(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"), [("カ", "ガ"), ("は", "ぱ"), ("田中", "中田"), ("か", "カ")]
)
def test_texts_that_mean_something_else_stay_apart(one: str, other: str) -> None:
    assert fold(one) != fold(other)


@given(st.text(max_size=40))
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert len(key(text * 10)) <= 120


@given(st.text(max_size=40))
def test_every_word_of_a_text_is_found_by_its_beginning(text: str) -> None:
    kept = words([text])
    for word in search_words(text):
        assert any(each.startswith(word) for each in kept)
        assert word.isalnum() or not word.isascii()


def test_a_piece_of_unspaced_text_is_a_word() -> None:
    assert any(word.startswith("単純") for word in words(["胸部単純CT"]))
    assert any(word.startswith("ct") for word in words(["胸部単純CT"]))
    assert not any(word.startswith("amada") for word in words(["Yamada"]))


def test_kana_of_both_kinds_are_one_in_the_search() -> None:
    assert search_words("ヤマ") == search_words("やま") == search_words("ﾔﾏ")


def test_a_hangul_syllable_is_found_while_it_is_typed() -> None:
    (whole,) = words(["김"])
    for typed in ("ᄀ", "기", "김"):
        assert whole.startswith(search_words(typed)[0])


def test_a_name_sorts_by_its_first_group_that_is_there() -> None:
    assert name_keys(PersonName.parse("=山田^太郎=やまだ^たろう")) == (
        "山田 太郎",
        "山田 太郎",
        "やまだ たろう",
    )
    assert name_keys(PersonName.parse("")) == ("", "", "")


@given(st.text("abcé山ガ김 ^", max_size=20), st.data())
def test_every_piece_of_a_name_that_is_long_enough_is_found(text: str, data: st.DataObject) -> None:
    folded = fold(text)
    start = data.draw(st.integers(0, len(folded)))
    piece = folded[start : data.draw(st.integers(start, len(folded)))]
    word = searched_piece(f"*{piece}*")
    if word:
        pieces = name_pieces(PersonName.parse(text))
        assert any(each.startswith(word) for each in pieces)
    else:
        assert all(len(run) < 3 for run in piece.split())


def test_quotes_and_operators_of_a_search_language_are_no_words() -> None:
    assert search_words('a" OR * NEAR(b)') == ["a", "or", "near", "b"]
