# SPDX-License-Identifier: Apache-2.0
"""Bodies and query strings as types: what is refused, and where it says the fault is."""

import json

import msgspec
import pytest

from scrigno.web.errors import BadBody
from scrigno.web.shapes import Body, Id, Query, Text, Word, parse


class _Line(Body):
    word: Word


class _Made(Body):
    user: Text
    count: Id | None = None
    lines: tuple[_Line, ...] = ()


@pytest.mark.spec("IN-6")
@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"", ""),
        (b"{", ""),
        (b"[]", ""),
        (b'"x"', ""),
        (b"[" * 5000, ""),
        (b'{"user": "a", "other": 1}', ""),
        (b'{"user": 1}', "user"),
        (b'{"user": "a\\u0000"}', "user"),
        (b'{"user": "\xff"}', ""),
        (b'{"user": "\\ud800"}', ""),
        (b'{"user": "a", "count": 0}', "count"),
        (b'{"user": "a", "count": 1e999}', "count"),
        (b'{"user": "a", "count": true}', "count"),
        (b'{"user": "a", "lines": [{"word": "a"}, {"word": "b\\n"}]}', "lines[1].word"),
        (b'{"user": "a", "lines": {}}', "lines"),
    ],
)
def test_a_body_that_is_not_the_declared_one_is_refused_with_the_path_of_the_field(content, field):
    with pytest.raises(BadBody) as refused:
        parse(content, _Made)
    assert refused.value.field == field


@pytest.mark.spec("IN-6")
def test_brackets_inside_texts_are_no_depth():
    content = json.dumps({"user": "[{" * 200 + '"\\' + "[" * 100}).encode()
    assert parse(content, _Made).user.startswith("[{")


@pytest.mark.spec("IN-6")
@pytest.mark.parametrize("text", ["", " 1", "1.0", "1e0", "0x1", "true", "١", "9" * 400, "null"])
def test_a_number_in_a_query_string_is_written_in_decimal_digits(text: str):
    with pytest.raises((ValueError, msgspec.ValidationError)):
        Query("limit", int, ge=0, le=10**6).read(text)
