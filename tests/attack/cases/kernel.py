"""The kernel's surface: calls with impossible arguments, every number, every socket, foreign ABIs."""

from tests.attack.case import Case
from tests.attack.judging import Abi, Call, Family, Sweep

_CALLS = """
mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick open_tree move_mount mount_setattr
unshare setns clone3 clone_newuser clone_newns clone_newtime
bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register
add_key keyctl request_key
ptrace process_vm_readv process_vm_writev process_madvise process_mrelease pidfd_getfd kcmp
name_to_handle_at open_by_handle_at fanotify_init fanotify_mark memfd_secret
init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct syncfs
settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname syslog quotactl quotactl_fd
iopl ioperm mbind set_mempolicy move_pages migrate_pages modify_ldt io_setup remap_file_pages cachestat
uselib ustat
mknod_device mknod_block mknodat_whiteout personality_32 personality_norandom seccomp_spec_allow
madvise_mergeable preadv2_nowait futex_wait_requeue_pi futex_cmp_requeue_pi
sendto_oob sendmsg_oob sendmmsg_oob
prctl_set_mm prctl_mm_map prctl_speculation prctl_merge_memory prctl_dispatch prctl_ptracer
tcp_ulp udp_encap ip_xfrm_policy ipt_replace attach_bpf packet_ring
tiocsti tioclinux tiocsetd tioccons ficlone ficlonerange fideduperange fs_setflags siocsifflags
tunsetiff kvm_create_vm ns_get_parent blkflsbuf ioctl_high_half
""".split()  # noqa: SIM905  (a table to be read)

_FAMILIES = """
unspec unix inet ax25 ipx appletalk netrom bridge atmpvc x25 inet6 rose decnet netbeui security key
netlink packet ash econet atmsvc rds sna irda pppox wanpipe llc ib mpls can tipc bluetooth iucv rxrpc
isdn phonet ieee802154 caif alg nfc vsock kcm qipcrtr smc xdp mctp
""".split()  # noqa: SIM905  (a table to be read)

CASES: tuple[Case, ...] = (
    *(Call(name) for name in _CALLS),
    Sweep(0, 127),
    Sweep(128, 255),
    Sweep(256, 383),
    Sweep(384, 511),
    Sweep(512, 767),
    Sweep(768, 1023),
    *(Family(number, name) for number, name in enumerate(_FAMILIES)),
    *(Abi(name) for name in ("int80", "socketcall", "x32", "x32_execve", "elf32")),
)
