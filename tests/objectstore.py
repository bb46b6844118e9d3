"""An object store on loopback that speaks S3, and fails as real ones do.

The server is moto's. It honours If-None-Match on PutObject and CompleteMultipartUpload, and
If-Match on PutObject and DeleteObject, but in two steps, a look and a write: here one call at a
time writes, as a real store has it for each key.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

BUCKET = "zoo"
_SLOW = "503 Slow Down", "SlowDown", "Please reduce your request rate."
_BROKEN = "500 Internal Server Error", "InternalError", "We encountered an internal error."
_WRITES = ("PUT", "POST", "DELETE")


class Faults:
    """What goes wrong at the server, drawn for each call.

    Attributes:
        share: of the calls that fail.
        delay_s: the longest wait before a call.
        answer: to each call: status, code and words of an error.
        page: what a proxy answers with to each call, with status 200.
        paged: what must be in the query of a call for that; empty: to all.
        told: how often each fault was, by its name.
        calls: how many there were, by method.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self._writing = threading.Lock()
        self._random = random.Random(17)
        self.share = 0.0
        self.delay_s = 0.0
        self.answer: tuple[str, str, str] | None = None
        self.page: bytes | None = None
        self.paged = ""
        self.told: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def mend(self) -> None:
        """Nothing goes wrong any more."""
        self.share, self.delay_s, self.answer = 0.0, 0.0, None
        self.page, self.paged = None, ""
        self.told.clear()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        self.calls[environ["REQUEST_METHOD"]] += 1
        if self.answer is not None:  # to each call
            return self._refused(self.answer, environ, start)
        if self.page is not None and self.paged in environ["QUERY_STRING"]:
            return self._proxied(self.page, environ, start)
        if self.delay_s:
            time.sleep(self._random.uniform(0, self.delay_s))
        fault = self._drawn()
        if fault == "slow":
            return self._refused(_SLOW, environ, start)
        if fault == "reset":
            return self._cut(environ)
        done = self._done(environ, start if fault is None else _unheard)
        if fault is None:
            return done
        # Carried out, and the answer is lost.
        if fault == "lost":
            return self._cut(environ)
        sent = _error(*_BROKEN, start)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else sent

    def _drawn(self) -> str | None:
        if self._random.random() >= self.share:
            return None
        fault = self._random.choice(("slow", "reset", "lost", "failed"))
        self.told[fault] += 1
        return fault

    def _done(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        if environ["REQUEST_METHOD"] not in _WRITES:
            return list(self._app(environ, start))
        with self._writing:
            return list(self._app(environ, start))

    def _refused(
        self, answer: tuple[str, str, str], environ: dict[str, Any], start: Callable[..., Any]
    ) -> list[bytes]:
        # The body has to be taken off the connection, which stays open.
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        sent = _error(*answer, start)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else sent

    def _proxied(
        self, page: bytes, environ: dict[str, Any], start: Callable[..., Any]
    ) -> list[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(page)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [page]

    def _cut(self, environ: dict[str, Any]) -> list[bytes]:
        with suppress(OSError):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionResetError


def _error(status: str, code: str, words: str, start: Callable[..., Any]) -> list[bytes]:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{words}</Message></Error>"
    start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))])
    return [text.encode()]


def _unheard(*_: object) -> Callable[[bytes], None]:
    return lambda data: None


class Store:
    """A running server.

    Attributes:
        endpoint: its URL.
        faults: what goes wrong there.
    """

    def __init__(self, endpoint: str, faults: Faults) -> None:
        self.endpoint = endpoint
        self.faults = faults

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-may-see",
            "AWS_DEFAULT_REGION": "us-east-1",
            # Not what this machine has: no file, and no metadata service that is waited for.
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def held() -> list[str]:
    """What is in the bucket now, without a call that may be delayed."""
    from moto.s3.models import s3_backends

    found = [backend for backends in s3_backends.values() for backend in backends.values()]
    return [str(key) for one in found if BUCKET in one.buckets for key in one.buckets[BUCKET].keys]


@contextmanager
def running() -> Iterator[Store]:
    """A server of this process, with an empty bucket."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from moto.s3.models import s3_backends
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open, as those of a real one do

        def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
            """Nothing: a test prints what it has to say."""

    for backends in s3_backends.values():
        for backend in backends.values():
            backend.reset()
    faults = Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, faults, threaded=True, request_handler=Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    store = Store(f"http://127.0.0.1:{server.server_port}", faults)
    try:
        _make_bucket(store)
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _make_bucket(store: Store) -> None:
    import urllib.request

    request = urllib.request.Request(f"{store.endpoint}/{BUCKET}", method="PUT")
    request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=a/20261101/us-east-1/s3/aws4")
    urllib.request.urlopen(request).read()


def used(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process use it."""
    from converter.storage import objects

    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    objects._driver.cache_clear()
