/* What the kernel is told: the answers on which it relies for ever after. The "device" is a socket, at whose other end this test asks as the kernel does; how the
 * kernel takes the answers is in server_test.c and test/e2e/server.test.ts. */
#include "check.h"
#include "sample_tree.h"

#include "../../native/fuse/imagefs.h"

#include <inttypes.h>
#include <linux/fuse.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define OWNER 4711
#define ASKER 1 /* pid */
#define BLOCK (128u << 10) /* of the image */

static char top[] = "/tmp/tsrun-fuse-test-XXXXXX";
static char image[64];

static void quiet(void *ctx)
{
	(void)ctx;
}

static void quiet_text(void *ctx, const char *text)
{
	(void)ctx;
	(void)text;
}

/* --- one who serves, one who asks --- */

struct session {
	int kernel, fetcher; /* our ends: of its device, and of what it would have fetched by */
	pid_t serving;
	struct imagefs_shared *shared;
};

static struct session begin(void)
{
	struct session session;
	int pair[2], asks[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, asks) < 0)
		sample_fail("socketpair");
	session = (struct session) { .kernel = pair[0], .fetcher = asks[0], .shared = imagefs_shared_new(1) };
	session.serving = fork();
	if (session.serving == 0) {
		struct imagefs_config config = {
			.shared = session.shared,
			.devices = &pair[1],
			.listening = -1,
			.uid = OWNER,
			.gid = OWNER + 1,
			.log = quiet_text,
			.watch = quiet,
			.recovered = quiet,
			.fetcher = asks[1],
			.fetch = quiet,
		};

		if (squash_open(&config.squash, squash_cache_new(8 << 20), open(image, O_RDONLY | O_CLOEXEC), 0, 0, NULL) < 0)
			_exit(1);
		_exit(imagefs_serve(&config, NULL) != 0);
	}
	close(pair[1]);
	close(asks[1]);
	return session;
}

static void end(struct session *session)
{
	kill(session->serving, SIGKILL);
	waitpid(session->serving, NULL, 0);
	close(session->kernel);
	close(session->fetcher);
	imagefs_shared_free(session->shared);
}

struct answer {
	struct fuse_out_header head;
	union {
		struct fuse_init_out init;
		struct fuse_entry_out entry;
		struct fuse_attr_out attr;
		struct fuse_open_out open;
		char bytes[BLOCK];
	} body;
};

static struct answer ask(const struct session *session, uint32_t opcode, uint64_t node, const void *arg, size_t len)
{
	static uint64_t unique;
	struct fuse_in_header in = { .len = (uint32_t)(sizeof in + len), .opcode = opcode, .unique = ++unique, .nodeid = node, .pid = ASKER };
	struct iovec parts[2] = { { &in, sizeof in }, { (void *)(uintptr_t)arg, len } };
	struct answer answer = { 0 };
	ssize_t got;

	if (writev(session->kernel, parts, 2) != (ssize_t)in.len)
		sample_fail("asking");
	got = read(session->kernel, &answer, sizeof answer);
	CHECK("an answer is whole, and to what was asked", got >= (ssize_t)sizeof answer.head && answer.head.len == (uint32_t)got && answer.head.unique == unique);
	return answer;
}

static struct answer ask_init(const struct session *session, uint32_t minor, uint32_t flags)
{
	struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION, .minor = minor, .max_readahead = 128 << 10, .flags = flags };

	return ask(session, FUSE_INIT, 0, &in, sizeof in);
}

static struct answer lookup(const struct session *session, uint64_t parent, const char *name)
{
	return ask(session, FUSE_LOOKUP, parent, name, strlen(name) + 1);
}

/* --- facts --- */

static void test_init(void)
{
	static const uint32_t relied_on[] = { FUSE_ASYNC_READ, FUSE_PARALLEL_DIROPS, FUSE_NO_OPEN_SUPPORT, FUSE_NO_OPENDIR_SUPPORT, FUSE_DO_READDIRPLUS, FUSE_READDIRPLUS_AUTO,
		FUSE_CACHE_SYMLINKS, FUSE_MAX_PAGES };
	struct session session = begin();
	struct answer answer = ask_init(&session, 31, ~0u);
	uint32_t all = 0;

	for (size_t i = 0; i < ARRAY_LEN(relied_on); i++)
		all |= relied_on[i];
	CHECK("all that makes reading fast is asked for", answer.head.error == 0 && (answer.body.init.flags & all) == all);
	CHECK("nothing is that lets the kernel write, lock or invalidate",
		(answer.body.init.flags & (FUSE_WRITEBACK_CACHE | FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS | FUSE_AUTO_INVAL_DATA | FUSE_ATOMIC_O_TRUNC | FUSE_POSIX_ACL)) == 0);
	CHECK("an older kernel's version is kept to", answer.body.init.major == FUSE_KERNEL_VERSION && answer.body.init.minor == 31);
	CHECK("many reads may be in flight", answer.body.init.max_background == 64 && answer.body.init.congestion_threshold == 48);
	CHECK("a read may be as large as the reader takes", answer.body.init.max_pages == SQUASH_READ_MAX / sysconf(_SC_PAGESIZE));
	CHECK("the kernel's read-ahead is its own", answer.body.init.max_readahead == 128 << 10);
	end(&session);

	session = begin();
	answer = ask_init(&session, 31, FUSE_ASYNC_READ | FUSE_NO_OPEN_SUPPORT);
	CHECK("what the kernel does not offer is not asked for", answer.body.init.flags == (FUSE_ASYNC_READ | FUSE_NO_OPEN_SUPPORT));
	end(&session);

	session = begin();
	CHECK("a kernel whose protocol is too old is refused", ask_init(&session, 22, ~0u).head.error == -EPROTO);
	CHECK("a request that is cut off is refused", ask(&session, FUSE_INIT, 0, "", 1).head.error == -EPROTO);
	end(&session);
}

static void test_names(void)
{
	struct session session = begin();
	struct answer answer, dir;

	ask_init(&session, 31, ~0u);
	dir = lookup(&session, FUSE_ROOT_ID, "files");
	CHECK("a name is kept for ever, with its attributes", dir.head.error == 0 && dir.body.entry.nodeid > FUSE_ROOT_ID && dir.body.entry.entry_valid == UINT64_MAX
		&& dir.body.entry.attr_valid == UINT64_MAX && S_ISDIR(dir.body.entry.attr.mode));
	CHECK("it belongs to the run's user", dir.body.entry.attr.uid == OWNER && dir.body.entry.attr.gid == OWNER + 1);
	answer = lookup(&session, dir.body.entry.nodeid, "none");
	CHECK("that a name is not there is kept for ever, too", answer.head.error == 0 && answer.body.entry.nodeid == 0 && answer.body.entry.entry_valid == UINT64_MAX);
	answer = ask(&session, FUSE_GETATTR, dir.body.entry.nodeid, &(struct fuse_getattr_in) { 0 }, sizeof(struct fuse_getattr_in));
	CHECK("and so are attributes", answer.head.error == 0 && answer.body.attr.attr_valid == UINT64_MAX && answer.body.attr.attr.ino == dir.body.entry.attr.ino);
	CHECK("a node that is none is refused", lookup(&session, 0, "files").head.error < 0 && lookup(&session, UINT64_MAX, "files").head.error < 0);
	end(&session);
}

static struct answer lookup_node(const struct session *session, uint64_t node)
{
	char name[40];

	snprintf(name, sizeof name, ".tsrun-node-%" PRIx64, node);
	return lookup(session, FUSE_ROOT_ID, name);
}

static void test_fetcher(void)
{
	struct session session = begin();
	struct answer answer;
	uint64_t dir, file;

	ask_init(&session, 31, ~0u);
	dir = lookup(&session, FUSE_ROOT_ID, "files").body.entry.nodeid;
	file = lookup(&session, dir, "10").body.entry.nodeid;
	atomic_store(&session.shared->fetcher, ASKER + 1);
	answer = lookup_node(&session, file);
	CHECK("no program finds a file by its node", answer.head.error == 0 && answer.body.entry.nodeid == 0);
	atomic_store(&session.shared->fetcher, ASKER);
	answer = lookup_node(&session, file);
	CHECK("but the one that fetches; and what it finds is not kept for others", answer.head.error == 0 && answer.body.entry.nodeid == file && answer.body.entry.entry_valid == 0);
	CHECK("it finds files only", lookup_node(&session, dir).head.error == -ENOENT && lookup_node(&session, FUSE_ROOT_ID).head.error == -ENOENT
		&& lookup_node(&session, UINT64_MAX).head.error == -ENOENT);
	end(&session);
}

static void test_opens(void)
{
	struct fuse_open_in in = { .flags = O_RDONLY };
	struct session session = begin();
	struct answer answer;

	ask_init(&session, 31, ~0u);
	CHECK("a kernel that need not ask to open is told so, once", ask(&session, FUSE_OPEN, FUSE_ROOT_ID, &in, sizeof in).head.error == -ENOSYS
		&& ask(&session, FUSE_OPENDIR, FUSE_ROOT_ID, &in, sizeof in).head.error == -ENOSYS);
	CHECK("what is done at the end of use needs no answer a second time", ask(&session, FUSE_FLUSH, FUSE_ROOT_ID, &in, sizeof in).head.error == -ENOSYS
		&& ask(&session, FUSE_ACCESS, FUSE_ROOT_ID, &in, sizeof in).head.error == -ENOSYS);
	end(&session);

	session = begin();
	ask_init(&session, 31, FUSE_ASYNC_READ);
	answer = ask(&session, FUSE_OPEN, FUSE_ROOT_ID, &in, sizeof in);
	CHECK("another one opens, and keeps the pages that it has", answer.head.error == 0 && answer.body.open.open_flags == FOPEN_KEEP_CACHE);
	answer = ask(&session, FUSE_OPENDIR, FUSE_ROOT_ID, &in, sizeof in);
	CHECK("and the listings", answer.head.error == 0 && answer.body.open.open_flags == (FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR));
	end(&session);
}

/* How many blocks a read of 128 KiB at `offset` has had loaded, those that nobody asked for yet among them. */
static uint64_t loads_of(const struct session *session, uint64_t node, uint64_t offset)
{
	struct fuse_read_in in = { .offset = offset, .size = BLOCK };
	uint64_t before = atomic_load(&session->shared->cache_loads);
	struct answer answer = ask(session, FUSE_READ, node, &in, sizeof in);
	bool right = answer.head.error == 0 && answer.head.len == sizeof answer.head + BLOCK;

	for (uint64_t i = 0; right && i < BLOCK; i++)
		right = (unsigned char)answer.body.bytes[i] == sample_byte(10, offset + i);
	CHECK("what is read is what is there", right);
	/* There is one worker: with the next answer all of this is done; what is counted is told behind that answer, before the one after it. */
	for (int i = 0; i < 2; i++)
		ask(session, FUSE_STATFS, FUSE_ROOT_ID, NULL, 0);
	return atomic_load(&session->shared->cache_loads) - before;
}

static void test_reads(void)
{
	struct session session = begin();
	uint64_t dir, file;

	ask_init(&session, 31, ~0u);
	dir = lookup(&session, FUSE_ROOT_ID, "files").body.entry.nodeid;
	file = lookup(&session, dir, "10").body.entry.nodeid;
	loads_of(&session, file, 0);
	CHECK("who reads in order finds the next block loaded, and the one behind it is", loads_of(&session, file, BLOCK) == 1);
	CHECK("who reads here and there has loaded what was read", loads_of(&session, file, 10 * BLOCK) == 1 && loads_of(&session, file, 20 * BLOCK) == 1);
	CHECK("going on from there is in order again", loads_of(&session, file, 21 * BLOCK) == 2);
	end(&session);
}

static struct answer list(const struct session *session, uint64_t node, uint64_t offset)
{
	struct fuse_read_in in = { .offset = offset, .size = 4096 };

	return ask(session, FUSE_READDIRPLUS, node, &in, sizeof in);
}

/* Which directories are to be listed ahead: their last names, in order. */
static const char *asked_for(const struct session *session)
{
	static char all[4096];
	char message[8192];
	size_t len = 0;
	ssize_t got;

	/* Its answer comes before it has asked; the next one after. */
	ask(session, FUSE_STATFS, FUSE_ROOT_ID, NULL, 0);
	while ((got = recv(session->fetcher, message, sizeof message - 1, 0)) > 16) {
		message[got] = '\0';
		len += (size_t)snprintf(all + len, sizeof all - len, "%s ", message + 16);
	}
	all[len] = '\0';
	return all;
}

static void test_walk(void)
{
	struct session session = begin();
	uint64_t walk, above, deep;
	unsigned asked = 0;

	ask_init(&session, 31, ~0u);
	walk = lookup(&session, FUSE_ROOT_ID, "walk").body.entry.nodeid;
	above = lookup(&session, walk, "above").body.entry.nodeid;
	deep = lookup(&session, above, "2").body.entry.nodeid;
	for (unsigned i = 0; i < 31; i++)
		list(&session, walk, 100);
	CHECK("a few listings are no walk", asked_for(&session)[0] == '\0');
	/* What asks for a file system's size is not walking. */
	for (unsigned i = 0; i < 31; i++)
		list(&session, walk, 100);
	list(&session, above, 100);
	CHECK("listings that have begun before have been asked for before", asked_for(&session)[0] == '\0');
	for (unsigned i = 0; i < 31; i++)
		list(&session, walk, 100);
	list(&session, above, 0);
	CHECK("directories below are listed ahead, but the first, to which the walk comes at once", strcmp(asked_for(&session), "walk/above/2 walk/above/3 ") == 0);
	atomic_store(&session.shared->fetcher, ASKER);
	list(&session, deep, 0);
	CHECK("so are those below them", strcmp(asked_for(&session), "walk/above/2/deep ") == 0);
	do
		list(&session, deep, 0);
	while (asked_for(&session)[0] != '\0' && ++asked < 100);
	CHECK("but no more than some, without the walk", asked == 61);
	end(&session);
}

/* A real one, of which only the kernel's first request is read. */
static void test_devices(void)
{
	struct fuse_in_header first = { 0 };
	int device = imagefs_open_device("/dev/fuse", 0, NULL), clone = imagefs_open_device("/dev/fuse", 0, NULL);
	int listening = imagefs_open_device("/dev/fuse", O_NONBLOCK, NULL);
	int mount = device < 0 ? -1 : imagefs_mount(device, geteuid(), getegid(), NULL);
	char request[IMAGEFS_REQUEST_MAX];

	if (mount < 0) {
		SKIP("devices: the kernel lets us mount nothing over FUSE");
		return;
	}
	CHECK("a mount has several devices", imagefs_join_device(clone, device, NULL) == 0 && imagefs_join_device(listening, device, NULL) == 0);
	CHECK("each of its own, so that workers do not wait for each other", fcntl(clone, F_SETFL, O_NONBLOCK) == 0 && (fcntl(device, F_GETFL) & O_NONBLOCK) == 0);
	if (read(clone, request, sizeof request) >= (ssize_t)sizeof first)
		memcpy(&first, request, sizeof first);
	CHECK("by each of them the kernel asks", first.opcode == FUSE_INIT);
	CHECK("the one to listen by does not wait", read(listening, request, sizeof request) < 0 && errno == EAGAIN);
	close(clone);
	close(listening);
	close(device);
	close(mount);
}

int main(void)
{
	char root[64];

	if (mkdtemp(top) == NULL)
		sample_fail("mkdtemp");
	snprintf(root, sizeof root, "%s/root", top);
	snprintf(image, sizeof image, "%s/image", top);
	sample_make(root);
	sample_run("mkdir -p %s/walk/above/1 %s/walk/above/2/deep %s/walk/above/3", root, root, root);
	sample_image(root, image, "-comp zstd -b 128K");
	test_init();
	test_names();
	test_fetcher();
	test_opens();
	test_reads();
	test_walk();
	test_devices();
	sample_run("rm -rf %s", top);
	return check_end();
}
