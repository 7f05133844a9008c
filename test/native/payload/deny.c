/* `deny ERRNO CALL… -- COMMAND ARG…`: runs COMMAND under a filter that refuses system calls, as an older kernel (ENOSYS) or another place (EINVAL,
 * EPERM) would. Fallbacks are tested on new kernels this way. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
	const char *name;
	unsigned number;
} calls[] = {
	{"openat2", SYS_openat2},       {"open_tree", SYS_open_tree},   {"move_mount", SYS_move_mount}, {"mount_setattr", SYS_mount_setattr},
	{"fsopen", SYS_fsopen},         {"fsmount", SYS_fsmount},       {"close_range", SYS_close_range}, {"pivot_root", SYS_pivot_root},
	{"unshare", SYS_unshare},       {"setns", SYS_setns},           {"pidfd_open", SYS_pidfd_open}, {"clone3", SYS_clone3},
	{"mount", SYS_mount},           {"statx", SYS_statx},           {"faccessat2", SYS_faccessat2},   {"fsconfig", SYS_fsconfig},
	{"seccomp", SYS_seccomp},       {"process_vm_readv", SYS_process_vm_readv},
};
static const struct {
	const char *name;
	unsigned number;
} errors[] = {{"ENOSYS", ENOSYS}, {"EINVAL", EINVAL}, {"EPERM", EPERM}, {"EAGAIN", EAGAIN}};

static struct sock_filter filter[64];
static unsigned short length;

static void add(struct sock_filter instruction)
{
	filter[length++] = instruction;
}

/* Linux before 6.15 does not clone a mount that is attached nowhere. What a call's descriptor is cannot be seen by a filter; but nobody else calls
 * open_tree with a descriptor alone and without AT_RECURSIVE. */
static void refuse_detached_clone(unsigned number)
{
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_open_tree, 0, 6));
	add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])));
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)AT_FDCWD, 3, 0));
	add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])));
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH, 0, 1));
	add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | number));
	add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
}

static void refuse(const char *name, unsigned number)
{
	if (strcmp(name, "detached_clone") == 0) {
		refuse_detached_clone(number);
		return;
	}
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		if (strcmp(name, calls[i].name) != 0)
			continue;
		add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, 0, 1));
		add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | number));
		return;
	}
	fprintf(stderr, "deny: unknown call %s\n", name);
	exit(90);
}

int main(int argc, char **argv)
{
	struct sock_fprog program = {.filter = filter};
	unsigned number = 0;
	int i = 2;

	for (size_t e = 0; argc > 1 && e < sizeof errors / sizeof *errors; e++) {
		if (strcmp(argv[1], errors[e].name) == 0)
			number = errors[e].number;
	}
	add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
	for (; i < argc && strcmp(argv[i], "--") != 0; i++)
		refuse(argv[i], number);
	add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
	program.len = length;
	if (number == 0 || i + 1 >= argc) {
		fprintf(stderr, "usage: deny ENOSYS|EINVAL|EPERM|EAGAIN CALL... -- COMMAND ARG...\n");
		return 90;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) {
		perror("deny");
		return 90;
	}
	execvp(argv[i + 1], argv + i + 1);
	perror(argv[i + 1]);
	return 91;
}
