# SPDX-License-Identifier: Apache-2.0
"""The certificate of the pages: made on this box, or given by the administrator.

Files in `<state_dir>/tls`, for their owner only: `box.pem` and `box.key` are made here, `given.pem`
and `given.key` come from the administrator and win while they are there. A certificate made here
is made anew two months before it expires, and at once when the box has other names or addresses.
What is served changes with the next handshake, without a restart and without closing the port.
"""

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from scrigno.core.clock import Clock
from scrigno.core.errors import ScrignoError
from scrigno.host.files import write_durably

log = logging.getLogger(__name__)

GOOD_FOR_DAYS: Final = 397  # browsers refuse longer ones, also of a private authority
RENEW_BEFORE_DAYS: Final = 60
LARGEST_PEM: Final = 256 << 10
MOST_IN_CHAIN: Final = 10
MOST_NAMES: Final = 64
SMALLEST_RSA: Final = 2048
# BCP 195 (RFC 9325 section 4.2.1): forward secrecy and AEAD only; TLS 1.3 has its own list.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class BadCertificate(ScrignoError):
    """A certificate or key cannot be used; nothing has changed."""

    code = "bad-certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A certificate as people look at it; `fingerprint` is the SHA-256 in hex with colons."""

    source: str  # box or given
    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    fingerprint: str
    self_signed: bool


class Certificates:
    """Owns the folder and the TLS context of the pages. Loop thread only."""

    def __init__(self, state_dir: Path, *, clock: Clock) -> None:
        """Name the folder; `open` reads or makes what is served."""
        self.folder = state_dir / "tls"
        self._clock = clock
        self._lock = asyncio.Lock()  # one change at a time: protects the folder
        self._serving: ssl.SSLContext | None = None
        self._shown: Shown | None = None

    @property
    def shown(self) -> Shown | None:
        """Return what is served now."""
        return self._shown

    @property
    def path(self) -> Path:
        """Return the file of the chain that is served, for whoever watches its expiry."""
        given = self._shown is not None and self._shown.source == "given"
        return self.folder / ("given.pem" if given else "box.pem")

    async def open(self, names: Iterable[str]) -> None:
        """Read what is there and make what is missing; raises OSError.

        A given certificate that cannot be used any more is left where it is, told in the log, and
        the box serves its own.
        """
        async with self._lock:
            await asyncio.to_thread(self._open, tuple(names))

    def _open(self, names: tuple[str, ...]) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        given = [self.folder / name for name in ("given.pem", "given.key")]
        if all(path.exists() for path in given):
            try:
                return self._serve("given", given[0].read_bytes(), given[1].read_bytes())
            except (BadCertificate, OSError, ssl.SSLError) as error:
                log.error("certificate: the given one cannot be used: %s", error)  # noqa: TRY400
        own = [self.folder / name for name in ("box.pem", "box.key")]
        if all(path.exists() for path in own):
            try:
                chain, key = own[0].read_bytes(), own[1].read_bytes()
                if self._still_right(chain, names):
                    return self._serve("box", chain, key)
            except (BadCertificate, OSError, ssl.SSLError) as error:
                log.warning("certificate: the box's own is made anew: %s", error)
        return self._make(names)

    def _make(self, names: tuple[str, ...]) -> None:
        chain, key = make_certificate(names, now=self._clock.now())
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self.folder / "box.key", key)
        write_durably(self.folder / "box.pem", chain)
        self._serve("box", chain, key)
        log.info("certificate: made on this box, good until %s", self._until())

    def _until(self) -> str:
        return self._shown.not_after.date().isoformat() if self._shown else "never"

    def _still_right(self, chain: bytes, names: tuple[str, ...]) -> bool:
        certificate = x509.load_pem_x509_certificates(chain)[0]
        left = certificate.not_valid_after_utc - self._clock.now()
        early = certificate.not_valid_before_utc > self._clock.now()
        return (
            left > timedelta(days=RENEW_BEFORE_DAYS)
            and not early
            and set(_names_of(certificate)) >= set(_alternative_texts(names))
        )

    async def renew(self, names: Iterable[str], *, force: bool = False) -> bool:
        """Make the box's own certificate anew when it is time, or when told to; tell whether.

        Raises OSError. A given certificate is never touched.
        """
        async with self._lock:
            if self._shown is not None and self._shown.source == "given":
                return False
            return await asyncio.to_thread(self._renew, tuple(names), force)

    def _renew(self, names: tuple[str, ...], force: bool) -> bool:  # noqa: FBT001 - for to_thread
        try:
            chain = (self.folder / "box.pem").read_bytes()
            if not force and self._still_right(chain, names):
                return False
        except (OSError, ValueError):
            pass
        self._make(names)
        return True

    async def give(self, chain: bytes, key: bytes) -> Shown:
        """Serve a certificate of the administrator; raises BadCertificate, OSError."""
        async with self._lock:
            return await asyncio.to_thread(self._give, chain, key)

    def _give(self, chain: bytes, key: bytes) -> Shown:
        ordered, plain_key = checked(chain, key, now=self._clock.now())
        before = self._serving, self._shown
        self._serve("given", ordered, plain_key)
        try:
            # The key first: a crash in between leaves a pair that does not match, which `open`
            # finds and then serves the box's own.
            write_durably(self.folder / "given.key", plain_key)
            write_durably(self.folder / "given.pem", ordered)
        except OSError:
            self._serving, self._shown = before
            raise
        if self._shown is None:
            raise RuntimeError("nothing is served")
        return self._shown

    async def take_back(self, names: Iterable[str]) -> None:
        """Forget the given certificate and serve the box's own again; raises OSError."""
        async with self._lock:
            await asyncio.to_thread(self._take_back, tuple(names))

    def _take_back(self, names: tuple[str, ...]) -> None:
        for name in ("given.pem", "given.key"):
            (self.folder / name).unlink(missing_ok=True)
        self._open(names)

    async def public_pem(self) -> bytes | None:
        """Return the chain that is served, None when there is none; never a key."""
        if self._shown is None:
            return None
        return await asyncio.to_thread(self.path.read_bytes)

    def _serve(self, source: str, chain: bytes, key: bytes) -> None:
        """Let the next handshakes use this pair; raises BadCertificate, OSError, SSLError."""
        shown = describe(chain, source)
        pair = self.folder / ".serving.pem"
        context = new_context()
        try:
            write_durably(pair, key + b"\n" + chain)
            context.load_cert_chain(pair)
        finally:
            pair.unlink(missing_ok=True)
        self._serving, self._shown = context, shown

    def listening_context(self) -> ssl.SSLContext:
        """Return the context for the port; each handshake takes what is served at that moment."""
        if self._serving is None:
            raise RuntimeError("the certificates were not opened")

        def choose(sock: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: object) -> None:
            if self._serving is not None:
                sock.context = self._serving

        context = new_context()
        context.sni_callback = choose  # called without SNI too
        return context


def new_context() -> ssl.SSLContext:
    """Return a server's context by BCP 195: TLS 1.2 with forward secrecy, and 1.3."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    return context


def make_certificate(names: Iterable[str], *, now: datetime) -> tuple[bytes, bytes]:
    """Return a self-signed certificate for these names and addresses, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = _alternatives(names)
    common = next((each.value for each in alternatives if isinstance(each, x509.DNSName)), "box")
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Scrigno"),
        ]
    )
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks of others may be a little behind
        .not_valid_after(now + timedelta(days=GOOD_FOR_DAYS - 1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), private


def _alternatives(names: Iterable[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            if name.isascii() and name:
                found.append(x509.DNSName(name))
    return found[:MOST_NAMES]


def _alternative_texts(names: Iterable[str]) -> list[str]:
    return [str(each.value) for each in _alternatives(names)]


def _names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(
        str(each.value) for each in found if isinstance(each, x509.DNSName | x509.IPAddress)
    )


def describe(chain: bytes, source: str) -> Shown:
    """Return what people see of the first certificate of a chain; raises BadCertificate."""
    certificate = _certificates(chain)[0]
    digest = certificate.fingerprint(hashes.SHA256())
    return Shown(
        source=source,
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        names=_names_of(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        fingerprint=":".join(f"{byte:02X}" for byte in digest),
        self_signed=certificate.subject == certificate.issuer,
    )


def _certificates(chain: bytes) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(chain)
    except ValueError as error:
        raise BadCertificate("This is no certificate in PEM.") from error
    if not 0 < len(found) <= MOST_IN_CHAIN:
        raise BadCertificate(f"A chain has 1 to {MOST_IN_CHAIN} certificates.")
    return found


def checked(chain: bytes, key: bytes, *, now: datetime) -> tuple[bytes, bytes]:
    """Return chain and key as PEM in the order TLS wants, or say what is wrong with them.

    The key must belong to the first certificate, each further one must have signed the one
    before, none may be expired or not yet good. Raises BadCertificate.
    """
    if len(chain) > LARGEST_PEM or len(key) > LARGEST_PEM:
        raise BadCertificate("Certificate and key are longer than any that is meant for this.")
    certificates = _certificates(chain)
    private = _key(key)
    leaf = _leaf(certificates, private)
    for certificate in certificates:
        _require_time(certificate, now)
    ordered = _ordered(leaf, [each for each in certificates if each != leaf])
    _require_server(leaf)
    text = b"".join(each.public_bytes(Encoding.PEM) for each in ordered)
    return text, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _key(key: bytes) -> PrivateKey:
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError as error:
        raise BadCertificate(
            "The key is protected by a password.", next_step="Give it without one."
        ) from error
    except ValueError as error:
        raise BadCertificate("This is no private key in PEM.") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise BadCertificate("The key is neither RSA nor elliptic curve.")
    if isinstance(private, rsa.RSAPrivateKey) and private.key_size < SMALLEST_RSA:
        raise BadCertificate(f"The RSA key has fewer than {SMALLEST_RSA} bits.")
    return private


def _leaf(certificates: list[x509.Certificate], private: PrivateKey) -> x509.Certificate:
    own = private.public_key().public_numbers()
    for certificate in certificates:
        public = certificate.public_key()
        if (
            isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
            and public.public_numbers() == own
        ):
            return certificate
    raise BadCertificate("The key does not belong to the certificate.")


def _require_time(certificate: x509.Certificate, now: datetime) -> None:
    name = certificate.subject.rfc4514_string()[:100]
    if certificate.not_valid_after_utc <= now:
        day = certificate.not_valid_after_utc.astimezone(UTC).date().isoformat()
        raise BadCertificate(f"The certificate {name} expired on {day}.")
    if certificate.not_valid_before_utc > now + timedelta(hours=1):
        day = certificate.not_valid_before_utc.astimezone(UTC).date().isoformat()
        raise BadCertificate(
            f"The certificate {name} is good from {day} on only.",
            next_step="Check the clock of the box.",
        )


def _ordered(leaf: x509.Certificate, rest: list[x509.Certificate]) -> list[x509.Certificate]:
    chain = [leaf]
    while rest and chain[-1].issuer != chain[-1].subject:
        signer = next((each for each in rest if _signed_by(chain[-1], each)), None)
        if signer is None:
            break
        chain.append(signer)
        rest.remove(signer)
    if rest:
        raise BadCertificate(
            "The chain is not one: "
            f"{rest[0].subject.rfc4514_string()[:100]} did not sign what stands before it."
        )
    return chain


def _signed_by(certificate: x509.Certificate, signer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _require_server(leaf: x509.Certificate) -> None:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        usage = None
    if usage is not None and ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        raise BadCertificate("The certificate is not for servers.")
    if not _names_of(leaf):
        raise BadCertificate(
            "The certificate names no host; browsers look at subjectAltName only.",
            next_step="Have it made with the names and addresses of this box.",
        )
