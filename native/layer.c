/* The role's arguments. */
#include "layer.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/limits.h>

#include "image.h"
#include "image_owners.h"
#include "owners.h"
#include "tar_out.h"
#include "tree_tar.h"
#include "userns.h"

static int usage(void)
{
	fputs("tsrun: @layer [-p PARENT] [-m NEWUIDMAP NEWGIDMAP UID_MAP GID_MAP] tar|unpack|points|unpoint|own|remove|sync|probe … (internal; see native/layer.h)\n", stderr);
	return 2;
}

static int report(int result, const struct err *err)
{
	if (result == 0 && (fflush(stdout) != 0 || ferror(stdout))) {
		fprintf(stderr, "tsrun: cannot write the output: %s\n", strerror(errno));
		return 1;
	}
	if (result < 0)
		fprintf(stderr, "tsrun: cannot %s: %s: %s\n", err->step, err->detail, strerror(-result));
	return result < 0;
}

/* *table stays NULL for "" and, when it is only to be read, for a file that is not there: nothing has been recorded then. */
static int open_table(const char *path, int flags, struct owner_table **table, struct err *err)
{
	int fd;

	if (path == NULL || path[0] == '\0')
		return 0;
	fd = open(path, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno == ENOENT && flags == O_RDONLY ? 0 : fail(err, errno, "open the table of owners", "%s", path);
	return owner_table_open(fd, path, table, err);
}

static int tar(char **args, bool real_owners, struct err *err)
{
	struct owner_table *table = NULL;
	bool given = args[1] != NULL && args[1][0] != '\0';
	char own[PATH_MAX];
	int result = snprintf(own, sizeof own, "%s/" OWNER_TABLE_NAME, args[0]) >= (int)sizeof own
	                 ? fail(err, ENAMETOOLONG, TAR_STEP, "%.300s", args[0])
	                 : open_table(given ? args[1] : own, O_RDONLY, &table, err);
	struct tree_records records = {.table = table, .real_owners = real_owners};

	if (result == 0)
		result = tree_tar(args[0], STDOUT_FILENO, &records, err);
	owner_table_close(table);
	return result;
}

static int unpack(char **args, bool real_owners, struct err *err)
{
	struct image_owners owners = {.real = real_owners, .lock = PTHREAD_MUTEX_INITIALIZER};
	struct image_source source;
	uint64_t offset, size;
	int result = image_open(&source, args[0], args[1], args[2], err);

	if (result == 0)
		result = open_table(args[4], O_RDWR | O_CREAT | O_APPEND, &owners.table, err);
	if (result == 0) {
		/* Decimal numbers, or the image would not be open. */
		offset = strtoull(args[1], NULL, 10);
		size = strtoull(args[2], NULL, 10);
		result = image_extract(source.fd, offset, size, args[3], &owners, NULL, err);
	}
	image_close(&source);
	owner_table_close(owners.table);
	return result;
}

static int remove_all(char **paths, struct err *err)
{
	int result = 0;

	while (result == 0 && *paths != NULL)
		result = layer_remove(*paths++, err);
	return result;
}

static int give_away(char **args, struct err *err)
{
	char *end_uid, *end_gid;
	unsigned long uid = strtoul(args[0], &end_uid, 10), gid = strtoul(args[1], &end_gid, 10);

	if (*end_uid != '\0' || *end_gid != '\0' || uid >= UINT32_MAX || gid >= UINT32_MAX)
		return fail(err, EINVAL, "change the owner", "%s:%s", args[0], args[1]);
	return lchown(args[2], (uid_t)uid, (gid_t)gid) < 0 ? fail(err, errno, "change the owner", "%s", args[2]) : 0;
}

static int sync_all(const char *directory, struct err *err)
{
	cleanup_fd int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || syncfs(fd) < 0 ? fail(err, errno, "write everything to the disk", "%s", directory) : 0;
}

/* Who has died already is not the parent any more. */
static bool is_on_leash(pid_t parent)
{
	return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent;
}

int layer_main(int argc, char **argv)
{
	struct err err = {0};
	bool given = argc > 2 && strcmp(argv[1], "-p") == 0;
	pid_t parent = given ? (pid_t)strtol(argv[2], NULL, 10) : getppid();
	char **maps = argv + (given ? 3 : 1);
	bool several = argc > maps - argv && strcmp(maps[0], "-m") == 0;
	char **args = maps + (several ? 6 : 1);
	int count = (int)(argc - (args - argv)), result;
	const char *verb;

	if (count < 1 || count > 1000000)
		return usage();
	if (!is_on_leash(parent))
		return 125;
	verb = args[-1];
	result = several ? userns_ranges(maps[1], maps[2], maps[3], maps[4], &err) : userns_new(0, 0, &err);
	if (result < 0)
		return report(result, &err);
	/* Entering a user namespace has undone it. */
	if (!is_on_leash(parent))
		return 125;
	umask(0);
	if (strcmp(verb, "tar") == 0 && count <= 2)
		return report(tar(args, several, &err), &err);
	if (strcmp(verb, "unpack") == 0 && (count == 4 || count == 5))
		return report(unpack(args, several, &err), &err);
	if (strcmp(verb, "points") == 0)
		return report(layer_points(args, &err), &err);
	if (strcmp(verb, "unpoint") == 0)
		return report(layer_unpoint(args, count, &err), &err);
	if (strcmp(verb, "own") == 0 && count == 3)
		return report(give_away(args, &err), &err);
	if (strcmp(verb, "remove") == 0)
		return report(remove_all(args, &err), &err);
	if (strcmp(verb, "sync") == 0 && count == 1)
		return report(sync_all(args[0], &err), &err);
	if (strcmp(verb, "probe") == 0 && count == 1)
		return report(layer_probe(args[0], &err), &err);
	return usage();
}
