"""A process of its own, since the gateway, which strangers speak to, may connect to nobody."""
