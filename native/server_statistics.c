/* What a server has done so far, for people and `tsrun image stats`. */
#include "server_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ANSWER_SECONDS 5

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

/* A path may hold any byte: what is not plain text is left as its number. */
static void add_string(struct text *text, const char *bytes)
{
	add(text, "\"");
	for (const unsigned char *at = (const unsigned char *)bytes; *at != '\0'; at++) {
		if (*at < 0x20 || *at >= 0x7f || *at == '"' || *at == '\\')
			add(text, "\\u%04x", *at);
		else
			add(text, "%c", *at);
	}
	add(text, "\"");
}

static void add_image(struct text *text, const struct image *image)
{
	static const char *const names[IMAGEFS_COUNTS] = {
		[COUNT_LOOKUP] = "lookup", [COUNT_GETATTR] = "getattr", [COUNT_READ] = "read", [COUNT_READDIR] = "readdir",
		[COUNT_OTHER] = "other", [COUNT_BYTES] = "bytes", [COUNT_FAILED] = "failed",
	};
	const struct imagefs_shared *shared = supervised_shared(image->serving);
	unsigned layouts = 0;

	add(text, "{\"name\": ");
	add_string(text, image->name);
	add(text, ", \"device\": %" PRIu64 ", \"inode\": %" PRIu64 ", \"offset\": %" PRIu64 ", \"mount\": \"%s\", \"runs\": %u, \"pid\": %d, \"replaced\": %u",
		(uint64_t)image->identity.st_dev, (uint64_t)image->identity.st_ino, image->offset,
		image->mount >= 0 ? "shared" : image->box->view >= 0 ? "view" : "own", image->runs, supervised_pid(image->serving),
		supervised_replacements(image->serving));
	for (unsigned what = 0; what < IMAGEFS_COUNTS; what++) {
		uint64_t sum = 0;

		for (unsigned i = 0; i < shared->workers; i++)
			sum += atomic_load_explicit(&shared->slots[i].counts[what], memory_order_relaxed);
		add(text, ", \"%s\": %" PRIu64, names[what], sum);
	}
	for (const struct layout *layout = image->layouts; layout != NULL; layout = layout->next)
		layouts += layout->state == LAYOUT_FINISHED;
	add(text, ", \"layouts\": %u", layouts);
	add(text, ", \"cache\": %" PRIu64 ", \"hits\": %" PRIu64 ", \"loads\": %" PRIu64 "}", atomic_load(&shared->cache_bytes),
		atomic_load(&shared->cache_hits), atomic_load(&shared->cache_loads));
}

size_t server_tell_statistics(const struct server_box *box, const struct image *images, unsigned bare_runs, char *buffer, size_t room)
{
	struct text text = { .at = buffer, .room = room };
	const char *between = "";

	add(&text, "{\"key\": \"%s\", \"pid\": %d, \"runs\": %u, \"images\": [", box->key, getpid(), bare_runs);
	/* Room for one more and the end; nobody has that many. */
	for (const struct image *image = images; image != NULL && text.room - text.len > 1024 + 6 * WIRE_IMAGE_NAME_MAX; image = image->next, between = ", ") {
		add(&text, "%s", between);
		add_image(&text, image);
	}
	add(&text, "]}\n");
	return text.len;
}

/* Asks one server and writes its answer; -errno when there is none. */
static int ask(int dir, const char *key)
{
	static char text[WIRE_STATISTICS_MAX];
	struct wire_request request = { .protocol = WIRE_PROTOCOL, .wish = WIRE_STATISTICS };
	struct timeval patience = { .tv_sec = ANSWER_SECONDS };
	struct sockaddr_un address;
	int cleanup_fd sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int none[WIRE_FDS] = { -1 };
	ssize_t got;
	int rc = wire_address(&address, dir, key);

	if (sock < 0 || rc < 0)
		return sock < 0 ? -errno : rc;
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	if (connect(sock, (struct sockaddr *)&address, sizeof address) < 0)
		return -errno;
	rc = wire_send(sock, &request, sizeof request, none);
	if (rc < 0)
		return rc;
	got = RETRY(recv(sock, text, sizeof text, 0));
	if (got <= 0)
		return got < 0 ? -errno : -ECONNRESET;
	return write_full(STDOUT_FILENO, text, (size_t)got);
}

/* The key in the name of a socket of this version, or nothing. */
static bool key_of(const char *name, char key[WIRE_NAME_MAX])
{
	char end[32];
	size_t len = strlen(name), end_len = (size_t)snprintf(end, sizeof end, ".%d.sock", WIRE_PROTOCOL);

	if (len <= end_len || len >= WIRE_NAME_MAX || strcmp(name + len - end_len, end) != 0)
		return false;
	memcpy(key, name, len - end_len);
	key[len - end_len] = '\0';
	return wire_key_ok(key);
}

/* A server that ends just now, or has left its socket behind, is none; one that hangs is left out with a word. */
static int ask_all(int dir, const char *path)
{
	DIR *listing = fdopendir(dir);
	struct dirent *entry;
	char key[WIRE_NAME_MAX];

	while (listing != NULL && (entry = readdir(listing)) != NULL) {
		int rc = key_of(entry->d_name, key) ? ask(dirfd(listing), key) : 0;

		if (rc < 0 && rc != -ENOENT && rc != -ECONNREFUSED && rc != -ECONNRESET)
			dprintf(STDERR_FILENO, "tsrun: the image server %s in %s does not answer: %s\n", key, path, strerror(-rc));
	}
	if (listing != NULL)
		closedir(listing);
	return 0;
}

int server_statistics_main(int argc, char **argv)
{
	struct stat st;
	int dir, rc;

	if (argc < 2 || argc > 3 || (argc == 3 && !wire_key_ok(argv[2]))) {
		dprintf(STDERR_FILENO, "usage: tsrun @server-statistics DIR [KEY]\n");
		return 2;
	}
	dir = open(argv[1], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 && errno == ENOENT && argc == 2)
		return 0;
	if (dir < 0 || fstat(dir, &st) < 0 || st.st_uid != geteuid()) {
		dprintf(STDERR_FILENO, "tsrun: cannot look for image servers in %s: %s\n", argv[1], dir < 0 ? strerror(errno) : "it belongs to somebody else");
		return 1;
	}
	if (argc == 2)
		return ask_all(dir, argv[1]);
	rc = ask(dir, argv[2]);
	close(dir);
	if (rc < 0)
		dprintf(STDERR_FILENO, "tsrun: no image server answers for %s in %s: %s\n", argv[2], argv[1], strerror(-rc));
	return rc < 0;
}
