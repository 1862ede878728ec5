"""HTTP of the double: listeners on loopback that can go and come back, requests, and answers in the
forms that the real one has: JSON, JSON in a JSON string, JSON that is called HTML."""

import dataclasses
import errno
import http.server
import json
import random
import socket
import threading
import urllib.parse
from typing import Any, Callable, NamedTuple, Optional

BODY_MAX = 16 * 1024 * 1024
JSON = "application/json"
NAMES = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
         409: "Conflict", 422: "Unprocessable Entity", 500: "Internal Server Error", 501: "Not Implemented"}


class Answer(NamedTuple):
    status: int
    body: bytes
    kind: str = JSON


def plain(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode())


def wrapped(value: Any, status: int = 200) -> Answer:
    """A JSON string that holds JSON."""
    return plain(json.dumps(value), status)


def as_html(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode(), "text/html; charset=utf-8")


def refusal(status: int) -> Answer:
    return plain({"code": status, "status": NAMES[status]}, status)


@dataclasses.dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: Any
    data: bytes

    def json(self) -> Any:
        return json.loads(self.data)

    def bearer(self) -> Optional[str]:
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if kind == "Bearer" and token else None


Handle = Callable[[Request], Answer]


def handler(handle: Handle) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 120
        disable_nagle_algorithm = True

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length > BODY_MAX:
                self.send_error(413)
                return
            url = urllib.parse.urlsplit(self.path)
            request = Request(self.command, url.path, dict(urllib.parse.parse_qsl(url.query)), self.headers,
                              self.rfile.read(length))
            answer = handle(request)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, handle: Handle):
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), handler(handle))

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is no news."""

    def cut_all(self) -> None:
        with self._open_lock:
            for it in self._open:
                try:
                    it.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


# Below those that clients' ends of connections get: who calls a closed one of these could otherwise
# be connected to itself.
PORTS = range(11000, 20000)


class Listener:
    """One port of loopback. While it is closed connections are refused, and open ones are cut."""

    def __init__(self, port: int, handle: Handle):
        self._lock = threading.Lock()
        self._handle = handle
        self._server: Optional[Server] = None
        self.port = port

    def open(self) -> "Listener":
        with self._lock:
            if not self._server:
                self._server = self._bound()
                self.port = self._server.server_address[1]
                threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def _bound(self) -> Server:
        for port in [self.port] if self.port else random.sample(PORTS, 100):
            try:
                return Server(port, self._handle)
            except OSError as error:
                if self.port or error.errno != errno.EADDRINUSE:
                    raise
        raise OSError("no free port")

    def close(self) -> None:
        with self._lock:
            server, self._server = self._server, None
        if server:
            server.shutdown()
            server.server_close()
            server.cut_all()
