/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "auth/scope.h"
#include "core/list.h"
#include "core/map.h"
#include "core/util.h"
#include "msg/msg.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdatomic.h>

/* Snapshots share what they have in common: the records of the last full pass (`base`), and over them those that
 * single refreshes changed since. A change costs as much as there were changes, not as much as the scope holds. */
struct record {
	atomic_uint refs;
	bool removed;			/* hides the base's record of this id; ident holds the id only */
	struct hf_scope_ident ident;
};
struct base {
	atomic_uint refs;
	struct hf_map *by_id;
};
struct hf_scope {
	atomic_uint refs;
	int64_t synced_at_ms;
	size_t count;
	struct base *base;
	struct hf_map *over;		/* NULL = no change since the pass */
};
struct hf_scope_builder {
	struct base *base;		/* NULL: the map becomes one */
	struct hf_map *by_id;
};

#define OVER_POS (SIZE_MAX / 2)		/* hf_scope_next: positions from here on are the changes' */

#define RECORD_VERSION 1

static void wipe(char **text)
{
	if (*text) {
		explicit_bzero(*text, strlen(*text));
		free(*text);
		*text = NULL;
	}
}

static struct record *record_of(const struct hf_scope_ident *i)
{
	return hf_container_of(i, struct record, ident);
}

static struct hf_scope_ident *ident_new(void)
{
	struct record *r = calloc(1, sizeof *r);

	if (!r)
		return NULL;
	atomic_init(&r->refs, 1);
	return &r->ident;
}

static struct hf_scope_ident *ident_ref(struct hf_scope_ident *i)
{
	atomic_fetch_add_explicit(&record_of(i)->refs, 1, memory_order_relaxed);
	return i;
}

static void ident_unref(struct hf_scope_ident *i)
{
	if (!i || atomic_fetch_sub_explicit(&record_of(i)->refs, 1, memory_order_acq_rel) != 1)
		return;
	wipe(&i->primary_key);
	wipe(&i->secondary_key);
	free(i->id);
	free(i->primary_thumb);
	free(i->secondary_thumb);
	free(i->generation_id);
	free(i->device_scope);
	free(i->parent_scope);
	free(record_of(i));
}

static void map_free(struct hf_map **map)
{
	struct hf_span key;
	size_t pos = 0;
	void *v;

	if (!*map)
		return;
	while (hf_map_next(*map, &pos, &key, &v))
		ident_unref(v);
	hf_map_destroy(map);
}

static void base_unref(struct base **base)
{
	if (*base && atomic_fetch_sub_explicit(&(*base)->refs, 1, memory_order_acq_rel) == 1) {
		map_free(&(*base)->by_id);
		free(*base);
	}
	*base = NULL;
}

int hf_scope_builder_create(struct hf_scope_builder **ret_b)
{
	struct hf_scope_builder *b = calloc(1, sizeof *b);

	if (!b || hf_map_create(&b->by_id) != 0) {
		free(b);
		return -ENOMEM;
	}
	*ret_b = b;
	return 0;
}

int hf_scope_builder_create_over(const struct hf_scope *s, struct hf_scope_builder **ret_b)
{
	struct hf_scope_builder *b;
	struct hf_span key;
	size_t pos = 0;
	void *v;
	int r = hf_scope_builder_create(&b);

	while (r == 0 && s->over && hf_map_next(s->over, &pos, &key, &v)) {
		r = hf_map_put(b->by_id, key, v);
		if (r == 0)
			ident_ref(v);
	}
	if (r != 0) {
		hf_scope_builder_destroy(&b);
		return r;
	}
	atomic_fetch_add_explicit(&s->base->refs, 1, memory_order_relaxed);
	b->base = s->base;
	*ret_b = b;
	return 0;
}

void hf_scope_builder_destroy(struct hf_scope_builder **b)
{
	if (!*b)
		return;
	base_unref(&(*b)->base);
	map_free(&(*b)->by_id);
	free(*b);
	*b = NULL;
}

/* Takes ident in any case. A second record of an id replaces the first; one that says the same as what the
 * snapshot below holds leaves that in place, so that who compares pointers sees no change. */
static int add(struct hf_scope_builder *b, struct hf_scope_ident *ident)
{
	struct hf_span key = hf_span_str(ident->id);
	struct hf_scope_ident *old = hf_map_get(b->by_id, key);
	const struct hf_scope_ident *below = old ? old : b->base ? hf_map_get(b->base->by_id, key) : NULL;

	if (below && record_of(below)->removed == record_of(ident)->removed && hf_scope_ident_equal(below, ident)) {
		ident_unref(ident);
		return 0;
	}
	if (hf_map_put(b->by_id, key, ident) != 0) {
		ident_unref(ident);
		return -ENOMEM;
	}
	ident_unref(old);
	return 0;
}

static char *text_of(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return strdup(s ? s : "");
}

static enum hf_auth_type auth_of(const char *type)
{
	if (type && strcmp(type, "sas") == 0)
		return HF_AUTH_SAS;
	if (type && strcmp(type, "selfSigned") == 0)
		return HF_AUTH_THUMBPRINT;
	if (type && strcmp(type, "certificateAuthority") == 0)
		return HF_AUTH_CA;
	return HF_AUTH_NONE;
}

static bool complete(const struct hf_scope_ident *i)
{
	return i->id && i->primary_key && i->secondary_key && i->primary_thumb && i->secondary_thumb &&
	       i->generation_id && i->device_scope && i->parent_scope;
}

int hf_scope_builder_add_json(struct hf_scope_builder *b, const json_t *record, bool is_module)
{
	const char *device = json_string_value(json_object_get(record, "deviceId"));
	const char *module = json_string_value(json_object_get(record, "moduleId"));
	const char *status = json_string_value(json_object_get(record, "status"));
	const json_t *auth = json_object_get(record, "authentication");
	const json_t *sym = json_object_get(auth, "symmetricKey"), *thumb = json_object_get(auth, "x509Thumbprint");
	const char *parent = json_string_value(json_array_get(json_object_get(record, "parentScopes"), 0));
	hf_autobuf struct hf_buf id = HF_BUF_INIT(HF_IDENT_MAX + 1);
	struct hf_scope_ident *i;

	if (!device || !*device || strlen(device) > HF_ID_MAX ||
	    (is_module && (!module || !*module || strlen(module) > HF_ID_MAX)))
		return HF_EINVALID;
	hf_buf_puts(&id, device);
	if (is_module) {
		hf_buf_putc(&id, '/');
		hf_buf_puts(&id, module);
	}
	i = ident_new();
	if (!i)
		return -ENOMEM;
	i->id = hf_span_dup(hf_buf_span(&id));
	i->auth = auth_of(json_string_value(json_object_get(auth, "type")));
	i->enabled = is_module || (status && strcmp(status, "enabled") == 0);
	i->is_edge = json_is_true(json_object_get(json_object_get(record, "capabilities"), "iotEdge"));
	i->primary_key = text_of(sym, "primaryKey");
	i->secondary_key = text_of(sym, "secondaryKey");
	i->primary_thumb = text_of(thumb, "primaryThumbprint");
	i->secondary_thumb = text_of(thumb, "secondaryThumbprint");
	i->generation_id = text_of(record, "generationId");
	i->device_scope = text_of(record, "deviceScope");
	/* Where parentScopes is missing, a leaf's deviceScope is its parent's (edgehub-behaviour 4.2). */
	i->parent_scope = strdup(parent ? parent : !i->is_edge && i->device_scope ? i->device_scope : "");
	if (!complete(i)) {
		ident_unref(i);
		return -ENOMEM;
	}
	return add(b, i);
}

static const size_t text_at[] = {
	offsetof(struct hf_scope_ident, id),		  offsetof(struct hf_scope_ident, primary_key),
	offsetof(struct hf_scope_ident, secondary_key),	  offsetof(struct hf_scope_ident, primary_thumb),
	offsetof(struct hf_scope_ident, secondary_thumb), offsetof(struct hf_scope_ident, generation_id),
	offsetof(struct hf_scope_ident, device_scope),	  offsetof(struct hf_scope_ident, parent_scope),
};

static char **text_member(const struct hf_scope_ident *i, size_t k)
{
	return (char **)((char *)i + text_at[k]);
}

/* version, auth, flags, then each text as u16 LE length + bytes */
int hf_scope_ident_encode(const struct hf_scope_ident *ident, struct hf_buf *out)
{
	hf_buf_u8(out, RECORD_VERSION);
	hf_buf_u8(out, (uint8_t)ident->auth);
	hf_buf_u8(out, (uint8_t)((ident->enabled ? 1 : 0) | (ident->is_edge ? 2 : 0)));
	for (size_t k = 0; k < HF_ARRAY_LEN(text_at); k++) {
		const char *s = *text_member(ident, k);
		size_t n = strlen(s);

		if (n > 65535)
			return HF_ELIMIT;
		hf_buf_u8(out, (uint8_t)n);
		hf_buf_u8(out, (uint8_t)(n >> 8));
		hf_buf_put(out, s, n);
	}
	return out->err;
}

int hf_scope_builder_add_encoded(struct hf_scope_builder *b, struct hf_span record)
{
	struct hf_cur c = hf_cur(record);
	struct hf_scope_ident *i = ident_new();
	uint8_t version = hf_cur_u8(&c), flags;

	if (!i)
		return -ENOMEM;
	i->auth = hf_cur_u8(&c);
	flags = hf_cur_u8(&c);
	i->enabled = flags & 1;
	i->is_edge = flags & 2;
	for (size_t k = 0; k < HF_ARRAY_LEN(text_at); k++) {
		size_t lo = hf_cur_u8(&c), hi = hf_cur_u8(&c);

		*text_member(i, k) = hf_span_dup(hf_cur_take(&c, lo | hi << 8));
	}
	if (version != RECORD_VERSION || c.err || c.in.len || i->auth > HF_AUTH_NONE || !complete(i) || !*i->id) {
		ident_unref(i);
		return HF_ECORRUPT;
	}
	return add(b, i);
}

int hf_scope_builder_remove(struct hf_scope_builder *b, const char *id)
{
	struct hf_scope_ident *i = ident_new();

	if (!i)
		return -ENOMEM;
	for (size_t k = 0; k < HF_ARRAY_LEN(text_at); k++)
		*text_member(i, k) = strdup(k == 0 ? id : "");
	record_of(i)->removed = true;
	if (!complete(i)) {
		ident_unref(i);
		return -ENOMEM;
	}
	return add(b, i);
}

static size_t count_over(const struct hf_scope *s)
{
	size_t n = hf_map_count(s->base->by_id), pos = 0;
	struct hf_span key;
	void *v;

	while (s->over && hf_map_next(s->over, &pos, &key, &v)) {
		n += !record_of(v)->removed;
		n -= hf_map_get(s->base->by_id, key) != NULL;
	}
	return n;
}

int hf_scope_builder_finish(struct hf_scope_builder **b, int64_t synced_at_ms, struct hf_scope **ret_scope)
{
	struct hf_scope *s = calloc(1, sizeof *s);

	if (s && (*b)->base) {
		s->base = hf_take((*b)->base);
		s->over = hf_take((*b)->by_id);
	} else if (s && (s->base = calloc(1, sizeof *s->base))) {
		atomic_init(&s->base->refs, 1);
		s->base->by_id = hf_take((*b)->by_id);
	} else {
		free(s);
		return -ENOMEM;
	}
	atomic_init(&s->refs, 1);
	s->synced_at_ms = synced_at_ms;
	s->count = count_over(s);
	hf_scope_builder_destroy(b);
	*ret_scope = s;
	return 0;
}

struct hf_scope *hf_scope_ref(struct hf_scope *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

void hf_scope_unref(struct hf_scope **s)
{
	if (*s && atomic_fetch_sub_explicit(&(*s)->refs, 1, memory_order_acq_rel) == 1) {
		base_unref(&(*s)->base);
		map_free(&(*s)->over);
		free(*s);
	}
	*s = NULL;
}

const struct hf_scope_ident *hf_scope_find(const struct hf_scope *s, struct hf_span id)
{
	const struct hf_scope_ident *i = s && s->over ? hf_map_get(s->over, id) : NULL;

	if (i)
		return record_of(i)->removed ? NULL : i;
	return s ? hf_map_get(s->base->by_id, id) : NULL;
}

size_t hf_scope_count(const struct hf_scope *s)
{
	return s ? s->count : 0;
}

int64_t hf_scope_synced_at_ms(const struct hf_scope *s)
{
	return s ? s->synced_at_ms : 0;
}

bool hf_scope_next(const struct hf_scope *s, size_t *pos, const struct hf_scope_ident **ret_ident)
{
	struct hf_span key;
	size_t at;
	void *v;

	while (s && *pos < OVER_POS) {
		if (!hf_map_next(s->base->by_id, pos, &key, &v)) {
			*pos = OVER_POS;
		} else if (!s->over || !hf_map_get(s->over, key)) {
			*ret_ident = v;
			return true;
		}
	}
	while (s && s->over) {
		at = *pos - OVER_POS;
		if (!hf_map_next(s->over, &at, &key, &v))
			return false;
		*pos = OVER_POS + at;
		if (!record_of(v)->removed) {
			*ret_ident = v;
			return true;
		}
	}
	return false;
}

bool hf_scope_next_change(const struct hf_scope *old, const struct hf_scope *now, size_t *pos, const char **ret_id,
			  const struct hf_scope_ident **ret_ident)
{
	struct hf_span key;
	void *v;

	while (now->over && hf_map_next(now->over, pos, &key, &v)) {
		const struct hf_scope_ident *i = v;

		*ret_ident = hf_scope_find(now, key);
		if (*ret_ident != hf_scope_find(old, key)) {
			*ret_id = i->id;
			return true;
		}
	}
	return false;
}

bool hf_scope_ident_equal(const struct hf_scope_ident *a, const struct hf_scope_ident *b)
{
	if (a->auth != b->auth || a->enabled != b->enabled || a->is_edge != b->is_edge)
		return false;
	for (size_t k = 0; k < HF_ARRAY_LEN(text_at); k++)
		if (strcmp(*text_member(a, k), *text_member(b, k)) != 0)
			return false;
	return true;
}

bool hf_scope_may_connect(const struct hf_scope *s, const char *edge_id, const struct hf_scope_ident *ident)
{
	const struct hf_scope_ident *edge = hf_scope_find(s, hf_span_str(edge_id)), *device;
	struct hf_span rest = hf_span_str(ident->id), id;
	bool is_module = hf_span_cut(&rest, '/', &id);

	device = is_module ? hf_scope_find(s, id) : ident;
	if (!edge || !device || !device->enabled)
		return false;
	if (is_module && device == edge)
		return true;
	return device != edge && *edge->device_scope && strcmp(device->parent_scope, edge->device_scope) == 0;
}
