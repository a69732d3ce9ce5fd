"""The server of `sweeper serve` in this process, and what it answers."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweeper.watching.followed import Folder
from sweeper.watching.server import Access, Server
from sweeper.watching.site import Site


@contextmanager
def served(results: Path, token: str = "") -> Iterator[Server]:
    """A results folder, on a port of this machine that is free."""
    folder = Folder(results)
    server = Server(Site(folder), Access("127.0.0.1", token), 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        folder.close()
        thread.join()


def asked(
    server: Server, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, str]:
    """The answer to one request, and its body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer, body
