#include "fetch.h"

#include "server_internal.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define READ_MAX (128u << 10) /* the kernel reads no more ahead at a time, whatever it is told */
#define FILES 8u              /* kept open */

struct message {
	uint64_t offset;
	uint32_t length;
	uint32_t kind; /* enum hot_touch_kind */
	char path[PATH_MAX];
};

/* --- in the process that serves --- */

bool fetch_ask(int fetcher, int flags, enum hot_touch_kind kind, const char *path, uint64_t offset, uint64_t length)
{
	size_t path_size = strlen(path) + 1;
	struct message message;

	if (path_size > sizeof message.path)
		return false;
	message.kind = (uint32_t)kind;
	memcpy(message.path, path, path_size);
	do {
		message.offset = offset;
		message.length = length < READ_MAX ? (uint32_t)length : READ_MAX;
		if (RETRY(send(fetcher, &message, offsetof(struct message, path) + path_size, flags | MSG_NOSIGNAL)) < 0)
			return false;
		offset += message.length;
		length -= message.length;
	} while (length > 0);
	return true;
}

/* --- in the one that fetches --- */

struct open_file {
	int fd;
	char path[PATH_MAX];
};

static int opened(struct open_file *files, const char *path)
{
	struct open_file *file;
	unsigned hash = 0;

	for (const char *at = path; *at != '\0'; at++)
		hash = hash * 31 + (unsigned char)*at;
	file = &files[hash % FILES];
	if (strcmp(file->path, path) != 0) {
		close_fd(&file->fd);
		file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
		strcpy(file->path, path);
	}
	return file->fd;
}

static void list_names(const char *path)
{
	int cleanup_fd directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	char names[32u << 10];

	while (syscall(SYS_getdents64, directory, names, sizeof names) > 0)
		;
}

static void fetch(struct open_file *files, const struct message *message)
{
	char text[PATH_MAX];

	switch (message->kind) {
	case HOT_INODE: /* or what its link says: after looking for that the kernel has its attributes, too */
		(void)!readlinkat(AT_FDCWD, message->path, text, sizeof text);
		break;
	case HOT_ENTRIES:
		list_names(message->path);
		break;
	case HOT_DATA:
		posix_fadvise(opened(files, message->path), (off_t)message->offset, message->length, POSIX_FADV_WILLNEED);
		break;
	}
}

static void fetch_until_closed(int socket)
{
	struct open_file files[FILES] = { [0 ... FILES - 1] = { .fd = -1 } };
	struct message message;
	ssize_t len;

	while ((len = RETRY(recv(socket, &message, sizeof message, 0))) > (ssize_t)offsetof(struct message, path)) {
		((char *)&message)[len - 1] = '\0';
		fetch(files, &message);
	}
}

NORETURN void fetching_main(pid_t parent, struct imagefs_shared *shared, int mount, int socket)
{
	int kept[] = { mount, socket };

	prctl(PR_SET_NAME, "tsrun-rests");
	/* It is nothing without the server, and would keep the mount in use. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	close_all_but(kept, ARRAY_LEN(kept));
	/* Whatever links a hostile image has, they lead nowhere else. */
	if (fchdir(mount) < 0 || chroot(".") < 0)
		_exit(1);
	close(mount);
	atomic_store(&shared->fetcher, (uint32_t)getpid());
	imagefs_shared_free(shared);
	if (fetching_filter() < 0)
		_exit(1);
	fetch_until_closed(socket);
	_exit(0);
}
