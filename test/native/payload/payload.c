/* The program that launcher tests run inside an image: one static file, many small verbs, so that a test image is this file and some empty
 * directories. `payload VERB ARG… , VERB ARG… ,` runs several; the exit status is the last verb's. What fails prints "VERB: ARG: ERRNO-NAME". */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int failed(const char *verb, const char *what)
{
	printf("%s: %s: %s\n", verb, what, strerrorname_np(errno));
	return 1;
}

static int do_true(char **args)
{
	(void)args;
	return 0;
}

static int do_exit(char **args)
{
	return atoi(args[0]);
}

static int do_echo(char **args)
{
	for (; *args != NULL; args++)
		printf("%s\n", *args);
	return 0;
}

static int do_env(char **args)
{
	(void)args;
	for (char **each = environ; *each != NULL; each++)
		printf("%s\n", *each);
	return 0;
}

/* Open descriptors, found without /proc. */
static int do_fds(char **args)
{
	(void)args;
	for (int fd = 0; fd < 4096; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			printf("%d ", fd);
	}
	printf("\n");
	return 0;
}

static int do_cat(char **args)
{
	for (; *args != NULL; args++) {
		char buffer[65536];
		int fd = open(*args, O_RDONLY);
		ssize_t got;

		if (fd < 0)
			return failed("cat", *args);
		while ((got = read(fd, buffer, sizeof buffer)) > 0)
			fwrite(buffer, 1, (size_t)got, stdout);
		close(fd);
		if (got < 0)
			return failed("cat", *args);
	}
	return 0;
}

/* How many pages of a part of a file the kernel has. Its owner is told. */
static int do_cached(char **args)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = ((size_t)atoll(args[2]) + page - 1) / page, count = 0;
	int fd = open(args[0], O_RDONLY);
	void *at = mmap(NULL, pages * page, PROT_READ, MAP_SHARED, fd, atoll(args[1]));
	unsigned char *had = calloc(1, pages);

	if (at == MAP_FAILED || had == NULL || mincore(at, pages * page, had) < 0)
		return failed("cached", args[0]);
	for (size_t i = 0; i < pages; i++)
		count += had[i] & 1;
	printf("%zu of %zu\n", count, pages);
	free(had);
	close(fd);
	return munmap(at, pages * page);
}

static int do_stat(char **args)
{
	int status = 0;

	for (; *args != NULL; args++) {
		struct stat st;

		if (lstat(*args, &st) < 0)
			status = failed("stat", *args);
		else
			printf("%s %06o %d %d %lld\n", *args, st.st_mode, (int)st.st_uid, (int)st.st_gid, (long long)st.st_size);
	}
	return status;
}

static int do_exists(char **args)
{
	for (; *args != NULL; args++)
		printf("%s %s\n", *args, access(*args, F_OK) == 0 ? "yes" : strerrorname_np(errno));
	return 0;
}

static int do_ls(char **args)
{
	struct dirent **names;
	int count = scandir(args[0], &names, NULL, alphasort);

	if (count < 0)
		return failed("ls", args[0]);
	for (int i = 0; i < count; i++) {
		if (strcmp(names[i]->d_name, ".") != 0 && strcmp(names[i]->d_name, "..") != 0)
			printf("%s ", names[i]->d_name);
	}
	printf("\n");
	return 0;
}

static int do_write(char **args)
{
	int fd = open(args[0], O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || write(fd, args[1], strlen(args[1])) < 0)
		return failed("write", args[0]);
	close(fd);
	printf("written\n");
	return 0;
}

static int do_mkdir(char **args)
{
	return mkdir(args[0], 0777) < 0 ? failed("mkdir", args[0]) : 0;
}

static int do_unlink(char **args)
{
	return unlink(args[0]) < 0 ? failed("unlink", args[0]) : 0;
}

static int do_readlink(char **args)
{
	char link[4096];
	ssize_t len = readlink(args[0], link, sizeof link - 1);

	if (len < 0)
		return failed("readlink", args[0]);
	link[len] = '\0';
	printf("%s\n", link);
	return 0;
}

static int do_cwd(char **args)
{
	char path[4096];

	(void)args;
	if (getcwd(path, sizeof path) == NULL)
		return failed("cwd", ".");
	printf("%s\n", path);
	return 0;
}

static int do_ids(char **args)
{
	(void)args;
	printf("uid %d gid %d\n", (int)geteuid(), (int)getegid());
	return 0;
}

static int do_pids(char **args)
{
	(void)args;
	printf("pid %d ppid %d pgid %d sid %d\n", (int)getpid(), (int)getppid(), (int)getpgrp(), (int)getsid(0));
	return 0;
}

/* What a process inherits and a launcher might spoil. */
static int do_inherited(char **args)
{
	static const int limits[] = {RLIMIT_NOFILE, RLIMIT_CORE, RLIMIT_STACK, RLIMIT_NPROC, RLIMIT_AS, RLIMIT_MEMLOCK};
	sigset_t mask;
	cpu_set_t cpus;
	mode_t mode = umask(0);
	int parent_death = 0;

	(void)args;
	printf("umask %03o\n", mode);
	umask(mode);
	sigprocmask(SIG_SETMASK, NULL, &mask);
	printf("blocked");
	for (int sig = 1; sig < NSIG; sig++) {
		if (sigismember(&mask, sig) == 1)
			printf(" %d", sig);
	}
	printf("\nignored");
	for (int sig = 1; sig < NSIG; sig++) {
		struct sigaction now;

		if (sigaction(sig, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
			printf(" %d", sig);
	}
	printf("\ncpus");
	sched_getaffinity(0, sizeof cpus, &cpus);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &cpus))
			printf(" %d", cpu);
	}
	printf("\nlimits");
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		struct rlimit limit;

		getrlimit(limits[i], &limit);
		printf(" %lld:%lld", (long long)limit.rlim_cur, (long long)limit.rlim_max);
	}
	prctl(PR_GET_PDEATHSIG, &parent_death);
	printf("\nnice %d dumpable %d parent-death %d\n", getpriority(PRIO_PROCESS, 0), prctl(PR_GET_DUMPABLE), parent_death);
	return 0;
}

static int do_nnp(char **args)
{
	(void)args;
	printf("no_new_privs %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
	return 0;
}

static int do_hostname(char **args)
{
	struct utsname name;

	(void)args;
	uname(&name);
	printf("%s\n", name.nodename);
	return 0;
}

static int do_flags(char **args)
{
	for (; *args != NULL; args++) {
		struct statvfs fs;

		if (statvfs(*args, &fs) < 0)
			return failed("flags", *args);
		printf("%s%s%s%s%s size %llu\n", *args, fs.f_flag & ST_RDONLY ? " ro" : " rw", fs.f_flag & ST_NOSUID ? " nosuid" : "",
		       fs.f_flag & ST_NODEV ? " nodev" : "", fs.f_flag & ST_NOEXEC ? " noexec" : "", (unsigned long long)fs.f_blocks * fs.f_frsize);
	}
	return 0;
}

static int do_writefd(char **args)
{
	int fd = atoi(args[0]);

	return write(fd, args[1], strlen(args[1])) < 0 ? failed("writefd", args[0]) : 0;
}

static int do_readfd(char **args)
{
	char buffer[4096];
	ssize_t got;

	while ((got = read(atoi(args[0]), buffer, sizeof buffer)) > 0)
		fwrite(buffer, 1, (size_t)got, stdout);
	return got < 0 ? failed("readfd", args[0]) : 0;
}

static int do_umount(char **args)
{
	return umount2(args[0], MNT_DETACH) < 0 ? failed("umount", args[0]) : 0;
}

static int do_raise(char **args)
{
	raise(atoi(args[0]));
	return 0;
}

/* Says "ready", then lives until a signal ends it. */
__attribute__((noreturn)) static int do_pause(char **args)
{
	(void)args;
	printf("ready\n");
	fflush(stdout);
	for (;;)
		pause();
}

/* Takes the signals named, says "ready", says each that comes, and ends with SIGTERM. */
static int do_trap(char **args)
{
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	for (; *args != NULL; args++)
		sigaddset(&set, atoi(*args));
	sigprocmask(SIG_BLOCK, &set, NULL);
	printf("ready\n");
	fflush(stdout);
	while (sigwait(&set, &sig) == 0) {
		printf("got %d\n", sig);
		fflush(stdout);
		if (sig == SIGTERM)
			return 0;
	}
	return 1;
}

/* Leaves grandchildren behind: COUNT that end at once and one that lives on. */
static int do_orphans(char **args)
{
	for (int i = atoi(args[0]); i >= 0; i--) {
		if (fork() == 0) {
			if (fork() == 0) {
				if (i == 0) {
					setsid();
					for (;;)
						pause();
				}
			}
			_exit(0);
		}
		wait(NULL);
	}
	return 0;
}

static void count_processes(DIR *dir, int *living, int *zombies)
{
	*living = *zombies = 0;
	rewinddir(dir);
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		char path[300], line[512] = "", state = '?';
		FILE *file;

		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
		file = fopen(path, "r");
		if (file != NULL && fgets(line, sizeof line, file) != NULL && strrchr(line, ')') != NULL)
			state = strrchr(line, ')')[2];
		if (file != NULL)
			fclose(file);
		if (state == 'Z')
			++*zombies;
		else
			++*living;
	}
}

/* Processes of this PID namespace. With a number, waits (10 s at most) until that many live and no zombie is left. */
static int do_ps(char **args)
{
	DIR *dir = opendir("/proc");
	int living, zombies;
	time_t end = time(NULL) + 10;

	if (dir == NULL)
		return failed("ps", "/proc");
	do
		count_processes(dir, &living, &zombies);
	while (args[0] != NULL && (living != atoi(args[0]) || zombies > 0) && time(NULL) < end && sched_yield() == 0);
	closedir(dir);
	printf("living %d zombies %d\n", living, zombies);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(char **args);
	int needs;
} verbs[] = {
	{"true", do_true, 0},         {"exit", do_exit, 1},     {"echo", do_echo, 0},         {"env", do_env, 0},     {"fds", do_fds, 0},
	{"cat", do_cat, 1},           {"cached", do_cached, 3}, {"stat", do_stat, 1},     {"exists", do_exists, 1},     {"ls", do_ls, 1},       {"write", do_write, 2},
	{"mkdir", do_mkdir, 1},       {"unlink", do_unlink, 1}, {"readlink", do_readlink, 1}, {"cwd", do_cwd, 0},     {"ids", do_ids, 0},
	{"pids", do_pids, 0},         {"nnp", do_nnp, 0},       {"inherited", do_inherited, 0}, {"hostname", do_hostname, 0}, {"flags", do_flags, 1},
	{"writefd", do_writefd, 2},   {"readfd", do_readfd, 1},   {"umount", do_umount, 1}, {"raise", do_raise, 1},       {"pause", do_pause, 0}, {"trap", do_trap, 0},
	{"orphans", do_orphans, 1},   {"ps", do_ps, 0},
};

static int run_verb(char **args)
{
	int count = 0;

	while (args[count] != NULL)
		count++;
	for (size_t i = 0; count > 0 && i < sizeof verbs / sizeof *verbs; i++) {
		if (strcmp(args[0], verbs[i].name) == 0 && count > verbs[i].needs)
			return verbs[i].run(args + 1);
	}
	fprintf(stderr, "payload: unknown verb or too few arguments: %s\n", count > 0 ? args[0] : "");
	return 99;
}

int main(int argc, char **argv)
{
	char **from = argv + 1;
	int status = 0;

	for (char **at = from; at < argv + argc; at++) {
		if (strcmp(*at, ",") != 0)
			continue;
		*at = NULL;
		status = run_verb(from);
		from = at + 1;
	}
	if (*from != NULL)
		status = run_verb(from);
	return fflush(stdout) != 0 ? 98 : status;
}
