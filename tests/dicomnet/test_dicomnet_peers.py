# SPDX-License-Identifier: Apache-2.0
"""Real peers: DCMTK's tools send to us and receive from us; nothing of theirs is tuned."""

import asyncio
import ssl
from pathlib import Path

import pytest
from dicomnet_kit import (
    CT,
    EXPLICIT,
    IMPLICIT,
    STUDY_ROOT_FIND,
    VERIFICATION,
    Listen,
    RecordingProvider,
    Serve,
    data_set_bytes,
    run_tool,
    write_ct,
)
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from scrigno.dicomnet import commandset, dimse
from scrigno.dicomnet.client import connect
from scrigno.dicomnet.errors import AssociationRejected, ConnectFailed
from scrigno.dicomnet.service import CloseReason, Operation, Rejection, Response, UserIdentity


def encode(*, implicit: bool = True, **elements: str) -> bytes:
    """Return a data set with these elements by keyword."""
    data_set = Dataset()
    for keyword, value in elements.items():
        setattr(data_set, keyword, value)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, True
    write_dataset(buffer, data_set)
    return buffer.getvalue()


# -- DCMTK asks -----------------------------------------------------------------------------


@pytest.mark.spec("DN-4")
async def test_echoscu_is_answered(serve: Serve, provider: RecordingProvider) -> None:
    server = await serve()
    tool = await run_tool(
        "echoscu", "-aec", "SCRIGNO", "-aet", "ECHOER", "127.0.0.1", str(server.port)
    )
    assert tool.code == 0, tool.output
    assert await provider.until_closed() == [CloseReason.RELEASED]
    assert provider.requests[0].calling_ae == "ECHOER"
    assert provider.requests[0].called_ae == "SCRIGNO"


async def test_echoscu_that_aborts_is_told_apart(serve: Serve, provider: RecordingProvider) -> None:
    server = await serve()
    await run_tool("echoscu", "--abort", "127.0.0.1", str(server.port))
    assert await provider.until_closed() == [CloseReason.ABORTED_BY_PEER]


async def test_echoscu_reads_our_rejection(serve: Serve, provider: RecordingProvider) -> None:
    provider.answer = Rejection(1, 1, 3, "calling AE title not recognized")
    server = await serve()
    tool = await run_tool("echoscu", "-v", "127.0.0.1", str(server.port))
    assert tool.code != 0
    assert "Calling AE Title Not Recognized" in tool.output


async def test_a_hundred_and_twenty_eight_contexts_are_negotiated(
    serve: Serve, provider: RecordingProvider
) -> None:
    server = await serve()
    tool = await run_tool(
        "echoscu", "-ppc", "128", "-pts", "14", "-v", "127.0.0.1", str(server.port)
    )
    assert tool.code == 0, tool.output
    assert len(provider.requests[0].contexts) == 128


async def test_the_user_identity_is_passed_up(
    serve: Serve, provider: RecordingProvider, tmp_path: Path
) -> None:
    write_ct(tmp_path / "a.dcm")
    server = await serve()
    tool = await run_tool(
        *("storescu", "-usr", "anna", "-pwd", "secret", "127.0.0.1", str(server.port)),
        str(tmp_path / "a.dcm"),
    )
    assert tool.code == 0, tool.output
    assert provider.requests[0].user_identity == UserIdentity(2, b"anna", b"secret")


@pytest.mark.spec("DN-4")
@pytest.mark.parametrize("pdu", ["4096", "16384", "131072"])
async def test_storescu_objects_arrive_byte_for_byte(
    serve: Serve, provider: RecordingProvider, tmp_path: Path, pdu: str
) -> None:
    sizes = [200, 4000, 131_000, 131_072, 700_000]
    for number, size in enumerate(sizes):
        write_ct(tmp_path / f"{number}.dcm", size)
    server = await serve()
    tool = await run_tool(
        *("storescu", "-xe", "--max-send-pdu", pdu, "+sd", "-aec", "SCRIGNO"),
        *("127.0.0.1", str(server.port), str(tmp_path)),
    )
    assert tool.code == 0, tool.output
    await provider.until_closed()
    by_uid = {sink.command.sop_instance_uid: bytes(sink.received) for sink in provider.sinks}
    assert len(by_uid) == len(sizes)
    for path in tmp_path.iterdir():
        # storescu writes the data set anew, with defined lengths: the values must be the same.
        sent = dcmread(path)
        received = by_uid[sent.SOPInstanceUID]
        assert len(received) == len(data_set_bytes(path))
        assert received == data_set_bytes(path)
    assert provider.closed == [CloseReason.RELEASED]


async def test_storescu_reads_our_refusal(
    serve: Serve, provider: RecordingProvider, tmp_path: Path
) -> None:
    write_ct(tmp_path / "a.dcm")
    provider.refuse_store = Response(0xA700, "no durable storage")
    server = await serve()
    tool = await run_tool("storescu", "-v", "127.0.0.1", str(server.port), str(tmp_path / "a.dcm"))
    assert "Refused: OutOfResources" in tool.output or "0xa700" in tool.output.lower()
    assert await provider.until_closed() == [CloseReason.RELEASED]


async def test_a_stock_sender_with_nagle_on_is_served(
    serve: Serve, provider: RecordingProvider, tmp_path: Path
) -> None:
    for number in range(50):
        write_ct(tmp_path / f"{number}.dcm", 130_000)
    server = await serve()
    began = asyncio.get_running_loop().time()
    tool = await run_tool("storescu", "-xe", "+sd", "127.0.0.1", str(server.port), str(tmp_path))
    took = asyncio.get_running_loop().time() - began
    assert tool.code == 0, tool.output
    print(f"50 images of 130 KB from a stock storescu: {took:.2f} s")
    assert len(provider.sinks) == 50


async def test_findscu_reads_our_matches_and_its_cancel_reaches_us(
    serve: Serve, provider: RecordingProvider
) -> None:
    cancelled: list[bool] = []

    async def answer(operation: Operation) -> None:
        assert b"DOE" in operation.data
        for number in range(1000):
            if operation.cancelled.is_set():
                cancelled.append(True)
                await operation.respond(dimse.CANCEL)
                return
            await operation.respond(
                dimse.PENDING,
                data=encode(
                    implicit=operation.transfer_syntax == IMPLICIT,
                    QueryRetrieveLevel="STUDY",
                    PatientName=f"Doe^{number}",
                    PatientID=f"P{number}",
                ),
            )
            await asyncio.sleep(0.001)
        await operation.respond(dimse.SUCCESS)

    provider.on_serve = answer
    server = await serve()
    tool = await run_tool(
        *("findscu", "-v", "-S", "--cancel", "5", "-k", "QueryRetrieveLevel=STUDY"),
        *("-k", "PatientName=DOE*", "-k", "PatientID", "127.0.0.1", str(server.port)),
    )
    assert "Doe^4" in tool.output, tool.output
    assert cancelled == [True]
    assert await provider.until_closed() == [CloseReason.RELEASED]


async def test_getscu_is_sent_its_objects_over_the_same_association(
    serve: Serve, provider: RecordingProvider, tmp_path: Path
) -> None:
    sent = {uid: write_ct(tmp_path / f"{uid}.dcm", size, uid) for uid, size in OBJECTS.items()}
    outcome: list[Response] = []

    async def answer(operation: Operation) -> None:
        association = operation.association
        context_id = association.context_for(CT, [EXPLICIT])
        assert context_id is not None
        assert association.contexts[context_id].as_scu
        for uid, data in sent.items():
            response = await association.store(
                context_id=context_id,
                sop_class_uid=CT,
                sop_instance_uid=uid,
                chunks=chunked(data, 100_001),
            )
            outcome.append(response)
            await operation.respond(dimse.PENDING, remaining=1, completed=1, failed=0, warning=0)
        await operation.respond(dimse.SUCCESS, completed=len(sent), failed=0, warning=0)

    provider.on_serve = answer
    provider.roles = True
    server = await serve()
    target = tmp_path / "out"
    target.mkdir()
    tool = await run_tool(
        *("getscu", "-v", "-S", "+xe", "-od", str(target), "-k", "QueryRetrieveLevel=STUDY"),
        *("-k", "StudyInstanceUID=1.2.3", "127.0.0.1", str(server.port)),
    )
    assert tool.code == 0, tool.output
    assert [response.status for response in outcome] == [0] * len(sent)
    written = {str(dcmread(path).SOPInstanceUID): path for path in target.iterdir()}
    assert set(written) == set(sent)
    for uid, path in written.items():
        assert dcmread(path).PixelData == dcmread(tmp_path / f"{uid}.dcm").PixelData


OBJECTS = {"1.2.3.1": 1000, "1.2.3.2": 400_000, "1.2.3.3": 131_072}


async def chunked(data: bytes, size: int):  # type: ignore[no-untyped-def]
    for at in range(0, len(data), size):
        yield data[at : at + size]


# -- DCMTK is asked -------------------------------------------------------------------------


@pytest.mark.spec("DN-9")
async def test_we_echo_and_store_to_storescp(dcmtk_scp: Listen, tmp_path: Path) -> None:
    sent = {uid: write_ct(tmp_path / f"{uid}.dcm", size, uid) for uid, size in OBJECTS.items()}
    target = tmp_path / "out"
    target.mkdir()
    port = await dcmtk_scp("storescp", "+xa", "--bit-preserving", "-pdu", "4096", cwd=target)
    association = await connect(
        host="127.0.0.1",
        port=port,
        called_ae="STORESCP",
        calling_ae="SCRIGNO",
        contexts=[(VERIFICATION, [IMPLICIT]), (CT, [EXPLICIT]), (CT, [IMPLICIT])],
    )
    assert association.peer_max_pdu == 4096
    assert (await association.echo()).status == 0
    context_id = association.context_for(CT, [EXPLICIT])
    assert context_id == 3
    assert association.context_for(CT, [IMPLICIT]) == 5
    assert association.context_for("1.2.3") is None
    for uid, data in sent.items():
        response = await association.store(
            context_id=3,
            sop_class_uid=CT,
            sop_instance_uid=uid,
            chunks=chunked(data, 99_999),
            move_originator=("MOVER", 3),
        )
        assert response.status == 0
    await association.release()
    assert association.end is not None
    assert association.end[0] is CloseReason.RELEASED
    for uid, data in sent.items():
        (path,) = target.glob(f"*{uid}")
        assert data_set_bytes(path) == data


async def test_a_rejection_of_storescp_is_told_in_numbers(
    dcmtk_scp: Listen, tmp_path: Path
) -> None:
    port = await dcmtk_scp("storescp", "--refuse", cwd=tmp_path)
    with pytest.raises(AssociationRejected) as raised:
        await connect(
            host="127.0.0.1",
            port=port,
            called_ae="STORESCP",
            calling_ae="SCRIGNO",
            contexts=[(VERIFICATION, [IMPLICIT])],
        )
    assert (raised.value.result, raised.value.source, raised.value.reason_code) == (1, 1, 1)


@pytest.mark.spec("DN-9")
async def test_we_find_and_move_with_dcmqrscp(
    dcmtk_scp: Listen, serve: Serve, provider: RecordingProvider, tmp_path: Path
) -> None:
    server = await serve()
    database = tmp_path / "db"
    database.mkdir()
    (tmp_path / "dcmqrscp.cfg").write_text(
        f"""
NetworkTCPPort  = 11112
MaxPDUSize      = 16384
MaxAssociations = 16
HostTable BEGIN
box = (SCRIGNO, 127.0.0.1, {server.port})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QR {database} RW (10, 1024mb) ANY
AETable END
"""
    )
    port = await dcmtk_scp("dcmqrscp", "-c", str(tmp_path / "dcmqrscp.cfg"), cwd=tmp_path)
    data = write_ct(tmp_path / "a.dcm", 50_000, "1.2.3.77")
    study = str(dcmread(tmp_path / "a.dcm").StudyInstanceUID)
    move = "1.2.840.10008.5.1.4.1.2.2.2"
    association = await connect(
        host="127.0.0.1",
        port=port,
        called_ae="QR",
        calling_ae="SCRIGNO",
        contexts=[
            (CT, [EXPLICIT]),
            (STUDY_ROOT_FIND, [IMPLICIT]),
            (move, [IMPLICIT]),
        ],
    )
    stored = await association.store(
        context_id=1,
        sop_class_uid=CT,
        sop_instance_uid="1.2.3.77",
        chunks=chunked(data, 1 << 20),
    )
    assert stored.status == 0
    found = [
        (response.status, identifier)
        async for response, identifier in association.find(
            3, encode(QueryRetrieveLevel="STUDY", StudyInstanceUID=study, PatientID="")
        )
    ]
    assert [status for status, _ in found] == [dimse.PENDING, dimse.SUCCESS]
    assert found[0][1] is not None
    assert b"N1" in found[0][1]
    assert found[1][1] is None
    answers = [
        command
        async for command, _ in association.request_responses(
            field=dimse.C_MOVE_RQ,
            context_id=5,
            sop_class_uid=move,
            priority=0,
            move_destination="SCRIGNO",
            data=encode(QueryRetrieveLevel="STUDY", StudyInstanceUID=study),
        )
    ]
    assert answers[-1].status == 0
    assert commandset.short(answers[-1].raw[dimse.COMPLETED]) == 1
    (sink,) = provider.sinks
    assert bytes(sink.received) == data
    assert (sink.command.move_originator, sink.command.sop_instance_uid) == ("SCRIGNO", "1.2.3.77")
    await association.release()


# -- TLS ------------------------------------------------------------------------------------


@pytest.mark.spec("DN-10")
async def test_both_roles_speak_tls(
    serve: Serve, provider: RecordingProvider, tmp_path: Path
) -> None:
    certificate, key = self_signed(tmp_path)
    acceptor = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    acceptor.load_cert_chain(certificate, key)
    server = await serve(tls=acceptor)
    requestor = ssl.create_default_context(cafile=str(certificate))
    requestor.check_hostname = False
    association = await connect(
        host="127.0.0.1",
        port=server.port,
        called_ae="SCRIGNO",
        calling_ae="TLSPEER",
        contexts=[(CT, [EXPLICIT]), (VERIFICATION, [IMPLICIT])],
        tls=requestor,
    )
    data = bytes(range(256)) * 8000
    response = await association.store(
        context_id=1, sop_class_uid=CT, sop_instance_uid="1.2", chunks=chunked(data, 300_000)
    )
    assert response.status == 0
    assert bytes(provider.sinks[0].received) == data
    assert provider.requests[0].tls
    assert (await association.echo()).status == 0
    await association.release()
    tool = await run_tool(
        *("echoscu", "+tla", "+cf", str(certificate), "127.0.0.1", str(server.port))
    )
    assert tool.code == 0, tool.output


@pytest.mark.spec("DN-10")
async def test_a_peer_without_tls_is_turned_away_and_leaves_nothing(
    serve: Serve, provider: RecordingProvider, tmp_path: Path
) -> None:
    certificate, key = self_signed(tmp_path)
    acceptor = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    acceptor.load_cert_chain(certificate, key)
    server = await serve(tls=acceptor)
    tool = await run_tool("echoscu", "127.0.0.1", str(server.port))
    assert tool.code != 0
    assert not provider.requests
    assert not server.connections
    with pytest.raises(ConnectFailed, match="certificate"):
        await connect(
            host="127.0.0.1",
            port=server.port,
            called_ae="SCRIGNO",
            calling_ae="TLSPEER",
            contexts=[(VERIFICATION, [IMPLICIT])],
            tls=ssl.create_default_context(),
        )
    assert not server.connections


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 and its key; return their paths."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path, key_path = folder / "box.pem", folder / "box.key"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_path, key_path
