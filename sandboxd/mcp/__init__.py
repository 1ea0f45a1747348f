"""The service as tools of the Model Context Protocol. It knows the service by its public SDK alone.

`server` makes the tool server; the gateway serves it over HTTP (`gateway/mcp`) with the key of each
request, `sandboxd mcp` over stdio with the key of its environment.
"""
