/* What a server has done so far, for people and `tsrun image stats`. */
#include "server_internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

struct text {
	char *at;
	size_t len, room;
};

static void PRINTF_LIKE(2, 3) add(struct text *text, const char *format, ...)
{
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(text->at + text->len, text->room - text->len, format, args);
	va_end(args);
	if (len > 0)
		text->len += (size_t)len < text->room - text->len ? (size_t)len : text->room - text->len - 1;
}

static void add_image(struct text *text, const struct image *image)
{
	static const char *const names[IMAGEFS_COUNTS] = {
		[COUNT_LOOKUP] = "lookup", [COUNT_GETATTR] = "getattr", [COUNT_READ] = "read", [COUNT_READDIR] = "readdir",
		[COUNT_OTHER] = "other", [COUNT_BYTES] = "bytes", [COUNT_FAILED] = "failed",
	};
	const struct imagefs_shared *shared = supervised_shared(image->serving);

	add(text, "{\"device\": %" PRIu64 ", \"inode\": %" PRIu64 ", \"offset\": %" PRIu64 ", \"mount\": \"%s\", \"runs\": %u, \"pid\": %d, \"replaced\": %u",
		(uint64_t)image->identity.st_dev, (uint64_t)image->identity.st_ino, image->offset,
		image->mount >= 0 ? "shared" : image->box->view >= 0 ? "view" : "own", image->runs, supervised_pid(image->serving),
		supervised_replacements(image->serving));
	for (unsigned what = 0; what < IMAGEFS_COUNTS; what++) {
		uint64_t sum = 0;

		for (unsigned i = 0; i < shared->workers; i++)
			sum += atomic_load_explicit(&shared->slots[i].counts[what], memory_order_relaxed);
		add(text, ", \"%s\": %" PRIu64, names[what], sum);
	}
	add(text, ", \"cache\": %" PRIu64 "}", atomic_load(&shared->cache_bytes));
}

size_t server_tell_statistics(const struct server_box *box, const struct image *images, unsigned bare_runs, char *buffer, size_t room)
{
	struct text text = { .at = buffer, .room = room };
	const char *between = "";

	add(&text, "{\"key\": \"%s\", \"pid\": %d, \"runs\": %u, \"images\": [", box->key, getpid(), bare_runs);
	/* Room for one more and the end; nobody has that many. */
	for (const struct image *image = images; image != NULL && text.room - text.len > 1024; image = image->next, between = ", ") {
		add(&text, "%s", between);
		add_image(&text, image);
	}
	add(&text, "]}\n");
	return text.len;
}

int server_statistics_main(int argc, char **argv)
{
	static char text[WIRE_STATISTICS_MAX];
	struct wire_request request = { .protocol = WIRE_PROTOCOL, .wish = WIRE_STATISTICS };
	struct sockaddr_un address;
	int cleanup_fd dir = -1, cleanup_fd sock = -1;
	int none[2] = { -1, -1 };
	ssize_t got;

	if (argc != 3 || !wire_key_ok(argv[2])) {
		dprintf(STDERR_FILENO, "usage: tsrun @server-statistics DIR KEY\n");
		return 2;
	}
	dir = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (dir < 0 || sock < 0 || wire_address(&address, dir, argv[2]) < 0 || connect(sock, (struct sockaddr *)&address, sizeof address) < 0
		|| wire_send(sock, &request, sizeof request, none) < 0 || (got = RETRY(recv(sock, text, sizeof text, 0))) <= 0) {
		dprintf(STDERR_FILENO, "tsrun: no image server answers for %s in %s: %s\n", argv[2], argv[1], strerror(errno));
		return 1;
	}
	return write_full(STDOUT_FILENO, text, (size_t)got) < 0;
}
