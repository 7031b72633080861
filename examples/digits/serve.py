"""Answer SageMaker's two requests with the trained network, on port 8080, with the standard library's HTTP server.

GET  /ping          200 once a sample was classified
POST /invocations   text/csv, 64 pixels per line → the digit of each line
"""

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import joblib
import numpy as np
from digits import MODEL, PIXELS, read_rows, scaled


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port, network):
        self.network = network
        super().__init__(("0.0.0.0", port), Handler)

    def classify(self, pixels):
        return self.network.predict(scaled(pixels))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # the head and the body leave together

    def do_GET(self):
        if self.path != "/ping":
            return self.answer(404, "only /ping can be read\n")
        self.server.classify(np.zeros((1, PIXELS)))
        return self.answer(200, "")

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            self.close_connection = True
            return self.answer(411, "a Content-Length is needed\n")
        body = self.rfile.read(int(length))
        if self.path != "/invocations":
            return self.answer(404, "only /invocations takes requests\n")
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "text/csv":
            return self.answer(415, f"this model reads text/csv, not {kind or 'a body without a type'}\n")
        try:
            pixels = read_rows(body.decode().splitlines(), PIXELS)
        except ValueError as error:
            return self.answer(400, f"not {PIXELS} pixels per line: {error}\n")
        return self.answer(200, "".join(f"{digit}\n" for digit in self.server.classify(pixels)), "text/csv")

    def answer(self, status, text, kind="text/plain"):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        if self.path != "/ping":  # asked every few seconds
            super().log_request(code, size)


def main():
    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
    server = Server(port, joblib.load(MODEL))
    # shutdown() waits for the loop, which this signal interrupts: hence a thread of its own
    signal.signal(signal.SIGTERM, lambda number, frame: threading.Thread(target=server.shutdown).start())
    print(f"serving {MODEL} on port {port}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    print("stopped", flush=True)
