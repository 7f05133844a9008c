/* Host calls about the environment. */
#include "host_internal.h"

#include <limits.h>
#include <string.h>

#include "names.h"

/* Here and not by strncmp: most differ in their first chars. No word has a NUL, which ends an entry. */
static bool begins_with(const char *entry, const char *word, size_t len)
{
	size_t same = 0;

	while (same < len && entry[same] == word[same])
		same++;
	return same == len;
}

int64_t host_call_getenv(struct host *host, const struct host_value *args, struct host_reply *reply)
{
	const char *name = args[0].bytes;

	if (args[0].len == 0 || strchr(name, '=') != NULL)
		return -ENOENT;
	for (char *const *entry = host->envp; entry != NULL && *entry != NULL; entry++) {
		if (begins_with(*entry, name, args[0].len) && (*entry)[args[0].len] == '=')
			return host_reply_add(reply, *entry + args[0].len + 1, strlen(*entry + args[0].len + 1));
	}
	return -ENOENT;
}

/* The environment while it is looked through. Entries are in chains by their first two chars: a word then concerns few of them. */
struct search {
	struct {
		ssize_t next;
		ssize_t word; /* the first that names it, or -1 */
	} *entries;
	ssize_t first[UCHAR_MAX + 1]; /* or -1 */
	size_t found;
};

static size_t chain_of(char first, char second)
{
	return (unsigned char)(first * 31 + second);
}

static void find_word(struct search *search, char *const *envp, const char *word, size_t len, ssize_t number)
{
	bool open = word[len - 1] == '*';
	size_t chain, last;

	len -= open;
	chain = last = chain_of(word[0], len > 1 ? word[1] : '=');
	if (open && len < 2) {
		chain = 0;
		last = UCHAR_MAX;
	}
	for (; chain <= last; chain++) {
		for (ssize_t i = search->first[chain]; i >= 0; i = search->entries[i].next) {
			if (search->entries[i].word >= 0 || !begins_with(envp[i], word, len) || !(open || envp[i][len] == '='))
				continue;
			search->entries[i].word = number;
			search->found++;
		}
	}
}

static int find_words(struct search *search, char *const *envp, size_t count, const char *words, size_t len)
{
	bool all = len == 0;
	ssize_t number = 0;

	memset(search->first, -1, sizeof search->first);
	search->found = all ? count : 0;
	search->entries = malloc((count + 1) * sizeof *search->entries);
	if (search->entries == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		ssize_t *first = &search->first[chain_of(envp[i][0], envp[i][0] == '\0' ? '\0' : envp[i][1])];

		search->entries[i].next = *first;
		search->entries[i].word = all ? 0 : -1;
		*first = (ssize_t)i;
	}
	for (size_t at = 0, size; at < len; at += 1 + size) {
		size = (unsigned char)words[at];
		if (size == 0 || size >= len - at)
			return -EINVAL;
		find_word(search, envp, words + at + 1, size, number++);
	}
	return 0;
}

static int list_variable(struct host_reply *reply, ssize_t number, const char *entry)
{
	const char *equals = strchr(entry, '=');
	size_t begun;

	if (host_reply_list_number(reply, number) != 0)
		return -ENOMEM;
	begun = host_reply_list_begin(reply);
	if (host_reply_add(reply, entry, (size_t)(equals - entry)) != 0 || host_reply_list_end(reply, begun) != 0)
		return -ENOMEM;
	return host_reply_list_text(reply, equals + 1);
}

int64_t host_call_environ(struct host *host, const struct host_value *args, struct host_reply *reply)
{
	struct search search;
	struct names names = {.slots = NULL};
	size_t count = 0;
	int result;

	while (host->envp != NULL && host->envp[count] != NULL)
		count++;
	result = find_words(&search, host->envp, count, args[0].bytes, args[0].len);
	if (result == 0)
		result = names_make(&names, search.found);
	reply->list = true;
	for (size_t i = 0; result == 0 && i < count; i++) {
		if (search.entries[i].word >= 0 && is_assignment(host->envp[i]) && names_add(&names, host->envp[i]))
			result = list_variable(reply, search.entries[i].word, host->envp[i]);
	}
	free(names.slots);
	free(search.entries);
	return result;
}
