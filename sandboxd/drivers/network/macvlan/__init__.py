"""Sandboxes on the network of one of the host's interfaces: a macvlan device in their namespace.

Such a device does not go through the host's forwarding, so no rule of the host's meets its packets. The
firewall stands in the sandbox's own network namespace instead, which belongs to the host's user
namespace: no right that a sandbox can have reaches it. It is there before the device is up, and goes
with it.
"""
