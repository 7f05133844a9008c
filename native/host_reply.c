/* Answers of host calls. */
#include "host.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void host_reply_clear(struct host_reply *reply)
{
	reply->text = false;
	reply->list = false;
	reply->len = 0;
	if (reply->data == NULL) {
		reply->data = reply->fixed;
		reply->room = sizeof reply->fixed;
	}
}

void host_reply_free(struct host_reply *reply)
{
	if (reply->data != reply->fixed)
		free(reply->data);
	reply->data = NULL;
	host_reply_clear(reply);
}

int host_reply_room(struct host_reply *reply, size_t more)
{
	size_t want, room;
	char *bigger;

	if (reply->data == NULL)
		host_reply_clear(reply);
	if (__builtin_add_overflow(reply->len, more, &want))
		return -ENOMEM;
	if (want <= reply->room)
		return 0;
	room = want > reply->room * 2 ? want : reply->room * 2;
	bigger = realloc(reply->data == reply->fixed ? NULL : reply->data, room);
	if (bigger == NULL)
		return -ENOMEM;
	if (reply->data == reply->fixed)
		memcpy(bigger, reply->fixed, reply->len);
	reply->data = bigger;
	reply->room = room;
	return 0;
}

int host_reply_add(struct host_reply *reply, const char *bytes, size_t len)
{
	if (host_reply_room(reply, len) != 0)
		return -ENOMEM;
	if (len > 0)
		memcpy(reply->data + reply->len, bytes, len);
	reply->len += len;
	return 0;
}

int host_reply_print(struct host_reply *reply, const char *format, ...)
{
	char line[512];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof line, format, args);
	va_end(args);
	if (len < 0 || (size_t)len >= sizeof line)
		return -EOVERFLOW;
	return host_reply_add(reply, line, (size_t)len);
}

int host_reply_list_number(struct host_reply *reply, int64_t number)
{
	struct host_item item = {.number = number};

	reply->list = true;
	return host_reply_add(reply, (const char *)&item, sizeof item);
}

size_t host_reply_list_begin(struct host_reply *reply)
{
	struct host_item item = {.text = true};
	size_t begun = reply->len;

	reply->list = true;
	return host_reply_add(reply, (const char *)&item, sizeof item) == 0 ? begun : SIZE_MAX;
}

int host_reply_list_end(struct host_reply *reply, size_t begun)
{
	struct host_item item = {.text = true, .number = (int64_t)(reply->len - begun - sizeof item)};

	if (begun == SIZE_MAX)
		return -ENOMEM;
	memcpy(reply->data + begun, &item, sizeof item);
	return 0;
}

int host_reply_list_text(struct host_reply *reply, const char *text)
{
	size_t begun = host_reply_list_begin(reply);
	int error = host_reply_add(reply, text, strlen(text));

	return error != 0 ? error : host_reply_list_end(reply, begun);
}
