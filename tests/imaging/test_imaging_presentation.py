# SPDX-License-Identifier: Apache-2.0
"""Objects that are written: judged by DCMTK, dicom3tools and highdicom, and read back."""

import io
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest

from scrigno.core.counters import Counters
from scrigno.host.process import run
from scrigno.imaging.documents.said import said_by
from scrigno.imaging.errors import DecodeFailed, NoDocument
from scrigno.imaging.orders import (
    Annotation,
    Code,
    ImageReference,
    Kind,
    Order,
    Shape,
    Value,
    View,
)
from scrigno.imaging.presentation import written
from scrigno.imaging.workers import ImagingPool

pytestmark = pytest.mark.spec("VW-5")

SLICE = ImageReference(
    study_instance_uid="1.2.3",
    series_instance_uid="1.2.3.1",
    sop_instance_uid="1.2.3.1.5",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    rows=512,
    columns=512,
)
FILM = replace(
    SLICE,
    series_instance_uid="1.2.3.2",
    sop_instance_uid="1.2.3.2.1",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.3.1",
    number_of_frames=40,
    frame=7,
)
LENGTH = Code(value="410668003", scheme="SCT", meaning="Length")
MEAN = Code(value="373098007", scheme="SCT", meaning="Mean")
LINE = Annotation(
    image=SLICE,
    shape=Shape.POLYLINE,
    points=((10.5, 20.5), (100.25, 20.5)),
    label="Lesion 1",
    text="45 mm",
    values=(Value(concept=LENGTH, number=45.0627191, unit="mm"),),
    finding=Code(value="52988006", scheme="SCT", meaning="Lesion"),
)
MARKS = (
    LINE,
    Annotation(
        image=FILM, shape=Shape.ELLIPSE, points=((10, 50), (90, 50), (50, 30), (50, 70)),
        values=(Value(concept=MEAN, number=-12.5, unit="[hnsf'U]"),), label="ROI",
    ),
    Annotation(image=SLICE, shape=Shape.CIRCLE, points=((60, 60), (70, 60)), label="c"),
    Annotation(image=SLICE, shape=Shape.RECTANGLE, points=((1, 2), (30, 40)), filled=True),
    Annotation(image=SLICE, shape=Shape.POINT, points=((5, 5),), text="hier <b>é</b> 病変"),
    Annotation(image=SLICE, shape=Shape.TEXT, points=((50, 50),), text="see prior"),
)  # fmt: skip
ORDER = Order(
    kind=Kind.MEASUREMENTS,
    study_instance_uid="1.2.3",
    series_instance_uid="1.2.3.9",
    sop_instance_uid="1.2.3.9.1",
    patient={
        "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "PatientID": "4711",
        "PatientBirthDate": "19600102",
        "PatientSex": "M",
    },
    study={"StudyDate": "20260102", "StudyTime": "101112", "AccessionNumber": "A1"},
    created_at=datetime(2026, 11, 22, 17, 5, 6, tzinfo=UTC),
    author="Rossi^Anna",
    annotations=MARKS,
    images=(SLICE, FILM),
)
KEYS = replace(ORDER, kind=Kind.KEY_OBJECTS, annotations=(), title="für das Gespräch")
STATE = replace(
    ORDER,
    kind=Kind.PRESENTATION,
    title="As seen by Anna!",
    views=(View(images=(SLICE, FILM), window=(40, 400), rotation=90, flipped=True),),
)


def made(order: Order) -> bytes:
    """Write by way of the JSON text that goes to the worker."""
    return written(json.loads(json.dumps(order.message())))


def read(order: Order) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(made(order)))


@pytest.mark.parametrize(
    ("order", "name"),
    [
        (ORDER, "ComprehensiveSR"),
        (replace(ORDER, final=True), "ComprehensiveSR"),
        (KEYS, "KeyObjectSelectionDocument"),
        (STATE, "GrayscaleSoftcopyPresentationState"),
        (
            replace(STATE, views=(replace(STATE.views[0], colour=True),)),
            "ColorSoftcopyPresentationState",
        ),
    ],
)
async def test_what_is_written_satisfies_the_standards_own_checker(
    tmp_path: Path, order: Order, name: str
) -> None:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dicom3tools is not on this machine")
    path = tmp_path / "made.dcm"
    path.write_bytes(made(order))
    done = await run(["/usr/bin/dciodvfy", str(path)], timeout_s=30)
    said = (done.stdout + done.stderr).decode(errors="replace").splitlines()
    assert name in "".join(said)
    assert [line for line in said if "Error" in line] == []


async def test_dcmtk_follows_the_reports(tmp_path: Path) -> None:
    path = tmp_path / "made.dcm"
    for order, wanted in ((ORDER, "Lesion 1"), (KEYS, "Of Interest")):
        path.write_bytes(made(order))
        done = await run(["/usr/bin/dsrdump", "+U8", str(path)], timeout_s=30)
        assert done.returncode == 0, done.stderr
        assert wanted in done.stdout.decode()
        assert b"E:" not in done.stderr


def test_highdicom_finds_every_measurement_group() -> None:
    srread = pytest.importorskip("highdicom.sr").srread
    report = srread(io.BytesIO(made(ORDER)))
    groups = report.content.get_image_measurement_groups()
    regions = report.content.get_planar_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["Lesion 1", "ROI"]
    assert len(regions) == 4
    [length] = groups[0].get_measurements()
    assert (length.value, length.unit.value, length.name.value) == (45.0627191, "mm", "410668003")


def test_a_report_holds_its_coordinates_and_evidence() -> None:
    report = read(ORDER)
    assert report.PatientName.ideographic == "山田^太郎"
    [measurements] = [
        item
        for item in report.ContentSequence
        if item.get("ConceptNameCodeSequence", [{}])[0].get("CodeValue") == "126010"
    ]
    group = measurements.ContentSequence[0]
    [length] = [item for item in group.ContentSequence if item.ValueType == "NUM"]
    assert float(length.MeasuredValueSequence[0].NumericValue) == 45.0627191
    [line] = length.ContentSequence
    assert (line.GraphicType, list(line.GraphicData)) == ("POLYLINE", [10.5, 20.5, 100.25, 20.5])
    assert line.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.1.5"
    [evidence] = report.CurrentRequestedProcedureEvidenceSequence
    assert [series.SeriesInstanceUID for series in evidence.ReferencedSeriesSequence] == [
        "1.2.3.1",
        "1.2.3.2",
    ]
    assert (report.CompletionFlag, report.VerificationFlag) == ("PARTIAL", "UNVERIFIED")


def test_a_final_report_names_who_verified_it() -> None:
    report = read(replace(ORDER, final=True))
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "VERIFIED")
    assert report.VerifyingObserverSequence[0].VerifyingObserverName == "Rossi^Anna"


def test_the_same_order_is_written_to_the_same_bytes() -> None:
    assert made(ORDER) == made(ORDER)
    assert made(STATE) == made(STATE)


def test_a_presentation_state_holds_window_turn_and_drawing() -> None:
    state = read(STATE)
    [window] = state.SoftcopyVOILUTSequence
    assert (window.WindowCenter, window.WindowWidth) == (40, 400)
    assert (state.ImageRotation, state.ImageHorizontalFlip) == (90, "Y")
    assert state.ContentLabel == "AS SEEN BY ANNA_"
    first, roi, *_, last = state.GraphicAnnotationSequence
    [line] = first.GraphicObjectSequence
    assert list(line.GraphicData) == [10.5, 20.5, 100.25, 20.5]
    assert first.TextObjectSequence[0].UnformattedTextValue == "45 mm"
    assert roi.ReferencedImageSequence[0].ReferencedFrameNumber == 7
    assert "GraphicObjectSequence" not in last


@pytest.mark.parametrize(
    "change",
    [
        {"annotations": (replace(LINE, points=((1, 1),)),)},
        {"annotations": (replace(LINE, shape=Shape.ELLIPSE),)},
        {"annotations": (), "images": ()},
        {"kind": "poem"},
    ],
)
def test_an_order_that_cannot_be_is_refused_in_words(change: dict[str, object]) -> None:
    with pytest.raises(DecodeFailed):
        made(replace(ORDER, **change))  # type: ignore[arg-type] - wrong on purpose


def test_attributes_of_other_modules_do_not_come_in() -> None:
    order = replace(ORDER, patient={**ORDER.patient, "PixelData": "x", "SOPClassUID": "9"})
    report = read(order)
    assert "PixelData" not in report
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.33"


def test_what_was_written_is_read_back_the_same() -> None:
    said = said_by(read(STATE))
    assert said["windows"][0]["window"] == [40, 400]
    assert (said["rotation"], said["flipped"], said["creator"]) == (90, True, "Rossi^Anna")
    lines = [each for each in said["shapes"] if each["shape"] == "polyline"]
    assert lines[0]["points"] == [[10.5, 20.5], [100.25, 20.5]]
    assert lines[0]["images"][0]["sop_instance_uid"] == SLICE.sop_instance_uid
    assert next(each["text"] for each in said["shapes"] if each["text"]) == "45 mm"
    keys = said_by(read(KEYS))
    assert [each["sop_instance_uid"] for each in keys["references"]] == ["1.2.3.1.5", "1.2.3.2.1"]
    assert keys["references"][1]["frames"] == [7]
    assert keys["references"][0]["study_instance_uid"] == "1.2.3"
    assert keys["title"] == "Of Interest"


async def test_the_pool_writes_and_reads_documents() -> None:
    pool = ImagingPool(1, counters=Counters())
    try:
        content = await pool.write(ORDER)
        assert content == made(ORDER)
        with await pool.document(content) as document:
            assert (document.kind, document.content_type) == ("report", "text/html")
            page = document.read().decode()
        assert "hier &lt;b&gt;é&lt;/b&gt; 病変" in page
        assert "45.0627191 mm" in page
        with pytest.raises(NoDocument):
            await pool.presentation(content)
        with pytest.raises(DecodeFailed, match="names at least one image"):
            await pool.write(replace(ORDER, annotations=(), images=()))
    finally:
        await pool.close()
