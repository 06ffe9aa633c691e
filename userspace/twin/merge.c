/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "twin/merge.h"
#include "core/util.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define MAX_DEPTH 10
#define MAX_DOC 32768
#define MAX_NAME 1024
#define MAX_STRING 4096
#define MAX_INT 4503599627370495ll

static int merge(json_t *target, const json_t *patch, bool keep_null)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)patch, key, v) {
		json_t *old = json_object_get(target, key);

		if (json_is_null(v) && !keep_null) {
			json_object_del(target, key);
		} else if (json_is_object(v)) {
			json_t *into = json_is_object(old) ? old : json_object();

			/* under keep_null a scalar or null replaced by an object must not resurrect old members */
			if (!into || (into != old && json_object_set_new(target, key, into) != 0))
				return -ENOMEM;
			int r = merge(into, v, keep_null);
			if (r != 0)
				return r;
		} else {
			json_t *copy = json_deep_copy(v);

			if (!copy || json_object_set_new(target, key, copy) != 0)
				return -ENOMEM;
		}
	}
	return 0;
}

int hf_twin_merge(json_t *target, const json_t *patch)
{
	return merge(target, patch, false);
}

int hf_twin_accumulate(json_t *pending, const json_t *patch)
{
	return merge(pending, patch, true);
}

static int diff_into(json_t *out, const json_t *from, const json_t *to)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)from, key, v)
		if (key[0] != '$' && !json_object_get(to, key) && json_object_set_new(out, key, json_null()) != 0)
			return -ENOMEM;
	json_object_foreach((json_t *)to, key, v) {
		json_t *old = json_object_get(from, key), *sub;
		int r = 0;

		if (key[0] == '$' || (old && json_equal(old, v)))
			continue;
		if (json_is_object(old) && json_is_object(v)) {
			sub = json_object();
			r = sub ? diff_into(sub, old, v) : -ENOMEM;
			if (r == 0 && json_object_size(sub))
				r = json_object_set(out, key, sub) ? -ENOMEM : 0;
			json_decref(sub);
		} else {
			sub = json_deep_copy(v);
			r = !sub || json_object_set_new(out, key, sub) ? -ENOMEM : 0;
		}
		if (r != 0)
			return r;
	}
	return 0;
}

json_t *hf_twin_diff(const json_t *from, const json_t *to, int *ret_err)
{
	json_t *out = json_object();
	int r = out ? diff_into(out, from, to) : -ENOMEM;

	*ret_err = r;
	if (r != 0 || json_object_size(out) == 0) {
		json_decref(out);
		return NULL;
	}
	return out;
}

struct check {
	char *reason;
	size_t cap;
};

static int bad(struct check *c, const char *path, const char *why)
{
	snprintf(c->reason, c->cap, "%s: %s", *path ? path : "(document)", why);
	return HF_EINVALID;
}

static const char *bad_name(const char *name)
{
	if (strlen(name) > MAX_NAME)
		return "name over 1024 bytes";
	if (!*name)
		return "empty name";
	for (const unsigned char *p = (const unsigned char *)name; *p; p++)
		if (*p <= 0x20 || *p == 0x7f || *p == '.' || *p == '$' || *p == '#')
			return "name with a control character, white space, '.', '$' or '#'";
	return NULL;
}

static int check_value(struct check *c, const char *path, const json_t *v, unsigned depth, bool in_array)
{
	char sub[256];
	const char *key, *why;
	json_t *child;
	size_t i;
	int r = 0;

	if (json_is_integer(v) && (json_integer_value(v) > MAX_INT || json_integer_value(v) < -MAX_INT - 1))
		return bad(c, path, "integer outside -4503599627370496 to 4503599627370495");
	if (json_is_string(v) && json_string_length(v) > MAX_STRING)
		return bad(c, path, "string over 4096 bytes");
	if (json_is_null(v) && in_array)
		return bad(c, path, "null inside an array");
	if (!json_is_object(v) && !json_is_array(v))
		return 0;
	if (depth > MAX_DEPTH)
		return bad(c, path, "nested deeper than 10");
	json_object_foreach((json_t *)v, key, child) {
		snprintf(sub, sizeof sub, "%.100s%s%.100s", path, *path ? "." : "", key);
		why = bad_name(key);
		r = why ? bad(c, sub, why) : check_value(c, sub, child, depth + 1, in_array);
		if (r != 0)
			return r;
	}
	if (json_is_array(v))
		json_array_foreach((json_t *)v, i, child) {
			snprintf(sub, sizeof sub, "%.200s[%zu]", path, i);
			r = check_value(c, sub, child, depth + 1, true);
			if (r != 0)
				return r;
		}
	return 0;
}

int hf_twin_check_patch(const json_t *patch, size_t doc_len, char *ret_reason, size_t reason_cap)
{
	struct check c = { .reason = ret_reason, .cap = reason_cap };

	if (!json_is_object(patch))
		return bad(&c, "", "not a JSON object");
	if (doc_len > MAX_DOC) {
		bad(&c, "", "over 32768 bytes");
		return HF_ELIMIT;
	}
	return check_value(&c, "", patch, 0, false);
}
