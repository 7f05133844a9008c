/* Extended attributes: sets of names and values, shared between inodes; big values may be stored once and pointed to. */
#include "internal.h"

#include <inttypes.h>

#define NAME_MAX_LEN 255u /* of the whole name, as Linux has it */
#define VALUE_MAX 65536u
#define LIST_MAX 65536u

struct attribute {
	char name[NAME_MAX_LEN + 1];
	size_t name_len;
	bool elsewhere;
};

static const char *prefix_of(unsigned type)
{
	static const char *const prefixes[] = { "user.", "trusted.", "security." };

	type &= ~SQUASH_XATTR_ELSEWHERE;
	return type < ARRAY_LEN(prefixes) ? prefixes[type] : NULL;
}

/* Finds the set: a cursor at its first attribute, and their number. */
static int start_set(struct squash *sq, const struct squash_inode *inode, struct meta_cursor *at, uint32_t *count, struct err *err)
{
	uint8_t raw[16];
	uint64_t pos, ref;
	int rc;

	*count = 0;
	if (inode->xattrs == SQUASH_NO_XATTR)
		return 0;
	if (inode->xattrs >= sq->xattr_sets)
		return squash_corrupt(err, "inode %" PRIu32 " has xattr set %" PRIu32 " of %" PRIu32, inode->ino, inode->xattrs, sq->xattr_sets);
	rc = squash_pread(sq, sq->xattr_index + 16 + (uint64_t)(inode->xattrs / 512) * 8, raw, 8, err);
	if (rc == 0)
		rc = meta_table_entry(sq, get64(raw), inode->xattrs, sizeof raw, raw, err);
	if (rc < 0)
		return rc;
	ref = get64(raw);
	*count = get32(raw + 8);
	if (add_overflows(sq->xattr_table, ref >> 16, &pos) || *count > LIST_MAX / 2)
		return squash_corrupt(err, "an xattr set of inode %" PRIu32 " is out of place", inode->ino);
	meta_start(at, sq, pos, sq->bytes, ref & 0xffff);
	return 0;
}

/* Reads type and name; the cursor is then at the value. A prefix that does not exist gives an empty name. */
static int read_name(struct meta_cursor *at, struct attribute *attribute, struct err *err)
{
	uint8_t raw[4];
	const char *prefix;
	size_t prefix_len, len;
	int rc = meta_read(at, raw, sizeof raw, err);

	if (rc < 0)
		return rc;
	attribute->elsewhere = get16(raw) & SQUASH_XATTR_ELSEWHERE;
	attribute->name_len = 0;
	prefix = prefix_of(get16(raw));
	len = get16(raw + 2);
	if (prefix == NULL)
		return meta_read(at, NULL, len, err);
	prefix_len = strlen(prefix);
	if (len == 0 || prefix_len + len > NAME_MAX_LEN)
		return squash_corrupt(err, "an xattr name has %zu bytes", len);
	memcpy(attribute->name, prefix, prefix_len);
	rc = meta_read(at, attribute->name + prefix_len, len, err);
	if (rc < 0)
		return rc;
	attribute->name_len = prefix_len + len;
	attribute->name[attribute->name_len] = '\0';
	if (strlen(attribute->name) != attribute->name_len)
		return squash_corrupt(err, "an xattr name has a NUL in it");
	return 0;
}

static int value_length(struct meta_cursor *at, uint32_t *len, struct err *err)
{
	uint8_t raw[4];
	int rc = meta_read(at, raw, sizeof raw, err);

	if (rc < 0)
		return rc;
	*len = get32(raw);
	return *len > VALUE_MAX ? squash_corrupt(err, "an xattr value has %" PRIu32 " bytes", *len) : 0;
}

static int skip_value(struct meta_cursor *at, struct err *err)
{
	uint32_t len;
	int rc = value_length(at, &len, err);

	return rc < 0 ? rc : meta_read(at, NULL, len, err);
}

static ssize_t read_value(struct squash *sq, struct meta_cursor *at, bool elsewhere, void *buf, size_t cap, struct err *err)
{
	struct meta_cursor cleanup_meta target = { 0 };
	uint32_t len;
	int rc = value_length(at, &len, err);

	if (rc == 0 && elsewhere) {
		uint8_t raw[8];
		uint64_t pos;

		if (len != sizeof raw)
			return squash_corrupt(err, "a pointer to an xattr value has %" PRIu32 " bytes", len);
		rc = meta_read(at, raw, sizeof raw, err);
		if (rc < 0)
			return rc;
		if (add_overflows(sq->xattr_table, get64(raw) >> 16, &pos))
			return squash_corrupt(err, "an xattr value is out of place");
		meta_start(&target, sq, pos, sq->bytes, get64(raw) & 0xffff);
		at = &target;
		rc = value_length(at, &len, err);
	}
	if (rc < 0)
		return rc;
	if (cap == 0)
		return len;
	if (len > cap)
		return fail(err, ERANGE, "read the image", "an xattr value has %" PRIu32 " bytes", len);
	rc = meta_read(at, buf, len, err);
	return rc < 0 ? rc : (ssize_t)len;
}

ssize_t squash_listxattr(struct squash *sq, const struct squash_inode *inode, bool (*wanted)(const char *name), char *buf, size_t cap,
	struct err *err)
{
	struct meta_cursor cleanup_meta at = { 0 };
	struct attribute attribute;
	uint32_t count;
	size_t total = 0;
	int rc = start_set(sq, inode, &at, &count, err);

	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		size_t len;

		rc = read_name(&at, &attribute, err);
		if (rc == 0)
			rc = skip_value(&at, err);
		if (rc < 0)
			break;
		if (attribute.name_len == 0 || (wanted != NULL && !wanted(attribute.name)))
			continue;
		len = attribute.name_len + 1;
		if (cap > 0 && cap - total < len)
			return fail(err, ERANGE, "read the image", "the xattr names of inode %" PRIu32 " do not fit", inode->ino);
		if (total + len > LIST_MAX)
			return squash_corrupt(err, "inode %" PRIu32 " has too many xattrs", inode->ino);
		if (cap > 0)
			memcpy(buf + total, attribute.name, len);
		total += len;
	}
	return rc < 0 ? rc : (ssize_t)total;
}

ssize_t squash_getxattr(struct squash *sq, const struct squash_inode *inode, const char *name, void *buf, size_t cap, struct err *err)
{
	struct meta_cursor cleanup_meta at = { 0 };
	struct attribute attribute;
	uint32_t count;
	int rc = start_set(sq, inode, &at, &count, err);

	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		rc = read_name(&at, &attribute, err);
		if (rc == 0 && attribute.name_len > 0 && strcmp(attribute.name, name) == 0)
			return read_value(sq, &at, attribute.elsewhere, buf, cap, err);
		if (rc == 0)
			rc = skip_value(&at, err);
	}
	return rc < 0 ? rc : -ENODATA;
}
