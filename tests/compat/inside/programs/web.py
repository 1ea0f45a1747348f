"""A server and a client on the loopback: HTTP, UDP, a unix socket, IPv6, names."""

import http.server
import os
import socket
import socketserver
import threading
import urllib.request


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"hello from {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
for name in ("127.0.0.1", "localhost"):
    print(urllib.request.urlopen(f"http://{name}:{server.server_port}/x", timeout=10).read())
server.shutdown()

one, two = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
one.bind(("127.0.0.1", 0))
two.sendto(b"datagram", one.getsockname())
print(one.recv(64))

six = socket.create_server(("::1", 0), family=socket.AF_INET6)
print(socket.create_connection(six.getsockname()[:2]).getpeername()[0])

unix = socketserver.UnixStreamServer("s.sock", socketserver.StreamRequestHandler)
client = socket.socket(socket.AF_UNIX)
client.connect("s.sock")
print(os.path.exists("s.sock"), socket.gethostname(), socket.getfqdn("localhost"))
print(sorted({family.name for family, *_ in socket.getaddrinfo("localhost", 80)}))
