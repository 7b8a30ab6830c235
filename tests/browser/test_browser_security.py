# SPDX-License-Identifier: Apache-2.0
"""Texts of hostile objects in a real browser: they are shown, and nothing of them runs."""

from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid
from window import Browser

from made_objects import write_series

RUNS = "window.ran = (window.ran || 0) + 1"
IMAGE = f"<img src=x onerror='{RUNS}'>"


def _hostile(folder: Path) -> Path:
    (path,) = write_series(folder, images=1, patient=0, size=32).values()
    made = pydicom.dcmread(path)
    made.SpecificCharacterSet = "ISO_IR 192"
    made.PatientName = f"</script><script>{RUNS.replace('=', '')}</script>^<svg/onload>"
    made.PatientID = f"'\"><svg/onload='{RUNS}'>"[:64]
    made.AccessionNumber = "<b>1</b>"
    made.StudyDescription = IMAGE[:64]
    made.SeriesDescription = IMAGE[:64]
    made.InstitutionName = f"javascript:{RUNS}"[:64]
    made.PatientComments = IMAGE
    made.StudyInstanceUID, made.SeriesInstanceUID = generate_uid(), generate_uid()
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.save_as(path)
    return path


@pytest.mark.slow
@pytest.mark.spec("VW-1", "VW-2")
def test_nothing_that_stands_in_an_image_runs_in_the_pages(browser: Browser, tmp_path: Path):
    with pydicom.config.disable_value_validation():
        path = _hostile(tmp_path / "hostile")
    done = browser.box.cli("import", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    uid = str(pydicom.dcmread(path).StudyInstanceUID)
    try:
        _look(browser)
    finally:  # the box is shared with other tests
        gone = browser.box.cli("delete-study", uid, "--reason", "test")
        assert gone.returncode == 0, gone.stdout + gone.stderr


def _look(browser: Browser) -> None:
    browser.log_in()
    browser.until_text(".page", "<img src=x")
    assert browser.script("return window.ran || 0") == 0
    row = "[...document.querySelectorAll('.col-patient a')]"
    browser.until(f"{row}.some((each) => each.closest('tr').textContent.includes('onload'))")
    browser.script(
        f"{row}.find((each) => each.closest('tr').textContent.includes('onload')).click()"
    )
    browser.until_text("h1", "script")
    assert browser.script("return window.ran || 0") == 0
    assert (
        browser.script("return document.querySelectorAll('svg[onload], img[onerror]').length") == 0
    )
