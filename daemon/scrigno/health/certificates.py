# SPDX-License-Identifier: Apache-2.0
"""Until when the certificates of the box are good. Blocking, for a thread."""

from pathlib import Path
from typing import Final

from cryptography import x509

from scrigno.host.facts import FactsUnreadable

from .machine_facts import CertificateFacts

LARGEST_BYTES: Final = 1 << 20


def read_certificate(name: str, path: Path) -> CertificateFacts:
    """Return when the chain in a PEM file first expires; raises FactsUnreadable."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES)
        chain = x509.load_pem_x509_certificates(content)
    except (OSError, ValueError) as error:
        raise FactsUnreadable(name, str(error)) from error
    if not chain:
        raise FactsUnreadable(name, "no certificate in it")
    return CertificateFacts(name=name, expires_at=min(one.not_valid_after_utc for one in chain))
