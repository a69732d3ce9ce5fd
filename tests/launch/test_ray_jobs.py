"""Submitting a driver as a job: what is refused before, and a real cluster on this machine."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from processes import listening_beyond_loopback, marked

from sweeper.errors import ConfigError
from sweeper.launch.ray_jobs import (
    JobRequest,
    JobServer,
    commands_for,
    new_job_id,
    submission_to_json,
)
from sweeper.verbs.submit import latest

SWEEP = """\
name: pilot
corpus: {source: "synthetic:markov?vocab=16&tokens=100000", seq_len: 16}
series:
  masked: {family: masked}
design:
  grid: {sizes: [1.7K, 2.6K], tokens: [40K]}
train: {batch_tokens: 128, learning_rate: 0.05}
evaluation: {sequences: 64}
"""
LONG = SWEEP.replace("pilot", "long").replace("[40K]", "[600K]")
"""Takes a quarter of a minute on a quiet machine, long enough to be stopped in the middle."""

MARKER = f"SWEEPER_TEST_HEAD={os.getpid()}"
"""In the environment of all processes of the cluster."""

TOKEN = "sixteen-or-more-characters-of-a-token"
SECRET = "a-secret-of-whoever-submits"

REQUEST = JobRequest("quick", "name: quick\n", "/shared/my results", takeover=True)


def test_the_command_line_of_a_job_survives_a_shell_and_names_no_secret() -> None:
    assert REQUEST.entrypoint == (
        "sweeper run quick.yaml --address auto --results '/shared/my results' --takeover"
    )
    shown = submission_to_json(REQUEST, "http://head:8265", "sweeper-quick-1")
    assert "name: quick" not in json.dumps(shown)
    assert commands_for(REQUEST, "http://head:8265", "sweeper-quick-1") == shown["commands"]
    assert shown["commands"]["status"] == "sweeper status '/shared/my results/quick'"


def test_job_ids_differ_and_name_the_sweep() -> None:
    ids = {new_job_id("quick") for _ in range(20)}
    assert len(ids) == 20
    assert all(re.fullmatch(r"sweeper-quick-\d{8}-\d{6}-[0-9a-f]{4}", job_id) for job_id in ids)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class _NotRay(BaseHTTPRequestHandler):
    """A web server of something else: answers everything with an empty JSON object."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def not_ray() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _NotRay) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8265", "ray://head:10001", "auto", "http://", "file:///etc", ""]
)
def test_what_is_no_url_of_a_dashboard_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="expected the URL of the cluster's dashboard"):
        JobServer(address)


def test_an_address_with_a_password_is_refused_without_repeating_it() -> None:
    with pytest.raises(ConfigError, match="a user or a password") as raised:
        JobServer("http://me:hush@head:8265")
    assert "hush" not in str(raised.value)


def test_an_address_where_nobody_listens_is_refused_quickly() -> None:
    start_s = time.monotonic()
    with pytest.raises(ConfigError, match=r"no answer .* check host and port"):
        JobServer(f"http://127.0.0.1:{_free_port()}")
    assert time.monotonic() - start_s < 5


def test_a_server_of_something_else_is_refused(not_ray: str) -> None:
    with pytest.raises(ConfigError, match="an answer that is not Ray's"):
        JobServer(not_ray)


def test_headers_that_are_no_json_are_refused_without_showing_them(
    not_ray: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_HEADERS", "Bearer hush")
    with pytest.raises(ConfigError, match="RAY_JOB_HEADERS: expected a JSON object") as raised:
        JobServer(not_ray)
    assert "hush" not in str(raised.value)


def _environment(**changes: str) -> dict[str, str]:
    """The environment of a process of this test: no settings of Ray, and this package."""
    kept = {key: text for key, text in os.environ.items() if not key.startswith("RAY_")}
    root = str(Path(__file__).parents[2])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PYTHONPATH": root, "PATH": path, "OMP_NUM_THREADS": "1", **changes}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The dashboard of a cluster of one node, on loopback and in a folder of its own."""
    port, agent_port, dashboard_port = _free_port(), _free_port(), _free_port()
    environment = _environment(
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=TOKEN,
        RAY_USAGE_STATS_ENABLED="0",
        SWEEPER_TEST_HEAD=MARKER.partition("=")[2],
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # binds everything to this address, see ray_session
    )
    # Not tmp_path: names of Unix sockets are at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="sweeper-head-") as folder:
        command = ["ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1"]
        command += [f"--port={port}", f"--temp-dir={folder}/ray", "--num-cpus=2", "--num-gpus=0"]
        command += ["--include-dashboard=true", "--dashboard-host=127.0.0.1"]
        command += [f"--dashboard-port={dashboard_port}", "--object-store-memory=100000000"]
        command += [f"--dashboard-agent-listen-port={agent_port}"]
        with (Path(folder) / "log").open("w") as log:
            head = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        address = f"http://127.0.0.1:{dashboard_port}"
        try:
            _wait_until(lambda: _answers(dashboard_port), timeout_s=90)
            yield address
        finally:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _wait_until(condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.2)


def _started(folder: Path, *arguments: str, **changes: str) -> subprocess.Popen[str]:
    changes = {"RAY_AUTH_TOKEN": TOKEN, "AWS_SECRET_ACCESS_KEY": SECRET} | changes
    return subprocess.Popen(
        [sys.executable, "-c", "from sweeper.cli import main; main()", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(**changes),
    )


def _ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    output, errors = process.communicate(timeout=400)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def _sweeper(folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    return _ended(_started(folder, *arguments, **changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pilot.yaml").write_text(SWEEP)
    (tmp_path / "long.yaml").write_text(LONG)
    return tmp_path


def _submit(
    folder: Path, cluster: str, *arguments: str, file: str = "pilot.yaml", **changes: str
) -> subprocess.CompletedProcess[str]:
    where = ("--address", cluster, "--results", "out")
    return _sweeper(folder, "submit", file, *where, *arguments, **changes)


def _status(folder: Path, name: str) -> dict[str, Any]:
    """How a sweep stands; empty as long as there is none."""
    shown = _sweeper(folder, "status", f"out/{name}", "--json")
    answer: dict[str, Any] = json.loads(shown.stdout) if shown.returncode == 0 else {}
    return answer


def _assert_without_secrets(folder: Path, cluster: str) -> None:
    """Look at all that the cluster tells of its jobs, and at all results."""
    check = (
        "from sweeper.launch.ray_jobs import JobServer\n"
        f"client = JobServer({cluster!r})._client\n"
        "jobs = client.list_jobs()\n"
        "ids = [job.submission_id for job in jobs if job.submission_id]\n"
        "print(jobs, *map(client.get_job_logs, ids))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", check],
        env=_environment(RAY_AUTH_TOKEN=TOKEN),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "sweeper run pilot.yaml" in shown
    for hidden in (SECRET, TOKEN):
        assert hidden not in shown
        for path in (folder / "out").rglob("*"):
            assert not path.is_file() or hidden.encode() not in path.read_bytes(), path


@pytest.mark.ray
@pytest.mark.slow
def test_a_submitted_sweep_is_trained_without_secrets_and_can_be_extended(
    folder: Path, cluster: str
) -> None:
    done = _submit(folder, cluster, "--json", "--keep-alive")
    assert done.returncode == 0, done.stderr
    submitted = json.loads(done.stdout)
    assert submitted["results"] == str(folder / "out")
    assert _status(folder, "pilot")["counts"]["done"] == 2
    _assert_without_secrets(folder, cluster)
    again = _submit(folder, cluster, "--set", "train.seeds=[0,1]", "--keep-alive")
    assert again.returncode == 0, again.stderr
    assert _status(folder, "pilot")["counts"]["done"] == 4
    assert "# --set train.seeds=[0,1]" in (folder / "out/pilot/sweep.yaml").read_text()


@pytest.mark.ray
@pytest.mark.slow
def test_mistakes_are_told_before_a_job_is_submitted_and_the_clusters_at_once(
    folder: Path, cluster: str
) -> None:
    misspelt = _submit(folder, cluster, "--set", "series.masked.family=maskd")
    assert misspelt.returncode == 2
    assert "--set:1:22  series.masked.family" in misspelt.stderr
    without_token = _submit(folder, cluster, RAY_AUTH_TOKEN="", HOME=str(folder / "nobody"))
    assert without_token.returncode == 2
    assert "the cluster wants a token" in without_token.stderr
    assert "Traceback" not in misspelt.stderr + without_token.stderr
    assert not (folder / "out" / "pilot").exists()
    absent = _submit(folder, cluster, "--set", "corpus.source=path:/no/such/folder")
    assert absent.returncode == 2
    assert "has ended, failed" in absent.stderr
    assert "corpus.source: found path:/no/such/folder" in absent.stderr.split("has ended")[1]


@pytest.mark.ray
@pytest.mark.slow
def test_jobs_that_are_cancelled_or_killed_lose_nothing(folder: Path, cluster: str) -> None:
    first = _submit(folder, cluster, file="long.yaml")
    assert first.returncode == 0, first.stderr
    assert "is running" in first.stderr
    second = _submit(folder, cluster, file="long.yaml")
    assert second.returncode == 2
    assert "a driver is at work on this sweep" in second.stderr
    _wait_until(lambda: _attempts_at_work(folder) == {1})
    assert listening_beyond_loopback(marked(MARKER)) == []
    cancelled = _sweeper(folder, "cancel", "out/long")
    assert cancelled.returncode == 0, cancelled.stderr
    assert "it has stopped" in cancelled.stdout
    stopped = _status(folder, "long")
    assert stopped["driver"] is None
    assert stopped["counts"]["interrupted"] == 2
    where = ("--address", cluster, "--results", "out")
    kept_alive = _started(folder, "submit", "long.yaml", "--keep-alive", *where)
    _wait_until(lambda: _attempts_at_work(folder) == {2})
    os.kill(_status(folder, "long")["driver"]["pid"], signal.SIGKILL)
    resumed = _ended(kept_alive)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stderr.count("submitted again as job") == 1
    finished = _status(folder, "long")
    assert finished["counts"]["done"] == 2
    assert {trial["n_attempts"] for trial in finished["trials"]} == {3}
    assert _sweeper(folder, "verify", "out/long").stdout.strip().endswith("sound")


def _attempts_at_work(folder: Path) -> set[int]:
    """Numbers of the attempts that reported last, one for each of the two trials of `long`."""
    reports = [*(folder / "out" / "long" / "attempts").glob("*/progress.json")]
    numbers = [json.loads(report.read_text())["attempt"] for report in reports]
    return set(numbers) if len(numbers) == 2 else set()


def test_what_is_sent_again_is_the_last_file_that_follows_the_jobs_own(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    (folder / "revisions").mkdir(parents=True)
    request = JobRequest("quick", "name: quick  # mine\n", str(tmp_path))
    (folder / "revisions" / "0001.yaml").write_text("name: quick  # older\n")
    (folder / "sweep.yaml").write_text("name: quick  # older\n")
    assert latest(request) == request
    (folder / "revisions" / "0002.yaml").write_text(request.text)
    (folder / "revisions" / "0003.yaml").write_text("name: quick  # edited since\n")
    (folder / "sweep.yaml").write_text("name: quick  # edited since\n")
    assert latest(request).text == "name: quick  # edited since\n"
    elsewhere = JobRequest("quick", request.text, str(tmp_path / "not-mounted-here"))
    assert latest(elsewhere) == elsewhere
