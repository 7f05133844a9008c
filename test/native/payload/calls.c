/* `calls NAME ARG… , NAME ARG…`: system calls as they are, whatever a C library would make of them; compiled for each ABI of the machine. An argument is a number,
 * `=PATH` (a descriptor opened O_PATH|O_NOFOLLOW), `<PATH` (opened for reading), or else a string. For each call one line: its result, or its error. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CALL(name) {#name, SYS_##name},
static const struct {
	const char *name;
	long number;
} calls[] = {
#ifdef SYS_chown
	CALL(chown) CALL(lchown) CALL(mknod)
#endif
#ifdef SYS_chown32
	CALL(chown32) CALL(lchown32) CALL(fchown32) CALL(setuid32) CALL(setgid32) CALL(setreuid32) CALL(setregid32) CALL(setgroups32) CALL(setresuid32)
	CALL(setresgid32) CALL(setfsuid32) CALL(setfsgid32)
#endif
	CALL(fchown) CALL(fchownat) CALL(mknodat) CALL(setxattr) CALL(lsetxattr) CALL(fsetxattr) CALL(removexattr) CALL(lremovexattr) CALL(fremovexattr)
	CALL(setuid) CALL(setgid) CALL(setreuid) CALL(setregid) CALL(setgroups) CALL(setresuid) CALL(setresgid) CALL(setfsuid) CALL(setfsgid)
	{"removexattrat", 466}, {"chroot", SYS_chroot}, {"chdir", SYS_chdir}, {"fchdir", SYS_fchdir}, {"umask", SYS_umask}, {"unshare", SYS_unshare},
};

static long argument(char *text)
{
	char *end;
	long number = strtol(text, &end, 0);

	if (end != text && *end == '\0')
		return number;
	if (text[0] == '=')
		return open(text + 1, O_PATH | O_NOFOLLOW);
	if (text[0] == '<')
		return open(text + 1, O_RDONLY);
	return (long)text;
}

int main(int argc, char **argv)
{
	int i = 1;

	while (i < argc) {
		long args[6] = {0}, result = -1;
		const char *name = argv[i++];
		size_t at = 0, count = 0;

		for (; i < argc && strcmp(argv[i], ",") != 0; i++) {
			if (count < 6)
				args[count++] = argument(argv[i]);
		}
		i++;
		while (at < sizeof calls / sizeof *calls && strcmp(calls[at].name, name) != 0)
			at++;
		if (at == sizeof calls / sizeof *calls) {
			printf("%s: unknown\n", name);
			continue;
		}
		result = syscall(calls[at].number, args[0], args[1], args[2], args[3], args[4], args[5]);
		if (result < 0)
			printf("%s: %s\n", name, strerrorname_np(errno));
		else
			printf("%s: %ld\n", name, result);
	}
	return 0;
}
