# SPDX-License-Identifier: Apache-2.0
"""What a client accepts and what it gets of it (PS3.18 section 8.7)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrigno.web.dicomweb.frames import ways
from scrigno.web.dicomweb.media import (
    DICOM,
    JPEG,
    JSON,
    NotAcceptable,
    Offer,
    acceptable,
    choose,
)
from scrigno.web.errors import RequestRefused

NATIVE = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
JLS = "1.2.840.10008.1.2.4.80"
HTJ2K = "1.2.840.10008.1.2.4.201"
PARTS, FILE = Offer(media=DICOM, multipart=True), Offer(media=DICOM)


@pytest.mark.spec("IN-5")
@pytest.mark.parametrize(
    ("header", "offer"),
    [
        ("", PARTS),
        ("*/*", PARTS),
        ('multipart/related; type="application/dicom"', PARTS),
        ("multipart/related; type=application/dicom", PARTS),
        ("multipart/related", PARTS),
        ("application/dicom", FILE),
        ("application/*", FILE),
        ("text/html, application/dicom;q=0.1", FILE),
        ('application/dicom;q=0.2, multipart/related; type="application/dicom";q=0.9', PARTS),
        ("APPLICATION/DICOM", FILE),
    ],
)
def test_the_best_of_what_is_accepted_is_given(header: str, offer: Offer) -> None:
    assert choose(acceptable([header], []), [PARTS, FILE])[0] == offer


@pytest.mark.spec("IN-5")
def test_what_is_weighed_zero_and_what_is_not_known_is_not_acceptable() -> None:
    for header in ("image/png", "application/dicom;q=0", "multipart/related; type=image/jpeg"):
        with pytest.raises(NotAcceptable):
            choose(acceptable([header], []), [PARTS, FILE])


@pytest.mark.spec("IN-5")
def test_the_query_parameter_stands_above_the_header_and_its_plus_may_be_a_space() -> None:
    ranges = acceptable(["image/jpeg"], ["application/dicom json"])
    assert choose(ranges, [Offer(media=JPEG), Offer(media=JSON)])[0].media == JSON


@pytest.mark.spec("IN-5")
@given(st.text(max_size=200))
def test_any_accept_header_is_understood_or_refused(text: str) -> None:
    try:
        ranges = acceptable([text], [])
    except RequestRefused:
        return
    assert all(0 < each.q <= 1 for each in ranges)


def forms(stored: str, accept: str, *, alone: bool = True) -> list[tuple[str, bool, str]]:
    found = ways(stored, acceptable([accept], []), alone=alone)
    return [(each.media, each.multipart, each.transfer_syntax_uid) for each in found]


@pytest.mark.spec("IN-5")
def test_frames_come_as_stored_only_when_that_is_asked_for() -> None:
    octets = "application/octet-stream"
    assert forms(NATIVE, "") == [(octets, True, NATIVE)]
    assert forms(IMPLICIT, "") == [(octets, True, NATIVE)]
    # native for whoever says nothing; as stored only when nothing else can be made
    assert forms(JLS, "*/*") == [(octets, True, NATIVE), ("image/jls", True, "")]
    everything = "multipart/related; type=application/octet-stream; transfer-syntax=*"
    assert forms(JLS, everything) == [(octets, True, "")]
    assert forms(NATIVE, everything) == [(octets, True, NATIVE)]
    assert forms(JLS, 'multipart/related; type="image/jls"') == [("image/jls", True, "")]
    assert forms(JLS, f"image/jls; transfer-syntax={JLS}") == [("image/jls", False, "")]
    assert forms(JLS, "application/octet-stream") == [(octets, False, NATIVE)]
    assert forms(JLS, "application/octet-stream", alone=False) == []
    assert forms(NATIVE, f"image/jphc; transfer-syntax={HTJ2K}") == [("image/jphc", False, HTJ2K)]
    assert forms(NATIVE, "video/mp4") == []
    # dicomweb-client writes `image/` for any image
    assert forms(JLS, 'multipart/related; type="image/"') == [("image/jls", True, "")]
