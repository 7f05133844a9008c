#include "server_wire.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>

#define CLEARED_MAX 64 /* at a time: somebody waits for this server */
#define LOG_DAYS 7

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(WIRE_FDS * sizeof(int))];
};

int wire_send_parts(int sock, const struct iovec *parts, size_t part_count, const int fds[WIRE_FDS], int patience_ms)
{
	union control control = { 0 };
	struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = part_count };
	unsigned count = 0;
	size_t len = 0;
	ssize_t sent;

	while (count < WIRE_FDS && fds[count] >= 0)
		count++;
	if (count > 0) {
		struct cmsghdr *header;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
		header = CMSG_FIRSTHDR(&msg);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(header), fds, count * sizeof(int));
	}
	for (size_t i = 0; i < part_count; i++)
		len += parts[i].iov_len;
	while ((sent = RETRY(sendmsg(sock, &msg, MSG_NOSIGNAL))) < 0 && errno == ETOOMANYREFS && patience_ms-- > 0)
		poll(NULL, 0, 1);
	if (sent < 0)
		return errno == EPIPE ? -ECONNRESET : -errno;
	return (size_t)sent == len ? 0 : -EPROTO;
}

int wire_send(int sock, const void *message, size_t len, const int fds[WIRE_FDS])
{
	return wire_send_parts(sock, &(const struct iovec) { (void *)(uintptr_t)message, len }, 1, fds, 0);
}

static void take_fds(struct msghdr *msg, int fds[WIRE_FDS])
{
	unsigned taken = 0;

	for (struct cmsghdr *header = CMSG_FIRSTHDR(msg); header != NULL; header = CMSG_NXTHDR(msg, header)) {
		size_t count;

		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
			if (taken < WIRE_FDS)
				fds[taken++] = fd;
			else
				close(fd);
		}
	}
}

int wire_receive(int sock, void *message, size_t least, size_t most, int fds[WIRE_FDS], int flags)
{
	struct iovec part = { message, most };
	union control control = { 0 };
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
	ssize_t got = RETRY(recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC));

	for (unsigned i = 0; i < WIRE_FDS; i++)
		fds[i] = -1;
	if (got < 0)
		return -errno;
	take_fds(&msg, fds);
	if ((size_t)got >= least && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return (int)got;
	wire_close(fds);
	return got == 0 ? -ECONNRESET : -EPROTO;
}

void wire_close(int fds[WIRE_FDS])
{
	for (unsigned i = 0; i < WIRE_FDS; i++)
		close_fd(&fds[i]);
}

void wire_leave_unread(int sock)
{
	(void)!recv(sock, NULL, 0, MSG_DONTWAIT);
}

bool wire_key_ok(const char *key)
{
	size_t len = strlen(key);

	return len >= 1 && len <= 80 && key[0] != '.' && strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789.-") == len;
}

void wire_name(char name[WIRE_NAME_MAX], const char *key, enum wire_file file)
{
	static const char *const endings[] = { "sock", "lock", "log" };

	snprintf(name, WIRE_NAME_MAX, "%.80s.%d.%s", key, WIRE_PROTOCOL, endings[file]);
}

int wire_address(struct sockaddr_un *address, int dir, const char *key)
{
	char name[WIRE_NAME_MAX];

	wire_name(name, key, WIRE_SOCKET);
	*address = (struct sockaddr_un) { .sun_family = AF_UNIX };
	/* A key of 80 bytes fits behind a descriptor of five digits. */
	return snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", dir, name) < (int)sizeof address->sun_path ? 0 : -ENAMETOOLONG;
}

static int lock_file(int dir, const char *name, int how)
{
	for (;;) {
		int cleanup_fd fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		struct stat held, named;

		if (fd < 0 || RETRY(flock(fd, how)) < 0 || fstat(fd, &held) < 0)
			return -errno;
		/* A server that ended meanwhile has removed this file: the lock is then another one. */
		if (fstatat(dir, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && named.st_dev == held.st_dev && named.st_ino == held.st_ino)
			return steal_fd(&fd);
	}
}

int wire_lock(int dir, const char *key)
{
	char name[WIRE_NAME_MAX];

	wire_name(name, key, WIRE_LOCK);
	return lock_file(dir, name, LOCK_EX);
}

int wire_try_lock(int dir, const char *key)
{
	char name[WIRE_NAME_MAX];

	wire_name(name, key, WIRE_LOCK);
	return lock_file(dir, name, LOCK_EX | LOCK_NB);
}

/* --- what others have left --- */

/* The stem of KEY.PROTOCOL.ENDING, of any version; 0: it is another file. */
static int scope_stem(const char *name, const char *ending)
{
	size_t len = strlen(name), ending_len = strlen(ending), key_len;
	char key[WIRE_NAME_MAX];

	if (len <= ending_len || len >= sizeof key || strcmp(name + len - ending_len, ending) != 0)
		return 0;
	snprintf(key, sizeof key, "%.*s", (int)(len - ending_len), name);
	key_len = strlen(key);
	while (key_len > 0 && key[key_len - 1] >= '0' && key[key_len - 1] <= '9')
		key_len--;
	if (key_len == strlen(key) || key_len == 0 || key[key_len - 1] != '.')
		return 0;
	key[key_len - 1] = '\0';
	return wire_key_ok(key) ? (int)(len - ending_len) : 0;
}

/* With the lock held: nobody is about to listen there. */
static bool is_listened_to(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int cleanup_fd sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (sock < 0 || snprintf(address.sun_path, sizeof address.sun_path, "%s", name) >= (int)sizeof address.sun_path)
		return true;
	return connect(sock, (struct sockaddr *)&address, sizeof address) == 0 || (errno != ENOENT && errno != ECONNREFUSED);
}

static void clear_scope(const char *lock_name, int stem)
{
	char socket_name[WIRE_NAME_MAX];
	int cleanup_fd lock = lock_file(AT_FDCWD, lock_name, LOCK_EX | LOCK_NB);

	snprintf(socket_name, sizeof socket_name, "%.*s.sock", stem, lock_name);
	if (lock < 0 || is_listened_to(socket_name))
		return;
	unlink(socket_name);
	unlink(lock_name);
}

static bool is_old(const char *name)
{
	struct stat st;

	return lstat(name, &st) == 0 && st.st_mtim.tv_sec < time(NULL) - LOG_DAYS * 86400;
}

void wire_clear(void)
{
	DIR *listing = opendir(".");
	struct dirent *entry;
	unsigned looked_at = 0;

	while (listing != NULL && looked_at < CLEARED_MAX && (entry = readdir(listing)) != NULL) {
		int stem = scope_stem(entry->d_name, ".lock");

		if (stem > 0) {
			clear_scope(entry->d_name, stem);
			looked_at++;
		} else if (scope_stem(entry->d_name, ".log") > 0 && is_old(entry->d_name)) {
			unlink(entry->d_name);
		}
	}
	if (listing != NULL)
		closedir(listing);
}
