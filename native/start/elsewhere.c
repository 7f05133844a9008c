/* What the other half of the program does for this one. */
#include "start.h"

#include <fcntl.h>
#include <stdio.h>

#include "../image.h"
#include "../role.h"

/* Roles never get here: the entry has sent them to the other half. */
int role_main(int argc UNUSED, char **argv UNUSED)
{
	return -1;
}

/* Nothing of the other half's is undone, and nothing of this one needs to be. */
void start_end(int status)
{
	fflush(NULL);
	_exit(status);
}

/* The decoders are in the other half: the child becomes this program again, in that role. The signals stay blocked until it is ready for them. */
void image_unpacking(int image, uint64_t offset, uint64_t size, int dest, struct image_owners *owners UNUSED, int report, const sigset_t *mask UNUSED)
{
	char name[] = "tsrun", role[] = "@unpack", from[24], length[24];
	char *argv[] = {name, role, from, length, NULL};
	int high_image = fcntl(image, F_DUPFD, 64), high_dest = fcntl(dest, F_DUPFD, 64), high_report = fcntl(report, F_DUPFD, 64);

	snprintf(from, sizeof from, "%llu", (unsigned long long)offset);
	snprintf(length, sizeof length, "%llu", (unsigned long long)size);
	if (high_image >= 0 && high_dest >= 0 && high_report >= 0 && dup2(high_image, 3) == 3 && dup2(high_dest, 4) == 4 && dup2(high_report, 5) == 5)
		execv("/proc/self/exe", argv);
	_exit(125);
}
