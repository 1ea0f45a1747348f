"""The server name in a TLS ClientHello, read by OpenSSL itself.

Nothing is negotiated: the library is asked to begin a handshake as a server, tells the name it has
read, and is told to stop.
"""

import ssl

_HELLO_MAX = 65_536
"""Bytes; OpenSSL refuses longer ones as well."""


class NotTls(Exception):
    """What came is no ClientHello."""


def server_name(data: bytes) -> str | None:
    """The name that the ClientHello at the start of `data` asks for, "" if it asks for none.

    None while it is not all there. Raises NotTls.
    """
    found: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Any version may carry the name; which one is spoken is between the two ends.
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED

    def stop(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> int:
        found.append(name or "")
        return ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context.sni_callback = stop
    incoming = ssl.MemoryBIO()
    incoming.write(data)
    server = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    try:
        server.do_handshake()
    except ssl.SSLWantReadError:
        if len(data) > _HELLO_MAX:
            raise NotTls("an endless ClientHello") from None
        return None
    except ssl.SSLError as error:
        if not found:
            raise NotTls(error.reason or "not TLS") from error
    return found[0]
