"""What is vendored is what was published."""

import hashlib
import re
from pathlib import Path

from analysis.report.page import bundle

ROOT = Path(__file__).parents[2]


def test_vendored_scripts_have_the_hashes_that_their_page_pins() -> None:
    page = (ROOT / "docs/third-party.md").read_text(encoding="utf-8")
    rows = re.findall(r"\| `([\w.-]+\.js)` \| `([0-9a-f]{64})` \|", page)
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in _scripts()}
    assert dict(rows) == found


def test_every_vendored_script_has_a_licence_beside_it() -> None:
    names = {file.name.removesuffix(".js").removesuffix(".min") for file in _scripts()}
    assert {file.name for file in bundle.VENDOR.glob("LICENSE-*")} == {
        f"LICENSE-{name}" for name in names
    }


def test_no_script_ends_its_element_or_names_a_source_map() -> None:
    for text in bundle.scripts():
        assert "</script" not in text
        assert "<!--" not in text
        assert "sourceMappingURL" not in text


def _scripts() -> list[Path]:
    return sorted(bundle.VENDOR.glob("*.js"))
