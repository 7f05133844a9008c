/* The block cache as many threads meet it: of those who want a block that is not there one loads it, and all have what came of that. */
#include "check.h"

#include "../../native/squash/internal.h"

#include <sched.h>
#include <stdatomic.h>

#define MANY 8u

static struct squash_cache *cache;
static const struct squash_key key = { .pos = 96 };
static _Atomic unsigned loading;

/* Ends when all others have come: each is counted before it waits, or before it begins to load as well. */
static int load(void *ctx, struct squash_block *block, struct err *err)
{
	struct squash_cache_use use;

	atomic_fetch_add(&loading, 1);
	do {
		sched_yield();
		use = cache_use(cache);
	} while (use.hits + use.loads < MANY);
	if (*(const bool *)ctx)
		return fail(err, EIO, "load a block", "as it should");
	block->data = calloc(1, 1);
	block->size = 1;
	return 0;
}

struct asker {
	bool fails;
	int rc;
	const void *data;
	struct err err;
};

static void *ask(void *ctx)
{
	struct asker *asker = ctx;
	struct squash_block *block = NULL;

	asker->rc = cache_get(cache, &key, load, &asker->fails, &block, &asker->err);
	if (block != NULL) {
		asker->data = block->data;
		cache_put(cache, block);
	}
	return NULL;
}

static void all_ask(struct asker askers[MANY], bool fails)
{
	pthread_t threads[MANY];

	cache = squash_cache_new(1 << 20);
	atomic_store(&loading, 0);
	for (unsigned i = 0; i < MANY; i++) {
		askers[i] = (struct asker) { .fails = fails };
		pthread_create(&threads[i], NULL, ask, &askers[i]);
	}
	for (unsigned i = 0; i < MANY; i++)
		pthread_join(threads[i], NULL);
}

int main(void)
{
	struct asker askers[MANY];
	unsigned same = 0, failed = 0;

	all_ask(askers, false);
	for (unsigned i = 0; i < MANY; i++)
		same += askers[i].rc == 0 && askers[i].data != NULL && askers[i].data == askers[0].data;
	CHECK("of many who want a block one loads it", atomic_load(&loading) == 1);
	CHECK("and all have that one", same == MANY);
	squash_cache_free(cache);

	all_ask(askers, true);
	for (unsigned i = 0; i < MANY; i++)
		failed += askers[i].rc == -EIO && strcmp(askers[i].err.detail, "as it should") == 0;
	CHECK("one fails to load it", atomic_load(&loading) == 1);
	CHECK("and all are told why", failed == MANY);
	ask(&askers[0]);
	CHECK("who comes later tries again", atomic_load(&loading) == 2);
	squash_cache_free(cache);
	return check_end();
}
