# SPDX-License-Identifier: Apache-2.0
"""Why our decoding or drawing is not the same as a reference's, for the decode table."""

# by file: reference -> reason. A reason under "*" holds for every reference.
BY_FILE: dict[str, dict[str, str]] = {
    "fo-dicom/GH195.dcm": {
        "*": "labelled RGB, but the codestream says YCbCr (JFIF): we convert, they do not"
    },
    "fo-dicom/GH364.dcm": {
        "*": "DCMTK refuses its file meta, GDCM its pixel module; pydicom agrees with us"
    },
    "fo-dicom/multiframe.dcm": {
        "*": "some frames are JPEGs of another size than the object says; we refuse these"
        " and show the others, DCMTK fills up, GDCM refuses all"
    },
    "fo-dicom/RI6XDosiGap.dcm": {
        "picture": "dcm2pnm draws values that are all below one as a single grey"
    },
    "orthanc-tests/2026-05-26-oob-monochrome-65535.dcm": {
        "*": "claims 65535 × 65535 pixels and holds none: refused by its size"
    },
    "orthanc-tests/MultiframeWindowing.dcm": {
        "*": "Pixel Representation is missing; we take unsigned, they refuse"
    },
    "orthanc-tests/UnknownSopClassUid.dcm": {"GDCM": "GDCM refuses an unknown SOP class"},
    "orthanc-jxl/test_ct1_jxl.dcm": {
        "*": "no other decoder here; equal to the uncompressed original beside it"
    },
    "orthanc-jxl/test_ct1.dcm": {
        "*": "a file without file meta: GDCM and pydicom's reader do not take it"
    },
    "pydicom-data/OT-PAL-8-face.dcm": {
        "pydicom": "a file without file meta: pydicom's reader does not take it"
    },
    "pydicom-data/HTJ2K_08_RGB.dcm": {"picture": "no tool draws HTJ2K"},
    "pydicom-data/HTJ2KLossless_08_RGB.dcm": {"picture": "no tool draws HTJ2K"},
    "pydicom-data/JLSL_08_07_0_1F.dcm": {
        "DCMTK": "DCMTK refuses JPEG-LS of 7 bits; GDCM and pydicom agree with us"
    },
    "pydicom-data/eCT_Supplemental.dcm": {
        "picture": "supplemental palette: we draw its colours, dcm2pnm draws grey"
    },
    "pydicom-data/gdcm-US-ALOKA-16.dcm": {"picture": "segmented palette: dcm2pnm has none"},
    "pydicom-data/emri_small_jpeg_2k_lossless_too_short.dcm": {
        "*": "one frame is cut short; GDCM refuses the whole object"
    },
    "pydicom/test_files/JPEG2000-embedded-sequence-delimiter.dcm": {
        "*": "the codestream's size is overwritten: nobody decodes it"
    },
    "pydicom/test_files/MR_truncated.dcm": {
        "*": "fewer pixels than the object says: DCMTK and we refuse, GDCM fills up"
    },
    "pydicom/test_files/SC_rgb_jpeg.dcm": {
        "*": "wrong value representations: DCMTK and pydicom stop; GDCM agrees with us"
    },
    "pydicom/test_files/badVR.dcm": {"pydicom": "pydicom stops at a number that is none"},
    "pydicom/test_files/meta_missing_tsyntax.dcm": {"*": "no image: pixel data without a size"},
    "pydicom/test_files/nested_priv_SQ.dcm": {"*": "no image: pixel data without a size"},
    "highdicom/seg_image_sm_control_labelmap.dcm": {
        "GDCM": "GDCM does not know label map segmentations"
    },
    "highdicom/seg_image_sm_control_labelmap_palette_color.dcm": {
        "GDCM": "GDCM does not know label map segmentations"
    },
    "dicomparser/CT0012.fragmented_no_bot_jpeg_ls.80.dcm": {
        "GDCM": "GDCM does not put JPEG-LS fragments of several frames together without a table"
    },
}
_UN_RESCALE = "rescale slope and intercept are written as UN: we apply them, dcm2pnm does not"
for _name in (
    "JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90",
    "JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91",
    "JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81",
):
    BY_FILE[f"cornerstone/{_name}.dcm"] = {"picture": _UN_RESCALE}

_WIDE_BIG = (
    "32 bit in big endian: the file has whole numbers, DCMTK and GDCM expect words of 16 bit with"
    " the low one first (PS3.5 8.1.1); we take what is smooth, as pydicom does"
)


def why(  # noqa: C901 - a table of rules, read from top to bottom
    path: str, syntax: str, bits: str, photometric: str, reference: str, found: int | str
) -> str:
    """Return the reason for a difference or a failure, empty when there is none known."""
    of_file = BY_FILE.get(path, {})
    known = of_file.get(reference) or of_file.get("*")
    if known:
        return known
    number = syntax.rpartition(".4.")[2] if ".4." in syntax else ""
    allocated = int(bits.partition("/")[0] or 0)
    if reference == "DCMTK" and found == "no decoder":
        return "DCMTK 3.6.7 has no decoder for this syntax"
    if number in ("100", "102", "107"):
        return "a film: it is played by the browser, not decoded"
    if path.startswith("pydicom/test_files/rtdose_expb"):
        return _WIDE_BIG
    if syntax.endswith("1.2.5") and allocated == 1:
        return "single bits in RLE: nobody else decodes them; equal to the uncompressed twin"
    if syntax.endswith("1.2.8.1"):
        return "nobody else decodes deflated frames; equal to the uncompressed twin"
    if reference == "GDCM":
        if number in ("110", "201", "202", "203"):
            return "GDCM 3.0.21 has no decoder for this syntax"
        if allocated in (32, 64) and "parametric" in path:
            return "GDCM does not read floating point pixels"
        if photometric == "RGB" and allocated > 8:
            return "GDCM mixes or does not write colours of more than 8 bits"
    if reference == "pydicom":
        if number in ("51", "53", "55"):
            return "pydicom's plug-ins refuse JPEG of 12 bits and retired processes"
        if "dfl" in path or "Deflated" in path:
            return "pydicom reads frames from the file without inflating it"
    if reference == "picture":
        return _picture(path, bits, photometric, found)
    return ""


def _picture(path: str, bits: str, photometric: str, found: int | str) -> str:
    if "CT0012" in path:
        return "supplemental palette: we draw its colours, dcm2pnm draws grey"
    if isinstance(found, int) and found <= 2 and photometric.startswith("YBR"):
        return "colour conversion: both round, at different steps"
    if isinstance(found, int) and found <= 2:
        return "both round, at different steps"
    if bits.startswith("32") and photometric == "RGB":
        return "dcm2pnm does not draw colours of 32 bits"
    if "parametric" in path:
        return "dcm2pnm does not draw floating point pixels"
    return ""
