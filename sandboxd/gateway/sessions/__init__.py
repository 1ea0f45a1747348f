"""How the gateway reaches sandboxes that live: where they are, and connections to their nodes."""
