"""A web server of a folder's files on this machine, that can be made to fail."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


@dataclass
class Served:
    """A server that runs, and how it behaves.

    Attributes
    ----------
    url
        Of the folder, without a slash behind it.
    parts
        Whether it sends parts of files that are asked for.
    break_after
        Bytes after which answers with a body break off; each is used once.
    statuses
        Answered in place of a file, each once.
    requests
        Method, path and range of each so far.
    """

    url: str = ""
    parts: bool = True
    break_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)


@contextmanager
def serving(folder: Path, **how: Any) -> Iterator[Served]:
    """Serve a folder inside the block."""
    served = Served(**how)

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._note()
            if not self._refused():
                super().do_HEAD()

        def do_GET(self) -> None:
            self._note()
            if self._refused():
                return
            path = Path(self.translate_path(self.path))
            if not path.is_file():
                super().do_GET()
                return
            data = path.read_bytes()
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)?", self.headers.get("Range", "")) if served.parts else None
            if wanted:
                start, stop = int(wanted[1]), min(int(wanted[2] or len(data) - 1) + 1, len(data))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
                data = data[start:stop]
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if served.break_after:
                self.wfile.write(data[: served.break_after.pop(0)])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.wfile.write(data)

        def _note(self) -> None:
            served.requests.append((self.command, self.path, self.headers.get("Range")))

        def _refused(self) -> bool:
            if served.statuses:
                self.send_error(served.statuses.pop(0))
                return True
            return False

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
