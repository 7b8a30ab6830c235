# SPDX-License-Identifier: Apache-2.0
"""Start a box on folders of this checkout, for a first look: `make run`.

Writes var/scrigno.yaml once (change it freely, it is never overwritten) and becomes the daemon.
The ports of a first run can be given: make run DICOM_PORT=11113 WEB_PORT=8081.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VAR = ROOT / "var"
CONFIG = VAR / "scrigno.yaml"

TEMPLATE = """\
# A trial run on folders of one disk, made by `make run`. Change it freely.
# `initial` is applied at the first start only; afterwards settings are changed in the pages or by
# `scrigno config`.
state_dir: {var}/state
staging_dir: {var}/staging
web: {{host: 0.0.0.0, port: {web_port}, tls_port: 8443}}
log: {{level: info, dir: {var}/log}}
index: {{url: sqlite}}
initial:
  volumes:
    - {{name: data, role: data, path: {var}/data}}
    - {{name: backup1, role: backup, path: {var}/backup1}}
  dicom:
    providers: [{{name: Scrigno, ae_title: SCRIGNO, port: {dicom_port}, unregistered: accept}}]
    users: []
  # Both folders are on one disk here, so they may count as two devices. Never do this with images
  # that matter.
  ingest: {{ack_copies: 2, count_shared_device: true}}
  language: en
"""


def main() -> None:
    """Write what is missing, then become `scrigno serve`."""
    if not CONFIG.exists():
        for name in ("state", "staging", "log", "data", "backup1"):
            (VAR / name).mkdir(parents=True, exist_ok=True)
        (VAR / "state").chmod(0o700)
        CONFIG.write_text(
            TEMPLATE.format(
                var=VAR,
                web_port=os.environ.get("WEB_PORT", "8080"),
                dicom_port=os.environ.get("DICOM_PORT", "11112"),
            ),
            encoding="utf-8",
        )
    command = [sys.executable, "-m", "scrigno", "serve", "--config", str(CONFIG), "--welcome"]
    os.execv(sys.executable, command)  # noqa: S606 - our own interpreter and module


if __name__ == "__main__":
    main()
