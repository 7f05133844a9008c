/* The reader of JSON members on any text that an image may hold: what it answers is a list of what was asked for, each as its letter says. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "../../native/host_internal.h"

static const char names[] = "nn\nss\nll\noo\nbb\nse\xe9";

static void need(bool holds)
{
	if (!holds)
		abort();
}

/* The next item of the answer, and its text; NULL for a number. */
static const char *next(const struct host_reply *reply, size_t *at, struct host_item *item)
{
	const char *text = reply->data + *at + sizeof *item;

	need(reply->len - *at >= sizeof *item);
	memcpy(item, reply->data + *at, sizeof *item);
	*at += sizeof *item;
	if (!item->text)
		return NULL;
	need(item->number >= 0 && (size_t)item->number <= reply->len - *at);
	*at += (size_t)item->number;
	return text;
}

static void check_kind(char kind, const char *text, const struct host_item *item)
{
	switch (kind) {
	case 'n':
		need(text == NULL && item->number >= 0);
		break;
	case 'b':
		need(text == NULL && (item->number == 0 || item->number == 1));
		break;
	case 's':
		need(text != NULL && memchr(text, '\0', (size_t)item->number) == NULL);
		break;
	case 'l':
		need(text != NULL && (item->number == 0 || text[item->number - 1] == '\0'));
		break;
	default:
		need(text != NULL && item->number >= 2 && text[0] == '{' && text[item->number - 1] == '}');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct host_reply reply = {.text = false};
	struct host_value args[] = {{.bytes = text, .len = size}, {.bytes = names, .len = sizeof names - 1}};
	size_t at = 0;

	memcpy(text, data, size);
	text[size] = '\0';
	host_reply_clear(&reply);
	if (host_call_json(NULL, args, &reply) == 0) {
		for (const char *name = names; *name != '\0'; name += strcspn(name, "\n") + (strchr(name, '\n') != NULL)) {
			struct host_item item;
			const char *found = next(&reply, &at, &item);

			check_kind(*name, found, &item);
		}
		need(at == reply.len && reply.list);
	}
	host_reply_free(&reply);
	free(text);
	return 0;
}
