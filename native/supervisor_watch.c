/* A serving process at work: whether it answers. Its slots of requests are looked at as long as there are any. */
#include "supervised.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/* How often slots are looked at while there are requests. */
#ifndef WATCH_TICK_MS
#define WATCH_TICK_MS 10000
#endif
#define TICKS_STUCK 3      /* after so many without an answer, and without a read of the image that is waited for, the process hangs */
#define TICKS_INTERRUPT 1  /* after so many, whoever has been told to end need not wait any more */

void supervised_watch(struct supervised *serving)
{
	atomic_store(&serving->shared->watched, true);
	serving->due = server_now_ms() + WATCH_TICK_MS;
	memset(serving->seen, 0, sizeof serving->seen);
}

/* Looks at one slot; for how many ticks it has had the same request. */
static unsigned ticks_of(struct supervised *serving, unsigned index)
{
	uint64_t request = imagefs_in_hand(serving->shared, index);

	if (request != 0 && request == serving->seen[index].request)
		return ++serving->seen[index].ticks;
	serving->seen[index].request = request;
	serving->seen[index].ticks = 0;
	return 0;
}

/* Until a request is answered its asker cannot even be killed. */
static void release_interrupted(struct supervised *serving)
{
	for (unsigned i = 0; i < serving->shared->workers; i++) {
		uint64_t request = serving->seen[i].request;

		if (request != 0 && serving->seen[i].ticks >= TICKS_INTERRUPT && atomic_load(&serving->shared->slots[i].interrupted) == request)
			imagefs_give_up(serving->shared, i, atomic_load(&serving->shared->slots[i].was_parked) ? serving->listening : serving->devices[i], -EINTR);
	}
}

/* A worker that waits for the kernel does not see what was parked meanwhile (it had looked just before): a successor will. */
static bool parked_are_forgotten(struct supervised *serving, bool all_hang)
{
	serving->parked_ticks = imagefs_parked_count(serving->shared) > 0 && !all_hang ? serving->parked_ticks + 1 : 0;
	return serving->parked_ticks > TICKS_INTERRUPT;
}

static bool nothing_in_hand(const struct supervised *serving)
{
	for (unsigned i = 0; i < serving->shared->workers; i++)
		if (imagefs_in_hand(serving->shared, i) != 0)
			return false;
	return imagefs_parked_count(serving->shared) == 0;
}

static void end_process(struct supervised *serving)
{
	server_log(serving->image->box, "a serving process hangs, it is ended");
	serving->hangs = true;
	kill(serving->pid, SIGKILL); /* its channel tells when it is gone */
}

static void look(struct supervised *serving)
{
	struct imagefs_shared *shared = serving->shared;
	unsigned hanging = 0, longest = 0;

	for (unsigned i = 0; i < shared->workers; i++) {
		unsigned ticks = ticks_of(serving, i);

		hanging += ticks >= TICKS_INTERRUPT;
		longest = ticks > longest ? ticks : longest;
	}
	if (hanging == shared->workers && serving->listening >= 0)
		imagefs_listen(shared, serving->listening);
	release_interrupted(serving);
	if (serving->pid > 0
		&& ((longest >= TICKS_STUCK && atomic_load(&shared->reading) == 0) || parked_are_forgotten(serving, hanging == shared->workers)))
		end_process(serving);
	serving->due = server_now_ms() + WATCH_TICK_MS;
	if (!nothing_in_hand(serving))
		return;
	/* In this order: a worker that took a request before it saw this is seen by us. */
	atomic_store(&shared->watched, false);
	if (nothing_in_hand(serving))
		serving->due = INT64_MAX;
	else
		atomic_store(&shared->watched, true);
}

int64_t supervised_settle(struct supervised *serving)
{
	if (serving->due <= server_now_ms())
		look(serving);
	return serving->due;
}

/* Who stops a whole job stops the server too, and this waits until the job goes on. Stopped alone, with nothing in hand or in the midst of a read, it would
 * not be missed by who looks at slots, only by its readers. */
void supervised_resume(struct supervised *serving)
{
	siginfo_t info = { .si_pid = 0 };

	if (serving->pid <= 0 || waitid(P_PID, (id_t)serving->pid, &info, WSTOPPED | WNOHANG) < 0 || info.si_pid == 0)
		return;
	server_log(serving->image->box, "a serving process was stopped, it is told to go on");
	kill(serving->pid, SIGCONT);
}
