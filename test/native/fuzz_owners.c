/* Records of owners, which the payload of a build can write too: what is read is what would be written, and a table is its lines. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../../native/owners.h"

static void need(bool holds)
{
	if (!holds)
		abort();
}

static void check_record(const uint8_t *data, size_t size)
{
	struct owner_record record;
	char text[OWNER_TEXT_MAX];

	if (owner_parse((const char *)data, size, &record) < 0)
		return;
	need(record.uid != UINT32_MAX && record.gid != UINT32_MAX && (record.device == 0 || record.device == 'c' || record.device == 'b'));
	need(owner_format(&record, text) == size && memcmp(text, data, size) == 0);
}

static void check_table(const uint8_t *data, size_t size)
{
	const struct owner_key key = {.device = 1, .inode = 2, .seconds = -3, .nanoseconds = 4};
	const struct owner_record record = {.uid = 5, .gid = 6};
	const struct owner_record *found;
	struct owner_table *table;
	struct err err = {0};
	int fd = memfd_create("table", MFD_CLOEXEC);

	need(fd >= 0 && (size_t)write(fd, data, size) == size);
	if (owner_table_open(fd, "the table", &table, &err) < 0) {
		need(err.errnum == EPROTO && memchr(data, '\n', size) != NULL);
		return;
	}
	need(owner_table_put(table, &key, &record) == 0);
	found = owner_table_find(table, &key);
	need(found != NULL && found->uid == 5 && found->gid == 6 && found->device == 0);
	owner_table_close(table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_record(data, size);
	check_table(data, size);
	return 0;
}
