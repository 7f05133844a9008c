#include "host_internal.h"

#include <limits.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>

/* --- what the process was given --- */

int64_t host_call_args(struct host *host, const struct host_value *args UNUSED, struct host_reply *reply)
{
	reply->list = true;
	for (int i = 0; i < host->argc; i++)
		if (host_reply_list_text(reply, host->argv[i]) != 0)
			return -ENOMEM;
	return 0;
}

int64_t host_call_getcwd(struct host *host UNUSED, const struct host_value *args UNUSED, struct host_reply *reply)
{
	while (getcwd(reply->data, reply->room) == NULL) {
		if (errno != ERANGE || reply->room > PATH_MAX)
			return -errno;
		if (host_reply_room(reply, reply->room * 2) != 0)
			return -ENOMEM;
	}
	reply->len = strlen(reply->data);
	return 0;
}

int64_t host_call_ids(struct host *host UNUSED, const struct host_value *args UNUSED, struct host_reply *reply)
{
	cleanup_free gid_t *groups = NULL;
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid;
	int count;

	if (getresuid(&ruid, &euid, &suid) != 0 || getresgid(&rgid, &egid, &sgid) != 0)
		return -errno;
	count = getgroups(0, NULL);
	if (count < 0)
		return -errno;
	groups = calloc((size_t)count + 1, sizeof *groups);
	if (groups == NULL)
		return -ENOMEM;
	count = getgroups(count, groups);
	if (count < 0)
		return -errno;
	if (host_reply_list_number(reply, ruid) != 0 || host_reply_list_number(reply, euid) != 0 || host_reply_list_number(reply, rgid) != 0 ||
	    host_reply_list_number(reply, egid) != 0)
		return -ENOMEM;
	for (int i = 0; i < count; i++)
		if (host_reply_list_number(reply, groups[i]) != 0)
			return -ENOMEM;
	return 0;
}

int64_t host_call_uname(struct host *host UNUSED, const struct host_value *args UNUSED, struct host_reply *reply)
{
	struct utsname name;

	if (uname(&name) != 0)
		return -errno;
	if (host_reply_list_text(reply, name.sysname) != 0 || host_reply_list_text(reply, name.nodename) != 0 || host_reply_list_text(reply, name.release) != 0)
		return -ENOMEM;
	return host_reply_list_text(reply, name.machine);
}

int64_t host_call_self_exe(struct host *host UNUSED, const struct host_value *args UNUSED, struct host_reply *reply)
{
	return host_link_text("/proc/self/exe", reply);
}

int64_t host_call_isatty(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply UNUSED)
{
	if (args[0].number < 0 || args[0].number > 2)
		return -EINVAL;
	return isatty((int)args[0].number);
}

/* --- the rest --- */

int64_t host_call_getent(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	return host_getent(args[0].bytes, args[1].bytes, reply);
}

int64_t host_call_random(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	unsigned char bytes[64];
	size_t count = (size_t)args[0].number;

	if (args[0].number < 0 || count > sizeof bytes)
		return -EINVAL;
	if (RETRY(getrandom(bytes, count, 0)) != (ssize_t)count)
		return -EIO;
	for (size_t i = 0; i < count; i++)
		if (host_reply_print(reply, "%02x", bytes[i]) != 0)
			return -ENOMEM;
	return 0;
}

int64_t host_call_fnv64(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	uint64_t hash = 0xcbf29ce484222325;

	for (size_t i = 0; i < args[0].len; i++)
		hash = (hash ^ (unsigned char)args[0].bytes[i]) * 0x100000001b3;
	return host_reply_print(reply, "%016llx", (unsigned long long)hash);
}

/* Names from outside may hold terminal controls: they are shown as "?". */
int64_t host_call_log(struct host *host UNUSED, const struct host_value *args, struct host_reply *reply)
{
	if (host_reply_add(reply, args[0].bytes, args[0].len) != 0)
		return -ENOMEM;
	for (size_t i = 0; i < reply->len; i++) {
		unsigned char c = (unsigned char)reply->data[i];
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			reply->data[i] = '?';
	}
	if (host_reply_add(reply, "\n", 1) != 0)
		return -ENOMEM;
	return write_full(STDERR_FILENO, reply->data, reply->len);
}

/* --- the table --- */

struct call {
	const char *name;
	const char *arguments;
	int64_t (*run)(struct host *host, const struct host_value *args, struct host_reply *reply);
};

static const struct call calls[] = {
#define CALL(number, call_name, call_arguments) [number] = {.name = #call_name, .arguments = call_arguments, .run = host_call_##call_name},
#include "host.def"
#undef CALL
};

/* Which calls answer with a number: the others answer with text. */
static bool answers_number(uint32_t number)
{
	switch (number) {
	case HOST_isatty:
	case HOST_access:
	case HOST_statfs:
	case HOST_same_file:
	case HOST_open_keep:
	case HOST_log:
		return true;
	default:
		return false;
	}
}

static bool arguments_fit(const struct call *call, const struct host_value *args, size_t count)
{
	if (strlen(call->arguments) != count)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (call->arguments[i] == 'n' && args[i].bytes != NULL)
			return false;
		if (call->arguments[i] == 't' && args[i].bytes == NULL)
			return false;
		if (call->arguments[i] == 's' && (args[i].bytes == NULL || memchr(args[i].bytes, 0, args[i].len) != NULL))
			return false;
	}
	return true;
}

int64_t host_call(void *context, uint32_t number, const struct host_value *args, size_t count, struct host_reply *reply)
{
	const struct call *call = number < ARRAY_LEN(calls) ? &calls[number] : NULL;
	int64_t result;

	host_reply_clear(reply);
	if (call == NULL || call->run == NULL)
		return -ENOSYS;
	if (!arguments_fit(call, args, count))
		return -EINVAL;
	result = call->run(context, args, reply);
	reply->list = reply->list && result == 0;
	reply->text = result == 0 && !reply->list && !answers_number(number);
	return result;
}

struct host_ops host_ops_of(struct host *host)
{
	return (struct host_ops){.call = host_call, .take_fd = host_take_fd, .context = host};
}

void host_release(struct host *host)
{
	for (int i = 0; i < host->kept_count; i++)
		close_fd(&host->kept[i]);
	host->kept_count = 0;
}
