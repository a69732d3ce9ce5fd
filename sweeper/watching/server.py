"""The server of `sweeper serve`: who may ask, and for what.

It only reads. It listens on this machine alone unless another host is named; then, or when asked
to, it wants a token. A page of another origin that a browser has open can neither read it (no
cross-origin header is ever sent) nor reach it under a name of its own (DNS rebinding: the Host
header must be an address or a name of this machine).
"""

import contextlib
import errno
import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from sweeper.errors import ConfigError, SweeperError
from sweeper.watching.site import NOT_FOUND, Reply, Site, said

EVERYWHERE = ("0.0.0.0", "::")
COOKIE = "sweeper-token"
SILENCE_S = 20.0  # after which a connection that says nothing is closed
HEADERS = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Access:
    """Who may ask."""

    host: str
    """That the server listens on, as it was named."""
    token: str
    """Empty: none is wanted."""

    def is_known_host(self, headers: Message) -> bool:
        """Whether a request names this machine; a browser that was lured here names another."""
        named = headers.get_all("Host") or []
        if len(named) != 1 or not (match := re.fullmatch(r"(\[[^\]]+\]|[^:]*)(:\d+)?", named[0])):
            return False
        name = match[1].strip("[]").lower().rstrip(".")
        if name in ("localhost", self.host.lower()):
            return True
        address = _address(name)
        if is_loopback(self.host):
            return address is not None and address.is_loopback
        return address is not None or name in _own_names()

    def is_allowed(self, headers: Message, offered: str) -> bool:
        """Whether a request brings the token: in its query, as a cookie or as a bearer's."""
        if not self.token:
            return True
        cookies = SimpleCookie()
        with contextlib.suppress(CookieError):
            cookies.load(headers.get("Cookie", ""))
        bearer = headers.get("Authorization", "").removeprefix("Bearer ")
        cookie = cookies[COOKIE].value if COOKIE in cookies else ""
        # All of them, whatever the first one says: the time taken tells nothing.
        return any([_is_equal(each, self.token) for each in (offered, cookie, bearer)])  # noqa: C419


def is_loopback(host: str) -> bool:
    """Whether a host is reached from this machine alone."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


class Server(ThreadingHTTPServer):
    """Serves a site to those who may see it."""

    daemon_threads = True

    def __init__(self, site: Site, access: Access, port: int) -> None:
        """Listen. Raises ConfigError for a host or a port that cannot be had."""
        self.site, self.access = site, access
        if ":" in access.host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((access.host, port), _Handler)
        except OverflowError as error:
            raise ConfigError(f"--port {port}: expected 0 to 65535") from error
        except OSError as error:
            where = f"{access.host} port {port}"
            if error.errno == errno.EADDRINUSE:
                message = f"{where} is in use; name another with --port, or 0 for any that is free"
                raise ConfigError(message) from error
            raise ConfigError(f"{where} cannot be listened on: {error.strerror}") from error

    @property
    def url(self) -> str:
        """Where it is, with the token if one is wanted."""
        host = self.access.host
        host = socket.gethostname() if host in EVERYWHERE else host
        host = f"[{host}]" if ":" in host else host
        query = f"?token={self.access.token}" if self.access.token else ""
        return f"http://{host}:{self.server_address[1]}/{query}"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = SILENCE_S
    server_version, sys_version = "sweeper", ""

    def do_GET(self) -> None:
        self._send(self._reply())

    def do_HEAD(self) -> None:
        self._send(self._reply())

    def _refuse(self) -> None:
        self._send(
            said(405, "only GET and HEAD: nothing can be changed here", {"Allow": "GET, HEAD"})
        )

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def _reply(self) -> Reply:
        access = self.server.access
        if not access.is_known_host(self.headers):
            return said(421, "this is not the host you asked for; use the address that was printed")
        try:
            url = urlsplit(self.path)
        except ValueError:
            return NOT_FOUND
        offered = parse_qs(url.query).get("token", [""])[0]
        if not access.is_allowed(self.headers, offered):
            return said(403, "a token is wanted: open the address that `sweeper serve` printed")
        try:
            reply = self.server.site.reply(url.path)
        except (SweeperError, OSError) as error:  # the folder is gone, or a disk is ill
            return said(503, str(error))
        if access.token and offered and reply.status == HTTPStatus.OK:
            # Out of the address: it would stay in the history, and on the screen.
            cookie = f"{COOKIE}={access.token}; HttpOnly; SameSite=Lax; Path=/"
            return Reply(b"", 303, headers={"Location": url.path, "Set-Cookie": cookie})
        return reply

    def _send(self, reply: Reply) -> None:
        tag = reply.headers.get("ETag") or f'"{hashlib.sha256(reply.body).hexdigest()[:32]}"'
        is_known = reply.status == HTTPStatus.OK and self.headers.get("If-None-Match") == tag
        self.send_response(HTTPStatus.NOT_MODIFIED if is_known else reply.status)
        for name, value in {**HEADERS, **reply.headers, "ETag": tag}.items():
            self.send_header(name, value)
        if not is_known:
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD" and not is_known:
            with contextlib.suppress(ConnectionError):  # the browser has gone elsewhere
                self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line per request would bury what the verb says, and hold the token."""


def _is_equal(offered: str, token: str) -> bool:
    return hmac.compare_digest(offered.encode(errors="replace"), token.encode())


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _own_names() -> Iterator[str]:
    yield socket.gethostname().lower()
    yield socket.getfqdn().lower()
