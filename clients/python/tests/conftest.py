"""The tests run against a real realm. test/clients/python.test.ts starts one, and sets the environment."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from chamberlain_client import Client


def make_client(url: str) -> Client:
    return Client(
        url,
        realm=os.environ["REALM"],
        portal=os.environ["PORTAL"],
        kid=os.environ["PORTAL_KID"],
        key=Path(os.environ["PORTAL_KEY"]).read_bytes(),
        events_key=Path(os.environ["EVENTS_KEY"]).read_bytes(),
    )


@pytest.fixture
def client() -> Client:
    return make_client(os.environ["API_URL"])


@contextmanager
def answering(status: int, content_type: str | None, body: str) -> Iterator[str]:
    """The address of a server that gives the same answer to every call."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            if content_type is not None:
                self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
