"""An S3 server in a thread, as small as a test needs, that may keep less than it acknowledges or answer with errors."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODIFIED = "Mon, 23 Nov 2026 09:00:00 GMT"


@dataclass
class LyingS3:
    """What the server holds and how it lies.

    Attributes:
        objects: path to bytes.
        keeps: of what is put, at most so many bytes, though all are acknowledged.
        put_error: an S3 error code that every put is answered with.
        delete_status: of the answer to every removal.
        date: what its clock says; empty for the true time.
    """

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    keeps: int | None = None
    put_error: str = ""
    delete_status: int = 204
    date: str = ""


@contextmanager
def lying_s3(context: ssl.SSLContext | None = None) -> Iterator[LyingS3]:
    """Run the server, with TLS if there is a context."""
    state = LyingS3()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if state.put_error and len(self.path.split("/")[-1]) == 64:
                self.answer(507, f"<Error><Code>{state.put_error}</Code></Error>".encode())
            else:
                state.objects[self.path] = content[: state.keeps]
                self.answer(200)

        def do_GET(self) -> None:
            self.answer(200, state.objects[self.path])

        def do_HEAD(self) -> None:
            self.answer(200, state.objects.get(self.path, b""), with_body=False)

        def do_DELETE(self) -> None:
            refused = b"<Error><Code>AccessDenied</Code></Error>" if state.delete_status == 403 else b""
            self.answer(state.delete_status, refused)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return state.date or super().date_time_string(timestamp)

        def answer(self, status: int, content: bytes = b"", *, with_body: bool = True) -> None:
            self.send_response(status)
            self.send_header("ETag", '"x"')
            self.send_header("Last-Modified", MODIFIED)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    state.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
