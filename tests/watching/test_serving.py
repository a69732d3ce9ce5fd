import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import chromium
from command_line import sweeper
from planted import (
    assignment_of,
    planned_sweep,
    planned_trial,
    planted_result,
    refresh,
    submitted_store,
)
from served import asked, served

from sweeper.errors import ConfigError, StoreError
from sweeper.store.layout import Store
from sweeper.store.results import publish
from sweeper.trials.plan import Plan
from sweeper.watching.followed import sweeps_in
from sweeper.watching.server import Access, Server

HOSTILE = "<img src=x onerror=alert(1)>"
TOKEN = "a-token-of-the-test"
FOLLOWS_S = 5.0


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two sweeps, one with a hostile name and hostile labels, beside what is none."""
    folder = tmp_path / "results"
    submitted_store(folder / "planted", planned_sweep(("masked",)))
    hostile = Plan(HOSTILE, (planned_trial(f"masked-{HOSTILE}"),))
    submitted_store(folder / HOSTILE, hostile)
    (folder / "notes").mkdir()
    submitted_store(tmp_path / "outside", planned_sweep(("masked",)))
    (folder / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


@pytest.fixture
def server(results: Path) -> Iterator[Server]:
    with served(results) as found:
        yield found


@pytest.fixture
def guarded(results: Path) -> Iterator[Server]:
    with served(results, TOKEN) as found:
        yield found


def _tree(folder: Path) -> dict[str, int]:
    found = [*folder.rglob("*"), folder]
    return {str(path): path.lstat().st_mtime_ns for path in found}


def test_every_sweep_of_the_folder_is_listed_and_nothing_else(server: Server) -> None:
    answer, body = asked(server, "/")
    assert answer.status == 200
    links = re.findall(r'href="(/sweeps/[^"]*)"', body)
    assert len(links) == 2
    assert all(asked(server, link)[0].status == 200 for link in links)
    assert "link" not in body.split("<tbody>")[1].split("</tbody>")[0]


def test_what_somebody_typed_is_text_on_every_page(server: Server) -> None:
    for path in ("/", "/state", f"/sweeps/{HOSTILE.replace(' ', '%20')}/"):
        answer, body = asked(server, path)
        assert answer.status == 200
        assert "<img" not in body
        assert "&lt;img" in body
    policy = asked(server, "/")[0].headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "/sweeps/../secret.txt",
        "/sweeps/..%2F..%2Fsecret.txt/",
        "/sweeps/%2e%2e/",
        "/sweeps/%2e%2e/state",
        "/sweeps/link/",
        "/sweeps/notes/",
        "/sweeps/planted/plan.json",
        "/sweeps/planted/..%2f..%2f..%2fsecret.txt",
        "/sweeps/planted%00/",
        "/sweeps/%ff/",
        "/sweeps//",
        "//sweeps/planted/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/sweeps/planted",
        "http://[/",
    ],
)
def test_no_path_leads_out_of_the_folder(server: Server, path: str) -> None:
    answer, body = asked(server, path, Host="localhost")
    assert answer.status == 404
    assert "secret" not in body


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8001", 200),
        ("localhost:1234", 200),
        ("LOCALHOST", 200),
        ("[::1]:8001", 200),
        ("evil.example", 421),
        ("evil.example:8001", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1@evil.example", 421),
        ("192.0.2.1", 421),
        ("", 421),
    ],
)
def test_a_host_that_is_not_this_machine_is_refused(server: Server, host: str, status: int) -> None:
    assert asked(server, "/", Host=host)[0].status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(server: Server, method: str) -> None:
    answer, _ = asked(server, "/", method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


def test_a_token_is_wanted_and_moves_from_the_address_to_a_cookie(guarded: Server) -> None:
    assert asked(guarded, "/")[0].status == 403
    assert asked(guarded, "/?token=another")[0].status == 403
    assert asked(guarded, "/sweeps/planted/report.html", Cookie="sweeper-token=x")[0].status == 403
    moved, _ = asked(guarded, f"/sweeps/planted/?token={TOKEN}")
    assert (moved.status, moved.headers["Location"]) == (303, "/sweeps/planted/")
    cookie = moved.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite" in cookie
    assert asked(guarded, "/", Cookie=cookie.split(";")[0])[0].status == 200
    assert asked(guarded, "/", Authorization=f"Bearer {TOKEN}")[0].status == 200
    assert TOKEN not in asked(guarded, "/", Authorization=f"Bearer {TOKEN}")[1]
    assert (
        asked(guarded, "/", Host="evil.example", Authorization=f"Bearer {TOKEN}")[0].status == 421
    )


def test_head_has_the_headers_alone_and_what_is_known_is_not_sent_again(server: Server) -> None:
    whole, body = asked(server, "/state")
    head, nothing = asked(server, "/state", "HEAD")
    assert nothing == ""
    assert head.headers["Content-Length"] == str(len(body.encode()))
    again, nothing = asked(server, "/state", If_None_Match=whole.headers["ETag"])
    assert (again.status, nothing) == (304, "")


def test_a_published_record_is_seen_within_five_seconds_without_a_driver(
    server: Server, results: Path
) -> None:
    assert "pending" in asked(server, "/sweeps/planted/state")[1]
    store, trials = Store(results / "planted"), planned_sweep(("masked",)).trials
    first = assignment_of(store, trials[0])
    publish(first, planted_result(first))
    published_s = time.monotonic()
    while "1 done" not in asked(server, "/sweeps/planted/state")[1]:
        assert time.monotonic() - published_s < FOLLOWS_S
        time.sleep(0.1)


@pytest.mark.slow
def test_the_report_follows_and_is_the_one_that_the_verb_writes(
    server: Server, results: Path, tmp_path: Path
) -> None:
    early, why = asked(server, "/sweeps/planted/report.html")
    assert early.status == 404
    assert "no report yet" in why
    store, plan = Store(results / "planted"), planned_sweep(("masked",))
    for planned in plan.trials:
        publish(assignment_of(store, planned), planted_result(assignment_of(store, planned)))
    before = _tree(results)
    until_s = time.monotonic() + 120
    while (answer := asked(server, "/sweeps/planted/report.html"))[0].status != 200:
        assert time.monotonic() < until_s
        asked(server, "/sweeps/planted/state")
        time.sleep(0.2)
    assert _tree(results) == before  # nothing is written there
    assert answer[0].headers["Content-Security-Policy"] == "frame-ancestors 'self'"
    refresh(store)
    written = sweeper("report", "results/planted", "-o", "report.html", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    assert (tmp_path / "report.html").read_text() == answer[1]


@pytest.mark.slow
def test_a_browser_shows_the_report_below_how_the_sweep_stands(
    server: Server, results: Path
) -> None:
    store = Store(results / "planted")
    for planned in planned_sweep(("masked",)).trials:
        publish(assignment_of(store, planned), planted_result(assignment_of(store, planned)))
    with chromium() as browser:
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{server.url}sweeps/planted/")
        frame = page.frame_locator("#report")
        frame.locator("h1").wait_for(timeout=120_000)
        assert frame.locator("h1").inner_text() == "planted"
        page.wait_for_timeout(2500)
        assert said == []


def test_a_folder_that_is_gone_is_said_to_be(server: Server, results: Path) -> None:
    results.rename(results.with_name("elsewhere"))
    answer, body = asked(server, "/")
    assert answer.status == 503
    assert "does not exist" in body


def test_mistakes_are_told_in_a_sentence(server: Server, results: Path, tmp_path: Path) -> None:
    port = server.server_address[1]
    with pytest.raises(ConfigError, match="is in use; name another with --port"):
        Server(server.site, Access("127.0.0.1", ""), port)
    with pytest.raises(ConfigError, match="expected 0 to 65535"):
        Server(server.site, Access("127.0.0.1", ""), 70000)
    with pytest.raises(StoreError, match="does not exist"):
        sweeps_in(tmp_path / "absent")
    assert sweeps_in(results / "notes") == {}
    assert list(sweeps_in(results / "planted")) == ["planted"]
