# SPDX-License-Identifier: Apache-2.0
"""https with a certificate of the box or of the administrator, changed while it is served."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from scrigno.core.clock import SystemClock
from scrigno.web.certificates import BadCertificate, Certificates, checked

NOW = datetime(2026, 5, 1, tzinfo=UTC)


class Authority:
    """Signs certificates, as a clinic's own one does."""

    def __init__(self, name: str = "Clinic CA", signer: "Authority | None" = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        by = signer or self
        self.certificate = _sign(self.name, self.key.public_key(), by.name, by.key, ca=True)

    def issue(self, *, key=None, days: int = 90, names=("localhost",), server: bool = True):
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "scrigno.clinic")])
        made = _sign(
            subject, key.public_key(), self.name, self.key, days=days, names=names, server=server
        )
        return made.public_bytes(Encoding.PEM), pem_key(key)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def pem_key(key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _sign(subject, public, issuer, key, *, ca=False, days=90, names=(), server=True):
    now = datetime.now(UTC)
    begins = now - timedelta(days=200 if days <= 0 else 1)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins).not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )  # fmt: skip
    if names:
        alternative = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
        made = made.add_extension(alternative, critical=False)
    if not ca:
        use = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        made = made.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    return made.sign(key, hashes.SHA256())


@pytest.mark.spec("AD-6")
def test_what_cannot_be_served_is_refused_in_words():
    root = Authority()
    middle = Authority("Middle", root)
    chain, key = middle.issue()
    now = datetime.now(UTC)
    ordered, _ = checked(root.pem + middle.pem + chain, key, now=now)
    names = [c.subject.rfc4514_string() for c in x509.load_pem_x509_certificates(ordered)]
    assert names == ["CN=scrigno.clinic", "CN=Middle", "CN=Clinic CA"]
    other = pem_key(ec.generate_private_key(ec.SECP256R1()))
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    expired, expired_key = middle.issue(days=-1)
    client, client_key = middle.issue(server=False)
    nameless, nameless_key = middle.issue(names=())
    for pair, words in {
        (chain, other): "does not belong",
        (b"no PEM", key): "no certificate",
        (chain, b"no key"): "no private key",
        (chain + Authority("Stranger").pem, key): "did not sign",
        (expired, expired_key): "expired on",
        (client, client_key): "not for servers",
        (nameless, nameless_key): "names no host",
        (middle.issue(key=small)[0], pem_key(small)): "fewer than",
    }.items():
        with pytest.raises(BadCertificate, match=words):
            checked(*pair, now=now)
    with pytest.raises(BadCertificate, match=r"from .* on only"):
        checked(chain, key, now=now - timedelta(days=30))


@pytest.mark.spec("AD-6")
async def test_a_certificate_of_the_box_is_made_kept_and_renewed_in_time(tmp_path):
    class Held(SystemClock):
        def now(self) -> datetime:
            return NOW + self.later

        later = timedelta()

    clock = Held()
    names = ("scrigno", "scrigno.local", "192.168.1.9", "fd00::9")
    made = Certificates(tmp_path, clock=clock)
    await made.open(names)
    first = made.shown
    assert set(first.names) == set(names)
    assert first.self_signed
    assert (await asyncio.to_thread((tmp_path / "tls" / "box.key").stat)).st_mode & 0o777 == 0o600
    again = Certificates(tmp_path, clock=clock)
    await again.open(names)
    assert again.shown.fingerprint == first.fingerprint
    assert not await again.renew(names)
    clock.later = timedelta(days=300)
    assert not await again.renew(names)
    clock.later = timedelta(days=340)  # less than two months are left
    assert await again.renew(names)
    assert again.shown.fingerprint != first.fingerprint
    assert await again.renew((*names, "10.0.0.5"))  # another address is another certificate
    assert "10.0.0.5" in again.shown.names


@pytest.mark.spec("AD-6")
async def test_a_given_certificate_that_was_damaged_does_not_close_the_pages(tmp_path):
    clock = SystemClock()
    made = Certificates(tmp_path, clock=clock)
    await made.open(("localhost",))
    chain, key = await asyncio.to_thread(lambda: Authority().issue())
    await made.give(chain, key)
    assert made.shown.source == "given"
    (tmp_path / "tls" / "given.pem").write_bytes(b"rubbish")
    again = Certificates(tmp_path, clock=clock)
    await again.open(("localhost",))
    assert again.shown.source == "box"


def trusting(pem: bytes | Path) -> ssl.SSLContext:
    return ssl.create_default_context(
        cadata=pem.decode() if isinstance(pem, bytes) else None,
        cafile=None if isinstance(pem, bytes) else str(pem),
    )


async def _fingerprint(port: int) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return found


@pytest.mark.spec("AD-6")
async def test_https_is_served_changed_and_taken_back_without_a_restart(secure_box, secure_anna):
    port = secure_box.parts.trust.secure_port.port
    own = await _fingerprint(port)
    state = await secure_anna.json("GET", "/tls")
    assert state["port"] == port
    assert state["certificate"]["source"] == "box"
    assert "127.0.0.1" in state["certificate"]["names"]
    pem = await (await secure_anna.ask("GET", "/tls/certificate")).read()
    assert b"PRIVATE" not in pem
    authority = await asyncio.to_thread(Authority)
    chain, key = await asyncio.to_thread(authority.issue)
    body = {"certificate": chain.decode(), "key": key.decode()}
    changed = await secure_anna.json("PUT", "/tls/certificate", json=body)
    assert changed["certificate"]["source"] == "given"
    context = trusting(authority.pem)
    url = f"https://localhost:{port}/viewer/api/session"
    async with secure_box.http.get(url, ssl=context) as answer:
        assert answer.status == 200
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    wrong = {"certificate": chain.decode(), "key": pem_key(authority.key).decode()}
    refused = await secure_anna.json("PUT", "/tls/certificate", json=wrong, status=422)
    assert refused["code"] == "bad-certificate"
    assert "PRIVATE" not in str(refused)
    async with secure_box.http.get(url, ssl=context) as answer:  # nothing has changed
        assert answer.status == 200
    back = await secure_anna.json("DELETE", "/tls/certificate")
    assert back["certificate"]["source"] == "box"
    assert await _fingerprint(port) == own
    assert (await secure_anna.json("POST", "/tls/renew"))["certificate"]["source"] == "box"
    assert await _fingerprint(port) != own
    recorded = (await secure_anna.json("GET", "/audit?text=certificate-"))["entries"]
    assert {each["action"] for each in recorded} >= {
        "certificate-given", "certificate-taken-back", "certificate-renewed",
    }  # fmt: skip


@pytest.mark.spec("AD-6")
async def test_the_port_opens_and_closes_as_the_settings_say(secure_box, secure_anna):
    secure = secure_box.parts.trust.secure_port
    port = secure.port

    async def change(**web) -> None:
        await secure_anna.json("PATCH", "/settings", json={"settings": {"web": web}})

    async def until(condition) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.02)

    await change(https=False)
    await until(lambda: secure.port is None)
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncio.open_connection("127.0.0.1", port)
    await change(https=True)
    await until(lambda: secure.port is not None)
    await _fingerprint(secure.port)


@pytest.mark.spec("AD-6")
async def test_with_the_redirect_http_only_tells_where_https_is(secure_box, secure_anna):
    port = secure_box.parts.trust.secure_port.port
    body = {"settings": {"web": {"redirect": True}}}
    await secure_anna.json("PATCH", "/settings", json=body)
    http = secure_box.http
    async with http.get(f"{secure_box.url}/viewer/?a=b", allow_redirects=False) as answer:
        assert answer.status == 308
        assert answer.headers["Location"] == f"https://127.0.0.1:{port}/viewer/?a=b"
        assert "Strict-Transport-Security" not in answer.headers  # never over http
    login = {"user": "anna", "password": "corretto cavallo batteria"}
    async with http.post(secure_box.api("/login"), json=login) as answer:
        assert answer.status == 403
        assert (await answer.json(content_type=None))["code"] == "https-required"
    async with http.get(f"{secure_box.url}/healthz") as answer:
        assert answer.status in {200, 503}
    hostile = {"Host": "evil.example/..//"}
    async with http.get(f"{secure_box.url}/viewer/", headers=hostile, allow_redirects=False) as a:
        assert a.status == 400
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with http.post(
        f"https://127.0.0.1:{port}/viewer/api/login", json=login | {"cookie": True}, ssl=context
    ) as answer:
        assert answer.status == 200
        cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-scrigno-session=")
    for word in ("Secure", "HttpOnly", "SameSite=Strict", "Path=/"):
        assert word in cookie
    assert "Domain" not in cookie


@pytest.mark.spec("AD-6")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_versions_of_tls_are_refused(secure_box, version):
    port = secure_box.parts.trust.secure_port.port
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        context.minimum_version = context.maximum_version = version
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await asyncio.open_connection("127.0.0.1", port, ssl=context)


@pytest.mark.spec("AD-6")
@pytest.mark.parametrize("cipher", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA"])
async def test_ciphers_without_forward_secrecy_or_aead_are_refused(secure_box, cipher):
    port = secure_box.parts.trust.secure_port.port
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{cipher}:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await asyncio.open_connection("127.0.0.1", port, ssl=context)


@pytest.mark.spec("AD-6")
async def test_hsts_can_be_taken_back(secure_box, secure_anna):
    port = secure_box.parts.trust.secure_port.port
    await secure_anna.json("PATCH", "/settings", json={"settings": {"web": {"hsts": False}}})
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    url = f"https://127.0.0.1:{port}/viewer/api/session"
    async with secure_box.http.get(url, ssl=context) as answer:
        assert answer.headers["Strict-Transport-Security"] == "max-age=0"
