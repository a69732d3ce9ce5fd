"""What a browser is shown: the list of sweeps, and for each how it stands above its report.

Everything that somebody typed is escaped by the templates, and no script runs but those whose hash
the policy of the page names.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sweeper.sweepfile.quantities import count, duration, three_digits
from sweeper.watching.followed import Folder, Followed, look_at
from sweeper.watching.view import sparkline

TEMPLATES = Path(__file__).parent / "templates"
HTML, TEXT = "text/html; charset=utf-8", "text/plain; charset=utf-8"
SPARK_COLUMNS = 24


@dataclass(frozen=True)
class Reply:
    """What a request is answered with."""

    body: bytes
    status: int = 200
    content_type: str = HTML
    headers: Mapping[str, str] = field(default_factory=dict)


def said(status: int, text: str, headers: Mapping[str, str] | None = None) -> Reply:
    """A sentence in place of a page."""
    return Reply(f"{text}\n".encode(), status, TEXT, headers or {})


NOT_FOUND = said(404, "There is no such page here; the list of sweeps is at /")


class Site:
    """The pages of a results folder, by their paths."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "count": count,
            "duration": duration,
            "spark": _spark,
            "three_digits": three_digits,
        }
        self._style = (TEMPLATES / "follow.css").read_text(encoding="utf-8")
        self._script = (TEMPLATES / "follow.js").read_text(encoding="utf-8")
        self._policy = {
            "Content-Security-Policy": (
                f"default-src 'none'; script-src '{_digest(self._script)}'; "
                f"style-src '{_digest(self._style)}'; connect-src 'self'; frame-src 'self'; "
                "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            )
        }

    def reply(self, path: str) -> Reply:
        """The page at a path: `/`, `/sweeps/NAME/`, or the parts of these that are asked anew."""
        sweeps = self._folder.sweeps()
        # Split first: a slash that is written %2F belongs to a name, and no sweep has such a name.
        match [_unquoted(part) for part in path.split("/")[1:]]:
            case [""]:
                return self._whole("sweeps", self._list(sweeps), has_report=False)
            case ["state"]:
                return Reply(self._list(sweeps).encode())
            case ["sweeps", name, page] if name in sweeps:
                return self._of_sweep(name, sweeps[name], page)
        return NOT_FOUND

    def _of_sweep(self, name: str, sweep: Followed, page: str) -> Reply:
        if page == "report.html":
            if sweep.page is None:
                return said(404, f"no report yet: {sweep.no_page or 'it is being made'}")
            policy = {"Content-Security-Policy": "frame-ancestors 'self'"}
            return Reply(sweep.page.body, headers={"ETag": f'"{sweep.page.tag}"', **policy})
        if page not in ("", "state"):
            return NOT_FOUND
        sweep.follow()
        state = self._render("sweep.html", name=name, sweep=sweep, view=sweep.view)
        return self._whole(name, state, has_report=True) if not page else Reply(state.encode())

    def _list(self, sweeps: Mapping[str, Followed]) -> str:
        look_at(sweeps.values())
        links = {name: f"/sweeps/{quote(name, safe='')}/" for name in sweeps}
        return self._render("list.html", sweeps=sweeps, links=links)

    def _whole(self, title: str, state: str, *, has_report: bool) -> Reply:
        text = self._render(
            "follow.html",
            title=title,
            state=Markup(state),
            has_report=has_report,
            style=Markup(self._style),
            script=Markup(self._script),
        )
        return Reply(text.encode(), headers=self._policy)

    def _render(self, template: str, **values: object) -> str:
        return self._templates.get_template(template).render(**values)


def _spark(losses: tuple[float, ...]) -> str:
    return sparkline(losses, SPARK_COLUMNS)


def _unquoted(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        return "\0"  # no name


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
