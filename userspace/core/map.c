/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Open addressing with linear probing; removal leaves a tombstone so that iteration stays valid. */
#include "core/map.h"
#include "core/util.h"
#include <errno.h>

struct entry {
	uint64_t hash;
	uint8_t *key;	/* NULL = never used */
	size_t len;
	void *value;	/* NULL with key = removed */
};
struct hf_map {
	struct entry *slots;
	size_t n_slots, n_live, n_used;	/* used counts tombstones */
};

int hf_map_create(struct hf_map **ret_map)
{
	struct hf_map *m = calloc(1, sizeof *m);

	if (!m)
		return -ENOMEM;
	m->n_slots = 16;
	m->slots = calloc(m->n_slots, sizeof *m->slots);
	if (!m->slots) {
		free(m);
		return -ENOMEM;
	}
	*ret_map = m;
	return 0;
}

void hf_map_destroy(struct hf_map **map)
{
	struct hf_map *m = *map;

	if (!m)
		return;
	for (size_t i = 0; i < m->n_slots; i++)
		free(m->slots[i].key);
	free(m->slots);
	free(m);
	*map = NULL;
}

static struct entry *find(const struct hf_map *m, struct hf_span key, uint64_t hash)
{
	for (size_t i = hash & (m->n_slots - 1);; i = (i + 1) & (m->n_slots - 1)) {
		struct entry *e = &m->slots[i];

		if (!e->key)
			return NULL;
		if (e->value && e->hash == hash && e->len == key.len && memcmp(e->key, key.ptr, key.len) == 0)
			return e;
	}
}

void *hf_map_get(const struct hf_map *m, struct hf_span key)
{
	const struct entry *e = find(m, key, hf_hash64(key.ptr, key.len));

	return e ? e->value : NULL;
}

static int rehash(struct hf_map *m)
{
	size_t n = m->n_live * 4 < m->n_slots ? m->n_slots : m->n_slots * 2;
	struct entry *slots = calloc(n, sizeof *slots);

	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_slots; i++) {
		struct entry *e = &m->slots[i];

		if (!e->value) {
			free(e->key);
			continue;
		}
		size_t at = e->hash & (n - 1);
		while (slots[at].key)
			at = (at + 1) & (n - 1);
		slots[at] = *e;
	}
	free(m->slots);
	m->slots = slots;
	m->n_slots = n;
	m->n_used = m->n_live;
	return 0;
}

int hf_map_put(struct hf_map *m, struct hf_span key, void *value)
{
	uint64_t hash = hf_hash64(key.ptr, key.len);
	struct entry *e = find(m, key, hash);
	size_t at;

	if (e) {
		e->value = value;
		return 0;
	}
	if ((m->n_used + 1) * 4 > m->n_slots * 3 && rehash(m) != 0)
		return -ENOMEM;
	at = hash & (m->n_slots - 1);
	while (m->slots[at].key)
		at = (at + 1) & (m->n_slots - 1);
	e = &m->slots[at];
	e->key = malloc(key.len ? key.len : 1);
	if (!e->key)
		return -ENOMEM;
	if (key.len)
		memcpy(e->key, key.ptr, key.len);
	e->len = key.len;
	e->hash = hash;
	e->value = value;
	m->n_live++;
	m->n_used++;
	return 0;
}

void *hf_map_remove(struct hf_map *m, struct hf_span key)
{
	struct entry *e = find(m, key, hf_hash64(key.ptr, key.len));
	void *value = e ? e->value : NULL;

	if (e) {
		e->value = NULL;
		m->n_live--;
	}
	return value;
}

size_t hf_map_count(const struct hf_map *m)
{
	return m->n_live;
}

bool hf_map_next(const struct hf_map *m, size_t *pos, struct hf_span *ret_key, void **ret_value)
{
	for (; *pos < m->n_slots; (*pos)++) {
		const struct entry *e = &m->slots[*pos];

		if (e->value) {
			*ret_key = hf_span(e->key, e->len);
			*ret_value = e->value;
			(*pos)++;
			return true;
		}
	}
	return false;
}
