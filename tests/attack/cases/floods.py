"""Floods of everything: each ends as it should, and a neighbour does not notice."""

from tests.attack.judging import Bomb

MiB = 1 << 20
_MEMORY = ("memory_exceeded",)
_EITHER = ("ok", "memory_exceeded")
_CALM = ("ok", "nonzero_exit", "signalled", "memory_exceeded", "disk_exceeded")
_CPU = ("cpu_time_exceeded", "wall_time_exceeded", "memory_exceeded")
_LARGE = {"pids": 1000, "memory": 256 * MiB, "open_files": 256}

CASES = (
    Bomb("forks", "processes end at the cap", _EITHER, most=64),
    Bomb("fork_bomb", "a fork bomb burns its own time", ("ok", *_CPU)),
    Bomb("threads", "threads end at the cap", _EITHER, most=64),
    Bomb("zombies", "zombies count as processes", _EITHER, most=64),
    Bomb("orphans", "init reaps what is thrown at it", ("ok", *_CPU)),
    Bomb(
        "spinning_children", "children that compute end with their parent", ("ok", *_CPU), most=64
    ),
    Bomb("anonymous", "memory ends at the cap", _MEMORY),
    Bomb("memory_file", "memory files count as memory", _MEMORY, {"disk": 64 * MiB}),
    Bomb("shm_file", "/dev/shm counts as disk and memory", _CALM, most=32 * MiB),
    Bomb("scratch_file", "disk ends at the cap", _CALM, most=32 * MiB),
    Bomb("unlinked_files", "files without a name count", _CALM, most=32 * MiB),
    Bomb("segments", "System V segments count as memory", _MEMORY),
    Bomb("semaphores", "System V semaphores count as memory", _EITHER),
    Bomb("messages", "System V messages count as memory", _EITHER),
    Bomb("posix_queues", "POSIX queues have their cap", _EITHER, most=256),
    Bomb("pipes", "full pipes count as memory, by the user", _EITHER, {"pids": 200}),
    Bomb("unix_sockets", "full sockets count as memory", _EITHER, {"pids": 200}),
    # The kernel lets the last packet of each socket pass.
    Bomb("tcp_buffers", "TCP buffers have their cap", _EITHER, most=72 * MiB),
    Bomb("udp_buffers", "UDP buffers have their cap", _EITHER, {"memory": 12 * MiB}, most=16 * MiB),
    Bomb("inotifies", "inotify instances have their cap", _EITHER),
    Bomb("watches", "inotify watches count as memory or inodes", _EITHER),
    Bomb("epolls", "epoll instances have their cap", _EITHER),
    Bomb("timerfds", "timers that fire all the time burn their own time", ("ok", *_CPU)),
    Bomb("timers", "POSIX timers have their cap", ("ok", *_CPU), most=1024),
    Bomb("descriptors", "descriptors have their cap", _EITHER, most=256),
    Bomb("files", "inodes have their cap", ("ok", "disk_exceeded", "memory_exceeded"), most=4096),
    Bomb("hard_links", "hard links count as memory or inodes", _CALM),
    Bomb("deep", "deep directories have their cap", _CALM, most=4096),
    Bomb("missing_names", "names that are not there count as memory", _EITHER),
    Bomb("xattrs", "extended attributes count as memory", _CALM),
    Bomb("page_cache", "reading files evicts its own cache", _EITHER),
    Bomb("mappings", "mappings have their cap", _EITHER),
    Bomb("page_tables", "page tables count as memory", _EITHER),
    Bomb("locked", "locked memory has its cap", most=0),
    Bomb("core_dump", "no core is dumped", _CALM, most=0),
    Bomb("queued_signals", "queued signals have their cap", _EITHER, most=1024),
    Bomb("in_flight", "descriptors in flight have their cap", _EITHER),
    Bomb("exec_loop", "an exec loop burns its own time", ("ok", *_CPU)),
    Bomb("huge_arguments", "arguments have their cap", ("ok",), most=0),
    Bomb("slow_death", "hundreds of threads in the kernel die in time", _CPU, _LARGE),
    Bomb("stopped_children", "stopped children end with their parent"),
    Bomb("raise_of_limits", "no hard limit is raised", most=0),
)
