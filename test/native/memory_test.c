/* The memory limit, with control groups made for the test. */
#include "../../native/memory.h"
#include "check.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

static char top[] = "/tmp/tsrun-memory-test-XXXXXX";

static void write_file(const char *path, const char *text)
{
	char whole[512];
	FILE *file;

	snprintf(whole, sizeof whole, "%s%s", top, path);
	for (char *at = whole + strlen(top) + 1; (at = strchr(at, '/')) != NULL; *at++ = '/') {
		*at = '\0';
		mkdir(whole, 0700);
	}
	file = fopen(whole, "we");
	if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
		abort();
}

int main(void)
{
	struct sysinfo info;
	char command[64];

	if (mkdtemp(top) == NULL || sysinfo(&info) != 0)
		return 1;
	uint64_t all = (uint64_t)info.totalram * info.mem_unit;

	CHECK("without control groups it is the machine's memory", memory_limit(top) == all);
	write_file("/proc/self/cgroup", "0::/job/step\n");
	write_file("/sys/fs/cgroup/job/step/memory.max", "max\n");
	CHECK("\"max\" is no limit", memory_limit(top) == all);
	write_file("/sys/fs/cgroup/job/memory.max", "1048576\n");
	CHECK("a group above counts", memory_limit(top) == 1048576);
	write_file("/sys/fs/cgroup/job/step/memory.max", "4096\n");
	CHECK("the smallest counts", memory_limit(top) == 4096);
	write_file("/proc/self/cgroup", "9:cpu:/other\n4:memory:/job\n0::/\n");
	write_file("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "65536\n");
	CHECK("version 1 too", memory_limit(top) == 65536);
	write_file("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712\n");
	CHECK("its way to say that there is none", memory_limit(top) == all);
	write_file("/proc/meminfo", "MemTotal: 64 kB\nMemFree: 1 kB\nMemAvailable:    32 kB\n");
	CHECK("what is available is asked of the machine", memory_available(top) == 32768);
	write_file("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "65536\n");
	write_file("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "60000\n");
	write_file("/sys/fs/cgroup/memory/job/memory.stat", "cache 1\ntotal_inactive_file 10000\ntotal_active_file 5000\n");
	CHECK("and of the groups, page cache of files not counted", memory_available(top) == 65536 - 45000);
	write_file("/proc/self/cgroup", "0::/job/step\n");
	write_file("/sys/fs/cgroup/job/step/memory.max", "40000\n");
	write_file("/sys/fs/cgroup/job/step/memory.current", "50000\n");
	write_file("/sys/fs/cgroup/job/step/memory.stat", "anon 1\nactive_file 1000\ninactive_file 500\n");
	CHECK("a group above its limit has nothing left", memory_available(top) == 0);
	write_file("/proc/self/cgroup", "nonsense\n:\n\n");
	CHECK("lines of another form are passed over", memory_limit(top) == all);
	CHECK("on this machine it is something", memory_limit("") > 0 && memory_limit("") <= all);

	snprintf(command, sizeof command, "rm -r %s", top);
	CHECK("nothing is left", system(command) == 0);
	return check_end();
}
