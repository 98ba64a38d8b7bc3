"""A proxy that cuts a connection after so many bytes of the answer, which it is told for each connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType
from urllib.parse import urlsplit


class CuttingProxy:
    """cut_after: is asked for each connection, by its number from 0; None: it is not cut"""

    def __init__(self, target: str, cut_after: Callable[[int], int | None]) -> None:
        at = urlsplit(target)
        self._target = (at.hostname or "", at.port or 80)
        self._cut_after = cut_after
        self._server = socket.create_server(("127.0.0.1", 0))
        self.connections = 0
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            most = self._cut_after(self.connections)
            self.connections += 1
            far = socket.create_connection(self._target)
            for source, sink, limit in ((near, far, None), (far, near, most)):
                threading.Thread(target=_copy, args=(source, sink, limit), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket, limit: int | None) -> None:
    left = limit
    try:
        while data := source.recv(65536):
            if left is not None:
                data, left = data[:left], left - len(data)
            sink.sendall(data)
            if left is not None and left <= 0:
                break
    except OSError:
        pass
    for side in (source, sink):
        try:
            side.shutdown(socket.SHUT_RDWR)  # wakes the other thread
        except OSError:
            pass
        side.close()
