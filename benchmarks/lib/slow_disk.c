/* slow_disk FILE DIRECTORY MICROSECONDS: shows FILE as DIRECTORY/disk, each read of which takes that much longer; any number at once wait beside each other. A
 * loop device over it (--direct-io=on) is a disk far away, where the kernel has no dm-delay. Root; ends when it is unmounted. FUSE protocol: linux/fuse.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define THREADS 64
#define MESSAGE (2u << 20)
#define DISK 2u /* its node */

static int device, file;
static useconds_t delay;
static struct fuse_attr root = { .ino = 1, .mode = S_IFDIR | 0755, .nlink = 2 }, disk = { .ino = DISK, .mode = S_IFREG | 0600, .nlink = 1 };

static void answer(const struct fuse_in_header *in, int error, const void *data, size_t len)
{
	struct fuse_out_header out = { .len = (uint32_t)(sizeof out + len), .error = error, .unique = in->unique };
	struct iovec parts[] = { { &out, sizeof out }, { (void *)(uintptr_t)data, len } };

	(void)!writev(device, parts, len > 0 ? 2 : 1);
}

static void init(const struct fuse_in_header *in, const struct fuse_init_in *arg)
{
	struct fuse_init_out out = { .major = FUSE_KERNEL_VERSION, .minor = arg->minor < FUSE_KERNEL_MINOR_VERSION ? arg->minor : FUSE_KERNEL_MINOR_VERSION };

	out.flags = arg->flags & (FUSE_ASYNC_READ | FUSE_ASYNC_DIO | FUSE_MAX_PAGES);
	out.max_background = out.congestion_threshold = THREADS;
	out.max_write = 1 << 20;
	out.max_pages = 256;
	answer(in, 0, &out, sizeof out);
}

static void transfer(const struct fuse_in_header *in, const char *arg, char *buffer)
{
	const struct fuse_read_in *read_in = (const void *)arg;
	const struct fuse_write_in *write_in = (const void *)arg;

	if (in->opcode == FUSE_WRITE) {
		ssize_t done = pwrite(file, write_in + 1, write_in->size, (off_t)write_in->offset);
		struct fuse_write_out out = { .size = done < 0 ? 0 : (uint32_t)done };

		answer(in, done < 0 ? -errno : 0, &out, done < 0 ? 0 : sizeof out);
		return;
	}
	ssize_t got = pread(file, buffer, read_in->size, (off_t)read_in->offset);
	int error = got < 0 ? -errno : 0;

	usleep(delay);
	answer(in, error, buffer, got < 0 ? 0 : (size_t)got);
}

static void attributes(const struct fuse_in_header *in)
{
	struct fuse_attr_out out = { .attr_valid = 3600, .attr = in->nodeid == DISK ? disk : root };

	answer(in, 0, &out, sizeof out);
}

static void lookup(const struct fuse_in_header *in, const char *name)
{
	struct fuse_entry_out out = { .nodeid = DISK, .entry_valid = 3600, .attr_valid = 3600, .attr = disk };

	if (strcmp(name, "disk") == 0)
		answer(in, 0, &out, sizeof out);
	else
		answer(in, -ENOENT, NULL, 0);
}

static void *serve(void *unused)
{
	char *message = malloc(MESSAGE), *buffer = malloc(MESSAGE);
	struct fuse_open_out opened = { .open_flags = 0 };

	for (;;) {
		ssize_t len = read(device, message, MESSAGE);
		const struct fuse_in_header *in = (const void *)message;

		if (len < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
			continue;
		if (len < 0)
			exit(errno != ENODEV);
		switch (in->opcode) {
		case FUSE_INIT:
			init(in, (const void *)(in + 1));
			break;
		case FUSE_LOOKUP:
			lookup(in, message + sizeof *in);
			break;
		case FUSE_GETATTR:
		case FUSE_SETATTR:
			attributes(in);
			break;
		case FUSE_OPEN:
		case FUSE_OPENDIR:
			answer(in, 0, &opened, sizeof opened);
			break;
		case FUSE_READ:
		case FUSE_WRITE:
			transfer(in, message + sizeof *in, buffer);
			break;
		case FUSE_FLUSH:
		case FUSE_FSYNC:
		case FUSE_RELEASE:
		case FUSE_RELEASEDIR:
			answer(in, 0, NULL, 0);
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			break;
		default:
			answer(in, -ENOSYS, NULL, 0);
		}
	}
	return unused;
}

int main(int argc, char **argv)
{
	char options[128];
	struct stat st;
	pthread_t thread;

	if (argc != 4 || (file = open(argv[1], O_RDWR)) < 0 || fstat(file, &st) < 0)
		return fprintf(stderr, "usage: slow_disk FILE DIRECTORY MICROSECONDS\n"), 2;
	delay = (useconds_t)atoi(argv[3]);
	disk.size = (uint64_t)st.st_size;
	disk.blocks = disk.size / 512;
	device = open("/dev/fuse", O_RDWR);
	snprintf(options, sizeof options, "fd=%d,rootmode=40755,user_id=0,group_id=0", device);
	if (device < 0 || mount("slow_disk", argv[2], "fuse", MS_NOSUID | MS_NODEV, options) < 0)
		return perror("mount"), 1;
	if (daemon(0, 1) < 0)
		return perror("daemon"), 1;
	for (int i = 1; i < THREADS; i++)
		if (pthread_create(&thread, NULL, serve, NULL) != 0)
			return 1;
	serve(NULL);
}
