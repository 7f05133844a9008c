#include "exec.h"
#include "elf_parts.h"
#include "libc_path.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

#define STEP "run the program"

/* What the kernel reads of a program to tell its kind: enough for an ELF header or a line "#!interpreter argument". */
struct head {
	size_t len;
	union {
		char bytes[256];
		Elf64_Ehdr elf;
	};
};

static const struct {
	uint16_t number;
	const char *name;
} machines[] = {
	{EM_X86_64, "x86_64"}, {EM_AARCH64, "aarch64"}, {EM_386, "i386"}, {EM_ARM, "arm"}, {EM_PPC64, "ppc64"}, {EM_S390, "s390x"}, {EM_RISCV, "riscv64"},
};

static int read_head(const char *path, struct head *head)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : pread(fd, head->bytes, sizeof head->bytes - 1, 0);

	head->len = got > 0 ? (size_t)got : 0;
	head->bytes[head->len] = '\0';
	return fd;
}

static bool is_elf(const struct head *head)
{
	return head->len >= sizeof head->elf && memcmp(head->bytes, ELFMAG, SELFMAG) == 0;
}

/* The program interpreter (the C library's loader) of a 64-bit ELF file into `out`; false when it names none. */
static bool elf_interpreter(int fd, const struct head *head, char out[PATH_MAX])
{
	for (unsigned i = 0; i < head->elf.e_phnum && i < 64; i++) {
		Elf64_Phdr segment;
		off_t at = (off_t)(head->elf.e_phoff + (uint64_t)i * head->elf.e_phentsize);
		ssize_t got;

		if (pread(fd, &segment, sizeof segment, at) != (ssize_t)sizeof segment)
			return false;
		if (segment.p_type != PT_INTERP)
			continue;
		got = pread(fd, out, segment.p_filesz < PATH_MAX - 1 ? segment.p_filesz : PATH_MAX - 1, (off_t)segment.p_offset);
		out[got < 0 ? 0 : got] = '\0';
		return got > 0;
	}
	return false;
}

/* The interpreter of a script, from its "#!" line. */
static bool script_interpreter(const struct head *head, char out[PATH_MAX])
{
	const char *at = head->bytes + 2;
	size_t len;

	if (head->len < 3 || memcmp(head->bytes, "#!", 2) != 0)
		return false;
	at += strspn(at, " \t");
	len = strcspn(at, " \t\r\n");
	memcpy(out, at, len);
	out[len] = '\0';
	return len > 0;
}

static const char *machine_name(uint16_t number)
{
	for (size_t i = 0; i < ARRAY_LEN(machines); i++) {
		if (machines[i].number == number)
			return machines[i].name;
	}
	return "another machine";
}

static int explain_missing(const char *path, struct err *err)
{
	struct head head;
	cleanup_fd int fd = read_head(path, &head);
	char interpreter[PATH_MAX];

	if (script_interpreter(&head, interpreter)) {
		size_t len = strcspn(head.bytes, "\n");

		if (len > 0 && head.bytes[len - 1] == '\r')
			return fail(err, ENOENT, STEP, "%s: its first line ends with a carriage return, so the interpreter is not found (#!%s)", path, interpreter);
		return fail(err, ENOENT, STEP, "%s: its interpreter %s is missing", path, interpreter);
	}
	if (is_elf(&head) && head.elf.e_ident[EI_CLASS] == ELFCLASS64 && elf_interpreter(fd, &head, interpreter))
		return fail(err, ENOENT, STEP, "%s: its loader %s is missing (it was built for another C library or system)", path, interpreter);
	return fail(err, ENOENT, STEP, "%s: it, or the interpreter it needs, is missing", path);
}

static int explain_denied(const char *path, struct err *err)
{
	struct stat st;
	struct statvfs fs;
	struct head head;
	char interpreter[PATH_MAX];

	if (stat(path, &st) < 0)
		return fail(err, EACCES, STEP, "%s: a directory on the way to it is closed to you", path);
	if (S_ISDIR(st.st_mode))
		return fail(err, EACCES, STEP, "%s: it is a directory", path);
	if (!S_ISREG(st.st_mode))
		return fail(err, EACCES, STEP, "%s: it is not a regular file", path);
	if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
		return fail(err, EACCES, STEP, "%s: it is not executable", path);
	if (statvfs(path, &fs) == 0 && (fs.f_flag & ST_NOEXEC) != 0)
		return fail(err, EACCES, STEP, "%s: it lies on a file system mounted noexec", path);
	cleanup_fd int fd = read_head(path, &head);
	if (script_interpreter(&head, interpreter) || (is_elf(&head) && elf_interpreter(fd, &head, interpreter)))
		return fail(err, EACCES, STEP, "%s: its interpreter %s is not executable", path, interpreter);
	return fail(err, EACCES, STEP, "%s", path);
}

/* The kernel does not know the format: a program for another machine, or a script without "#!", which shells have always run themselves. */
static int run_unknown_format(const char *path, char **argv, char **envp, struct err *err)
{
	struct head head;
	cleanup_fd int fd = read_head(path, &head);
	struct utsname here;
	size_t count = 0;

	if (is_elf(&head)) {
		uname(&here);
		return fail(err, ENOEXEC, STEP, "%s: it is a program for %s, this machine is %s", path, machine_name(head.elf.e_machine), here.machine);
	}
	if (fd < 0 || memchr(head.bytes, '\0', head.len) != NULL)
		return fail(err, ENOEXEC, STEP, "%s: it is neither a program nor a script", path);
	while (argv[count] != NULL)
		count++;
	cleanup_free char **shell_argv = calloc(count + 2, sizeof *shell_argv);
	if (shell_argv == NULL)
		return fail(err, ENOMEM, STEP, "%s", path);
	shell_argv[0] = (char[]){"sh"};
	shell_argv[1] = (char *)(uintptr_t)path;
	for (size_t i = 1; i < count; i++)
		shell_argv[i + 1] = argv[i];
	close_fd(&fd);
	execve("/bin/sh", shell_argv, envp);
	return fail(err, ENOEXEC, STEP, "%s: it has no #! line, and /bin/sh cannot run it (%s)", path, strerror(errno));
}

/* --- asking ahead --- */

#define ASKED_MAX (2 << 20) /* of each file; nobody touches all of a large one */
#define ASKED_AT_ONCE (128 << 10) /* more than its own reading ahead the kernel does not read for one call */

static void ask_around(int fd, uint64_t at)
{
	posix_fadvise(fd, (off_t)(at - at % ASKED_AT_ONCE), ASKED_AT_ONCE, POSIX_FADV_WILLNEED);
}

/* In the order in which it is touched, which is that of the answers. */
static void ask_for_parts(int fd, uint64_t size, struct elf_parts *parts)
{
	char head[ELF_PARTS_HEAD];
	ssize_t got;

	ask_around(fd, 0);
	got = pread(fd, head, sizeof head, 0);
	elf_parts_read(parts, head, got < 0 ? 0 : (size_t)got);
	if (parts->data_end > 0)
		ask_around(fd, parts->data_end - 1);
	ask_around(fd, parts->entry);
	for (uint64_t at = 0; at < size && at < ASKED_MAX; at += ASKED_AT_ONCE)
		ask_around(fd, at);
}

static bool ask_for(const char *path, struct elf_parts *parts)
{
	struct stat st;
	cleanup_fd int fd = stat(path, &st) < 0 || !S_ISREG(st.st_mode) ? -1 : open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return false;
	/* The first time that a file of a mount is closed the kernel asks whether to tell of that. Now: later, that question waits behind all that is asked for here. */
	close(fcntl(fd, F_DUPFD_CLOEXEC, 0));
	ask_for_parts(fd, (uint64_t)st.st_size, parts);
	return true;
}

/* Whoever answers works then while this process starts; else each page that is missing would wake it, wait, and wake this one. */
static void ask_for_program(const char *path)
{
	struct elf_parts program, library;
	char libc_path[LIBC_PATH_MAX];

	if (!ask_for(path, &program) || program.loader[0] == '\0')
		return;
	ask_for(program.loader, &library);
	if (!ask_for(libc_beside(program.loader, libc_path), &library))
		ask_for(LIBC_USUAL, &library);
}

/* How trying one path ended; `err` says why, but for NOT_THERE. */
enum attempt { NOT_THERE, DENIED, FAILED };

static enum attempt try_exec(const char *path, char **argv, char **envp, bool ahead, struct err *err)
{
	struct stat st;

	if (ahead)
		ask_for_program(path);
	execve(path, argv, envp);
	switch (errno) {
	case ENOENT:
	case ENOTDIR:
		if (stat(path, &st) < 0)
			return NOT_THERE;
		explain_missing(path, err);
		return FAILED;
	case EACCES:
		explain_denied(path, err);
		return DENIED;
	case ENOEXEC:
		run_unknown_format(path, argv, envp, err);
		return FAILED;
	case E2BIG:
		fail(err, E2BIG, STEP, "%s: its arguments and environment are longer than the kernel takes", path);
		return FAILED;
	default:
		fail(err, errno, STEP, "%s", path);
		return FAILED;
	}
}

static const char *search_path(char *const *envp)
{
	for (; *envp != NULL; envp++) {
		if (strncmp(*envp, "PATH=", 5) == 0)
			return *envp + 5;
	}
	return "";
}

int payload_exec(const char *file, char **argv, char **envp, bool ahead, struct err *err)
{
	const char *search = search_path(envp);
	const char *at = search;
	bool denied = false;

	if (strchr(file, '/') != NULL) {
		if (try_exec(file, argv, envp, ahead, err) == NOT_THERE)
			return fail(err, ENOENT, STEP, "%s: there is no such file", file);
		return -err->errnum;
	}
	while (search[0] != '\0') {
		size_t len = strcspn(at, ":");
		char path[PATH_MAX];
		/* An empty entry is the working directory. */
		int written = snprintf(path, sizeof path, "%.*s/%s", len == 0 ? 1 : (int)len, len == 0 ? "." : at, file);
		/* Looking first is cheaper than an exec that fails, and most directories do not have it. */
		bool there = written < (int)sizeof path && (faccessat(AT_FDCWD, path, F_OK, 0) == 0 || errno == EACCES);
		enum attempt attempt = there ? try_exec(path, argv, envp, ahead, err) : NOT_THERE;

		if (attempt == FAILED)
			return -err->errnum;
		denied |= attempt == DENIED;
		if (at[len] == '\0')
			break;
		at += len + 1;
	}
	return denied ? -err->errnum : fail(err, ENOENT, STEP, "%s: it is in no directory of PATH (%s)", file, search);
}
