"""Runs in a sandbox: says what it was asked, echoes bodies, sends events, echoes WebSocket messages."""

import base64
import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
go_on = threading.Semaphore(0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/events":
            return self.events()
        if self.path == "/socket":
            return self.socket()
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.say(json.dumps({"line": f"{self.command} {self.path}", "headers": headers}).encode())

    def do_POST(self):
        body = self.body()
        if self.path == "/next":
            go_on.release()
            body = b"{}"
        self.say(body)

    def body(self):
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size + 2)[:-2]
        self.rfile.readline()
        return body

    def say(self, body, kind="application/json"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for number in range(3):
            self.wfile.write(b"data: %d\n\n" % number)
            go_on.acquire()
        self.close_connection = True

    def socket(self):
        key = self.headers["Sec-WebSocket-Key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest()).decode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        while self.frame():
            pass
        self.close_connection = True

    def frame(self):
        first, second = self.rfile.read(2)
        size = second & 127
        if size > 125:
            size = int.from_bytes(self.rfile.read(2 if size == 126 else 8), "big")
        mask = self.rfile.read(4)
        data = self.rfile.read(size)
        whole = (mask * (size // 4 + 1))[:size]
        data = (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")
        length = bytes([size]) if size < 126 else b"\x7f" + size.to_bytes(8, "big")
        self.wfile.write(bytes([first]) + length + data)
        return first & 15 != 8


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
