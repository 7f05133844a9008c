#include "tar_out.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

/* --- output --- */

int tar_flush(struct tar_out *a, struct err *err)
{
	int rc = write_full(a->out, a->buffer, a->filled);

	a->filled = 0;
	return rc < 0 ? fail(err, -rc, TAR_STEP, "writing the archive") : 0;
}

int tar_put(struct tar_out *a, const void *data, size_t len, struct err *err)
{
	const char *from = data;

	while (len > 0) {
		size_t take = TAR_BUFFER - a->filled < len ? TAR_BUFFER - a->filled : len;
		int rc;

		memcpy(a->buffer + a->filled, from, take);
		a->filled += take;
		from += take;
		len -= take;
		rc = a->filled == TAR_BUFFER ? tar_flush(a, err) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

int tar_pad(struct tar_out *a, uint64_t len, struct err *err)
{
	static const char zeros[TAR_RECORD];

	return len % TAR_RECORD == 0 ? 0 : tar_put(a, zeros, TAR_RECORD - len % TAR_RECORD, err);
}

/* --- headers --- */

static void octal(char *field, size_t size, uint64_t value)
{
	for (field[--size] = '\0'; size > 0; value >>= 3)
		field[--size] = (char)('0' + (value & 7));
}

static bool fits_octal(uint64_t value, unsigned digits)
{
	return value >> (3 * digits) == 0;
}

/* One ustar header. Fields that do not fit are cut: the extended header before it has them whole. */
static int put_header(struct tar_out *a, const char *name, char type, const struct stat *st, uint64_t size, const char *link, struct err *err)
{
	char header[TAR_RECORD + 1] = { 0 };
	unsigned sum = 0;

	memcpy(header, name, strnlen(name, 100));
	octal(header + 100, 8, st->st_mode & 07777u);
	octal(header + 108, 8, fits_octal(st->st_uid, 7) ? st->st_uid : 0);
	octal(header + 116, 8, fits_octal(st->st_gid, 7) ? st->st_gid : 0);
	octal(header + 124, 12, fits_octal(size, 11) ? size : 0);
	octal(header + 136, 12, st->st_mtim.tv_sec >= 0 && fits_octal((uint64_t)st->st_mtim.tv_sec, 11) ? (uint64_t)st->st_mtim.tv_sec : 0);
	header[156] = type;
	memcpy(header + 157, link, strnlen(link, 100));
	memcpy(header + 257, "ustar\0" "00", 8);
	if (type == '3' || type == '4') {
		octal(header + 329, 8, major(st->st_rdev));
		octal(header + 337, 8, minor(st->st_rdev));
	}
	memset(header + 148, ' ', 8);
	for (unsigned i = 0; i < TAR_RECORD; i++)
		sum += (unsigned char)header[i];
	snprintf(header + 148, 8, "%06o", sum);
	header[155] = ' ';
	return tar_put(a, header, TAR_RECORD, err);
}

/* "LENGTH KEY=VALUE\n", where LENGTH counts itself too. */
int tar_pax(struct tar_out *a, const char *key, const void *value, size_t len, struct err *err)
{
	size_t body = strlen(key) + len + 3, total = body + 1;
	char start[32];

	while (total != body + (size_t)snprintf(start, sizeof start, "%zu", total))
		total = body + strlen(start);
	if (a->pax_len + total + 1 > a->pax_cap) {
		size_t cap = (a->pax_len + total + 1) * 2;
		char *bigger = realloc(a->pax, cap);

		if (bigger == NULL)
			return fail(err, ENOMEM, TAR_STEP, "out of memory");
		a->pax = bigger;
		a->pax_cap = cap;
	}
	a->pax_len += (size_t)sprintf(a->pax + a->pax_len, "%s %s=", start, key);
	memcpy(a->pax + a->pax_len, value, len);
	a->pax_len += len;
	a->pax[a->pax_len++] = '\n';
	return 0;
}

static int pax_add_number(struct tar_out *a, const char *key, uint64_t value, struct err *err)
{
	char text[24];

	return tar_pax(a, key, text, (size_t)snprintf(text, sizeof text, "%" PRIu64, value), err);
}

static int pax_add_time(struct tar_out *a, const struct stat *st, struct err *err)
{
	char text[48];
	int len;

	if (st->st_mtim.tv_nsec == 0 && st->st_mtim.tv_sec >= 0 && fits_octal((uint64_t)st->st_mtim.tv_sec, 11))
		return 0;
	if (st->st_mtim.tv_sec < 0 && st->st_mtim.tv_nsec > 0) /* the fraction counts towards zero */
		len = snprintf(text, sizeof text, "-%" PRId64 ".%09ld", -(int64_t)(st->st_mtim.tv_sec + 1), 1000000000L - st->st_mtim.tv_nsec);
	else
		len = snprintf(text, sizeof text, "%" PRId64 ".%09ld", (int64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
	return tar_pax(a, "mtime", text, (size_t)len, err);
}

int tar_entry(struct tar_out *a, const char *path, char type, const struct stat *st, const char *link, struct err *err)
{
	uint64_t size = type == '0' ? (uint64_t)st->st_size : 0;
	int rc = pax_add_time(a, st, err);

	if (rc == 0 && strlen(path) > 100)
		rc = tar_pax(a, "path", path, strlen(path), err);
	if (rc == 0 && strlen(link) > 100)
		rc = tar_pax(a, "linkpath", link, strlen(link), err);
	if (rc == 0 && !fits_octal(size, 11))
		rc = pax_add_number(a, "size", size, err);
	if (rc == 0 && !fits_octal(st->st_uid, 7))
		rc = pax_add_number(a, "uid", st->st_uid, err);
	if (rc == 0 && !fits_octal(st->st_gid, 7))
		rc = pax_add_number(a, "gid", st->st_gid, err);
	if (rc == 0 && a->pax_len > 0) {
		struct stat plain = { .st_mode = 0644 };

		rc = put_header(a, "PaxHeaders/entry", 'x', &plain, a->pax_len, "", err);
		if (rc == 0)
			rc = tar_put(a, a->pax, a->pax_len, err);
		if (rc == 0)
			rc = tar_pad(a, a->pax_len, err);
		a->pax_len = 0;
	}
	return rc == 0 ? put_header(a, path, type, st, size, link, err) : rc;
}

int tar_end(struct tar_out *a, struct err *err)
{
	static const char end[2 * TAR_RECORD];
	int rc = tar_put(a, end, sizeof end, err);

	return rc == 0 ? tar_flush(a, err) : rc;
}
