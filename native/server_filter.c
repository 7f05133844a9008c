/* The system calls of the process that serves an image, and of the one that fetches. A hostile image that takes the first one over finds a small box: it can read that image, answer the
 * requests of the mount made of it, and end. From there it can tell the other one what to ask for: whose box is smaller, with that mount as its root. */
#include "server_internal.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)
#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), RETURN(SECCOMP_RET_ALLOW)
#define LOAD_CALL LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0), RETURN(SECCOMP_RET_KILL_PROCESS), LOAD(nr)

/* Sanitizers do much more than this program. */
#if defined(OUR_ARCH) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CONFINE(rules) confine(rules, ARRAY_LEN(rules))

static int confine(const struct sock_filter *rules, size_t count)
{
	const struct sock_fprog program = { (unsigned short)count, (struct sock_filter *)(uintptr_t)rules };

	/* A kernel without seccomp is no reason not to run. */
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 && errno != EINVAL ? -errno : 0;
}

int serving_filter(void)
{
	static const struct sock_filter rules[] = {
		LOAD_CALL,
		/* requests and answers, the image, the supervisor */
		ALLOW(read),
		ALLOW(writev),
		ALLOW(pread64),
		ALLOW(fadvise64),
		ALLOW(write),
		ALLOW(sendto),
		/* is the image still the one that was opened? */
		ALLOW(fstat),
		ALLOW(newfstatat),
		/* memory */
		ALLOW(mmap),
		ALLOW(munmap),
		ALLOW(mremap),
		ALLOW(mprotect),
		ALLOW(madvise),
		ALLOW(brk),
		ALLOW(getrandom),
		/* threads: glibc takes ENOSYS of clone3, whose flags cannot be seen here, for an older kernel */
		ALLOW(futex),
		ALLOW(set_robust_list),
		ALLOW(rseq),
		ALLOW(rt_sigprocmask),
		ALLOW(rt_sigaction),
		ALLOW(rt_sigreturn),
		ALLOW(sched_getaffinity),
		ALLOW(sched_yield),
		ALLOW(gettid),
		ALLOW(clock_gettime),
		ALLOW(restart_syscall),
		ALLOW(exit),
		ALLOW(exit_group),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1),
		RETURN(SECCOMP_RET_ERRNO | ENOSYS),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3),
		LOAD(args[0]), /* little-endian: the lower half */
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_ERRNO | EPERM),
	};

	return CONFINE(rules);
}

int fetching_filter(void)
{
	static const struct sock_filter rules[] = {
		LOAD_CALL,
		ALLOW(recvfrom),
		ALLOW(openat),
		ALLOW(readlinkat),
		ALLOW(getdents64),
		ALLOW(fadvise64),
		ALLOW(close),
		ALLOW(exit_group),
		RETURN(SECCOMP_RET_ERRNO | EPERM),
	};

	return CONFINE(rules);
}
#else
int serving_filter(void)
{
	return 0;
}

int fetching_filter(void)
{
	return 0;
}
#endif
