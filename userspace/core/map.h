/* SPDX-License-Identifier: GPL-3.0-or-later */
/* core/map.h - hash table from byte strings to pointers. Keys are copied in; values are borrowed. One
 * thread. Open addressing, grows by doubling; the hash is seeded (core/util.h). */
#pragma once
#include "core/span.h"

struct hf_map;
int hf_map_create(struct hf_map **ret_map);
void hf_map_destroy(struct hf_map **map);		/* values are not touched */
void *hf_map_get(const struct hf_map *m, struct hf_span key);	/* NULL = absent */
/* Inserts or replaces. Value must not be NULL. -ENOMEM. */
int hf_map_put(struct hf_map *m, struct hf_span key, void *value);
void *hf_map_remove(struct hf_map *m, struct hf_span key);	/* the value that was there, or NULL */
size_t hf_map_count(const struct hf_map *m);
/* Iteration in no order; *pos starts at 0. Removing the returned entry during iteration is allowed. */
bool hf_map_next(const struct hf_map *m, size_t *pos, struct hf_span *ret_key, void **ret_value);
