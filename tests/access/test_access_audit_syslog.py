# SPDX-License-Identifier: Apache-2.0
"""The trail as DICOM audit messages, and on its way to a real syslog server."""

import asyncio
import base64
import re
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from scrigno.access.audit import DCM_CODES, Action, AuditRules, AuditTrail
from scrigno.access.audit_messages import BOM, event_of, message, syslog
from scrigno.access.audit_search import Recorded
from scrigno.access.audit_syslog import Forwarder, SyslogPace, SyslogRules, Transport
from scrigno.core.clock import SystemClock
from scrigno.core.counters import Counters

HURRY = SyslogPace(every_s=0.02, confirm_s=0.2, retry_first_s=0.05, retry_most_s=0.1)


def _line(**given) -> Recorded:
    fields = {
        "number": 7, "at": datetime(2026, 3, 4, 5, 6, 7, 89000, tzinfo=UTC), "who": "anna",
        "action": Action.INSTANCES_ACCESSED, "subject": "1.2.840.1", "outcome": "success",
    }  # fmt: skip
    return Recorded(**{**fields, **given})


@pytest.mark.spec("AD-10")
def test_a_look_at_a_study_is_a_message_of_part_15():
    root = ElementTree.fromstring(message(_line(details={"address": "10.0.0.7"}), source="box"))
    assert [child.tag for child in root] == [
        "EventIdentification", "ActiveParticipant", "ActiveParticipant",
        "AuditSourceIdentification", "ParticipantObjectIdentification",
    ]  # fmt: skip
    event = root.find("EventIdentification")
    assert event.get("EventActionCode") == "R"
    assert event.get("EventOutcomeIndicator") == "0"
    assert event.get("EventDateTime") == "2026-03-04T05:06:07.089+00:00"
    assert event.find("EventID").attrib == {
        "csd-code": "110103", "codeSystemName": "DCM", "originalText": "DICOM Instances Accessed",
    }  # fmt: skip
    person = root.find("ActiveParticipant")
    assert person.get("UserID") == "anna"
    assert person.get("UserIsRequestor") == "true"
    assert (person.get("NetworkAccessPointID"), person.get("NetworkAccessPointTypeCode")) == (
        "10.0.0.7", "2",
    )  # fmt: skip
    study = root.find("ParticipantObjectIdentification")
    assert study.get("ParticipantObjectID") == "1.2.840.1"
    assert study.find("ParticipantObjectIDTypeCode").get("csd-code") == "110180"
    details = {
        each.get("type"): base64.b64decode(each.get("value")).decode()
        for each in study.findall("ParticipantObjectDetail")
    }
    assert details["number"] == "7"


@pytest.mark.spec("AD-10")
def test_log_in_and_refusal_have_their_codes():
    root = ElementTree.fromstring(
        message(_line(action=Action.LOGIN, subject="anna", outcome="failure"), source="box")
    )
    event = root.find("EventIdentification")
    assert event.find("EventID").get("csd-code") == "110114"
    assert event.find("EventTypeCode").get("csd-code") == "110122"
    assert event.get("EventOutcomeIndicator") == "4"


def test_every_action_with_a_code_of_the_dictionary_is_known():
    for action, code in DCM_CODES.items():
        event = event_of(action)
        assert code in {event.identity.value, event.kind.value if event.kind else ""}, action
    assert event_of("made-up-word").identity.system == "99SCRIGNO"
    assert event_of("study-deleted").identity.value == "110105"


def test_hostile_texts_are_well_formed_xml_and_one_header():
    line = _line(who='a"<b>\x00\n&', subject="x\ud800y", details={"k\x01<": "v]]>\x02"})
    root = ElementTree.fromstring(message(line, source="bo\nx <evil>"))
    assert root.find("ActiveParticipant").get("UserID") == 'a"<b>�\n&'
    sent = syslog(line, source="bo\nx <evil>", process="12").decode()
    head, _, rest = sent.partition(BOM)
    assert re.fullmatch(
        r"<85>1 2026-03-04T05:06:07\.089Z bo_x_<evil> scrigno 12 DICOM\+RFC3881 - ", head
    )
    assert rest.startswith("<?xml")


class Server:
    """A syslog server for one of the transports; keeps what came."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.port = 0
        self.broken = 0  # connections to end after their first bytes

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while length := await reader.readuntil(b" "):
                content = await reader.readexactly(int(length))
                if self.broken:
                    self.broken -= 1
                    writer.transport.abort()
                    return
                self.messages.append(content)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def numbers(self) -> list[int]:
        found = []
        for each in self.messages:
            root = ElementTree.fromstring(each.decode().partition(BOM)[2])
            (detail,) = root.findall(".//ParticipantObjectDetail[@type='number']")
            found.append(int(base64.b64decode(detail.get("value"))))
        return found


@pytest.fixture
async def trail(tmp_path: Path) -> AsyncIterator[AuditTrail]:
    made = AuditTrail(
        tmp_path, SystemClock(), Counters(), AuditRules(segment_bytes=3000, group_s=0.01)
    )
    await made.open()
    yield made
    await made.close()


async def _until(condition, wait_s: float = 10) -> None:
    async with asyncio.timeout(wait_s):
        while not condition():
            await asyncio.sleep(0.01)


def _certificate(folder: Path) -> tuple[Path, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(7)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = made.public_bytes(Encoding.PEM)
    path = folder / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem + private)
    return path, pem.decode()


@pytest.mark.spec("AD-10")
@pytest.mark.parametrize("transport", [Transport.TCP, Transport.TLS])
async def test_lines_arrive_in_order_and_go_on_after_a_restart(trail, tmp_path, transport):
    server, ca, context = Server(), "", None
    if transport is Transport.TLS:
        path, ca = await asyncio.to_thread(_certificate, tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        await asyncio.to_thread(context.load_cert_chain, path)
    listening = await asyncio.start_server(server.stream, "127.0.0.1", 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    rules = SyslogRules(host="localhost", port=port, transport=transport, ca=ca)

    def forwarder() -> Forwarder:
        return Forwarder(
            trail, tmp_path, rules=lambda: rules, counters=Counters(), source="box", pace=HURRY
        )

    await trail.settle()
    first = forwarder()
    first.start()
    await asyncio.sleep(0.1)  # it notes where it begins
    for number in range(30):
        trail.record("anna", "query", str(number))
    await _until(lambda: len(server.messages) >= 30)
    await first.close()
    for number in range(30, 40):
        trail.record("anna", "query", str(number))
    await trail.settle()
    second = forwarder()
    second.start()
    await _until(lambda: len(server.messages) >= 40)
    await second.close()
    numbers = server.numbers()
    assert numbers == list(range(numbers[0], numbers[0] + 40))
    listening.close()
    await listening.wait_closed()


@pytest.mark.spec("AD-10")
async def test_a_server_that_is_away_is_told_about_and_gets_everything_later(trail, tmp_path):
    server = Server()
    listening = await asyncio.start_server(server.stream, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()
    rules = SyslogRules(host="127.0.0.1", port=port, transport=Transport.TCP)
    sending = Forwarder(
        trail, tmp_path, rules=lambda: rules, counters=Counters(), source="box", pace=HURRY
    )
    sending.start()
    await asyncio.sleep(0.1)
    for number in range(20):
        trail.record("anna", "query", str(number))
    await _until(lambda: sending.failing)
    assert sending.status().waiting >= 20
    assert sending.status().reason
    server.broken = 1  # and the first connection breaks in the middle
    listening = await asyncio.start_server(server.stream, "127.0.0.1", port)
    await _until(lambda: len(set(server.numbers())) >= 20)
    await _until(lambda: not sending.failing)
    await sending.close()
    numbers = sorted(set(server.numbers()))
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    listening.close()
    await listening.wait_closed()


@pytest.mark.spec("AD-10")
async def test_a_certificate_that_nobody_trusts_gets_no_line(trail, tmp_path):
    server = Server()
    path, _ = await asyncio.to_thread(_certificate, tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    await asyncio.to_thread(context.load_cert_chain, path)
    listening = await asyncio.start_server(server.stream, "127.0.0.1", 0, ssl=context)
    rules = SyslogRules(host="localhost", port=listening.sockets[0].getsockname()[1])
    sending = Forwarder(
        trail, tmp_path, rules=lambda: rules, counters=Counters(), source="box", pace=HURRY
    )
    sending.start()
    await asyncio.sleep(0.1)
    trail.record("anna", "query", "1")
    await _until(lambda: sending.failing)
    assert "not trusted" in sending.status().reason
    assert server.messages == []
    await sending.close()
    listening.close()
    await listening.wait_closed()


@pytest.mark.spec("AD-10")
async def test_udp_carries_one_message_in_each_datagram(trail, tmp_path):
    got: list[bytes] = []

    class Protocol(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, _address) -> None:
            got.append(data)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    rules = SyslogRules(host="127.0.0.1", port=port, transport=Transport.UDP)
    sending = Forwarder(
        trail, tmp_path, rules=lambda: rules, counters=Counters(), source="box", pace=HURRY
    )
    sending.start()
    await asyncio.sleep(0.1)
    trail.record("anna", "query", "1")
    await _until(lambda: got)
    assert got[0].startswith(b"<85>1 ")
    await sending.close()
    transport.close()


@pytest.mark.spec("AD-10")
async def test_lines_beyond_the_quota_are_counted_and_the_rest_is_sent(trail, tmp_path):
    server = Server()
    listening = await asyncio.start_server(server.stream, "127.0.0.1", 0)
    rules = SyslogRules(
        host="127.0.0.1", port=listening.sockets[0].getsockname()[1], transport=Transport.TCP
    )
    wanted: list[SyslogRules | None] = [rules]
    sending = Forwarder(
        trail, tmp_path, rules=lambda: wanted[0], counters=Counters(), source="box", pace=HURRY
    )
    sending.start()
    trail.record("anna", "query", "first")
    await _until(lambda: server.messages or sending.status().sent)
    wanted[0] = None
    await asyncio.sleep(0.1)
    trail.set_quota(6000)
    for number in range(200):
        trail.record("anna", "query", str(number))
        await trail.settle()
    assert (await trail.extent())[0] > 5
    assert await trail.verify_chain() == []  # what was removed is anchored in the trail
    wanted[0] = rules
    sending.nudge()
    await _until(lambda: sending.status().waiting == 0 and len(server.messages) > 10)
    (skipped,) = await trail.entries(action="audit-syslog-skipped")
    assert int(skipped.details["lost"]) > 0
    await sending.close()
    listening.close()
    await listening.wait_closed()
