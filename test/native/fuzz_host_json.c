/* The facts of an image that anybody may have written, as a start takes them apart: whatever the bytes are, the answer is a list of as many items as were
 * asked for, whose texts hold no NUL but those between strings, or an error. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "../../native/host.h"

static void need(bool holds)
{
	if (!holds)
		abort();
}

static void check_list(const struct host_reply *reply, size_t count)
{
	struct host_item item;
	size_t items = 0;

	for (size_t at = 0; at < reply->len; items++) {
		need(reply->len - at >= sizeof item);
		memcpy(&item, reply->data + at, sizeof item);
		at += sizeof item;
		need(item.number >= 0);
		if (!item.text)
			continue;
		need((size_t)item.number <= reply->len - at);
		at += (size_t)item.number;
	}
	need(items == count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char names[] = "nversion\nsarch\nlenv\nbrunscript\notree\nsos.id\nslibc.kind";
	struct host host = {0};
	struct host_reply reply = {0};
	char *text = malloc(size + 1);
	struct host_value args[] = {{.bytes = text, .len = size}, {.bytes = names, .len = strlen(names)}};
	int64_t result;

	need(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	result = host_call(&host, HOST_json, args, 2, &reply);
	need(result == 0 ? reply.list : result < 0);
	if (result == 0)
		check_list(&reply, 7);
	args[1] = (struct host_value){.bytes = "/usr", .len = 4};
	result = host_call(&host, HOST_member, args, 2, &reply);
	need(result == 0 ? reply.text && memchr(reply.data, 0, reply.len) == NULL : result < 0);
	host_reply_free(&reply);
	host_release(&host);
	free(text);
	return 0;
}
