/* `calls NAME ARG… , NAME ARG…`: system calls as they are, whatever a C library would make of them. An argument is a number, `=PATH` (a descriptor opened
 * O_PATH|O_NOFOLLOW), `<PATH` (opened for reading), or else a string. For each call one line: its result, or its error. With CALLS_OF_32_BITS (x86): as programs of
 * 32 bits make them, with their numbers and through their entry into the kernel, which needs no C library of 32 bits. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef CALLS_OF_32_BITS
#include <asm/unistd_32.h>
#else
#include <asm/unistd.h>
#endif

#define CALL(name) {#name, __NR_##name},
static const struct {
	const char *name;
	long number;
} calls[] = {
#ifdef __NR_chown
	CALL(chown) CALL(lchown) CALL(mknod)
#endif
#ifdef __NR_chown32
	CALL(chown32) CALL(lchown32) CALL(fchown32) CALL(setuid32) CALL(setgid32) CALL(setreuid32) CALL(setregid32) CALL(setgroups32) CALL(setresuid32)
	CALL(setresgid32) CALL(setfsuid32) CALL(setfsgid32)
#endif
	CALL(fchown) CALL(fchownat) CALL(mknodat) CALL(setxattr) CALL(lsetxattr) CALL(fsetxattr) CALL(removexattr) CALL(lremovexattr) CALL(fremovexattr)
	CALL(setuid) CALL(setgid) CALL(setreuid) CALL(setregid) CALL(setgroups) CALL(setresuid) CALL(setresgid) CALL(setfsuid) CALL(setfsgid)
	{"removexattrat", 466}, CALL(chroot) CALL(chdir) CALL(fchdir) CALL(umask) CALL(unshare)
};

#ifdef CALLS_OF_32_BITS
static long call(long number, const long args[6])
{
	long result;

	/* The sixth argument is in ebp; below the stack pointer the compiler may have put something. */
	__asm__ volatile("sub $128, %%rsp\n\tpush %%rbp\n\tmov %7, %%rbp\n\tint $0x80\n\tpop %%rbp\n\tadd $128, %%rsp"
	                 : "=a"(result)
	                 : "0"(number), "b"(args[0]), "c"(args[1]), "d"(args[2]), "S"(args[3]), "D"(args[4]), "r"(args[5])
	                 : "memory", "cc", "r8", "r9", "r10", "r11");
	if (result >= 0 || result < -4095)
		return result;
	errno = (int)-result;
	return -1;
}

/* Where 32 bits reach. */
static long string(const char *text)
{
	static char *at, *end;
	size_t len = strlen(text) + 1;

	if (at == NULL) {
		at = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
		end = at + (1 << 16);
	}
	if (at == MAP_FAILED || len > (size_t)(end - at))
		exit(2);
	memcpy(at, text, len);
	at += len;
	return (long)(at - len);
}
#else
static long call(long number, const long args[6])
{
	return syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}

static long string(const char *text)
{
	return (long)text;
}
#endif

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
	return string(text);
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
		result = call(calls[at].number, args);
		if (result < 0)
			printf("%s: %s\n", name, strerrorname_np(errno));
		else
			printf("%s: %ld\n", name, result);
	}
	return 0;
}
