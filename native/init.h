/* A run with a PID namespace is three processes: the launcher, which stays and stands for the run to whoever started it; PID 1, which
 * only reaps; the payload. Without one there is the payload alone, and nothing here is used. */
#ifndef TSRUN_INIT_H
#define TSRUN_INIT_H

#include <signal.h>
#include <sys/types.h>

#include "util.h"

struct owners;

struct init {
	pid_t leash;                 /* the launcher's parent, which it is not to outlive; 0: it may */
	struct owners *owners;       /* the launcher takes care of them when it gets a listener; NULL: it will get none */
	int channel;                 /* to the launcher */
	sigset_t mask;               /* as the caller had it, for the payload */
	struct sigaction on_child;   /* likewise: an ignored SIGCHLD would lose the exit status */
};

/* After unshare(CLONE_NEWPID): forks. Returns in PID 1 only, with all signals blocked; the launcher ends as the payload ends. PID 1 dies with the
 * launcher. */
int WARN_UNUSED init_split(struct init *init, struct err *err);

/* In PID 1, everything prepared: forks and returns 0 in the payload, with the caller's signal mask. */
int WARN_UNUSED init_fork_payload(struct init *init, struct err *err);

/* In PID 1: the launcher is to answer what comes from `listener`; waits until it is ready to. -errno. */
int WARN_UNUSED init_give_listener(const struct init *init, int listener);

/* --- between init.c and supervise.c --- */

enum init_event { PAYLOAD_STARTED, PAYLOAD_STOPPED, PAYLOAD_CONTINUED, PAYLOAD_ENDED, LISTENER_MADE };

/* One datagram. `value`: a stop signal, a wait status. The sender's pid comes with it, translated by the kernel; the listener as a descriptor. */
struct init_message {
	int32_t event;
	int32_t value;
};

/* The launcher's part. */
NORETURN void supervise(pid_t init_pid, int channel, const struct init *init);

#endif
