"""A template as the execution driver takes it: its filters compiled, its limits merged."""

from sandboxd.drivers.exec.base import Spec
from sandboxd.drivers.graph.image import Image
from sandboxd.model import Template, merge
from sandboxd.native import compile_seccomp
from sandboxd.node import apparmor
from sandboxd.node.sessions.enforcing import OWN_PIDS
from sandboxd.policy import Policies
from sandboxd.settings import Settings, SettingsError


def make_spec(settings: Settings, policies: Policies, template: Template, image: Image) -> Spec:
    """Loads the AppArmor profile. Raises SettingsError or DriverFault, naming the file."""
    seccomp = settings.policy_path / "seccomp" / f"{template.seccomp}.json"
    limits = merge(policies.limits.defaults, template.limits)
    try:
        program = compile_seccomp(seccomp.read_bytes())
    except OSError as error:
        raise SettingsError(f"{seccomp}: {error.strerror}") from error
    return Spec(
        template=template.name,
        image=image,
        seccomp=program,
        apparmor=apparmor.load(
            settings.policy_path / "apparmor" / template.apparmor, settings.node.apparmor_parser
        ),
        cpus=template.cpus,
        memory=limits.memory,
        pids=limits.pids + (OWN_PIDS - 1 if template.session else 0),
        disk=limits.disk,
        session=template.session,
        root=template.root,
    )
