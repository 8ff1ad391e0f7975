"""A local HTTP server that serves bytes from memory and misbehaves on request.

    with Server() as server:
        server.put("/a.zip", data)
        server.fail("/a.zip", "drop", "503")    # first answer: half of it; second: 503; then it behaves
        ...
        assert server.log == [("/a.zip", None), ("/a.zip", None), ("/a.zip", "bytes=500-")]

Faults: "drop" (half of the body, then the connection closes), "ignore range" (200 and everything), "wrong" (other bytes of
the same length), "truncated" (a shorter file with a matching Content-Length), "html" (a log-in page), "no etag", or a
number (that status; "503 7" adds Retry-After: 7). "slow" sends small pieces with pauses, every time.
"""

import hashlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 1 << 14


class Server:
    def __init__(self):
        self.files, self.faults, self.log, self.slow, self.headers, self.json = {}, {}, [], set(), {}, {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer._answer(self)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self):
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()

    def put(self, path, data, slow=False):
        self.files[path] = data
        if slow:
            self.slow.add(path)

    def fail(self, path, *faults):
        self.faults.setdefault(path, []).extend(faults)

    def requests(self, path):
        """Range headers of the requests for one path, in order."""
        return [asked for where, asked in self.log if where == path]

    def _answer(self, request):
        path = request.path.split("?")[0]
        asked = request.headers.get("Range")
        if request.command == "GET":
            self.log.append((path, asked))
        if path in self.json:
            return self._send(request, 200, self.json[path], {"Content-Type": "application/json"})
        if path not in self.files:
            return self._send(request, 404, b"not here", {})
        fault = self.faults[path].pop(0) if request.command == "GET" and self.faults.get(path) else ""
        data = self.files[path]
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **self.headers.get(path, {})}
        if fault != "no etag":
            headers.setdefault("ETag", etag)
        if fault[:3].isdigit():
            wait = {"Retry-After": fault[4:]} if fault[4:] else {}
            return self._send(request, int(fault[:3]), b"come back later", wait)
        if fault == "html":
            return self._send(request, 200, b"<html>please log in</html>", {"Content-Type": "text/html; charset=utf-8"})
        if fault == "wrong":
            data = bytes(255 - b for b in data)
        if fault == "truncated":
            data = data[: len(data) // 2]
        stale = request.headers.get("If-Range") not in (None, etag)
        if asked and fault not in ("ignore range", "wrong", "truncated") and not stale:
            first = int(asked.removeprefix("bytes=").split("-")[0])
            if first >= len(data):
                return self._send(request, 416, b"", {"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            return self._send(request, 206, data[first:], headers, fault == "drop", path in self.slow)
        return self._send(request, 200, data, headers, fault == "drop", path in self.slow)

    def _send(self, request, status, body, headers, drop=False, slow=False):
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        if drop:
            body = body[: len(body) // 2]
        try:
            for start in range(0, len(body), PIECE if slow else max(len(body), 1)):
                request.wfile.write(body[start : start + (PIECE if slow else len(body))])
                if slow:
                    time.sleep(0.02)
        except (BrokenPipeError, ConnectionResetError):  # the client was killed
            pass
        request.close_connection = True
