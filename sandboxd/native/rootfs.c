/* The mount tree of a sandbox, built before any privilege is given up.
 *
 * A tmpfs of fixed size and inode count (its pages are charged to the sandbox) holds the overlay's
 * upper and work directories. Everything that gets something mounted on it is first made as a real
 * directory in the upper, so that an image with a symbolic link at /proc, /dev or /work cannot move
 * a mount. Targets are opened below the new root without following links, and mounts are moved
 * there by descriptor.
 */
#include "init.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static int root = -1; /* the overlay, before it is our / */

int make_mounts_private(struct init *init)
{
	(void)init;
	umask(0);
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

/* Attributes of a mount of files that jobs see. */
static unsigned long guarded(const struct init *init, unsigned long attributes)
{
	return skipped(init, SBX_LAYER_MOUNT_FLAGS) ? 0 : attributes;
}

static const char *decimal(char buffer[24], uint64_t number)
{
	char *at = buffer + 23;

	*at = 0;
	do
		*--at = (char)('0' + number % 10);
	while (number /= 10);
	return at;
}

static int new_tmpfs(uint64_t size, uint32_t inodes, unsigned attributes)
{
	sbx_autoclose int fs = sbx_fsopen("tmpfs");
	char number[24];

	if (fs < 0 || sbx_fsconfig(fs, FSCONFIG_SET_STRING, "size", decimal(number, size)) != 0 ||
	    sbx_fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", decimal(number, inodes)) != 0 ||
	    sbx_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755") != 0 ||
	    sbx_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) != 0)
		return -1;
	return sbx_fsmount(fs, attributes);
}

/* A home for root, and sudo and su where every PATH leads, over those of the image, which can give
 * nobody a right. Directories of the image take the owner of ours. */
static int make_places_of_root(uid_t owner)
{
	static const char *const directories[] = {"upper/root", "upper/opt", "upper/usr",
						  "upper/usr/local", "upper/usr/local/bin"};

	for (size_t i = 0; i < sizeof(directories) / sizeof(*directories); i++)
		if (mkdir(directories[i], i == 0 ? 0700 : 0755) != 0 ||
		    chown(directories[i], owner, owner) != 0)
			return -1;
	return symlink("/opt/sandboxd/bin/sudo", "upper/usr/local/bin/sudo") ||
			       symlink("/opt/sandboxd/bin/su", "upper/usr/local/bin/su")
		       ? -1
		       : 0;
}

/* Where clients of sandboxes that live look for a home, whatever the image has there. */
static int make_homes(const struct sbx_plan *plan, uid_t owner, uid_t root_owner)
{
	if (!(plan->flags & SBX_PLAN_SESSION))
		return 0;
	if (mkdir("upper/home", 0755) || mkdir("upper/home/user", 0755) ||
	    chown("upper/home", root_owner, root_owner) || chown("upper/home/user", owner, owner))
		return -1;
	return plan->flags & SBX_PLAN_ROOT ? make_places_of_root(root_owner) : 0;
}

int mount_scratch(struct init *init)
{
	const struct sbx_plan *plan = &init->plan.head;
	const uid_t owner = skipped(init, SBX_LAYER_IDENTITY) ? 0 : plan->host_job_uid;
	/* Of the root directory: the root inside, if there is one, who may then make entries in it.
	 */
	const uid_t root_owner =
		plan->flags & SBX_PLAN_RANGE && owner != 0 ? owner - plan->job_uid : 0;

	init->scratch = new_tmpfs(plan->disk, plan->inodes,
				  (unsigned)guarded(init, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
	if (init->scratch < 0 ||
	    sbx_move_mount(init->scratch, "", AT_FDCWD, init->plan.stage_dir,
			   MOVE_MOUNT_F_EMPTY_PATH) != 0 ||
	    fchdir(init->scratch) != 0)
		return -1;
	return mkdir("upper", 0755) || mkdir("wrk", 0700) || mkdir("root", 0700) ||
			       mkdir("shm", 01777) || mkdir("upper/work", 0700) ||
			       mkdir("upper/tmp", 01777) || mkdir("upper/dev", 0755) ||
			       mkdir("upper/proc", 0555) || mkdir("empty", 0) ||
			       chown("upper/work", owner, owner) ||
			       chown("upper/tmp", root_owner, root_owner) ||
			       chown("upper", root_owner, root_owner)
		       ? -1
		       : make_homes(plan, owner, root_owner);
}

/* Make every directory of `path` below `dir` (no links: the tree is ours alone until pivot). */
static int make_path(int dir, const char *path)
{
	char part[SBX_NAME_MAX * 4];
	size_t length = strlen(path);

	if (length == 0 || length >= sizeof(part) || path[0] == '/' || strstr(path, "..") != NULL) {
		errno = EINVAL;
		return -1;
	}
	for (size_t i = 1; i <= length; i++) {
		if (path[i] != '/' && path[i] != 0)
			continue;
		memcpy(part, path, i);
		part[i] = 0;
		if (mkdirat(dir, part, 0755) != 0 && errno != EEXIST)
			return -1;
	}
	return 0;
}

/* Move a detached mount onto `target`, a path below the new root that holds no link. */
static int attach(int mount_fd, const char *target)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	sbx_autoclose int at = sbx_openat2(root, target, &how);

	if (at < 0)
		return -1;
	return sbx_move_mount(mount_fd, "", at, "",
			      MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* A detached copy of the mount at `source` with `attributes` set, and with the ids of its files
 * mapped by a user namespace unless `idmap` is -1. */
static int clone_mount(int dir, const char *source, uint64_t attributes, int idmap)
{
	struct mount_attr attr = {.attr_set = attributes, .propagation = MS_PRIVATE};
	int tree = sbx_open_tree(dir, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (idmap >= 0) {
		attr.attr_set |= MOUNT_ATTR_IDMAP;
		attr.userns_fd = (uint64_t)idmap;
	}
	if (tree >= 0 && sbx_mount_setattr(tree, "", AT_EMPTY_PATH, &attr) != 0) {
		close(tree);
		return -1;
	}
	return tree;
}

/* What layers are mounted with. The overlay mount itself has the same, for what jobs see. */
static uint64_t layer_attributes(const struct init *init)
{
	return guarded(init, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

struct parent {
	char path[4096];
	int tree; /* a mount of ours of it, or -1 */
};

/* A descriptor of the layer at `path` on a mount of our own. Layers that lie side by side share
 * one: to take a detached mount down again waits for an RCU grace period each time. */
static int open_layer(struct init *init, const char *path, struct parent *parent)
{
	const char *name = strrchr(path, '/');
	struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	size_t length = name == NULL ? 0 : (size_t)(name - path) + 1;

	if (length == 0 || length >= sizeof(parent->path)) {
		errno = length == 0 ? EINVAL : ENAMETOOLONG;
		return -1;
	}
	if (parent->tree < 0 || strncmp(parent->path, path, length) != 0 ||
	    parent->path[length] != 0) {
		if (parent->tree >= 0)
			close(parent->tree);
		memcpy(parent->path, path, length);
		parent->path[length] = 0;
		parent->tree = clone_mount(AT_FDCWD, parent->path, layer_attributes(init),
					   init->plan.idmap);
		if (parent->tree < 0)
			return -1;
	}
	return sbx_openat2(parent->tree, name + 1, &how);
}

static int add_layers(struct init *init, int fs)
{
	struct sbx_cursor layers = init->plan.layers;
	struct parent parent = {.tree = -1};
	int result = 0;

	for (uint32_t i = 0; i < init->plan.head.layer_count && result == 0; i++) {
		sbx_autoclose int layer = open_layer(init, sbx_string(&layers), &parent);

		init->index = (int)i;
		result = layer < 0 ? -1 : sbx_fsconfig_fd(fs, "lowerdir+", layer);
	}
	sbx_cleanup_close(&parent.tree);
	return result;
}

/* Layers by descriptor, one by one, so that neither their number nor their paths' length matters.
 * Kernels before 6.13 refuse: with EINVAL, or EOPNOTSUPP where overlay has the old mount API only.
 */
static int overlay_of_descriptors(struct init *init)
{
	sbx_autoclose int fs = sbx_fsopen("overlay");
	sbx_autoclose int overlay = -1;

	if (fs < 0 || add_layers(init, fs) != 0 ||
	    sbx_fsconfig(fs, FSCONFIG_SET_STRING, "upperdir", "upper") != 0 ||
	    sbx_fsconfig(fs, FSCONFIG_SET_STRING, "workdir", "wrk") != 0 ||
	    sbx_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) != 0)
		return -1;
	overlay = sbx_fsmount(fs, (unsigned)guarded(init, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
	return overlay < 0 ? -1
			   : sbx_move_mount(overlay, "", AT_FDCWD, "root", MOVE_MOUNT_F_EMPTY_PATH);
}

/* Layers by name: each is mounted under a short one in the scratch, since all options together have
 * a page. */
static int overlay_of_names(struct init *init)
{
	static const char tail[] = ",upperdir=upper,workdir=wrk";
	struct sbx_cursor layers = init->plan.layers;
	char options[4096] = "lowerdir=", number[24], name[24];
	size_t length = strlen(options);

	for (uint32_t i = 0; i < init->plan.head.layer_count; i++) {
		sbx_autoclose int layer = clone_mount(AT_FDCWD, sbx_string(&layers),
						      layer_attributes(init), init->plan.idmap);
		size_t size = (size_t)(stpcpy(stpcpy(name, "l"), decimal(number, i)) - name);

		init->index = (int)i;
		if (layer < 0 || mkdir(name, 0700) != 0 ||
		    sbx_move_mount(layer, "", AT_FDCWD, name, MOVE_MOUNT_F_EMPTY_PATH) != 0)
			return -1;
		if (length + 1 + size + sizeof(tail) > sizeof(options)) {
			errno = E2BIG;
			return -1;
		}
		if (i > 0)
			options[length++] = ':';
		memcpy(options + length, name, size);
		length += size;
	}
	memcpy(options + length, tail, sizeof(tail));
	return mount("overlay", "root", "overlay", guarded(init, MS_NOSUID | MS_NODEV), options);
}

/* By name first: every kernel can do it, and a refused attempt is not free, since overlay logs each
 * to the console. Only more layers than a page of short names holds need descriptors. */
int mount_overlay(struct init *init)
{
	if (overlay_of_names(init) != 0 && (errno != E2BIG || overlay_of_descriptors(init) != 0))
		return -1;
	if (init->plan.idmap >= 0)
		close(init->plan.idmap);
	root = open("root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	init->layers |= 1u << SBX_LAYER_OVERLAY;
	return root < 0 ? -1 : 0;
}

/* A directory of the host as a file system of this sandbox alone. A plain bind shares its inodes
 * with every sandbox: locks and watches (inotify) on them tell what others open, and carry bits
 * between those who agree. The pages stay shared. */
static int private_view(const char *source, unsigned attributes)
{
	sbx_autoclose int fs = sbx_fsopen("overlay");
	char layers[4096];
	size_t length = strlen(source);

	if (fs < 0)
		return -1;
	if (length + sizeof(":empty") > sizeof(layers) || strpbrk(source, ":\\") != NULL) {
		errno = EINVAL;
		return -1;
	}
	/* An overlay without an upper wants two layers. */
	memcpy(layers, source, length);
	memcpy(layers + length, ":empty", sizeof(":empty"));
	if (sbx_fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir", layers) != 0 ||
	    sbx_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) != 0)
		return -1;
	return sbx_fsmount(fs, attributes);
}

/* File systems that the host has mounted for this sandbox: volumes and data. It has set what they
 * may do (nosuid, nodev, owners, read-only); where they go is told by name. */
static int attach_mounts(struct init *init, int upper)
{
	struct sbx_cursor cursor = init->plan.mounts;

	for (uint32_t i = 0; i < init->plan.head.mount_count; i++) {
		const char *target = sbx_string(&cursor);

		init->index = (int)(init->plan.head.bind_count + i);
		errno = EINVAL;
		if (target[0] != '/' || make_path(upper, target + 1) != 0 ||
		    attach(init->plan.mounted[i], target) != 0)
			return -1;
		close(init->plan.mounted[i]);
	}
	return 0;
}

/* Host directories of the image, read-only. Mounts below them are not carried along. */
int mount_binds(struct init *init)
{
	struct sbx_cursor cursor = init->plan.binds;
	sbx_autoclose int upper = open("upper", O_PATH | O_DIRECTORY | O_CLOEXEC);

	for (uint32_t i = 0; i < init->plan.head.bind_count; i++) {
		const char *source = sbx_string(&cursor), *target = sbx_string(&cursor);
		sbx_autoclose int tree = private_view(
			source, (unsigned)guarded(init, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
								MOUNT_ATTR_NODEV));

		init->index = (int)i;
		if (upper < 0 || tree < 0)
			return -1;
		errno = EINVAL;
		if (target[0] != '/' || make_path(upper, target + 1) != 0 ||
		    attach(tree, target) != 0)
			return -1;
	}
	return attach_mounts(init, upper);
}

/* The file system of the POSIX message queues of our ipc namespace. It is mounted nowhere: Landlock
 * needs a descriptor of it, without which it would refuse every queue. */
static int open_queues(struct init *init)
{
	sbx_autoclose int fs = sbx_fsopen("mqueue");

	init->queues = -1;
	if (fs < 0)
		return errno == ENODEV ? 0 : -1;
	if (sbx_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) != 0)
		return -1;
	init->queues = sbx_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return init->queues < 0 ? -1 : 0;
}

/* Terminals, where a session has them: of an instance of their own. */
static int mount_terminals(const struct init *init, int dev)
{
	sbx_autoclose int fs = -1;
	sbx_autoclose int terminals = -1;

	if (!(init->plan.head.flags & SBX_PLAN_SESSION))
		return 0;
	fs = sbx_fsopen("devpts");
	if (fs < 0 || sbx_fsconfig(fs, FSCONFIG_SET_STRING, "ptmxmode", "0666") != 0 ||
	    sbx_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0620") != 0 ||
	    sbx_fsconfig(fs, FSCONFIG_SET_STRING, "max", SBX_TERMINALS_MAX) != 0 ||
	    sbx_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) != 0)
		return -1;
	terminals = sbx_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	return terminals < 0 || mkdirat(dev, "pts", 0755) != 0 ||
			       symlinkat("pts/ptmx", dev, "ptmx") != 0 ||
			       attach(terminals, "dev/pts") != 0
		       ? -1
		       : 0;
}

/* A /dev of our own nodes: nothing of the host's /dev is trusted or reachable. */
int make_dev(struct init *init)
{
	static const struct {
		const char *name;
		unsigned minor;
	} nodes[] = {{"null", 3}, {"zero", 5}, {"full", 7}, {"random", 8}, {"urandom", 9}};
	static const char *const links[][2] = {{"/proc/self/fd", "fd"},
					       {"/proc/self/fd/0", "stdin"},
					       {"/proc/self/fd/1", "stdout"},
					       {"/proc/self/fd/2", "stderr"}};
	struct mount_attr readonly = {.attr_set = MOUNT_ATTR_RDONLY};
	sbx_autoclose int dev = new_tmpfs(65536, 32, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	sbx_autoclose int shm =
		clone_mount(AT_FDCWD, "shm", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, -1);

	if (open_queues(init) != 0 || dev < 0 || shm < 0 || attach(dev, "dev") != 0 ||
	    mkdirat(dev, "shm", 0755) != 0 || attach(shm, "dev/shm") != 0 ||
	    mount_terminals(init, dev) != 0)
		return -1;
	for (size_t i = 0; i < sizeof(nodes) / sizeof(*nodes); i++) {
		init->index = (int)i;
		if (mknodat(dev, nodes[i].name, S_IFCHR | 0666, makedev(1, nodes[i].minor)) != 0)
			return -1;
	}
	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++)
		if (symlinkat(links[i][0], dev, links[i][1]) != 0)
			return -1;
	return sbx_mount_setattr(dev, "", AT_EMPTY_PATH, &readonly);
}

int mount_proc(struct init *init)
{
	sbx_autoclose int fs = sbx_fsopen("proc");
	sbx_autoclose int proc = -1;

	if (fs < 0 ||
	    (!skipped(init, SBX_LAYER_HIDEPID) &&
	     sbx_fsconfig(fs, FSCONFIG_SET_STRING, "hidepid", "invisible") != 0) ||
	    sbx_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) != 0)
		return -1;
	proc = sbx_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (proc < 0 || attach(proc, "proc") != 0)
		return -1;
	init->settings = clone_mount(root, "proc/sys", 0, -1);
	return init->settings < 0 ? -1 : 0;
}

/* The kernel's settings are for reading, whatever rights a file of them has. */
static int protect_settings(void)
{
	sbx_autoclose int settings = clone_mount(
		root, "proc/sys",
		MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, -1);

	return settings < 0 ? -1 : attach(settings, "proc/sys");
}

/* What masks are copies of: the empty file or directory `name` of the scratch, covered by itself
 * with the attributes that each copy shall have. */
static int prepare_cover(const char *name)
{
	sbx_autoclose int cover = clone_mount(
		AT_FDCWD, name,
		MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, -1);

	return cover < 0 ? -1 : sbx_move_mount(cover, "", AT_FDCWD, name, MOVE_MOUNT_F_EMPTY_PATH);
}

/* By mount(2), which is one call where a detached copy takes three and a namespace of its own;
 * there are thirty of these. It follows links, of which there are none on this way: below our own
 * `root` lies the procfs that we have just mounted, and nobody but us lives in its namespace. */
static int mask(const char *name)
{
	char target[sizeof("root/proc/") + SBX_NAME_MAX];
	struct stat status;

	if (strlen(name) > SBX_NAME_MAX || strchr(name, '/') != NULL) {
		errno = EINVAL;
		return -1;
	}
	strcpy(stpcpy(target, "root/proc/"), name);
	if (lstat(target, &status) != 0)
		return errno == ENOENT ? 0 : -1; /* this kernel does not have it */
	return mount(S_ISDIR(status.st_mode) ? "empty" : "none", target, NULL, MS_BIND, NULL);
}

/* Cover what /proc tells about the host with an empty file or directory that we made ourselves. */
int mask_proc(struct init *init)
{
	struct sbx_cursor cursor = init->plan.masks;
	sbx_autoclose int none = open("none", O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);

	if (skipped(init, SBX_LAYER_MASKED_PROC))
		return 0;
	if (none < 0 || prepare_cover("none") != 0 || prepare_cover("empty") != 0)
		return -1;
	for (uint32_t i = 0; i < init->plan.head.mask_count; i++) {
		init->index = (int)i;
		if (mask(sbx_string(&cursor)) != 0)
			return -1;
	}
	init->layers |= 1u << SBX_LAYER_MASKED_PROC;
	return protect_settings();
}

int enter_root(struct init *init)
{
	if (fchdir(root) != 0 || syscall(SYS_pivot_root, ".", ".") != 0 ||
	    umount2(".", MNT_DETACH) != 0 || chdir("/") != 0)
		return -1;
	close(root);
	init->work = open("/work", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return init->work < 0 ? -1 : 0;
}
