"""Scripts and data inside the page, and the policy under which a browser runs them.

Only scripts with a known hash run, nothing is loaded, and nothing is evaluated from text: Vega's
expressions are walked by its interpreter.
"""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from markupsafe import Markup

VENDOR = Path(__file__).parent / "vendor"
SCRIPTS = Path(__file__).parent.parent / "templates"
SOURCE_MAP = re.compile(r"\n//# sourceMappingURL=\S*\s*$")
ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def scripts() -> list[str]:
    """Vega, Vega-Lite, the interpreter and the page's own, in the order in which they run."""
    return [
        _vendored("vega.min.js"),
        _vendored("vega-lite.min.js"),
        _interpreter(),
        (SCRIPTS / "page.js").read_text(encoding="utf-8"),
    ]


def _vendored(name: str) -> str:
    # Source maps are not in the page, and a browser's tools would ask for them.
    return SOURCE_MAP.sub("\n", (VENDOR / name).read_text(encoding="utf-8"))


def _interpreter() -> str:
    """The interpreter, published as a module alone, as a script beside Vega's."""
    text = _vendored("vega-interpreter.js")
    imported = re.match(r"import (\{[^}]*\}) from 'vega-util';", text)
    exported = re.search(r"\nexport \{ (\w+) as expressionInterpreter \};", text)
    assert imported, "the vendored interpreter begins with its import"
    assert exported, "the vendored interpreter ends with its export"
    body = text[imported.end() : exported.start()]
    start = f"(function () {{\nconst {imported[1]} = vega;\n"
    return f"{start}{body}\nglobalThis.expressionInterpreter = {exported[1]};\n}})();\n"


def policy(texts: list[str]) -> str:
    """The content security policy of a page with these scripts."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"


def embedded_json(content: Any) -> Markup:
    """JSON that can stand in a `script` element whatever strings it holds."""
    text = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character, escape in ESCAPED.items():
        text = text.replace(character, escape)
    return Markup(text)
