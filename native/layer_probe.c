/* Whether steps can work in a directory: by doing there what they would. */
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "layer.h"
#include "owners.h"

#define STEP "try out the directory"

/* An overlay that deletes a directory of its lower layer and makes it anew, and keeps that across a copy of the upper one. Working directory: the place. */
static int try_overlay(void)
{
	if (mkdir("lower", 0755) < 0 || mkdir("lower/name", 0755) < 0 || mkdir("upper", 0755) < 0 || mkdir("work", 0755) < 0 || mkdir("root", 0755) < 0)
		return -errno;
	if (unshare(CLONE_NEWNS) < 0)
		return -errno;
	if (mount("tsrun", "root", "overlay", MS_NOSUID | MS_NODEV, "lowerdir=lower,upperdir=upper,workdir=work,userxattr,volatile") < 0)
		return -errno;
	return rmdir("root/name") < 0 || mkdir("root/name", 0755) < 0 ? -errno : 0;
}

static int try_xattr(void)
{
	return setxattr(".", OWNER_XATTR, "0:0", 3, 0) < 0 ? -errno : 0;
}

static int try_notifier(void)
{
	int listener = owners_install(false, NULL);

	return listener < 0 ? listener : 0;
}

/* In a process of its own, which takes its mounts and filters with it. */
static int in_child(int (*try)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(-try());
	if (pid < 0 || RETRY(waitpid(pid, &status, 0)) < 0)
		return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EFAULT;
}

int layer_probe(const char *directory, struct err *err)
{
	static const struct {
		const char *name;
		int (*try)(void);
	} probes[] = {{"overlay", try_overlay}, {"xattrs", try_xattr}, {"notifier", try_notifier}};
	char place[PATH_MAX];

	if (snprintf(place, sizeof place, "%s/probe-XXXXXX", directory) >= (int)sizeof place || mkdtemp(place) == NULL || chdir(place) < 0)
		return fail(err, errno, STEP, "%s", directory);
	for (size_t i = 0; i < ARRAY_LEN(probes); i++) {
		int result = in_child(probes[i].try);

		printf("%s%c%s%c", probes[i].name, 0, result == 0 ? "yes" : strerror(-result), 0);
	}
	(void)!chdir("/");
	return layer_remove(place, err);
}
