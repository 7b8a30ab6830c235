# SPDX-License-Identifier: Apache-2.0
"""What was drawn, written into the study: read back with pydicom and with DCMTK."""

import asyncio
import subprocess  # noqa: TID251 - DCMTK judges what was written
from pathlib import Path

import pydicom
import pytest


def upon(revision: int) -> dict[str, dict[str, str]]:
    return {"headers": {"If-Match": f'"{revision}"'}}


async def drawn(box, anna) -> tuple[str, list[str]]:
    """Draw every tool in a study of two images and mark two key images."""
    sops = await box.take_in(images=2)
    uid = (await anna.json("GET", "/studies"))["rows"][0]["study_instance_uid"]
    points = {
        "length": [[1, 2], [30, 40]], "bidirectional": [[1, 2], [9, 2], [5, 0], [5, 4]],
        "angle": [[0, 0], [5, 5], [9, 0]], "cobb": [[0, 0], [9, 1], [0, 9], [9, 8]],
        "polyline": [[0, 0], [3, 3], [5, 1]], "freehand": [[0, 0], [3, 3], [5, 1]],
        "rectangle": [[9, 9], [1, 1]], "ellipse": [[1, 5], [9, 5], [5, 3], [5, 7]],
        "circle": [[5, 5], [9, 5]], "probe": [[3.5, 4.5]], "arrow": [[1, 1], [5, 5]],
        "text": [[2, 2]], "calibration": [[0, 0], [10, 0]],
    }  # fmt: skip
    values = {
        "length": [{"name": "length", "value": 12.5, "unit": "mm"}],
        "bidirectional": [
            {"name": "length", "value": 8, "unit": "mm"},
            {"name": "width", "value": 4, "unit": "mm"},
        ],
        "angle": [{"name": "angle", "value": 41.2, "unit": "deg"}],
        "cobb": [{"name": "angle", "value": 12, "unit": "deg"}],
        "ellipse": [
            {"name": "area", "value": 12.6, "unit": "mm2"},
            {"name": "mean", "value": -12.25, "unit": "[hnsf'U]"},
            {"name": "own thing", "value": 3, "unit": "1"},
        ],
    }
    marks = [
        {
            "id": tool, "tool": tool, "sop_instance_uid": sops[place % 2], "points": where,
            "label": tool, "text": "病変" if tool == "text" else "",
            "measurements": values.get(tool, []),
        }
        for place, (tool, where) in enumerate(points.items())
    ]  # fmt: skip
    marks.append({"id": "gone", "tool": "probe", "sop_instance_uid": "1.2.3", "points": [[1, 1]]})
    await anna.json(
        "PUT", f"/studies/{uid}/annotations/mine", json={"annotations": marks}, **upon(0)
    )
    images = [{"sop_instance_uid": each, "note": "見る"} for each in sops]
    body = {"title": "for-surgery", "images": images}
    await anna.json("PUT", f"/studies/{uid}/key-images/mine", json=body, **upon(0))
    state = {"viewports": [{"window": {"center": 40, "width": 400}}]}
    await anna.json("PUT", f"/studies/{uid}/viewer-state", json=state, **upon(0))
    return uid, sops


def stored(box, sop: str) -> Path:
    (found,) = (box.root / "data" / "studies").glob(f"*/*/{sop}.dcm")
    return found


def walk(item):
    yield item
    for child in item.get("ContentSequence", ()):
        yield from walk(child)


@pytest.mark.spec("VW-5")
async def test_marks_are_written_as_report_presentation_state_and_key_objects(box, anna):
    uid, sops = await drawn(box, anna)
    path = f"/studies/{uid}/annotations/export"
    made = await anna.json("POST", path, json={"formats": ["sr", "gsps", "ko"]}, status=201)
    assert made["left_out"] == 2  # the mark on an image that is not there, of SR and of GSPS
    by_format = {each["format"]: each for each in made["objects"]}
    assert {each["outcome"] for each in made["objects"]} == {"new"}
    report = pydicom.dcmread(stored(box, by_format["sr"]["sop_instance_uid"]))
    assert (report.Modality, report.StudyInstanceUID) == ("SR", uid)
    assert str(report.PatientID) == "IT-001"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    numbers = {
        item.ConceptNameCodeSequence[0].CodeMeaning: (
            float(item.MeasuredValueSequence[0].NumericValue),
            item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
        )
        for item in walk(report)
        if item.get("ValueType") == "NUM"
    }
    assert numbers["Length"] == (12.5, "mm")
    assert numbers["Long Axis"] == (8, "mm")
    assert numbers["Short Axis"] == (4, "mm")
    assert numbers["Mean"] == (-12.25, "[hnsf'U]")
    assert numbers["own thing"] == (3, "1")
    graphics = {item.GraphicType for item in walk(report) if item.get("ValueType") == "SCOORD"}
    assert graphics == {"POLYLINE", "ELLIPSE", "CIRCLE", "POINT"}
    named = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in walk(report)
        if item.get("ValueType") == "IMAGE"
    }
    assert named == set(sops)
    state = pydicom.dcmread(stored(box, by_format["gsps"]["sop_instance_uid"]))
    assert state.SOPClassUID == "1.2.840.10008.5.1.4.1.1.11.1"
    assert len(state.GraphicAnnotationSequence) == 15  # 13 tools, two of them of two lines
    words = {
        text.UnformattedTextValue
        for item in state.GraphicAnnotationSequence
        for text in item.get("TextObjectSequence", ())
    }
    assert "病変" in words
    note = pydicom.dcmread(stored(box, by_format["ko"]["sop_instance_uid"]))
    assert note.Modality == "KO"
    assert note.ConceptNameCodeSequence[0].CodeMeaning == "For Surgery"
    for name in ("sr", "ko"):
        tool = ["/usr/bin/dsrdump", str(stored(box, by_format[name]["sop_instance_uid"]))]
        done = await asyncio.to_thread(subprocess.run, tool, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        assert b"E:" not in done.stderr
    study = await anna.json("GET", f"/studies/{uid}")
    assert {"SR", "PR", "KO"} < set(study["study"]["modalities"])
    trail = [each["action"] for each in (await anna.json("GET", "/audit"))["entries"]]
    assert "marks-exported" in trail


@pytest.mark.spec("VW-5")
async def test_writing_the_same_again_stores_nothing_new_and_other_marks_another_object(box, anna):
    uid, sops = await drawn(box, anna)
    path = f"/studies/{uid}/annotations/export"
    first = await anna.json("POST", path, json={"formats": ["sr"]}, status=201)
    again = await anna.json("POST", path, json={"formats": ["sr"]}, status=201)
    assert again["objects"][0]["sop_instance_uid"] == first["objects"][0]["sop_instance_uid"]
    assert again["objects"][0]["outcome"] == "same"
    one = {"id": "x", "tool": "probe", "sop_instance_uid": sops[0], "points": [[1, 1]]}
    await anna.json(
        "PUT", f"/studies/{uid}/annotations/mine", json={"annotations": [one]}, **upon(1)
    )
    other = await anna.json("POST", path, json={"formats": ["sr"]}, status=201)
    assert other["objects"][0]["sop_instance_uid"] != first["objects"][0]["sop_instance_uid"]
    assert other["objects"][0]["series_instance_uid"] == first["objects"][0]["series_instance_uid"]


@pytest.mark.spec("VW-5")
async def test_nothing_drawn_is_nothing_written(box, anna):
    await box.take_in(images=1)
    uid = (await anna.json("GET", "/studies"))["rows"][0]["study_instance_uid"]
    path = f"/studies/{uid}/annotations/export"
    refused = await anna.json("POST", path, json={"formats": ["sr", "ko"]}, status=422)
    assert refused["code"] == "annotation-export-failed"
    for body in ({"formats": []}, {"formats": ["pdf"]}, {"formats": ["sr"], "layers": ["../x"]}):
        await anna.ask("POST", path, json=body, status=400)
    await anna.ask(
        "POST", "/studies/1.2.3/annotations/export", json={"formats": ["sr"]}, status=404
    )
