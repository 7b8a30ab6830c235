# SPDX-License-Identifier: Apache-2.0
"""Every refusal that can reach a page has a status of its own."""

import importlib
import pkgutil

import scrigno
from scrigno.core.errors import ScrignoError
from scrigno.volumes.states import ErrorKind, VolumeError
from scrigno.web.errors import STATUS, problem

# Of the command line, of the DICOM network, of one inner part; or a fault of ours, which is 500.
ELSEWHERE = {
    "already-running", "channel-failed", "command-not-found", "command-timeout",
    "configuration-unreadable", "corrupt-settings", "daemon-not-running",
    "dicom-association-lost", "dicom-association-rejected", "dicom-connect-failed",
    "dicom-network", "dicom-no-answer", "dicom-no-context", "dicom-unreadable-pdu",
    "facts-unreadable", "identifier-mismatch", "identifier-unreadable", "imaging-failed",
    "internal-error", "internal-fault", "move-destination-unknown", "no-presentation-context",
    "not-readable", "refused-by-daemon", "retrieve-failed", "source-failed",
}  # fmt: skip


def codes(root: type[ScrignoError]) -> set[str]:
    return {root.code}.union(*(codes(each) for each in root.__subclasses__()))


def test_every_code_has_a_status_or_never_reaches_a_page():
    for found in pkgutil.walk_packages(scrigno.__path__, "scrigno."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    ours = {code for code in codes(ScrignoError) if code != "refused"}
    assert not ours - STATUS.keys() - ELSEWHERE
    assert not STATUS.keys() & ELSEWHERE


def test_a_full_disk_is_insufficient_storage():
    full = VolumeError("data", ErrorKind.FULL, "it is full")
    assert problem(full).status == 507
    assert problem(VolumeError("data", ErrorKind.IO, "it does not answer")).status == 503
    for code in ("database-full", "staging-full", "spare-full", "no-durable-storage"):
        assert STATUS[code] == 507, code
