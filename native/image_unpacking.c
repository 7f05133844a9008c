/* The process that unpacks: a child of the one that wants the directory, so that a hostile image reaches nothing of it. */
#include "image.h"
#include "squash/squash.h"

#include <signal.h>
#include <stdlib.h>

static _Atomic int interrupted; /* read by threads, too */

static void on_interrupt(int signal)
{
	interrupted = signal;
}

NORETURN void image_unpacking(int image, uint64_t offset, uint64_t size, int dest, struct image_owners *owners, int report, const sigset_t *mask)
{
	struct sigaction action = { .sa_handler = on_interrupt };
	struct image_outcome outcome = { 0 };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	squash_reuse_memory();
	outcome.rc = image_unpack(image, offset, size, dest, owners, &interrupted, &outcome.skipped, &outcome.err);
	if (outcome.rc < 0)
		image_empty(dest);
	_exit(write_full(report, &outcome, sizeof outcome) < 0);
}

int image_unpacking_main(int argc, char **argv)
{
	sigset_t none;

	sigemptyset(&none);
	if (argc != 3)
		return 2;
	image_unpacking(3, strtoull(argv[1], NULL, 10), strtoull(argv[2], NULL, 10), 4, NULL, 5, &none);
}
