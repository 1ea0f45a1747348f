"""Signatures of Standard Webhooks."""

import base64
import hashlib
import hmac


def signed(secret: str | None, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Headers of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`."""
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if secret is not None:
        text = f"{message_id}.{timestamp}.".encode() + body
        digest = hmac.new(_key(secret), text, hashlib.sha256).digest()
        headers["webhook-signature"] = "v1," + base64.b64encode(digest).decode()
    return headers


def _key(secret: str) -> bytes:
    """`whsec_` before base64 is how Standard Webhooks write a key; any other text is itself."""
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except ValueError:
            return secret.encode()
    return secret.encode()
