"""A new sandbox for a tenant: admitted, its id reserved, created on its node."""

from sandboxd.errors import SandboxdError
from sandboxd.gateway import webhooks
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.expanding import expanded
from sandboxd.gateway.sessions import admission
from sandboxd.gateway.sessions.names import new_sandbox_id, repeated_sandbox_id
from sandboxd.gateway.sessions.sandboxes import CREATION
from sandboxd.model import agent
from sandboxd.model.session import Sandbox, SandboxRequest


async def opened(
    gateway: Gateway, tenant: str, wanted: SandboxRequest, repeatable: str | None = None
) -> tuple[Sandbox, bool]:
    """The sandbox, and whether it is new: with the same `repeatable` key, or the request's own, it is
    the one that an earlier request made. Raises InvalidRequest and what a node answers to Create."""
    sandboxes = gateway.sandboxes
    chosen = new_sandbox_id()
    if repeatable is not None:
        chosen = repeated_sandbox_id(await sandboxes.secret.get(), tenant, repeatable)
        earlier = await sandboxes.directory.find(tenant, chosen)
        if earlier is not None:
            return earlier.sandbox, False
    wanted, pool, only = await expanded(gateway, tenant, wanted)
    cpus = max((room[0] / 1000 for room in await gateway.offers.room()), default=0.0)
    limits = admission.admit_sandbox(
        wanted, gateway.policies, gateway.settings.sessions, tenant, cpus
    )
    if wanted.callback is not None:
        webhooks.check(gateway, wanted.callback)
    sandbox = await sandboxes.directory.reserve(tenant, chosen, wanted.key)
    if sandbox != chosen:
        holder = await sandboxes.directory.find(tenant, sandbox)
        if holder is not None:
            return holder.sandbox, False
    call = agent.Create(tenant=tenant, sandbox=sandbox, request=wanted, limits=limits, pool=pool)
    # Of a reserved id: whoever else asks for the same is answered by the same creation.
    node = await sandboxes.node(sandbox, only)
    try:
        return await sandboxes.ask(call, Sandbox, CREATION, node.address), sandbox == chosen
    except SandboxdError:
        if wanted.key is not None:
            await sandboxes.directory.release(tenant, sandbox, wanted.key)
        raise
