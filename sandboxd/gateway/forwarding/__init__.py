"""Servers in sandboxes as web sites: HTTP, WebSocket and streams, from the gateway to a port inside.

`front` and `api/sandbox_pages` decide who may reach which port and make a `Target` of a request,
`serving` has it carried out by `exchange` (HTTP) or `sockets` (WebSocket) over `upstream`: a connection
to the sandbox's loopback that serves one request and no other. `names`, `tokens` and `headers` are pure.
"""
