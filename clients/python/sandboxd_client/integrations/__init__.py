"""Adapters for agent frameworks, each an extra: `pip install 'sandboxd-client[smolagents]'`."""
