/* Numbers from the kernel's tables: arch/x86/entry/syscalls/syscall_{64,32}.tbl, include/uapi/asm-generic/unistd.h, arch/arm/tools/syscall.tbl. A program of
 * the other width asks by other numbers, so they are all here whatever this program was compiled for. */
#include "owners_calls.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define STEP "take care of owners"
#define X32_BIT 0x40000000u
#define PROGRAM_MAX 512u

/* Headers of older systems lack some. */
#ifndef SECCOMP_FILTER_FLAG_SPEC_ALLOW
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW (1UL << 2)
#endif
#ifndef SECCOMP_FILTER_FLAG_NEW_LISTENER
#define SECCOMP_FILTER_FLAG_NEW_LISTENER (1UL << 3)
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

/* The calls that 32-bit x86 and 32-bit ARM number alike. */
#define CALLS_OF_32_BITS(arch)                                                                                                                            \
	{arch, 14, CALL_MKNOD, false}, {arch, 16, CALL_LCHOWN, true}, {arch, 95, CALL_FCHOWN, true}, {arch, 182, CALL_CHOWN, true},                           \
	{arch, 198, CALL_LCHOWN, false}, {arch, 207, CALL_FCHOWN, false}, {arch, 212, CALL_CHOWN, false},                                                     \
	{arch, 226, CALL_SETXATTR, false}, {arch, 227, CALL_LSETXATTR, false}, {arch, 228, CALL_FSETXATTR, false},                                            \
	{arch, 235, CALL_REMOVEXATTR, false}, {arch, 236, CALL_LREMOVEXATTR, false}, {arch, 237, CALL_FREMOVEXATTR, false},                                   \
	{arch, 463, CALL_SETXATTRAT, false}, {arch, 466, CALL_REMOVEXATTRAT, false},                                                                          \
	/* setuid, setgid, setreuid, setregid, setgroups, setfsuid, setfsgid, setresuid, setresgid; with 16 bits, then with 32 */                             \
	{arch, 23, CALL_SUCCEED, false}, {arch, 46, CALL_SUCCEED, false}, {arch, 70, CALL_SUCCEED, false}, {arch, 71, CALL_SUCCEED, false},                   \
	{arch, 81, CALL_SUCCEED, false}, {arch, 138, CALL_SUCCEED, false}, {arch, 139, CALL_SUCCEED, false}, {arch, 164, CALL_SUCCEED, false},                \
	{arch, 170, CALL_SUCCEED, false}, {arch, 203, CALL_SUCCEED, false}, {arch, 204, CALL_SUCCEED, false}, {arch, 206, CALL_SUCCEED, false},               \
	{arch, 208, CALL_SUCCEED, false}, {arch, 210, CALL_SUCCEED, false}, {arch, 213, CALL_SUCCEED, false}, {arch, 214, CALL_SUCCEED, false},               \
	{arch, 215, CALL_SUCCEED, false}, {arch, 216, CALL_SUCCEED, false}

const struct owner_abi_call owner_abi_calls[] = {
#if defined(__x86_64__)
	{AUDIT_ARCH_X86_64, 92, CALL_CHOWN, false}, {AUDIT_ARCH_X86_64, 93, CALL_FCHOWN, false}, {AUDIT_ARCH_X86_64, 94, CALL_LCHOWN, false},
	{AUDIT_ARCH_X86_64, 260, CALL_FCHOWNAT, false}, {AUDIT_ARCH_X86_64, 133, CALL_MKNOD, false}, {AUDIT_ARCH_X86_64, 259, CALL_MKNODAT, false},
	{AUDIT_ARCH_X86_64, 188, CALL_SETXATTR, false}, {AUDIT_ARCH_X86_64, 189, CALL_LSETXATTR, false}, {AUDIT_ARCH_X86_64, 190, CALL_FSETXATTR, false},
	{AUDIT_ARCH_X86_64, 197, CALL_REMOVEXATTR, false}, {AUDIT_ARCH_X86_64, 198, CALL_LREMOVEXATTR, false},
	{AUDIT_ARCH_X86_64, 199, CALL_FREMOVEXATTR, false}, {AUDIT_ARCH_X86_64, 463, CALL_SETXATTRAT, false},
	{AUDIT_ARCH_X86_64, 466, CALL_REMOVEXATTRAT, false},
	/* setuid, setgid, setreuid, setregid, setgroups, setresuid, setresgid, setfsuid, setfsgid */
	{AUDIT_ARCH_X86_64, 105, CALL_SUCCEED, false}, {AUDIT_ARCH_X86_64, 106, CALL_SUCCEED, false}, {AUDIT_ARCH_X86_64, 113, CALL_SUCCEED, false},
	{AUDIT_ARCH_X86_64, 114, CALL_SUCCEED, false}, {AUDIT_ARCH_X86_64, 116, CALL_SUCCEED, false}, {AUDIT_ARCH_X86_64, 117, CALL_SUCCEED, false},
	{AUDIT_ARCH_X86_64, 119, CALL_SUCCEED, false}, {AUDIT_ARCH_X86_64, 122, CALL_SUCCEED, false}, {AUDIT_ARCH_X86_64, 123, CALL_SUCCEED, false},
	CALLS_OF_32_BITS(AUDIT_ARCH_I386), {AUDIT_ARCH_I386, 298, CALL_FCHOWNAT, false}, {AUDIT_ARCH_I386, 297, CALL_MKNODAT, false},
#elif defined(__aarch64__)
	{AUDIT_ARCH_AARCH64, 54, CALL_FCHOWNAT, false}, {AUDIT_ARCH_AARCH64, 55, CALL_FCHOWN, false}, {AUDIT_ARCH_AARCH64, 33, CALL_MKNODAT, false},
	{AUDIT_ARCH_AARCH64, 5, CALL_SETXATTR, false}, {AUDIT_ARCH_AARCH64, 6, CALL_LSETXATTR, false}, {AUDIT_ARCH_AARCH64, 7, CALL_FSETXATTR, false},
	{AUDIT_ARCH_AARCH64, 14, CALL_REMOVEXATTR, false}, {AUDIT_ARCH_AARCH64, 15, CALL_LREMOVEXATTR, false},
	{AUDIT_ARCH_AARCH64, 16, CALL_FREMOVEXATTR, false}, {AUDIT_ARCH_AARCH64, 463, CALL_SETXATTRAT, false},
	{AUDIT_ARCH_AARCH64, 466, CALL_REMOVEXATTRAT, false},
	/* setregid, setgid, setreuid, setuid, setresuid, setresgid, setfsuid, setfsgid, setgroups */
	{AUDIT_ARCH_AARCH64, 143, CALL_SUCCEED, false}, {AUDIT_ARCH_AARCH64, 144, CALL_SUCCEED, false}, {AUDIT_ARCH_AARCH64, 145, CALL_SUCCEED, false},
	{AUDIT_ARCH_AARCH64, 146, CALL_SUCCEED, false}, {AUDIT_ARCH_AARCH64, 147, CALL_SUCCEED, false}, {AUDIT_ARCH_AARCH64, 149, CALL_SUCCEED, false},
	{AUDIT_ARCH_AARCH64, 151, CALL_SUCCEED, false}, {AUDIT_ARCH_AARCH64, 152, CALL_SUCCEED, false}, {AUDIT_ARCH_AARCH64, 159, CALL_SUCCEED, false},
	CALLS_OF_32_BITS(AUDIT_ARCH_ARM), {AUDIT_ARCH_ARM, 325, CALL_FCHOWNAT, false}, {AUDIT_ARCH_ARM, 324, CALL_MKNODAT, false},
#else
#error "the system call numbers of this machine are missing"
#endif
};
const size_t owner_abi_calls_count = ARRAY_LEN(owner_abi_calls);

const struct owner_abi_call *owner_call_of(uint32_t arch, int number)
{
	for (size_t i = 0; i < owner_abi_calls_count; i++) {
		if (owner_abi_calls[i].arch == arch && owner_abi_calls[i].number == (uint32_t)number)
			return &owner_abi_calls[i];
	}
	return NULL;
}

/* --- the filter --- */

struct program {
	struct sock_filter code[PROGRAM_MAX];
	unsigned short len;
};

static void add(struct program *program, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
	/* The length is a property of the table above, so a test of any filter sees it. */
	if (program->len == PROGRAM_MAX)
		abort();
	program->code[program->len++] = (struct sock_filter){.code = code, .k = k, .jt = yes, .jf = no};
}

static void load(struct program *program, size_t offset)
{
	add(program, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void answer(struct program *program, uint32_t action)
{
	add(program, BPF_RET | BPF_K, action, 0, 0);
}

/* Device nodes are asked about; everything else that mknod makes, anybody may make. `mode` is the low half of an argument on these little-endian machines. */
static void add_device_check(struct program *program, unsigned mode_argument, uint32_t ask)
{
	load(program, offsetof(struct seccomp_data, args) + 8 * mode_argument);
	add(program, BPF_ALU | BPF_AND | BPF_K, S_IFMT, 0, 0);
	add(program, BPF_JMP | BPF_JEQ | BPF_K, S_IFCHR, 1, 0);
	add(program, BPF_JMP | BPF_JEQ | BPF_K, S_IFBLK, 0, 1);
	answer(program, ask);
	answer(program, SECCOMP_RET_ALLOW);
}

static bool is_xattr(enum owner_call call)
{
	return call >= CALL_SETXATTR;
}

static bool is_mknod(enum owner_call call)
{
	return call == CALL_MKNOD || call == CALL_MKNODAT;
}

/* Without a listener nothing is recorded: then user.* xattrs are better left to the kernel than said to be set. */
static bool is_wanted(enum owner_call call, bool devices_only, uint32_t ask)
{
	return devices_only ? is_mknod(call) : ask == SECCOMP_RET_USER_NOTIF || !is_xattr(call);
}

/* The number is loaded. */
static void add_call(struct program *program, const struct owner_abi_call *call, uint32_t ask)
{
	add(program, BPF_JMP | BPF_JEQ | BPF_K, call->number, 0, is_mknod(call->call) ? 6 : 1);
	if (is_mknod(call->call))
		add_device_check(program, call->call == CALL_MKNOD ? 1 : 2, ask);
	else
		answer(program, call->call == CALL_SUCCEED ? SECCOMP_RET_ERRNO : ask);
}

static void make_program(struct program *program, bool devices_only, uint32_t ask)
{
	size_t i = 0;

	program->len = 0;
	while (i < owner_abi_calls_count) {
		uint32_t arch = owner_abi_calls[i].arch;
		unsigned short skip;

		load(program, offsetof(struct seccomp_data, arch));
		add(program, BPF_JMP | BPF_JEQ | BPF_K, arch, 1, 0);
		skip = program->len;
		add(program, BPF_JMP | BPF_JA, 0, 0, 0);
		load(program, offsetof(struct seccomp_data, nr));
#if defined(__x86_64__)
		/* The third ABI of the machine, which no distribution has programs for, has numbers that would slip through. */
		if (arch == AUDIT_ARCH_X86_64) {
			add(program, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
			answer(program, SECCOMP_RET_ERRNO | ENOSYS);
		}
#endif
		for (; i < owner_abi_calls_count && owner_abi_calls[i].arch == arch; i++) {
			if (is_wanted(owner_abi_calls[i].call, devices_only, ask))
				add_call(program, &owner_abi_calls[i], ask);
		}
		answer(program, SECCOMP_RET_ALLOW);
		program->code[skip].k = program->len - skip - 1u;
	}
	answer(program, SECCOMP_RET_ERRNO | ENOSYS);
}

static int install(struct program *program, unsigned long flags)
{
	const struct sock_fprog fprog = {.len = program->len, .filter = program->code};

	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &fprog);
}

int owners_install(bool devices_only, struct err *err)
{
	/* SPEC_ALLOW: the payload is not to be slower than outside. */
	static const unsigned long flags[] = {
		SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
		SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW,
	};
	struct program program;
	struct sock_fprog plain;

	make_program(&program, devices_only, SECCOMP_RET_USER_NOTIF);
	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		int listener = install(&program, flags[i]);

		if (listener >= 0)
			return listener;
		/* EBUSY: a filter that we are already under has a listener, and there can be one only. */
		if (errno != EINVAL && errno != ENOSYS && errno != EBUSY && errno != EPERM)
			return fail(err, errno, STEP, "install the filter");
	}
	make_program(&program, devices_only, SECCOMP_RET_ERRNO);
	plain = (struct sock_fprog){.len = program.len, .filter = program.code};
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &plain) < 0)
		return fail(err, errno, STEP, "install a filter without a listener");
	return -ENOSYS;
}
