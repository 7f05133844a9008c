/* Where the kernel enters the program when it was linked in two halves (README.md). Runs before any C library: no errno, no canary, no calls. */
#include "start.h"

#include <stdint.h>

/* Returns with everything as the kernel gave it when the other half is wanted, else not at all. */
#if defined(__x86_64__)
__asm__(".pushsection .text.start_entry, \"ax\", %progbits\n"
	".globl start_entry\n"
	"start_entry:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	push %rdx\n"
	"	push %rdx\n"
	"	call start_choose\n"
	"	pop %rdx\n"
	"	pop %rdx\n"
	"	jmp _start\n"
	".popsection\n");
#elif defined(__aarch64__)
__asm__(".pushsection .text.start_entry, \"ax\", %progbits\n"
	".globl start_entry\n"
	"start_entry:\n"
	"	mov x29, #0\n"
	"	mov x30, #0\n"
	"	mov x19, x0\n"
	"	mov x0, sp\n"
	"	bl start_choose\n"
	"	mov x0, x19\n"
	"	b _start\n"
	".popsection\n");
#else
#error "the entry is not written for this machine"
#endif

/* musl's own initialisation, without what belongs to a program that is all musl's: constructors (they are the other half's). */
void __init_libc(char **envp, char *name);
int main(int argc, char **argv, char **envp);
void start_choose(uintptr_t *stack);

/* What the kernel puts on the stack: argc, argv, NULL, envp, NULL, … */
void start_choose(uintptr_t *stack)
{
	int argc = (int)stack[0];
	char **argv = (char **)(void *)(stack + 1);
	char **envp = argv + argc + 1;

	if (argc > 1 && argv[1][0] == '@')
		return;
	__init_libc(envp, argv[0]);
	start_end(main(argc, argv, envp));
}
