"""A server on loopback that has what a test puts there."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """What a server answers: by path the status and the content."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, bytes]]] = {}
        self.asked: Counter[str] = Counter()
        self.address = ""

    def next(self, path: str) -> tuple[int, bytes]:
        self.asked[path] += 1
        answers = self.answers.get(path, [(404, b"")])
        return answers.pop(0) if len(answers) > 1 else answers[0]


@contextmanager
def served() -> Iterator[Site]:
    """A server while the block runs."""
    found = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = found.next(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content) + (status == 206)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Nothing: a test prints what it has to say."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        found.address = f"http://127.0.0.1:{server.server_port}"
        yield found
        server.shutdown()
        thread.join()
