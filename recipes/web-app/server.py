"""Answers every GET with its own path: `server.py [PORT]`; `server.py --once` asks itself and ends."""

import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer


class Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"you asked for {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


once = sys.argv[1:] == ["--once"]
server = HTTPServer(("127.0.0.1", 0 if once or len(sys.argv) < 2 else int(sys.argv[1])), Echo)
if once:
    threading.Thread(target=server.handle_request, daemon=True).start()
    print(urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/once").read().decode(), end="")
else:
    print(f"listening on port {server.server_port}")
    server.serve_forever()
