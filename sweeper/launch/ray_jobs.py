"""Run the driver of a sweep as a Ray Job: submit it, look at it, read its log. No policy.

Only the sweep file and the command line are sent, and nothing of this process's environment: what
a job needs, such as credentials of a bucket, is set on the cluster.
"""

import contextlib
import dataclasses
import datetime
import json
import logging
import os
import secrets
import shlex
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from sweeper.errors import ConfigError
from sweeper.executors.ray_private import limit_requests

ANSWER_S = 5.0  # longest wait for the first answer of a job server
REQUEST_S = 60.0  # for any later answer; Ray itself would wait without end

# Headers for a proxy before the job server, as `ray job` takes them: a JSON object.
HEADERS_VARIABLE = "RAY_JOB_HEADERS"

JobStatus = Literal["pending", "running", "succeeded", "failed", "stopped", "forgotten", "unknown"]
"""As Ray has them; or the server does not know the job; or it cannot be asked at the moment."""


@dataclass(frozen=True)
class JobRequest:
    """A driver to run on a cluster."""

    sweep: str
    """Its name, which is also a file name."""
    text: str
    """The sweep file as submitted."""
    results: str
    """Absolute folder or URL of all results."""
    takeover: bool = False
    """Whether to take over from a driver at work."""

    @property
    def entrypoint(self) -> str:
        """Command line of the job, for a shell."""
        words = ["sweeper", "run", f"{self.sweep}.yaml", "--address", "auto"]
        words += ["--results", self.results, *(["--takeover"] if self.takeover else [])]
        return shlex.join(words)


@dataclass(frozen=True)
class JobState:
    """How a job stands."""

    status: JobStatus
    exit_code: int | None = None
    """Of the driver, once it has ended by itself."""
    message: str = ""
    """One line on what the server says of it."""

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self.status in ("succeeded", "failed", "stopped", "forgotten")


class JobServer:
    """The job server of a cluster, which is part of its dashboard."""

    def __init__(self, address: str) -> None:
        """Raises ConfigError when there is none at `address`, within seconds."""
        _check_address(address)
        # Ray sends its token only where it was told so before it is imported.
        if _wants_token(address):
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        self.address = address
        self._client = _client(address)

    def submit(self, request: JobRequest) -> str:
        """Submit a driver under a new id; raises ConfigError when the server refuses."""
        job_id = new_job_id(request.sweep)
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            logging.disable(logging.INFO)  # Ray's messages on each file that it sends
            stack.callback(logging.disable, logging.NOTSET)
            (Path(folder) / f"{request.sweep}.yaml").write_text(request.text, encoding="utf-8")
            try:
                self._client.submit_job(
                    entrypoint=request.entrypoint,
                    submission_id=job_id,
                    runtime_env={"working_dir": folder},
                    # What the cluster's list of jobs shows of it.
                    metadata={"sweeper_sweep": request.sweep, "sweeper_results": request.results},
                    entrypoint_num_cpus=0,  # the driver waits; a slot is for a trial
                )
            except (OSError, RuntimeError) as error:
                raise ConfigError(f"{self.address}: the job was refused: {error}") from error
        return job_id

    def look(self, job_id: str) -> JobState:
        """How a job stands; `unknown` when the server cannot say."""
        try:
            info = self._client.get_job_info(job_id)
        except OSError as error:
            return JobState("unknown", message=str(error))
        except RuntimeError as error:
            is_gone = f"status code {HTTPStatus.NOT_FOUND.value}" in str(error)
            return JobState("forgotten" if is_gone else "unknown", message=str(error))
        message = (info.message or "").partition(", last available logs")[0].strip()
        first_line = message.partition("\n")[0]
        return JobState(info.status.value.lower(), info.driver_exit_code, first_line)

    def log(self, job_id: str) -> str:
        """What the job has printed; empty when the server cannot say."""
        with contextlib.suppress(OSError, RuntimeError):
            return str(self._client.get_job_logs(job_id))
        return ""


def new_job_id(sweep: str) -> str:
    """An id that tells sweep and time, and that no other job has."""
    now = datetime.datetime.now(datetime.UTC)
    return f"sweeper-{sweep}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def submission_to_json(request: JobRequest, address: str, job_id: str) -> dict[str, Any]:
    """A submitted job as plain JSON values."""
    fields = dataclasses.asdict(request)
    del fields["text"]
    commands = commands_for(request, address, job_id)
    return {"job_id": job_id, "address": address, **fields, "commands": commands}


def commands_for(request: JobRequest, address: str, job_id: str) -> dict[str, str]:
    """What to type to see and to stop a job."""
    folder = f"{request.results.rstrip('/')}/{request.sweep}"
    return {
        "status": shlex.join(["sweeper", "status", folder]),
        "logs": shlex.join(["ray", "job", "logs", job_id, "--address", address, "--follow"]),
        "cancel": shlex.join(["sweeper", "cancel", folder]),
    }


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"--address {address}: expected the URL of the cluster's dashboard, such as "
            "http://127.0.0.1:8265; `sweeper run --address` takes other addresses of a cluster"
        )
    if parts.username or parts.password:
        raise ConfigError(
            "--address: found a user or a password in it, which would be printed and logged; "
            f"leave them out and set {HEADERS_VARIABLE} instead, as for `ray job`"
        )


def _wants_token(address: str) -> bool:
    """Whether the job server at an address does; raises ConfigError when it is none of Ray."""
    try:
        request = urllib.request.Request(f"{address.rstrip('/')}/api/version", headers=_headers())
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            json.load(answer)["ray_version"]
    except urllib.error.HTTPError as error:
        if error.code not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise _no_job_server(address, f"HTTP status {error.code}") from error
        return True
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(
            f"--address {address}: no answer ({reason}); expected the dashboard of a running Ray "
            "cluster: check host and port, and that a tunnel to it is open"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise _no_job_server(address, "an answer that is not Ray's") from error
    return False


def _no_job_server(address: str, found: str) -> ConfigError:
    return ConfigError(
        f"--address {address}: found {found} — expected a Ray dashboard with a job server: start "
        "the head with --include-dashboard=true where ray[default] is installed"
    )


def _headers() -> dict[str, str]:
    text = os.environ.get(HEADERS_VARIABLE, "{}")
    try:
        return {str(name): str(value) for name, value in json.loads(text).items()}
    except (ValueError, AttributeError) as error:
        # The value may be a secret, so it is not shown.
        raise ConfigError(f"{HEADERS_VARIABLE}: expected a JSON object of headers") from error


def _client(address: str) -> Any:
    # Imported here: it takes half a second, and no other verb but `run` needs it.
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    # Both would overrule the address that is asked for.
    names = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
    overruling = {name: os.environ.pop(name, None) for name in names}
    try:
        client: Any = JobSubmissionClient(address, headers=_headers())
    except AuthenticationError as error:
        raise ConfigError(
            f"--address {address}: the cluster wants a token; put it in RAY_AUTH_TOKEN, or its "
            "file in RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"--address {address}: {error}") from error
    finally:
        os.environ.update({name: text for name, text in overruling.items() if text is not None})
    limit_requests(client, REQUEST_S)
    return client
