/* The block cache: sharded by key, least recently used goes first, single flight: of many that want a block, one loads it and the
 * others wait for the result, also for its failure. */
#include "internal.h"

#include <malloc.h>
#include <stdatomic.h>

#define SHARDS 16u
#define BUCKETS 1024u

struct shard {
	pthread_mutex_t lock;
	pthread_cond_t loaded;
	struct squash_block *newest, *oldest;
};

struct squash_cache {
	uint64_t limit;
	_Atomic uint64_t bytes, hits, loads;
	_Atomic unsigned next_victim;
	struct shard shards[SHARDS];
	struct squash_block *buckets[SHARDS][BUCKETS]; /* apart: a start pays for each page that is touched */
};

void squash_reuse_memory(void)
{
	/* What one thread has freed is there for the others: the cache's memory is used once, not once for each thread. */
	mallopt(M_ARENA_MAX, 1);
	/* And a block's is used for the next one: to give it back and take it again would cost as much as decompressing, in a virtual machine ten times that. */
	mallopt(M_MMAP_THRESHOLD, 4 << 20);
	mallopt(M_TRIM_THRESHOLD, 4 << 20);
}

struct squash_cache *squash_cache_new(uint64_t limit)
{
	struct squash_cache *cache = calloc(1, sizeof *cache);

	if (cache == NULL)
		return NULL;
	cache->limit = limit;
	for (unsigned i = 0; i < SHARDS; i++) {
		pthread_mutex_init(&cache->shards[i].lock, NULL);
		pthread_cond_init(&cache->shards[i].loaded, NULL);
	}
	return cache;
}

uint64_t squash_cache_bytes(struct squash_cache *cache)
{
	return atomic_load(&cache->bytes);
}

struct squash_cache_use cache_use(struct squash_cache *cache)
{
	return (struct squash_cache_use) {
		.bytes = atomic_load_explicit(&cache->bytes, memory_order_relaxed),
		.limit = cache->limit,
		.hits = atomic_load_explicit(&cache->hits, memory_order_relaxed),
		.loads = atomic_load_explicit(&cache->loads, memory_order_relaxed),
	};
}

static uint64_t block_cost(const struct squash_block *block)
{
	return sizeof *block + block->size;
}

static void block_free(struct squash_block *block)
{
	free(block->data);
	free(block->failure);
	free(block);
}

static uint64_t key_hash(const struct squash_key *key)
{
	uint64_t h = key->pos * 0x9e3779b97f4a7c15u;

	h ^= (key->image << 34) ^ ((uint64_t)key->part << 2) ^ key->kind;
	h *= 0xd6e8feb86659fd93u;
	return h ^ h >> 32;
}

static bool same_key(const struct squash_key *a, const struct squash_key *b)
{
	return a->pos == b->pos && a->image == b->image && a->part == b->part && a->kind == b->kind;
}

static struct shard *shard_of(struct squash_cache *cache, uint64_t hash)
{
	return &cache->shards[hash % SHARDS];
}

static struct squash_block **bucket_of(struct squash_cache *cache, uint64_t hash)
{
	return &cache->buckets[hash % SHARDS][hash / SHARDS % BUCKETS];
}

static struct squash_block *find(struct squash_cache *cache, uint64_t hash, const struct squash_key *key)
{
	struct squash_block *block = *bucket_of(cache, hash);

	while (block != NULL && !same_key(&block->key, key))
		block = block->chain;
	return block;
}

static void age_remove(struct shard *shard, struct squash_block *block)
{
	*(block->newer ? &block->newer->older : &shard->newest) = block->older;
	*(block->older ? &block->older->newer : &shard->oldest) = block->newer;
	block->newer = block->older = NULL;
}

static void age_add_newest(struct shard *shard, struct squash_block *block)
{
	block->newer = NULL;
	block->older = shard->newest;
	*(shard->newest ? &shard->newest->newer : &shard->oldest) = block;
	shard->newest = block;
}

static void table_remove(struct squash_cache *cache, struct squash_block *block)
{
	struct squash_block **at = bucket_of(cache, key_hash(&block->key));

	while (*at != block)
		at = &(*at)->chain;
	*at = block->chain;
	block->in_table = false;
}

/* The caller frees it. */
static void take_out(struct squash_cache *cache, struct shard *shard, struct squash_block *block)
{
	age_remove(shard, block);
	table_remove(cache, block);
	atomic_fetch_sub(&cache->bytes, block_cost(block));
}

/* Takes one unused block out of a shard. */
static struct squash_block *evict_one(struct squash_cache *cache, struct shard *shard)
{
	struct squash_block *block = shard->oldest;

	while (block != NULL && block->refs > 0)
		block = block->newer;
	if (block != NULL)
		take_out(cache, shard, block);
	return block;
}

static void shrink(struct squash_cache *cache)
{
	unsigned found_nothing = 0;

	/* One block from each shard in turn, so that the shards age alike; when all are in use, over the limit it is. */
	while (atomic_load(&cache->bytes) > cache->limit && found_nothing < SHARDS) {
		struct shard *shard = &cache->shards[atomic_fetch_add(&cache->next_victim, 1) % SHARDS];
		struct squash_block *victim;

		pthread_mutex_lock(&shard->lock);
		victim = evict_one(cache, shard);
		pthread_mutex_unlock(&shard->lock);
		found_nothing = victim != NULL ? 0 : found_nothing + 1;
		if (victim != NULL)
			block_free(victim);
	}
}

static void touch(struct shard *shard, struct squash_block *block)
{
	if (shard->newest != block) {
		age_remove(shard, block);
		age_add_newest(shard, block);
	}
}

/* Another thread loads it: waits for the result. Called and returns with the shard locked. */
static int wait_loaded(struct shard *shard, struct squash_block *block, struct err *err)
{
	int rc;

	while (block->state == BLOCK_LOADING)
		pthread_cond_wait(&shard->loaded, &shard->lock);
	if (block->state == BLOCK_READY)
		return 0;
	rc = block->failure != NULL ? -block->failure->errnum : -ENOMEM;
	if (err != NULL && block->failure != NULL)
		*err = *block->failure;
	if (--block->refs == 0)
		block_free(block);
	return rc;
}

static int load_and_publish(struct squash_cache *cache, struct shard *shard, struct squash_block *block, squash_loader load, void *ctx,
	struct err *err)
{
	struct err failure = { 0 };
	int rc = load(ctx, block, &failure);

	pthread_mutex_lock(&shard->lock);
	if (rc == 0) {
		block->state = BLOCK_READY;
		age_add_newest(shard, block);
		atomic_fetch_add(&cache->bytes, block_cost(block));
	} else {
		/* Out of the table at once: the next one to ask tries again. */
		failure.errnum = -rc;
		if (err != NULL)
			*err = failure;
		block->state = BLOCK_FAILED;
		table_remove(cache, block);
		if (--block->refs > 0) {
			block->failure = malloc(sizeof failure);
			if (block->failure != NULL)
				*block->failure = failure;
			block = NULL;
		}
	}
	pthread_cond_broadcast(&shard->loaded);
	pthread_mutex_unlock(&shard->lock);
	if (rc != 0 && block != NULL)
		block_free(block);
	else if (rc == 0)
		shrink(cache);
	return rc;
}

int cache_get(struct squash_cache *cache, const struct squash_key *key, squash_loader load, void *ctx, struct squash_block **out,
	struct err *err)
{
	uint64_t hash = key_hash(key);
	struct shard *shard = shard_of(cache, hash);
	struct squash_block *block;
	int rc = 0;

	pthread_mutex_lock(&shard->lock);
	block = find(cache, hash, key);
	atomic_fetch_add_explicit(block != NULL ? &cache->hits : &cache->loads, 1, memory_order_relaxed);
	if (block != NULL) {
		block->refs++;
		if (block->state == BLOCK_READY)
			touch(shard, block);
		else
			rc = wait_loaded(shard, block, err);
		pthread_mutex_unlock(&shard->lock);
		*out = rc == 0 ? block : NULL;
		return rc;
	}
	block = calloc(1, sizeof *block);
	if (block == NULL) {
		pthread_mutex_unlock(&shard->lock);
		return fail(err, ENOMEM, "read the image", "out of memory");
	}
	block->key = *key;
	block->refs = 1;
	block->state = BLOCK_LOADING;
	block->in_table = true;
	block->chain = *bucket_of(cache, hash);
	*bucket_of(cache, hash) = block;
	pthread_mutex_unlock(&shard->lock);

	rc = load_and_publish(cache, shard, block, load, ctx, err);
	*out = rc == 0 ? block : NULL;
	return rc;
}

struct squash_block *cache_peek(struct squash_cache *cache, const struct squash_key *key)
{
	uint64_t hash = key_hash(key);
	struct shard *shard = shard_of(cache, hash);
	struct squash_block *block;

	pthread_mutex_lock(&shard->lock);
	block = find(cache, hash, key);
	if (block != NULL && block->state == BLOCK_READY) {
		block->refs++;
		touch(shard, block);
	} else {
		block = NULL;
	}
	pthread_mutex_unlock(&shard->lock);
	return block;
}

bool cache_has(struct squash_cache *cache, const struct squash_key *key)
{
	uint64_t hash = key_hash(key);
	struct shard *shard = shard_of(cache, hash);
	bool has;

	pthread_mutex_lock(&shard->lock);
	has = find(cache, hash, key) != NULL;
	pthread_mutex_unlock(&shard->lock);
	return has;
}

static bool put(struct squash_cache *cache, struct squash_block *block, size_t given)
{
	struct shard *shard = shard_of(cache, key_hash(&block->key));
	bool goes, first;

	pthread_mutex_lock(&shard->lock);
	first = block->given == 0;
	block->given += given;
	goes = --block->refs == 0 && block->given >= block->size && given > 0;
	if (goes)
		take_out(cache, shard, block);
	pthread_mutex_unlock(&shard->lock);
	if (goes)
		block_free(block);
	if (atomic_load(&cache->bytes) > cache->limit) /* what was in use when it was loaded could not go then */
		shrink(cache);
	return first;
}

void cache_put(struct squash_cache *cache, struct squash_block *block)
{
	(void)put(cache, block, 0);
}

bool cache_put_given(struct squash_cache *cache, struct squash_block *block, size_t bytes)
{
	return put(cache, block, bytes);
}

void cache_purge(struct squash_cache *cache, uint64_t image)
{
	for (unsigned i = 0; i < SHARDS; i++) {
		struct shard *shard = &cache->shards[i];

		pthread_mutex_lock(&shard->lock);
		for (struct squash_block *block = shard->oldest, *newer; block != NULL; block = newer) {
			newer = block->newer;
			if (block->key.image != image || block->refs > 0)
				continue;
			take_out(cache, shard, block);
			block_free(block);
		}
		pthread_mutex_unlock(&shard->lock);
	}
}

void squash_cache_free(struct squash_cache *cache)
{
	if (cache == NULL)
		return;
	for (unsigned i = 0; i < SHARDS; i++) {
		for (struct squash_block *block = cache->shards[i].oldest, *newer; block != NULL; block = newer) {
			newer = block->newer;
			block_free(block);
		}
		pthread_mutex_destroy(&cache->shards[i].lock);
		pthread_cond_destroy(&cache->shards[i].loaded);
	}
	free(cache);
}
