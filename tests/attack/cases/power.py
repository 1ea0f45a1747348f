"""Deeds of whoever has power, and what a job sees of itself and of others."""

from tests.attack.case import Case
from tests.attack.judging import Deed, View

_IDENTITY = {
    "become_root": "no way to uid 0",
    "become_root_group": "no way to gid 0",
    "become_neighbour": "no way to the uid of init",
    "join_groups": "no group is joined",
    "take_capabilities": "no capability is taken",
    "have_capabilities": "no capability is there from the start",
    "raise_ambient": "no ambient capability is raised",
    "unlock_securebits": "the securebits stay locked",
    "run_setuid": "a set-user-id program gives nothing",
    "run_filecaps": "a program with file capabilities gives nothing",
    "privileges_again": "no_new_privs stays",
    "trace_init": "init cannot be traced",
    "trace_child": "no process is traced",
    "read_child": "no memory of another process is read",
    "read_init": "no memory of init is read",
    "steal_fd": "no descriptor is taken from another process",
    "steal_fd_of_init": "no descriptor is taken from init",
    "limit_init": "the limits of init cannot be set",
    "signal_init": "init cannot be signalled",
    "raise_priority": "no priority above the neighbours'",
    "real_time": "no real-time scheduling",
    "raise_limit": "hard limits stay",
    "oom_exempt": "the OOM killer takes the job",
    "oom_ordinary": "the OOM killer prefers the job to any process of the host",
}
_MOUNTS = {
    "mount_tmpfs": "nothing is mounted",
    "mount_proc": "no other /proc",
    "mount_cgroup": "no cgroup file system, no release agent (CVE-2022-0492)",
    "bind_root": "no bind mount",
    "remount_writable": "what is read-only stays so",
    "uncover_proc": "a mask stays on",
    "pivot": "the root stays",
    "change_root": "no chroot",
    "new_tmpfs": "no new file system by the new mount API (CVE-2022-0185)",
    "clone_tree": "no copy of a mount tree",
    "clear_readonly": "mount attributes stay",
    "new_user": "no nested user namespace",
    "new_mounts": "no new mount namespace",
    "new_network": "no new network namespace",
    "clone_user": "no user namespace by clone",
    "clone_all": "no other namespace by clone",
    "clone3_user": "no user namespace by clone3",
    "join_mounts_of_init": "no way into init's mount namespace",
    "join_network_of_init": "no way into init's network namespace",
    "make_device": "no device node that works",
    "make_disk": "no node of a disk",
    "make_whiteout": "no whiteout, which an overlay would obey",
    "file_handle": "no file by handle (Shocker)",
}
_KERNEL = {
    "make_map": "no bpf",
    "count_events": "no perf",
    "ring": "no io_uring",
    "catch_faults": "no userfaultfd",
    "join_keyring": "no keyring",
    "keep_key": "no key",
    "load_module": "no module",
    "restart": "no reboot",
    "name_host": "no host name",
    "swap_on": "no swap",
    "account": "no accounting",
    "read_log": "no kernel log",
    "open_ports": "no ports of the machine",
    "raw_socket": "no raw socket",
    "packet_socket": "no packet socket",
    "ping_socket": "no ping socket",
    "forge_audit": "no record of the audit is forged",
    "uevent_netlink": "no uevent socket",
    "vsock": "no way to the hypervisor",
    "lower_loopback": "interfaces stay as they are",
}
_FILES = {
    "write_core_pattern": "no core handler",
    "write_panic": "no kernel setting is written",
    "write_drop_caches": "no cache of the host is dropped",
    "write_sysrq": "no sysrq",
    "write_ip_forward": "no setting of the network is written",
    "write_binary": "no program of the image opens for writing",
    "write_etc": "no file of /etc opens for writing",
    "write_init_score": "init keeps its OOM score",
    "write_mem": "no physical memory",
    "read_kcore": "no kernel memory",
    "read_kallsyms": "no kernel addresses",
    "read_cmdline": "no kernel command line",
    "read_interrupts": "no interrupts",
    "read_key_users": "no keys of others",
    "read_sysvipc": "no IPC objects listed",
    "read_locks": "no locks of others",
    "read_diskstats": "no disks",
    "read_slabinfo": "no slabs",
    "read_buddyinfo": "no free lists",
    "read_secret": "root's file in the image stays closed",
    "read_shadow": "no /etc/shadow",
    "read_kmsg": "no kernel log",
    "init_environ": "init's environment stays closed",
    "init_maps": "init's maps stay closed",
    "init_mem": "init's memory stays closed",
    "init_stack": "init's stack stays closed",
    "init_syscall": "init's registers stay closed",
    "init_root": "no way through init's root",
    "init_cwd": "no way through init's directory",
    "init_fds": "init's descriptors stay closed",
    "init_exe": "init's executable is not found (CVE-2019-5736)",
    "list_sys": "no /sys",
    "list_cgroups": "no cgroup file system",
    "list_root_home": "no /root",
    "list_run": "no /run",
    "list_var": "no /var/lib",
    "list_bus": "no buses",
    "list_fs": "no facts of file systems",
    "list_irq": "no interrupts",
    "plant_file": "nothing is created in the image",
    "link_out": "no hard link in the image",
    "touch_binary": "no time stamp in the image",
}
_REACH = {
    "host_port": "the host's loopback is not here",
    "host_abstract": "the host's abstract sockets are not here",
}
_CAP_SYS_RESOURCE = 24
NEEDED = {"oom_exempt": _CAP_SYS_RESOURCE, "oom_ordinary": _CAP_SYS_RESOURCE}
APPARMOR = frozenset(
    (
        "trace_child", "read_child", "steal_fd", "signal_init", "write_init_score",
        "read_kallsyms", "read_cmdline", "read_interrupts", "read_locks", "read_sysvipc",
        "read_diskstats",
        "read_buddyinfo", "init_fds", "list_bus", "list_fs", "list_irq", "real_time", "raise_limit",
        "load_module", "open_ports", "write_sysrq", "write_binary", "write_mem", "read_kcore",
        "read_kmsg", "init_environ", "list_sys", "list_cgroups", "plant_file", "link_out",
    )
)  # fmt: skip
"""What the profile of AppArmor stops with nothing else in place, as tests/vm/inside/test_layers proves.
Of all that it stops, what fewer than two other layers do."""
ALONE = {
    "read_secret": "ordinary permissions, on the host's own directories; what is secret does not belong "
    "into an image",
    "host_port": "a loopback of its own: jobs may use the families, and no other mechanism tells whose "
    "loopback it is",
}
"""Why one layer is all that stops it, so that it is beside the core."""
OF_THE_HOSTS_TREE = frozenset(
    ("read_shadow", "list_root_home", "list_run", "list_var", "touch_binary")
)
"""What is out of reach because it is in another tree."""
KEEP = {"uncover_proc": ("masked_proc",)}
"""What can be taken off must be there."""

DEEDS = (
    *(
        Deed(name, promise, "identity", alone=ALONE.get(name, ""), capability=NEEDED.get(name))
        for name, promise in _IDENTITY.items()
    ),
    *(
        Deed(name, promise, "mounts", alone=ALONE.get(name, ""), keep=KEEP.get(name, ()))
        for name, promise in _MOUNTS.items()
    ),
    *(
        Deed(name, promise, "facilities", alone=ALONE.get(name, ""))
        for name, promise in _KERNEL.items()
    ),
    *(Deed(name, promise, "files", alone=ALONE.get(name, "")) for name, promise in _FILES.items()),
    *(
        Deed(name, promise, "network", network=False, alone=ALONE.get(name, ""))
        for name, promise in _REACH.items()
    ),
)

VIEWS = (
    View("fds", "descriptors 0, 1 and 2 only", ("0 1 2",), "views"),
    View("cwd", "a working directory inside (CVE-2024-21626)", ("/work",), "views"),
    View("environment", "no variable of the service", ("PATH HOME LANG TMPDIR USER",), "views"),
    View("others", "no other process in /proc", ("",), "views"),
    View("reachable", "no other process to signal", ("",), "views"),
    View(
        "devices",
        "five devices that hold nothing",
        ("fd full null random shm stderr stdin stdout urandom zero",),
        "views",
    ),
    View("interfaces", "loopback alone", ("lo",), "views"),
    View(
        "top",
        "a root of a few directories",
        ("bin dev etc lib lib64 opt proc sbin tmp usr var work",
         "bin dev etc lib lib32 lib64 opt proc sbin tmp usr var work",
         "bin dev etc lib lib32 lib64 libx32 opt proc sbin tmp usr var work"),
        "views",
    ),
    View("residue", "nothing lies about", ("",), "views"),
    View("uid_map", "two ids, one each", ("one one",), "views"),
    View("cgroup", "no path of a control group", ("root",), "views"),
    View("session", "a session of its own, without a terminal",
         ("leader without terminal", "member without terminal"), "views"),
    View("limits", "no core, no priority, little locked memory", ("0 0 0 65536 819200 1024",), "views"),
    View("signals", "signals at their defaults", ("default",), "views"),
    View("writable", "what can be written is the scratch file system", ("/work /tmp /dev/shm",), "views"),
    View(
        "privileges",
        "five empty sets, a filter, no new privileges",
        (" ".join(["0" * 16] * 5) + " 2 1",),
        "views",
    ),
    View("last_pid", "process numbers of its own", ("of its own",), "views"),
)  # fmt: skip

CASES: tuple[Case, ...] = (*DEEDS, *VIEWS)
