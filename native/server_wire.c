#include "server_wire.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(2 * sizeof(int))];
};

int wire_send(int sock, const void *message, size_t len, const int fds[2])
{
	struct iovec part = { (void *)(uintptr_t)message, len };
	union control control = { 0 };
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1 };
	unsigned count = fds[0] < 0 ? 0 : fds[1] < 0 ? 1 : 2;
	ssize_t sent;

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
	sent = RETRY(sendmsg(sock, &msg, MSG_NOSIGNAL));
	if (sent < 0)
		return errno == EPIPE ? -ECONNRESET : -errno;
	return (size_t)sent == len ? 0 : -EPROTO;
}

static void take_fds(struct msghdr *msg, int fds[2])
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
			if (taken < 2)
				fds[taken++] = fd;
			else
				close(fd);
		}
	}
}

int wire_receive(int sock, void *message, size_t len, int fds[2], int flags)
{
	struct iovec part = { message, len };
	union control control = { 0 };
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
	ssize_t got = RETRY(recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC));

	fds[0] = fds[1] = -1;
	if (got < 0)
		return -errno;
	take_fds(&msg, fds);
	if ((size_t)got == len && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return 0;
	close_fd(&fds[0]);
	close_fd(&fds[1]);
	return got == 0 ? -ECONNRESET : -EPROTO;
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

int wire_lock(int dir, const char *key)
{
	char name[WIRE_NAME_MAX];

	wire_name(name, key, WIRE_LOCK);
	for (;;) {
		int cleanup_fd fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		struct stat held, named;

		if (fd < 0 || RETRY(flock(fd, LOCK_EX)) < 0 || fstat(fd, &held) < 0)
			return -errno;
		/* A server that ended meanwhile has removed this file: the lock is then another one. */
		if (fstatat(dir, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && named.st_dev == held.st_dev && named.st_ino == held.st_ino)
			return steal_fd(&fd);
	}
}
