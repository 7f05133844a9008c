/* The launcher's side: one call at a time, each answered before the next. (There can be no thread for it: the launcher has unshared its PID namespace.)
 * Whatever the payload changes meanwhile in its memory or its tree, it is the same user as the launcher and in the same root: it reaches nothing it could not
 * have named in the first place. */
#include <fcntl.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "owners_calls.h"
#include "owners_service.h"

#define STEP "take care of owners"
#define KEEP UINT32_MAX /* of an id: leave it */
#ifndef SECCOMP_USER_NOTIF_FLAG_CONTINUE
#define SECCOMP_USER_NOTIF_FLAG_CONTINUE (1UL << 0)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif
/* What a handler returns to have the kernel carry the call out as it is. */
#define CONTINUE 1

int owners_open(struct owners *owners, const char *table, const char *upper, struct err *err)
{
	int fd, result;

	owners->proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (owners->proc < 0)
		return fail(err, errno, STEP, "/proc");
	fd = open(table, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return fail(err, errno, STEP, "%s", table);
	result = owner_table_open(fd, table, &owners->table, err);
	if (result < 0)
		return result;
	owners->upper = upper == NULL ? -1 : open(upper, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return upper != NULL && owners->upper < 0 ? fail(err, errno, STEP, "%s", upper) : 0;
}

bool owner_is_waiting(const struct owner_service *service)
{
	return ioctl(service->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &service->call->id) == 0;
}

/* --- chown --- */

static uint32_t id_of(const struct owner_service *service, const struct owner_abi_call *abi, unsigned argument)
{
	uint32_t id = (uint32_t)service->call->data.args[argument];

	if (!abi->ids_of_16_bits)
		return id;
	return (id & 0xffff) == 0xffff ? KEEP : id & 0xffff;
}

/* useradd(8) and its like write /etc/shadow anew, as "shadow+" and "shadow-", and give these the owner that stat() has shown them: root. What they mean is the one
 * that is recorded. */
static bool follow_account_file(struct owner_service *service, struct owner_record *record)
{
	static const char *const names[] = {"/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow"};
	char path[PATH_MAX];
	size_t len;

	if (owner_path_in_run(service, path) < 0 || (len = strlen(path)) < 2 || (path[len - 1] != '+' && path[len - 1] != '-'))
		return false;
	path[--len] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		size_t tail = strlen(names[i]);
		struct stat st;

		if (len < tail || strcmp(path + len - tail, names[i]) != 0)
			continue;
		cleanup_fd int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
			return false;
		owner_name_file(service, fd);
		*record = owner_read_record(service, fd, st.st_mode);
		return true;
	}
	return false;
}

static int change_owner(struct owner_service *service, int fd, uint32_t uid, uint32_t gid)
{
	struct owner_record record;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (((uid != KEEP && uid != 0) || (gid != KEEP && gid != 0)) && !owner_same_userns(&service->view, (pid_t)service->call->pid))
		return CONTINUE;
	/* The kernel's part, to whom the file already belongs: it may refuse (a read-only file system, somebody else's file); set-id bits and file capabilities go,
	 * and an overlay gets a file of its own for the record. */
	if (fchownat(fd, "", 0, (gid_t)-1, AT_EMPTY_PATH) < 0)
		return -errno;
	record = owner_read_record(service, fd, st.st_mode);
	if (uid == 0 && gid == 0 && S_ISREG(st.st_mode) && st.st_size == 0) {
		struct owner_record followed;

		if (follow_account_file(service, &followed)) {
			uid = followed.uid;
			gid = followed.gid;
		}
		owner_name_file(service, fd);
	}
	if ((uid == KEEP || uid == record.uid) && (gid == KEEP || gid == record.gid))
		return 0;
	if (uid != KEEP)
		record.uid = uid;
	if (gid != KEEP)
		record.gid = gid;
	return owner_write_record(service, fd, st.st_mode, &record);
}

/* --- devices --- */

static int make_device(struct owner_service *service, int dirfd, uint64_t path_address, mode_t mode, uint32_t device)
{
	pid_t pid = (pid_t)service->call->pid;
	/* As the kernel takes an unsigned int apart: new_decode_dev(). */
	struct owner_record record = {.device = S_ISCHR(mode) ? 'c' : 'b', .major = (device & 0xfff00) >> 8, .minor = (device & 0xff) | ((device >> 12) & 0xfff00)};
	char text[PATH_MAX];
	const char *path = text;
	int result = owner_read_string(pid, path_address, text, sizeof text);

	if (result < 0)
		return result;
	if (!owner_same_userns(&service->view, pid))
		return CONTINUE;
	cleanup_fd int base = owner_base(&service->view, pid, dirfd, &path);
	if (base < 0)
		return base;
	if (!owner_is_waiting(service))
		return -ESRCH;
	umask(owner_umask(pid));
	cleanup_fd int fd = openat(base, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 07777);
	if (fd < 0)
		return -errno;
	owner_name_file(service, fd);
	return owner_write_record(service, fd, S_IFREG, &record);
}

/* --- one call --- */

/* How a call names its file. */
struct naming {
	bool by_fd;     /* args[0] is a descriptor and nothing else */
	bool at;        /* args[0] and args[1] are directory and path */
	int flags;      /* of openat(2) and its relatives */
	int flag_limit; /* those the call takes */
};

static struct naming naming_of(enum owner_call call, const __u64 *args)
{
	const int known = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW;

	switch (call) {
	case CALL_FCHOWN:
	case CALL_FSETXATTR:
	case CALL_FREMOVEXATTR:
		return (struct naming){.by_fd = true};
	case CALL_LCHOWN:
	case CALL_LSETXATTR:
	case CALL_LREMOVEXATTR:
		return (struct naming){.flags = AT_SYMLINK_NOFOLLOW, .flag_limit = known};
	case CALL_FCHOWNAT:
		return (struct naming){.at = true, .flags = (int)args[4], .flag_limit = known};
	case CALL_SETXATTRAT:
	case CALL_REMOVEXATTRAT:
		return (struct naming){.at = true, .flags = (int)args[2], .flag_limit = known};
	default:
		return (struct naming){0};
	}
}

static int open_file(struct owner_service *service, enum owner_call call)
{
	const __u64 *args = service->call->data.args;
	const struct naming naming = naming_of(call, args);
	pid_t pid = (pid_t)service->call->pid;
	char path[PATH_MAX];
	int result;

	if ((naming.flags & ~naming.flag_limit) != 0)
		return -EINVAL;
	if (naming.by_fd)
		return owner_open(&service->view, pid, (int)args[0] < 0 ? -1 : (int)args[0], NULL, 0);
	/* Since Linux 6.11 no path at all will do for an empty one. */
	if (naming.at && args[1] == 0 && (naming.flags & AT_EMPTY_PATH) != 0)
		return owner_open(&service->view, pid, (int)args[0], NULL, 0);
	result = owner_read_string(pid, args[naming.at ? 1 : 0], path, sizeof path);
	return result < 0 ? result : owner_open(&service->view, pid, naming.at ? (int)args[0] : AT_FDCWD, path, naming.flags);
}

static int answer_file(struct owner_service *service, const struct owner_abi_call *abi)
{
	const __u64 *args = service->call->data.args;
	cleanup_fd int fd = open_file(service, abi->call);

	if (fd < 0)
		return fd;
	/* What has been opened belonged to this thread, and not to another that has got its number. */
	if (!owner_is_waiting(service))
		return -ESRCH;
	owner_name_file(service, fd);
	switch (abi->call) {
	case CALL_CHOWN:
	case CALL_LCHOWN:
	case CALL_FCHOWN:
		return change_owner(service, fd, id_of(service, abi, 1), id_of(service, abi, 2));
	case CALL_FCHOWNAT:
		return change_owner(service, fd, id_of(service, abi, 2), id_of(service, abi, 3));
	case CALL_SETXATTR:
	case CALL_LSETXATTR:
	case CALL_FSETXATTR:
		return owner_set_xattr(service, fd, args[1], args[2], (size_t)args[3], (int)args[4]);
	case CALL_SETXATTRAT:
		return owner_set_xattr_at(service, fd, args);
	case CALL_REMOVEXATTR:
	case CALL_LREMOVEXATTR:
	case CALL_FREMOVEXATTR:
		return owner_remove_xattr(service, args[1]);
	case CALL_REMOVEXATTRAT:
		return owner_remove_xattr(service, args[3]);
	case CALL_MKNOD:
	case CALL_MKNODAT:
	case CALL_SUCCEED:
	case CALL_NONE:
		break;
	}
	return -ENOSYS;
}

static int answer(struct owner_service *service)
{
	const struct seccomp_data *data = &service->call->data;
	const struct owner_abi_call *abi = owner_call_of(data->arch, data->nr);

	if (abi == NULL)
		return -ENOSYS;
	if (abi->call == CALL_MKNOD)
		return make_device(service, AT_FDCWD, data->args[0], (mode_t)data->args[1], (uint32_t)data->args[2]);
	if (abi->call == CALL_MKNODAT)
		return make_device(service, (int)data->args[0], data->args[1], (mode_t)data->args[2], (uint32_t)data->args[3]);
	return answer_file(service, abi);
}

/* --- the listener --- */

static void reply(struct owner_service *service, int result)
{
	struct seccomp_notif_resp *reply = service->reply;

	memset(reply, 0, service->sizes.seccomp_notif_resp);
	reply->id = service->call->id;
	if (result == CONTINUE)
		reply->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	else
		reply->error = result;
	/* ENOENT: it has been killed. EINVAL: Linux 5.0 to 5.4 cannot continue a call. */
	if (ioctl(service->listener, SECCOMP_IOCTL_NOTIF_SEND, reply) < 0 && errno == EINVAL && result == CONTINUE) {
		reply->flags = 0;
		reply->error = -EPERM;
		(void)ioctl(service->listener, SECCOMP_IOCTL_NOTIF_SEND, reply);
	}
}

void owners_answer(struct owner_service *service)
{
	memset(service->call, 0, service->sizes.seccomp_notif);
	/* ENOENT: who asked has been killed since. */
	if (ioctl(service->listener, SECCOMP_IOCTL_NOTIF_RECV, service->call) == 0)
		reply(service, answer(service));
}

int owners_listener(const struct owner_service *service)
{
	return service->listener;
}

static int open_init(struct owners *owners, pid_t init)
{
	char path[32];

	snprintf(path, sizeof path, "%d/root", (int)init);
	owners->init = openat(owners->proc, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return owners->init < 0 ? -errno : 0;
}

static int make_room(struct owner_service *service)
{
	struct seccomp_notif_sizes *sizes = &service->sizes;

	if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, sizes) < 0)
		return -errno;
	/* What a newer kernel adds it fills in; what an older one lacks stays zero. */
	if (sizes->seccomp_notif < sizeof *service->call)
		sizes->seccomp_notif = sizeof *service->call;
	if (sizes->seccomp_notif_resp < sizeof *service->reply)
		sizes->seccomp_notif_resp = sizeof *service->reply;
	service->call = malloc(sizes->seccomp_notif);
	service->reply = malloc(sizes->seccomp_notif_resp);
	return service->call == NULL || service->reply == NULL ? -ENOMEM : 0;
}

int owners_serve(struct owners *owners, int listener, pid_t init, struct owner_service **out)
{
	struct owner_service *service = calloc(1, sizeof *service);
	int result = service == NULL ? -ENOMEM : open_init(owners, init);

	if (result == 0)
		result = make_room(service);
	if (result == 0)
		result = owner_view_begin(&service->view, owners);
	if (result < 0)
		return result; /* the launcher ends */
	service->listener = listener;
	service->owners = *owners;
	/* Both sides on one processor, as only one of them ever runs (Linux 6.6): a seventh of the time. */
	(void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	*out = service;
	return 0;
}
