# SPDX-License-Identifier: Apache-2.0
"""DCMTK's findscu asks: levels, models, matching, character sets."""

from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from made_objects import write_series
from running_node import Receiver, RunningNode
from scrigno.settings.schema import Peer, Right


@pytest.fixture
async def filled(box: RunningNode, tmp_path: Path) -> RunningNode:
    """One study of three images for each of four patients."""
    for patient in range(4):
        paths = write_series(tmp_path / str(patient), images=3, patient=patient)
        await box.tool("storescu", *map(str, paths.values()))
    return box


async def find(box: RunningNode, folder: Path, *keys: str, model: str = "-S") -> list[Dataset]:
    """Return the answers as findscu wrote them."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    arguments = [argument for key in keys for argument in ("-k", key)]
    await box.tool("findscu", model, "-X", "-od", str(folder), *arguments)
    return [dcmread(path) for path in sorted(folder.iterdir())]


def values(answers: list[Dataset], keyword: str) -> list[str]:
    return sorted(str(answer[keyword].value) for answer in answers)


@pytest.mark.spec("DN-5")
async def test_each_level_of_each_model_is_answered(filled: RunningNode, tmp_path: Path) -> None:
    out = tmp_path / "out"
    patients = await find(
        filled, out, "QueryRetrieveLevel=PATIENT", "PatientID", "PatientName", model="-P"
    )
    assert values(patients, "PatientID") == ["FR-88", "IT-001", "JP-7001", "KR-3"]
    only = await find(filled, out, "QueryRetrieveLevel=PATIENT", "PatientID", model="-O")
    assert len(only) == 4
    studies = await find(
        filled,
        out,
        "QueryRetrieveLevel=STUDY",
        "PatientID=IT-001",
        "StudyInstanceUID",
        "ModalitiesInStudy",
        "SOPClassesInStudy",
        "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
        model="-P",
    )
    (study,) = studies
    assert study.ModalitiesInStudy == "CT"
    assert study.SOPClassesInStudy == "1.2.840.10008.5.1.4.1.1.2"
    assert study.NumberOfStudyRelatedSeries == 1
    assert study.NumberOfStudyRelatedInstances == 3
    assert study.RetrieveAETitle == "SCRIGNO"
    assert study.InstanceAvailability == "ONLINE"
    assert study.QueryRetrieveLevel == "STUDY"
    (series,) = await find(
        filled,
        out,
        "QueryRetrieveLevel=SERIES",
        f"StudyInstanceUID={study.StudyInstanceUID}",
        "SeriesInstanceUID",
        "Modality",
        "NumberOfSeriesRelatedInstances",
    )
    assert series.Modality == "CT"
    assert series.NumberOfSeriesRelatedInstances == 3
    images = await find(
        filled,
        out,
        "QueryRetrieveLevel=IMAGE",
        f"StudyInstanceUID={study.StudyInstanceUID}",
        f"SeriesInstanceUID={series.SeriesInstanceUID}",
        "SOPInstanceUID",
        "InstanceNumber",
        "Rows",
    )
    assert values(images, "InstanceNumber") == ["1", "2", "3"]
    assert {image.Rows for image in images} == {64}


MATCHES = [
    ("PatientID=", ["FR-88", "IT-001", "JP-7001", "KR-3"]),
    ("PatientID=KR-3", ["KR-3"]),
    ("PatientID=*-0*", ["IT-001"]),
    ("PatientID=??-3", ["KR-3"]),
    ("PatientName=rossi*", ["IT-001"]),
    ("PatientName=ROSSI^ANNA LUCIA", ["IT-001"]),
    ("PatientName=lefevre*", ["FR-88"]),
    ("PatientName=*", ["FR-88", "IT-001", "JP-7001", "KR-3"]),
    ("StudyDate=20240102", ["JP-7001"]),
    ("StudyDate=20240102-20240103", ["JP-7001", "KR-3"]),
    ("StudyDate=-20240102", ["IT-001", "JP-7001"]),
    ("StudyDate=20240103-", ["FR-88", "KR-3"]),
    ("StudyDate=2024.01.02-2024.01.03", ["JP-7001", "KR-3"]),
    ("StudyTime=1015-1016", ["FR-88", "IT-001", "JP-7001", "KR-3"]),
    ("StudyTime=1100-", []),
    ("ModalitiesInStudy=CT", ["FR-88", "IT-001", "JP-7001", "KR-3"]),
    ("ModalitiesInStudy=MR", []),
    ("ModalitiesInStudy=MR\\CT", ["FR-88", "IT-001", "JP-7001", "KR-3"]),
    ("AccessionNumber=ACC00002", ["KR-3"]),
    ("StudyInstanceUID=1.2.3\\1.2.4", []),
]


@pytest.mark.spec("DN-5")
async def test_each_way_to_match(filled: RunningNode, tmp_path: Path) -> None:
    wrong = []
    for key, patients in MATCHES:
        keys = [key] if key.startswith("PatientID") else [key, "PatientID"]
        answers = await find(filled, tmp_path / "out", "QueryRetrieveLevel=STUDY", *keys)
        if values(answers, "PatientID") != patients:
            wrong.append((key, values(answers, "PatientID"), patients))
    assert not wrong


@pytest.mark.spec("DN-5")
async def test_a_sequence_key_matches_and_returns_its_item(
    filled: RunningNode, tmp_path: Path
) -> None:
    (study,) = await find(
        filled, tmp_path / "out", "QueryRetrieveLevel=STUDY", "PatientID=KR-3", "StudyInstanceUID"
    )
    for wanted, expected in (("RP2", 1), ("RP9", 0)):
        answers = await find(
            filled,
            tmp_path / "out",
            "QueryRetrieveLevel=SERIES",
            f"StudyInstanceUID={study.StudyInstanceUID}",
            "SeriesInstanceUID",
            f"RequestAttributesSequence[0].RequestedProcedureID={wanted}",
        )
        assert len(answers) == expected
        for answer in answers:
            (item,) = answer.RequestAttributesSequence
            assert item.RequestedProcedureID == "RP2"
            assert "ScheduledProcedureStepID" not in item


NAMES = {
    "JP-7001": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "KR-3": "Hong^Gildong=洪^吉洞=홍^길동",
    "FR-88": "Lefèvre^Zoé",
    "IT-001": "Rossi^Anna Lucia",
}
# patient, SpecificCharacterSet of the request, and of the answer
CHARACTER_SETS = [
    ("JP-7001", "ISO_IR 192", "ISO_IR 192"),
    ("JP-7001", "\\ISO 2022 IR 87", ["", "ISO 2022 IR 87"]),
    ("JP-7001", "ISO_IR 100", "ISO_IR 192"),
    ("JP-7001", None, "ISO_IR 192"),
    ("KR-3", "\\ISO 2022 IR 149", ["", "ISO 2022 IR 149"]),
    ("KR-3", "\\ISO 2022 IR 87", "ISO_IR 192"),
    ("FR-88", "ISO_IR 100", "ISO_IR 100"),
    ("FR-88", "ISO_IR 144", "ISO_IR 192"),
    ("IT-001", None, None),
]


@pytest.mark.spec("DN-5", "DN-12")
async def test_answers_come_in_the_character_set_of_the_request_if_it_holds_them(
    filled: RunningNode, tmp_path: Path
) -> None:
    for patient, named, answered in CHARACTER_SETS:
        keys = ["QueryRetrieveLevel=STUDY", f"PatientID={patient}", "PatientName"]
        if named is not None:
            keys.append(f"SpecificCharacterSet={named}")
        (answer,) = await find(filled, tmp_path / "out", *keys)
        assert answer.get("SpecificCharacterSet") == answered, (patient, named)
        answer.decode()
        assert str(answer.PatientName) == NAMES[patient], (patient, named)


@pytest.mark.spec("DN-5", "DN-12")
async def test_names_are_found_in_every_script(filled: RunningNode, tmp_path: Path) -> None:
    for text, patient in (
        ("=山田*", "JP-7001"),
        ("==やまだ*", "JP-7001"),
        ("=洪*", "KR-3"),
        ("==홍*", "KR-3"),
        ("Lefèvre*", "FR-88"),
        ("LEFEVRE*", "FR-88"),
    ):
        answers = await find(
            filled,
            tmp_path / "out",
            "QueryRetrieveLevel=STUDY",
            "SpecificCharacterSet=ISO_IR 192",
            f"PatientName={text}",
            "PatientID",
        )
        assert values(answers, "PatientID") == [patient], text


@pytest.mark.spec("DN-5")
async def test_an_answer_holds_the_keys_asked_for_and_an_unsupported_one_is_told(
    filled: RunningNode, tmp_path: Path
) -> None:
    (answer,) = await find(
        filled,
        tmp_path / "out",
        "QueryRetrieveLevel=STUDY",
        "PatientID=IT-001",
        "StudyDescription",
        "EthnicGroup",
        "0043,1001",
    )
    assert {each.keyword for each in answer} == {
        "QueryRetrieveLevel",
        "RetrieveAETitle",
        "InstanceAvailability",
        "PatientID",
        "StudyDescription",
    }
    done = await filled.tool(
        "findscu", "-S", "-v", "-k", "QueryRetrieveLevel=STUDY", "-k", "EthnicGroup"
    )
    assert "WarningUnsupportedOptionalKeys" in done.output or "ff01" in done.output.lower()


MISFITS = [
    ("StudyInstanceUID",),
    ("QueryRetrieveLevel=PATIENT", "PatientID"),
    ("QueryRetrieveLevel=RUBBISH",),
    ("QueryRetrieveLevel=SERIES", "SeriesInstanceUID"),
    ("QueryRetrieveLevel=SERIES", "StudyInstanceUID=1.2.*"),
    ("QueryRetrieveLevel=IMAGE", "StudyInstanceUID=1.2", "SeriesInstanceUID=1\\2"),
]


@pytest.mark.spec("DN-5")
async def test_an_identifier_that_does_not_fit_the_model_is_refused(box: RunningNode) -> None:
    for keys in MISFITS:
        arguments = [argument for key in keys for argument in ("-k", key)]
        done = await box.tool("findscu", "-S", "-d", *arguments, check=False)
        assert "0xa900" in done.output.lower(), keys
    refused = box.counters.value("dicom_find_refused", code="identifier-mismatch", status="A900")
    assert refused == len(MISFITS)


@pytest.mark.spec("DN-2")
async def test_a_node_without_the_right_may_neither_ask_nor_retrieve(
    box: RunningNode, receiver: Receiver
) -> None:
    shut = Peer(name="shut", ae_title="SHUT", host="127.0.0.1", rights=frozenset({Right.ECHO}))
    await box.change(peers=(shut, receiver.peer()))
    await box.tool("echoscu", "-aet", "SHUT")
    key = ("-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2")
    for tool, *more in (("findscu",), ("movescu", "-aem", "RECEIVER"), ("getscu",)):
        done = await box.tool(tool, "-aet", "SHUT", "-d", "-S", *more, *key, check=False)
        assert "0x0124" in done.output, (tool, done.output[-800:])
