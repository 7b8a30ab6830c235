# SPDX-License-Identifier: Apache-2.0
"""What a client accepts, and what it gets of it (PS3.18 section 8.7, RFC 9110 12.5.1). Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from scrigno.web.errors import RequestRefused

MOST_RANGES: Final = 64
LONGEST: Final = 4096
MULTIPART: Final = "multipart/related"
DICOM: Final = "application/dicom"
JSON: Final = "application/dicom+json"
XML: Final = "application/dicom+xml"
PLAIN_JSON: Final = "application/json"
OCTETS: Final = "application/octet-stream"
ZIP: Final = "application/zip"
JPEG: Final = "image/jpeg"
PNG: Final = "image/png"
GIF: Final = "image/gif"

AS_STORED: Final = "*"


class NotAcceptable(RequestRefused):
    """Nothing that the client accepts can be made of the resource."""

    code = "not-acceptable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """One acceptable media range; `part` is the type inside a multipart/related, if any."""

    media: str
    part: str = ""
    transfer_syntax: str = ""
    q: float = 1.0

    @property
    def multipart(self) -> bool:
        """Tell whether several parts may come."""
        return self.media in (MULTIPART, "multipart/*")

    @property
    def anything(self) -> bool:
        """Tell whether every media type will do."""
        return self.media == "*/*"

    @property
    def inner(self) -> str:
        """Return the media range of the content itself."""
        return (self.part or "*/*") if self.multipart else self.media


ANYTHING: Final = Range(media="*/*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One form that the resource can be given in, the first of several being the default."""

    media: str
    multipart: bool = False


def acceptable(headers: Sequence[str], parameters: Sequence[str]) -> tuple[Range, ...]:
    """Return what is accepted, the best first; raises RequestRefused.

    The query parameter `accept` stands above the header (PS3.18 section 8.3.3.1); its `+` often
    comes unescaped and has become a space then.
    """
    texts = [each.replace("dicom json", "dicom+json").replace("dicom xml", "dicom+xml")
             for each in parameters] or list(headers)  # fmt: skip
    joined = ",".join(texts)
    if not joined.strip():
        return (ANYTHING,)
    if len(joined) > LONGEST:
        raise RequestRefused("The list of acceptable media types is too long.")
    ranges = [_range(each) for each in _split(joined, ",") if each.strip()]
    if len(ranges) > MOST_RANGES:
        raise RequestRefused("There are too many acceptable media types.")
    # the order of the list decides between equals; PS3.18 does not rank by precision
    return tuple(sorted((each for each in ranges if each.q > 0), key=lambda each: -each.q))


def _split(text: str, separator: str) -> Iterable[str]:
    """Split at a separator that stands outside quotation marks."""
    part, quoted = "", False
    for character in text:
        if character == '"':
            quoted = not quoted
        if character == separator and not quoted:
            yield part
            part = ""
        else:
            part += character
    yield part


def _range(text: str) -> Range:
    media, *parameters = (each.strip() for each in _split(text, ";"))
    named: dict[str, str] = {}
    for each in parameters:
        name, _, value = each.partition("=")
        named.setdefault(name.strip().lower(), value.strip().strip('"'))
    if "/" not in media:
        raise RequestRefused("A media type is a type, a slash and a subtype.")
    try:
        q = float(named.get("q") or 1)
    except ValueError:
        raise RequestRefused("The weight q of a media type is a number from 0 to 1.") from None
    return Range(
        media=_wild(media),
        part=_wild(named.get("type", "")),
        transfer_syntax=named.get("transfer-syntax", ""),
        q=q if 0 <= q <= 1 else 1.0,
    )


def _wild(media: str) -> str:
    """Return a media range in lower case; `image/` is written by some for `image/*`."""
    media = media.lower()
    return f"{media}*" if media.endswith("/") else media


def fits(wanted: str, media: str) -> bool:
    """Tell whether a media range covers a media type."""
    if wanted in ("*/*", media):
        return True
    if wanted == PLAIN_JSON:
        return media == JSON
    return wanted.endswith("/*") and media.startswith(wanted[:-1])


def matches(range_: Range, offer: Offer) -> bool:
    """Tell whether an offer is in a range."""
    if range_.anything:
        return True
    if range_.multipart != offer.multipart:
        return False
    return fits(range_.inner, offer.media)


def choose(ranges: Iterable[Range], offers: Sequence[Offer]) -> tuple[Offer, Range]:
    """Return the best form and the range that it is in; raises NotAcceptable."""
    for range_ in ranges:
        for offer in offers:
            if matches(range_, offer):
                return offer, range_
    known = ", ".join(sorted({_words(each) for each in offers}))
    raise NotAcceptable(
        "None of the acceptable media types can be made of this.",
        next_step=f"Possible here: {known}.",
    )


def _words(offer: Offer) -> str:
    return f'{MULTIPART}; type="{offer.media}"' if offer.multipart else offer.media
