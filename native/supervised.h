/* What supervisor.c and supervisor_watch.c know of a serving process. */
#ifndef TSRUN_SUPERVISED_H
#define TSRUN_SUPERVISED_H

#include "server_internal.h"

struct supervised {
	const struct image *image;
	struct imagefs_shared *shared;
	int devices[IMAGEFS_WORKERS_MAX];
	unsigned device_count;
	int listening; /* one more device, for when nobody else listens to the kernel; -1: there is none */
	unsigned parked_ticks; /* for so many there have been parked requests although a worker is free */
	pid_t pid;
	int channel;
	int asks[2];       /* to the process that fetches, from the one that serves */
	pid_t fetcher;     /* 0: there is none, or no longer */
	bool has_fetched;  /* and will have no other one */
	bool mounted;      /* the devices have their mount */
	bool filled;       /* its slots have their memory */
	bool opened;       /* by this process or one before it */
	unsigned failures, replacements;
	bool hangs;        /* killed because of that */
	int64_t due;
	struct {
		uint64_t request; /* in hand when last looked at */
		unsigned ticks;   /* for so long */
	} seen[IMAGEFS_WORKERS_MAX];
};

/* From here on its slots are looked at: there is a request, or one is coming. */
void supervised_watch(struct supervised *serving);

#endif
