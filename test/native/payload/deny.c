/* `deny ERRNO CALL… -- COMMAND ARG…`: runs COMMAND under a filter that refuses system calls, as another place (EINVAL, EPERM) would.
 * `deny linux-VERSION -- COMMAND ARG…`: the same as a kernel of that version would: what came later is refused with the errors it would give.
 * `deny KILL CALL… -- COMMAND ARG…`: ends the process that makes such a call.
 * Fallbacks are tested on new kernels this way. Distributions bring some calls to older kernels; who does without them does so with them, too. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif
#define VERSION(major, minor) ((major) * 1000 + (minor))
#define FILTER_MAX 512
#define KILL 0xffffu /* no errno */

/* By number from 424 on, where all architectures agree, for the headers of older systems. The version is the first that has the call: its manual page, or
 * the commit that added it to arch/x86/entry/syscalls/syscall_64.tbl. */
static const struct {
	const char *name;
	unsigned number;
	int since;
} calls[] = {
	{"unshare", SYS_unshare, 0},
	{"setns", SYS_setns, 0},
	{"seccomp", SYS_seccomp, 0},
	{"process_vm_readv", SYS_process_vm_readv, 0},
	{"mount", SYS_mount, 0},
	{"pivot_root", SYS_pivot_root, 0},
	{"bind", SYS_bind, 0},
	{"listen", SYS_listen, 0},
	{"accept4", SYS_accept4, 0},
	{"epoll_create1", SYS_epoll_create1, 0},
	{"epoll_ctl", SYS_epoll_ctl, 0},
	{"fchdir", SYS_fchdir, 0},
	{"sched_setaffinity", SYS_sched_setaffinity, 0},
	{"socketpair", SYS_socketpair, 0},
	{"signalfd4", SYS_signalfd4, 0},
	{"statx", SYS_statx, VERSION(4, 11)},
	{"pidfd_send_signal", 424, VERSION(5, 1)},
	{"io_uring_setup", 425, VERSION(5, 1)},
	{"io_uring_enter", 426, VERSION(5, 1)},
	{"io_uring_register", 427, VERSION(5, 1)},
	{"open_tree", 428, VERSION(5, 2)},
	{"move_mount", 429, VERSION(5, 2)},
	{"fsopen", 430, VERSION(5, 2)},
	{"fsconfig", 431, VERSION(5, 2)},
	{"fsmount", 432, VERSION(5, 2)},
	{"fspick", 433, VERSION(5, 2)},
	{"pidfd_open", 434, VERSION(5, 3)},
	{"clone3", 435, VERSION(5, 3)},
	{"close_range", 436, VERSION(5, 9)},
	{"openat2", 437, VERSION(5, 6)},
	{"pidfd_getfd", 438, VERSION(5, 6)},
	{"faccessat2", 439, VERSION(5, 8)},
	{"process_madvise", 440, VERSION(5, 10)},
	{"epoll_pwait2", 441, VERSION(5, 11)},
	{"mount_setattr", 442, VERSION(5, 12)},
	{"quotactl_fd", 443, VERSION(5, 14)},
	{"landlock_create_ruleset", 444, VERSION(5, 13)},
	{"landlock_add_rule", 445, VERSION(5, 13)},
	{"landlock_restrict_self", 446, VERSION(5, 13)},
	{"memfd_secret", 447, VERSION(5, 14)},
	{"process_mrelease", 448, VERSION(5, 15)},
	{"futex_waitv", 449, VERSION(5, 16)},
	{"set_mempolicy_home_node", 450, VERSION(5, 17)},
	{"cachestat", 451, VERSION(6, 5)},
	{"fchmodat2", 452, VERSION(6, 6)},
	{"map_shadow_stack", 453, VERSION(6, 6)},
	{"futex_wake", 454, VERSION(6, 7)},
	{"futex_wait", 455, VERSION(6, 7)},
	{"futex_requeue", 456, VERSION(6, 7)},
	{"statmount", 457, VERSION(6, 8)},
	{"listmount", 458, VERSION(6, 8)},
	{"lsm_get_self_attr", 459, VERSION(6, 8)},
	{"lsm_set_self_attr", 460, VERSION(6, 8)},
	{"lsm_list_modules", 461, VERSION(6, 8)},
	{"mseal", 462, VERSION(6, 10)},
	{"setxattrat", 463, VERSION(6, 13)},
	{"getxattrat", 464, VERSION(6, 13)},
	{"listxattrat", 465, VERSION(6, 13)},
	{"removexattrat", 466, VERSION(6, 13)},
	{"open_tree_attr", 467, VERSION(6, 15)},
	{"file_getattr", 468, VERSION(6, 17)},
	{"file_setattr", 469, VERSION(6, 17)},
};
/* What a call learnt later: an argument that older kernels do not know. */
static const struct {
	unsigned number, argument, value, error;
	int since;
} learnt[] = {
	{SYS_waitid, 0, 3 /* P_PIDFD */, EINVAL, VERSION(5, 4)},
	{SYS_getsockopt, 2, 77 /* SO_PEERPIDFD */, ENOPROTOOPT, VERSION(6, 5)},
};
#define DETACHED_CLONE_SINCE VERSION(6, 15)

static const struct {
	const char *name;
	unsigned number;
} errors[] = {{"ENOSYS", ENOSYS}, {"EINVAL", EINVAL}, {"EPERM", EPERM}, {"EAGAIN", EAGAIN}, {"KILL", KILL}};

static struct sock_filter filter[FILTER_MAX];
static unsigned short length;

static void add(struct sock_filter instruction)
{
	if (length == FILTER_MAX)
		abort();
	filter[length++] = instruction;
}

static void load(size_t offset)
{
	add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offset));
}

static void refuse_number(unsigned call, unsigned error)
{
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
	add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, error == KILL ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | error));
}

/* Arguments are little-endian: this is the lower half. */
static void refuse_argument(unsigned call, unsigned argument, unsigned value, unsigned error)
{
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 4));
	load(offsetof(struct seccomp_data, args) + 8 * argument);
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
	add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error));
	load(offsetof(struct seccomp_data, nr));
}

/* Linux before 6.15 does not clone a mount that is attached nowhere. What a call's descriptor is cannot be seen by a filter; the server marks
 * the call with which it finds out (native/server_setup.c). */
static void refuse_detached_clone(unsigned error)
{
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 428, 0, 6));
	load(offsetof(struct seccomp_data, args[0]));
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)AT_FDCWD, 3, 0));
	load(offsetof(struct seccomp_data, args[2]));
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_NO_AUTOMOUNT, 0, 1));
	add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error));
	load(offsetof(struct seccomp_data, nr));
}

static void refuse_since(int version)
{
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (calls[i].since > version)
			refuse_number(calls[i].number, ENOSYS);
	for (size_t i = 0; i < sizeof learnt / sizeof *learnt; i++)
		if (learnt[i].since > version)
			refuse_argument(learnt[i].number, learnt[i].argument, learnt[i].value, learnt[i].error);
	if (DETACHED_CLONE_SINCE > version)
		refuse_detached_clone(EINVAL);
}

static void refuse(const char *name, unsigned error)
{
	if (strcmp(name, "detached_clone") == 0) {
		refuse_detached_clone(error);
		return;
	}
	if (strcmp(name, "setns_mount") == 0) {
		refuse_argument(SYS_setns, 1, CLONE_NEWNS, error);
		return;
	}
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		if (strcmp(name, calls[i].name) != 0)
			continue;
		refuse_number(calls[i].number, error);
		return;
	}
	fprintf(stderr, "deny: unknown call %s\n", name);
	exit(90);
}

int main(int argc, char **argv)
{
	struct sock_fprog program = {.filter = filter};
	unsigned number = 0, major, minor;
	int i = 2;

	load(offsetof(struct seccomp_data, nr));
	if (argc > 1 && sscanf(argv[1], "linux-%u.%u", &major, &minor) == 2) {
		refuse_since(VERSION((int)major, (int)minor));
		number = ENOSYS;
	}
	for (size_t e = 0; argc > 1 && e < sizeof errors / sizeof *errors; e++) {
		if (strcmp(argv[1], errors[e].name) == 0)
			number = errors[e].number;
	}
	for (; i < argc && strcmp(argv[i], "--") != 0; i++)
		refuse(argv[i], number);
	add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
	program.len = length;
	if (number == 0 || i + 1 >= argc) {
		fprintf(stderr, "usage: deny linux-VERSION|ENOSYS|EINVAL|EPERM|EAGAIN|KILL CALL... -- COMMAND ARG...\n");
		return 90;
	}
	/* Root needs no promise, and who it then becomes can run what is setuid (newuidmap). */
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0
		&& (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)) {
		perror("deny");
		return 90;
	}
	execvp(argv[i + 1], argv + i + 1);
	perror(argv[i + 1]);
	return 91;
}
