/* Records of owners and their table. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "../../native/owners.h"
#include "../../native/owners_calls.h"
#include "check.h"

static void records(void)
{
	static const char *const bad[] = {"", "1", "1:", ":1", "1:2 ", "1:2 c", "1:2 c 3", "1:2 c 3:", "1:2 d 3:4", "1:2  c 3:4", "01:2", "1:2\n", " 1:2", "-1:2",
	                                  "4294967295:0", "0:4294967295", "4294967296:0", "1:2 c 3:4 ", "99999999999999999999999:1"};
	struct owner_record record;
	char text[OWNER_TEXT_MAX];

	CHECK("an owner", owner_parse("33:4294967294", 13, &record) == 0 && record.uid == 33 && record.gid == 4294967294u && record.device == 0);
	CHECK("a device", owner_parse("0:6 b 259:70000", 15, &record) == 0 && record.device == 'b' && record.major == 259 && record.minor == 70000);
	CHECK("is written as it is read", owner_format(&record, text) == 15 && strcmp(text, "0:6 b 259:70000") == 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		CHECK(bad[i], owner_parse(bad[i], strlen(bad[i]), &record) == -EPROTO);
}

static int table_of(const char *text, struct owner_table **table, struct err *err)
{
	int fd = memfd_create("table", MFD_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		return -EIO;
	return owner_table_open(fd, "table", table, err);
}

static void tables(void)
{
	const struct owner_key key = {.device = 1, .inode = 2, .seconds = -3, .nanoseconds = 4};
	const struct owner_record *found;
	struct owner_table *table = NULL;
	struct err err = {0};
	char text[256];
	ssize_t len;

	CHECK("the later line wins, and the last without its end is not there",
	      table_of("1 2 -3.4 5:6\n1 2 -3.4 7:8\n1 2 -3.5 9:9\n1 2 -3.4 1:", &table, &err) == 0 && (found = owner_table_find(table, &key)) != NULL && found->uid == 7 &&
	          found->gid == 8);
	owner_table_close(table);
	CHECK("a bad line is named", table_of("1 2 3.4 5:6\n1 2 3.4\n", &table, &err) == -EPROTO && strstr(err.detail, "table: line 2") != NULL);
	CHECK("an empty table", table_of("", &table, &err) == 0 && owner_table_find(table, &key) == NULL);
	for (uint32_t i = 0; i < 5000; i++) {
		const struct owner_key each = {.device = 1, .inode = i, .seconds = i / 3};
		const struct owner_record record = {.uid = i, .gid = i + 1};

		if (owner_table_put(table, &each, &record) < 0)
			CHECK("put", false);
	}
	CHECK("five thousand are found", ({
		bool all = true;
		for (uint32_t i = 0; i < 5000; i++) {
			const struct owner_key each = {.device = 1, .inode = i, .seconds = i / 3};
			all &= (found = owner_table_find(table, &each)) != NULL && found->uid == i;
		}
		all;
	}));
	len = pread(owner_table_fd(table), text, sizeof text - 1, 0);
	text[len < 0 ? 0 : len] = '\0';
	CHECK("each is a line of the file", strncmp(text, "1 0 0.0 0:1\n1 1 0.0 1:2\n", 24) == 0);
	owner_table_close(table);
}

static void calls(void)
{
	bool grouped = true;

	for (size_t i = 0; i < owner_abi_calls_count; i++) {
		for (size_t j = 0; j < i; j++) {
			grouped &= owner_abi_calls[i].arch != owner_abi_calls[j].arch || owner_abi_calls[i - 1].arch == owner_abi_calls[i].arch;
			grouped &= owner_abi_calls[i].arch != owner_abi_calls[j].arch || owner_abi_calls[i].number != owner_abi_calls[j].number;
		}
	}
	CHECK("the calls of an architecture lie together, none twice", grouped);
	CHECK("a call of no interest is none", owner_call_of(0, 0) == NULL);
}

int main(void)
{
	records();
	tables();
	calls();
	return check_end();
}
