# SPDX-License-Identifier: Apache-2.0
"""dicomweb-client (PyPI), unchanged, against a real daemon: every call that it has."""

import copy
import io
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from dicomweb_client import DICOMwebClient
from PIL import Image
from pydicom.uid import generate_uid

from made_objects import write_series
from running_box import RunningBox

pytestmark = [
    pytest.mark.spec("IN-5"),
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
USER, PASSWORD = "anna", "corretto cavallo batteria"


@pytest.fixture(scope="module")
def client(
    tmp_path_factory: pytest.TempPathFactory, real_data: Path | None
) -> Iterator[DICOMwebClient]:
    root = tmp_path_factory.mktemp("dicomweb-client")
    box = RunningBox(root / "box")
    box.start()
    try:
        assert box.cli("claim", "--user", USER, stdin=PASSWORD + "\n").returncode == 0
        write_series(root / "made", images=5, patient=1, size=128)
        folders = [root / "made"] + ([real_data] if real_data is not None else [])
        box.cli("import", *map(str, folders))
        url = f"http://127.0.0.1:{box.web_port}"
        request = urllib.request.Request(
            f"{url}/viewer/api/login",
            data=json.dumps({"user": USER, "password": PASSWORD}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            token = json.load(answer)["token"]
        with requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {token}"
            yield DICOMwebClient(f"{url}/dicom-web", session=session)
    finally:
        box.kill()


@pytest.fixture
def made(client: DICOMwebClient) -> tuple[str, str, list[str]]:
    """The made study, its series and its objects."""
    found = client.search_for_instances(
        search_filters={"AccessionNumber": "ACC00001", "Manufacturer": "Scrigno Test Works"}
    )
    assert len(found) == 5
    uids = [each["00080018"]["Value"][0] for each in found]
    return found[0]["0020000D"]["Value"][0], found[0]["0020000E"]["Value"][0], uids


def test_searching(client: DICOMwebClient, made: tuple[str, str, list[str]]) -> None:
    study, series, uids = made
    assert client.search_for_studies(limit=1, offset=0, fields=["StudyDescription"])
    everything = client.search_for_studies(limit=7, get_remaining=True)
    assert len(everything) == len(client.search_for_studies())
    assert client.search_for_studies(fuzzymatching=True, search_filters={"PatientName": "Yam"})
    assert len(client.search_for_series(study)) == 1
    assert client.search_for_series(search_filters={"Modality": "CT"})
    assert len(client.search_for_instances(study)) == 5
    assert len(client.search_for_instances(study, series)) == len(uids)
    assert client.search_for_studies(search_filters={"PatientID": "nobody has this"}) == []


def test_retrieving(client: DICOMwebClient, made: tuple[str, str, list[str]]) -> None:
    study, series, uids = made
    whole = client.retrieve_study(study)
    assert {each.SOPInstanceUID for each in whole} == set(uids)
    assert len(list(client.iter_study(study))) == 5
    assert len(client.retrieve_series(study, series)) == 5
    assert len(list(client.iter_series(study, series))) == 5
    one = client.retrieve_instance(study, series, uids[0])
    assert one.SOPInstanceUID == uids[0]
    assert len(client.retrieve_study_metadata(study)) == 5
    assert len(client.retrieve_series_metadata(study, series)) == 5
    metadata = client.retrieve_instance_metadata(study, series, uids[0])
    uri = metadata["7FE00010"]["BulkDataURI"]
    assert client.retrieve_bulkdata(uri) == [one.PixelData]
    assert client.retrieve_bulkdata(uri, byte_range=(10, 19)) == [one.PixelData[10:20]]
    assert list(client.iter_bulkdata(uri)) == [one.PixelData]
    assert client.retrieve_instance_frames(study, series, uids[0], [1]) == [one.PixelData]
    assert len(list(client.iter_instance_frames(study, series, uids[0], [1]))) == 1


def test_pictures(client: DICOMwebClient, made: tuple[str, str, list[str]]) -> None:
    study, series, uids = made
    for media in ("image/jpeg", "image/png"):
        content = client.retrieve_instance_rendered(
            study, series, uids[0], media_types=(media,),
            params={"window": "1040,400,linear", "viewport": "64,64"},
        )  # fmt: skip
        assert Image.open(io.BytesIO(content)).size == (64, 64)
        content = client.retrieve_instance_frames_rendered(
            study, series, uids[0], [1], media_types=(media,)
        )
        assert Image.open(io.BytesIO(content)).size == (128, 128)


def test_storing_and_deleting(client: DICOMwebClient, made: tuple[str, str, list[str]]) -> None:
    study, series, uids = made
    one = client.retrieve_instance(study, series, uids[0])
    one.StudyInstanceUID, one.SeriesInstanceUID = generate_uid(), generate_uid()
    objects = []
    for _ in range(3):
        each = copy.deepcopy(one)
        each.SOPInstanceUID = generate_uid()
        each.file_meta.MediaStorageSOPInstanceUID = each.SOPInstanceUID
        objects.append(each)
    answer = client.store_instances(objects)
    assert len(answer.ReferencedSOPSequence) == 3
    assert "FailedSOPSequence" not in answer
    new, new_series = objects[0].StudyInstanceUID, objects[0].SeriesInstanceUID
    kept = client.retrieve_instance(new, new_series, objects[0].SOPInstanceUID)
    assert kept.PixelData == one.PixelData
    client.delete_instance(new, new_series, objects[0].SOPInstanceUID)
    assert len(client.search_for_instances(new)) == 2
    client.delete_series(new, new_series)
    assert client.search_for_instances(new) == []
    client.store_instances(objects[1:], study_instance_uid=new)
    client.delete_study(new)
    assert client.search_for_studies(search_filters={"StudyInstanceUID": new}) == []


@pytest.mark.slow
def test_every_real_object_can_be_retrieved(client: DICOMwebClient, real_data: Path | None) -> None:
    if real_data is None:
        pytest.skip("needs the real data set")
    objects, beyond_the_client = 0, 0
    for each in client.search_for_studies():
        study = each["0020000D"]["Value"][0]
        metadata = client.retrieve_study_metadata(study)
        try:
            received = list(client.iter_study(study, media_types=(("application/dicom", "*"),)))
        except Exception:
            beyond_the_client += 1
            continue
        assert len(received) == len(metadata)
        objects += len(received)
    assert objects > 400
    assert beyond_the_client <= 5
