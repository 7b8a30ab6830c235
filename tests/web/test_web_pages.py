# SPDX-License-Identifier: Apache-2.0
"""What the pages are made of."""

import json
from pathlib import Path

from scrigno.web.errors import STATUS

WEBUI = Path(__file__).resolve().parents[2] / "webui"


def test_the_pages_load_nothing_from_elsewhere_and_hold_no_inline_script():
    sources = [WEBUI / "index.html", *sorted((WEBUI / "src").rglob("*"))]
    for path in sources:
        if path.suffix not in {".html", ".css", ".js", ".ts", ".tsx"}:
            continue
        text = path.read_text()
        outside = text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in outside, path
        assert "https://" not in outside, path
        assert ' style="' not in text, path  # computed geometry is set by script
        assert "innerHTML" not in text, path
        assert "eval(" not in text, path
        assert "SPDX-License-Identifier: Apache-2.0" in text, path


def test_the_fault_codes_that_the_pages_translate_exist():
    english = json.loads((WEBUI / "public" / "locales" / "en.json").read_text())
    own = {"network", "unknown"}
    for key in english:
        if key.startswith("problem."):
            code = key.split(".")[1]
            assert code in STATUS or code in own, key
