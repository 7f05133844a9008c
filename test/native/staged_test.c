/* Copies of images on a node: made once, of one state of the image, in a place of the user's own. What others do in the midst of it is done before a read of the
 * image or before a lock is taken. */
#include "check.h"
#include "guard.h"
#include "locks.h"
#include "sample_tree.h"

#include <stdatomic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <time.h>

static _Atomic unsigned *reads; /* of images, by this process and its children */
static void (*at_read)(void), (*at_lock)(void); /* what happens before the next one */

static void happen(void (**what)(void))
{
	void (*happening)(void) = *what;

	*what = NULL;
	if (happening != NULL)
		happening();
}

static ssize_t watched_pread(int fd, void *to, size_t len, off_t at)
{
	atomic_fetch_add(reads, 1);
	happen(&at_read);
	return pread(fd, to, len, at);
}

static int watched_flock(int fd, int how)
{
	happen(&at_lock);
	return flock(fd, how);
}

#define pread watched_pread
#define flock watched_flock
#include "../../native/place.c"
#include "../../native/staged.c"
#undef pread
#undef flock

#define SOMEBODY 54321 /* a user needs no name */

static char top[] = "/tmp/tsrun-staged-test-XXXXXX";
static int image = -1; /* in memory: not in the file system of its copies */
static struct err err;

static const char *copy_path(void)
{
	return sample_text("%s/place/1-2-3", top);
}

static void write_image(const char *content, time_t changed)
{
	const struct timespec times[2] = { { .tv_sec = changed }, { .tv_sec = changed } };

	if (pwrite(image, content, strlen(content), 0) != (ssize_t)strlen(content) || futimens(image, times) < 0)
		sample_fail("writing the image");
}

/* An empty place. */
static void begin(void)
{
	close_fd(&image);
	atomic_store(reads, 0);
	err = (struct err) { 0 };
	sample_run("rm -rf %s/place", top);
	image = memfd_create("image", MFD_CLOEXEC);
	if (image < 0 || mkdir(sample_text("%s/place", top), 0700) < 0)
		sample_fail("beginning");
	write_image("the image", 1);
}

static int stage(void)
{
	return staged_file(image, copy_path(), false, &err);
}

static bool is_image(int fd)
{
	char content[16];
	bool is = read(fd, content, sizeof content) == 9 && memcmp(content, "the image", 9) == 0;

	close_fd(&fd);
	return is;
}

static bool nothing_but_a_lock(void)
{
	return sample_run("test -z \"$(ls %s/place | grep -v lock)\"", top) == 0;
}

static bool fails(int error, const char *detail)
{
	int result = stage();
	bool as_expected = result == -error && strstr(err.detail, detail) != NULL;

	if (!as_expected)
		fprintf(stderr, "%d: %s\n", result, err.detail);
	return as_expected;
}

/* --- once --- */

static pid_t second;
static int go[2], about_to_lock[2];

static void tell(void)
{
	close_fd(&about_to_lock[1]);
}

/* It has no share in the lock of the first one: it is forked before. */
static void start_second(void)
{
	char byte;

	if (pipe2(go, O_CLOEXEC) < 0 || pipe2(about_to_lock, O_CLOEXEC) < 0 || (second = fork()) < 0)
		sample_fail("starting a second run");
	if (second == 0) {
		close_fd(&go[1]);
		(void)!read(go[0], &byte, 1);
		at_lock = tell;
		_exit(!is_image(stage()));
	}
	close_fd(&go[0]);
	close_fd(&about_to_lock[1]);
}

static bool second_waits_or_has_ended(void)
{
	siginfo_t info = { .si_pid = 0 };

	return lock_is_awaited(sample_text("%s.lock", copy_path()))
		|| (waitid(P_PID, (id_t)second, &info, WEXITED | WNOWAIT | WNOHANG) == 0 && info.si_pid == second);
}

/* Goes on when it waits for the first one, or has done all it does. */
static void second_comes(void)
{
	char byte;

	close_fd(&go[1]);
	(void)!read(about_to_lock[0], &byte, 1);
	close_fd(&about_to_lock[0]);
	while (!second_waits_or_has_ended())
		poll(NULL, 0, 1);
}

static void copies_once(void)
{
	int status = -1;

	begin();
	start_second();
	at_read = second_comes;
	CHECK("who begins a copy has it", is_image(stage()));
	CHECK("who comes meanwhile has it too", waitpid(second, &status, 0) == second && status == 0);
	CHECK("the image was read once", atomic_load(reads) == 1);
	CHECK("also by those who come later", is_image(stage()) && atomic_load(reads) == 1);
}

static void take_lock_away(void)
{
	unlink(sample_text("%s.lock", copy_path()));
}

static void take_partial_away(void)
{
	unlink(sample_text("%s.partial", copy_path()));
}

static void put_another_partial(void)
{
	take_partial_away();
	sample_file(sample_text("%s.partial", copy_path()), 1, 9, 0400);
}

static void loses_its_lock(void)
{
	begin();
	at_lock = take_lock_away;
	CHECK("a lock whose file was removed before it was held is taken again", is_image(stage()) && access(sample_text("%s.lock", copy_path()), F_OK) == 0);

	begin();
	at_read = take_partial_away;
	CHECK("what is removed in the midst of it is no copy", fails(ESTALE, "was removed just now") && nothing_but_a_lock());
	begin();
	at_read = put_another_partial;
	CHECK("nor is what another one puts there", fails(ESTALE, "was removed just now") && access(copy_path(), F_OK) < 0);
}

/* --- of one state --- */

static void change_in_place(void)
{
	write_image("another's", 2);
}

static void change_in_secret(void)
{
	struct timespec now;
	struct stat st;

	fstat(image, &st);
	do
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
	while (now.tv_sec == st.st_ctim.tv_sec && now.tv_nsec <= st.st_ctim.tv_nsec);
	write_image("another's", 1);
}

static void cut_off(void)
{
	if (ftruncate(image, 4) < 0)
		sample_fail("ftruncate");
}

static void copies_one_state(void)
{
	begin();
	at_read = change_in_place;
	CHECK("what changes in the midst of it is not copied", fails(ESTALE, "changed meanwhile") && nothing_but_a_lock());
	begin();
	at_read = change_in_secret;
	CHECK("nor when its time is what it was", fails(ESTALE, "changed meanwhile") && nothing_but_a_lock());
	begin();
	at_read = cut_off;
	CHECK("nor what is cut off", fails(ESTALE, "reading it at 4") && nothing_but_a_lock());
}

/* --- in a place of the user's own --- */

static void make_copy_of(mode_t mode)
{
	begin();
	sample_file(copy_path(), 1, 9, mode);
	if (chmod(copy_path(), mode) < 0)
		sample_fail("chmod");
}

static void trusts_its_own(void)
{
	make_copy_of(0400);
	CHECK("a file of the user's own with the name of the copy is one", stage() >= 0 && atomic_load(reads) == 0);
	make_copy_of(0620);
	CHECK("not if its group can write it", fails(EPERM, "not a file of yours alone"));
	make_copy_of(0602);
	CHECK("nor if others can", fails(EPERM, "not a file of yours alone"));
	begin();
	if (mkfifo(copy_path(), 0400) < 0)
		sample_fail("mkfifo");
	CHECK("nor is a pipe, which nobody waits for", fails(EPERM, "not a file of yours alone"));
	make_copy_of(0400);
	if (rename(copy_path(), sample_text("%s/place/9-9-9", top)) < 0 || symlink("9-9-9", copy_path()) < 0)
		sample_fail("symlink");
	CHECK("nor a link", fails(ELOOP, "open"));

	begin();
	chmod(sample_text("%s/place", top), 0770);
	CHECK("a place that a group can write is none", fails(EPERM, "can be written by others"));
	chmod(sample_text("%s/place", top), 01777);
	CHECK("but one where nobody removes what is another's", is_image(stage()));
	if (geteuid() != 0) {
		SKIP("files of another user are needed");
		return;
	}
	make_copy_of(0400);
	(void)!chown(copy_path(), SOMEBODY, SOMEBODY);
	CHECK("a copy of somebody else is not trusted", fails(EPERM, "not a file of yours alone"));
	begin();
	sample_file(sample_text("%s.lock", copy_path()), 1, 0, 0600);
	(void)!chown(sample_text("%s.lock", copy_path()), SOMEBODY, SOMEBODY);
	CHECK("nor a lock, which could be held for ever", fails(EPERM, "lock"));
	begin();
	(void)!chown(sample_text("%s/place", top), SOMEBODY, SOMEBODY);
	CHECK("nor a place", fails(EPERM, "belongs to user 54321"));
}

int main(void)
{
	if (mkdtemp(top) == NULL)
		sample_fail("mkdtemp");
	guard_begin(top);
	reads = mmap(NULL, sizeof *reads, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (reads == MAP_FAILED)
		sample_fail("mmap");
	copies_once();
	loses_its_lock();
	copies_one_state();
	trusts_its_own();
	close_fd(&image);
	return check_end();
}
