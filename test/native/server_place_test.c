/* The directory and the lock of a scope, when somebody else is at work on them between two system calls of ours. */
#include "check.h"
#include "guard.h"
#include "sample_tree.h"

#include <sys/file.h>

static void (*happening)(void); /* before the next look at the directory's owner has its answer, or the next lock is held */

static void happen(void)
{
	void (*what)(void) = happening;

	happening = NULL;
	if (what != NULL)
		what();
}

static int watched_lstat(const char *path, struct stat *st)
{
	int rc = lstat(path, st);

	happen();
	return rc;
}

static int watched_flock(int fd, int how)
{
	happen();
	return flock(fd, how);
}

#define lstat watched_lstat
#define flock watched_flock
#include "../../native/server_wire.c"
#include "../../native/server_join.c"
#undef lstat
#undef flock

#define SOMEBODY 54321 /* a user needs no name */

static char top[] = "/tmp/tsrun-place-test-XXXXXX";

static const char *place(void)
{
	return sample_text("%s/run", top);
}

static void put_away(void)
{
	if (rename(place(), sample_text("%s/away", top)) < 0)
		sample_fail("rename");
}

static void put_link(void)
{
	put_away();
	if (symlink("away", place()) < 0)
		sample_fail("symlink");
}

static void put_anothers(void)
{
	put_away();
	if (mkdir(place(), 0700) < 0 || chown(place(), SOMEBODY, SOMEBODY) < 0)
		sample_fail("mkdir");
}

static void put_open(void)
{
	put_away();
	if (mkdir(place(), 0700) < 0 || chmod(place(), 0770) < 0)
		sample_fail("mkdir");
}

/* The directory is opened while something happens to it; 0, or how it fails. */
static int open_while(void (*what)(void), struct err *err)
{
	int dir;

	sample_run("rm -rf %s/run %s/away; mkdir -m 700 %s/run", top, top, top);
	*err = (struct err) { 0 };
	happening = what;
	dir = open_dir(place(), err);
	happening = NULL;
	if (dir < 0)
		return dir;
	close(dir);
	return 0;
}

static void opens_its_own(void)
{
	struct err err;

	CHECK("a directory of the user's own is opened", open_while(NULL, &err) == 0);
	CHECK("one that is gone is an error", open_while(put_away, &err) == -ENOENT);
	CHECK("a link in its place is not followed", open_while(put_link, &err) == -ENOTDIR || open_while(put_link, &err) == -ELOOP);
	CHECK("nor is one used that others could reach into", open_while(put_open, &err) == -EPERM && strstr(err.detail, "could reach into it") != NULL);
	if (geteuid() != 0)
		SKIP("a directory of another user is needed");
	else
		CHECK("nor somebody else's", open_while(put_anothers, &err) == -EPERM && strstr(err.detail, "was replaced") != NULL);
}

static int dir;

static const char *lock_path(void)
{
	char name[WIRE_NAME_MAX];

	wire_name(name, "scope", WIRE_LOCK);
	return sample_text("%s/%s", place(), name);
}

/* As a server does that ends, which held it. */
static void remove_lock(void)
{
	unlink(lock_path());
}

static void locks_what_is_there(void)
{
	struct stat held, named;
	int lock;

	dir = open(place(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	happening = remove_lock;
	lock = wire_lock(dir, "scope");
	CHECK("a lock whose file was removed before it was held is taken again",
		lock >= 0 && fstat(lock, &held) == 0 && stat(lock_path(), &named) == 0 && held.st_ino == named.st_ino);
	close(lock);
	close(dir);
}

int main(void)
{
	if (mkdtemp(top) == NULL)
		sample_fail("mkdtemp");
	guard_begin(top);
	opens_its_own();
	sample_run("rm -rf %s/run; mkdir -m 700 %s/run", top, top);
	locks_what_is_there();
	return check_end();
}
