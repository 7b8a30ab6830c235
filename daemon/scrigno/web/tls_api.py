# SPDX-License-Identifier: Apache-2.0
"""The certificate of the pages: looked at, replaced, made anew."""

from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta

from .answers import at
from .certificates import LARGEST_PEM, Shown
from .errors import NotFound
from .rooms import Rooms
from .routes import For, Route, audited
from .shapes import Answer, Body, Moment, read_body

_ADMIN: Final = For.ADMINISTRATORS
Pem = Annotated[str, Meta(min_length=1, max_length=LARGEST_PEM, pattern=r"^[\x09\x0a\x0d -~]*$")]


class CertificateAnswer(Answer):
    """What browsers are shown; `source` is box (made here) or given."""

    source: str
    subject: str
    issuer: str
    names: list[str]
    not_before: Moment
    not_after: Moment
    fingerprint: str
    self_signed: bool


class TlsAnswer(Answer):
    """How https is served; `port` null: it is not, `error` why."""

    https: bool
    redirect: bool
    hsts: bool
    port: int | None
    error: str
    certificate: CertificateAnswer | None


class CertificateBody(Body):
    """A certificate with its chain, and its key without a password, in PEM."""

    certificate: Pem
    key: Pem


def _answer(rooms: Rooms) -> TlsAnswer:
    rules = rooms.settings.current.web
    shown = rooms.certificates.shown
    return TlsAnswer(
        https=rules.https,
        redirect=rules.redirect,
        hsts=rules.hsts,
        port=rooms.secure_port.port,
        error=rooms.secure_port.error,
        certificate=None if shown is None else _certificate(shown),
    )


def _certificate(shown: Shown) -> CertificateAnswer:
    return CertificateAnswer(
        source=shown.source,
        subject=shown.subject,
        issuer=shown.issuer,
        names=list(shown.names),
        not_before=at(shown.not_before),
        not_after=at(shown.not_after),
        fingerprint=shown.fingerprint,
        self_signed=shown.self_signed,
    )


async def get_tls(request: web.Request, rooms: Rooms) -> Any:
    """Say how https is served and with which certificate."""
    return _answer(rooms)


async def give_certificate(request: web.Request, rooms: Rooms) -> Any:
    """Serve this certificate from the next connection on."""
    body = await read_body(request, CertificateBody, limit=3 * LARGEST_PEM)
    shown = await rooms.certificates.give(body.certificate.encode(), body.key.encode())
    audited(request, "web certificate", fingerprint=shown.fingerprint)
    return _answer(rooms)


async def take_back_certificate(request: web.Request, rooms: Rooms) -> Any:
    """Forget the given certificate and serve the box's own."""
    audited(request, "web certificate")
    await rooms.certificates.take_back(rooms.secure_port.names())
    return _answer(rooms)


async def renew_certificate(request: web.Request, rooms: Rooms) -> Any:
    """Make the box's own certificate anew now."""
    audited(request, "web certificate")
    await rooms.certificates.renew(rooms.secure_port.names(), force=True)
    return _answer(rooms)


async def download_certificate(request: web.Request, rooms: Rooms) -> Any:
    """Return the chain in PEM, for those who want to trust it; it is public by nature."""
    content = await rooms.certificates.public_pem()
    if content is None:
        raise NotFound("There is no certificate.")
    return web.Response(
        body=content,
        content_type="application/x-pem-file",
        headers={"Content-Disposition": 'attachment; filename="scrigno.pem"'},
    )


ROUTES: Final = (
    Route(
        method="GET", path="/tls", work=get_tls, allowed=_ADMIN,
        about="How https is served and with which certificate", answer=TlsAnswer,
    ),
    Route(
        method="GET", path="/tls/certificate", work=download_certificate,
        about="The certificate in PEM", answers="application/x-pem-file", errors=("not-found",),
    ),
    Route(
        method="PUT", path="/tls/certificate", work=give_certificate, allowed=_ADMIN,
        about="Serve a certificate of your own from the next connection on",
        body=CertificateBody, answer=TlsAnswer, audit="certificate-given",
        errors=("bad-certificate", "body-too-large"),
    ),
    Route(
        method="DELETE", path="/tls/certificate", work=take_back_certificate, allowed=_ADMIN,
        about="Serve the certificate made on this box again", answer=TlsAnswer,
        audit="certificate-taken-back",
    ),
    Route(
        method="POST", path="/tls/renew", work=renew_certificate, allowed=_ADMIN,
        about="Make the box's own certificate anew now", answer=TlsAnswer,
        audit="certificate-renewed",
    ),
)  # fmt: skip
