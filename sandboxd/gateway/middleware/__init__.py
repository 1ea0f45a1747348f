"""What surrounds every handler, as plain ASGI classes."""
