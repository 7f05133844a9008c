/* Which system calls of which ABI are answered, and how. */
#ifndef TSRUN_OWNERS_CALLS_H
#define TSRUN_OWNERS_CALLS_H

#include "owners.h"

enum owner_call {
	CALL_NONE,
	CALL_SUCCEED, /* set*id, setgroups: it has worked, nobody is asked */
	CALL_CHOWN,
	CALL_LCHOWN,
	CALL_FCHOWN,
	CALL_FCHOWNAT,
	CALL_MKNOD,
	CALL_MKNODAT,
	CALL_SETXATTR,
	CALL_LSETXATTR,
	CALL_FSETXATTR,
	CALL_SETXATTRAT,
	CALL_REMOVEXATTR,
	CALL_LREMOVEXATTR,
	CALL_FREMOVEXATTR,
	CALL_REMOVEXATTRAT,
};

struct owner_abi_call {
	uint32_t arch; /* AUDIT_ARCH_… */
	uint32_t number;
	enum owner_call call;
	bool ids_of_16_bits;
};

/* Ordered by arch. */
extern const struct owner_abi_call owner_abi_calls[];
extern const size_t owner_abi_calls_count;

const struct owner_abi_call *owner_call_of(uint32_t arch, int number);

#endif
