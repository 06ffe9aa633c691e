/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Values of a query's expressions for one identity: members are read straight from the model. Undefined is NULL
 * throughout, so a missing member matches nothing. */
#include "core/util.h"
#include "hub/model/model_int.h"
#include "hub/query/query_int.h"

#include <ctype.h>
#include <math.h>

json_t *query_doc(struct query_row *r)
{
	if (!r->doc)
		r->doc = hub_twin_doc(r->m, &r->e->ident);
	return r->doc;
}

/* The value below `from` along the path from step i on; new reference or NULL. */
static json_t *walk(json_t *from, const struct query_node *n, unsigned i)
{
	for (; from && i < n->n_path; i++)
		from = json_object_get(from, n->path[i]);
	return json_incref(from);
}

/* The service's examples call createdDateTimeUtc by another name too. */
static json_t *resolve_result(const struct query_row *r, const struct query_node *n)
{
	if (n->n_path == 1 && strcmp(n->path[0], "createdTimeUtc") == 0)
		return json_incref(json_object_get(r->doc, "createdDateTimeUtc"));
	return walk(r->doc, n, 0);
}

static json_t *resolve(struct query_row *r, const struct query_node *n)
{
	const struct hub_ident *i = r->e ? &r->e->ident : NULL;
	const char *head = n->path[0], *sub = n->n_path > 1 ? n->path[1] : "";

	if (!i)
		return resolve_result(r, n);
	if (n->n_path == 1 && strcmp(head, "deviceId") == 0)
		return json_string(i->device_id);
	if (n->n_path == 1 && strcmp(head, "moduleId") == 0)
		return i->module_id ? json_string(i->module_id) : NULL;
	if (n->n_path == 1 && strcmp(head, "status") == 0 && !i->module_id)
		return json_string(i->enabled ? "enabled" : "disabled");
	if (n->n_path == 1 && strcmp(head, "connectionState") == 0)
		return json_string(i->connections ? "Connected" : "Disconnected");
	if (n->n_path == 2 && strcmp(head, "capabilities") == 0 && strcmp(sub, "iotEdge") == 0)
		return i->module_id ? NULL : json_boolean(i->is_edge);
	if (n->n_path == 1 && strcmp(head, "deviceScope") == 0)
		return *i->device_scope ? json_string(i->device_scope) : NULL;
	if (n->n_path == 1 && strcmp(head, "parentScopes") == 0 && !i->module_id)
		return *i->parent_scope ? json_pack("[s]", i->parent_scope) : json_array();
	if (strcmp(head, "tags") == 0)
		return walk(r->e->twin.tags, n, 1);
	if (n->n_path > 2 && n->path[2][0] != '$' && strcmp(head, "properties") == 0) {
		if (strcmp(sub, "desired") == 0)
			return walk(r->e->twin.desired, n, 2);
		if (strcmp(sub, "reported") == 0)
			return walk(r->e->twin.reported, n, 2);
	}
	if (n->n_path == 3 && strcmp(n->path[2], "$version") == 0 && strcmp(head, "properties") == 0) {
		if (strcmp(sub, "desired") == 0)
			return json_integer((json_int_t)r->e->twin.desired_version);
		if (strcmp(sub, "reported") == 0)
			return json_integer((json_int_t)r->e->twin.reported_version);
	}
	return walk(query_doc(r), n, 0);
}

/* --- values ----------------------------------------------------------------------------------------------- */

static bool equal(const json_t *a, const json_t *b)
{
	if (json_is_number(a) && json_is_number(b))
		return json_is_integer(a) && json_is_integer(b) ? json_integer_value(a) == json_integer_value(b)
								: json_number_value(a) == json_number_value(b);
	return json_equal(a, b);
}

int query_order(const json_t *a, const json_t *b)
{
	double x, y;
	int c;

	if (json_is_string(a) && json_is_string(b)) {
		c = strcmp(json_string_value(a), json_string_value(b));
		return c < 0 ? -1 : c > 0;
	}
	if (!json_is_number(a) || !json_is_number(b))
		return 2;
	if (json_is_integer(a) && json_is_integer(b))
		return json_integer_value(a) < json_integer_value(b) ? -1 : json_integer_value(a) > json_integer_value(b);
	x = json_number_value(a);
	y = json_number_value(b);
	return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
}

static json_t *negate(const json_t *v)
{
	if (json_is_integer(v) && json_integer_value(v) != INT64_MIN)
		return json_integer(-json_integer_value(v));
	return json_is_number(v) ? json_real(-json_number_value(v)) : NULL;
}

static json_t *absolute(const json_t *v)
{
	return json_is_number(v) && json_number_value(v) < 0 ? negate(v) :
	       json_is_number(v) ? json_incref((json_t *)v) : NULL;
}

/* Characters, not bytes. */
static json_int_t length(const json_t *text)
{
	const char *s = json_string_value(text);
	json_int_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static bool contains(const json_t *array, const json_t *v)
{
	json_t *at;
	size_t i;

	json_array_foreach((json_t *)array, i, at)
		if (equal(at, v))
			return true;
	return false;
}

json_t *query_arithmetic(enum query_op op, const json_t *a, const json_t *b)
{
	double x = json_number_value(a), y = json_number_value(b), v;

	if (!json_is_number(a) || !json_is_number(b) || ((op == Q_DIV || op == Q_MOD) && y == 0))
		return NULL;
	v = op == Q_ADD ? x + y : op == Q_SUB ? x - y : op == Q_MUL ? x * y : op == Q_DIV ? x / y : fmod(x, y);
	if (json_is_integer(a) && json_is_integer(b) && v == floor(v) && fabs(v) < 9e15)
		return json_integer((json_int_t)v);
	return json_real(v);
}

static json_t *change_case(const json_t *v, int (*fn)(int))
{
	json_t *out;
	char *copy;

	if (!json_is_string(v) || !(copy = strdup(json_string_value(v))))
		return NULL;
	for (char *c = copy; *c; c++)
		*c = isascii(*c) ? (char)fn((unsigned char)*c) : *c;
	out = json_string(copy);
	free(copy);
	return out;
}

static json_t *text_function(enum query_fn fn, const json_t *a, const json_t *b)
{
	struct hf_span s = hf_span(json_string_value(a), json_string_length(a));
	struct hf_span t = hf_span(json_string_value(b), json_string_length(b));

	if (!json_is_string(a) || !json_is_string(b))
		return NULL;
	if (fn == QF_CONTAINS)
		return json_boolean(t.len == 0 || memmem(s.ptr, s.len, t.ptr, t.len) != NULL);
	if (t.len > s.len)
		return json_false();
	return json_boolean(memcmp(fn == QF_STARTSWITH ? s.ptr : s.ptr + s.len - t.len, t.ptr, t.len) == 0);
}

static json_t *concat(struct query_row *r, const struct query_node *n)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(65536);
	bool ok = true;

	for (unsigned i = 0; i < n->n_kids; i++) {
		json_t *v = query_eval(r, n->kids[i]);

		ok = ok && json_is_string(v);
		hf_buf_put(&b, json_string_value(v), json_string_length(v));
		json_decref(v);
	}
	return ok && !b.err ? json_string(hf_buf_cstr(&b)) : NULL;
}

static json_t *apply(enum query_fn fn, const json_t *a, const json_t *b)
{
	switch (fn) {
	case QF_IS_DEFINED: return json_boolean(a != NULL);
	case QF_IS_NULL: return json_boolean(a && json_is_null(a));
	case QF_IS_BOOL: return json_boolean(a && json_is_boolean(a));
	case QF_IS_NUMBER: return json_boolean(json_is_number(a));
	case QF_IS_STRING: return json_boolean(json_is_string(a));
	case QF_IS_OBJECT: return json_boolean(json_is_object(a));
	case QF_IS_ARRAY: return json_boolean(json_is_array(a));
	case QF_IS_PRIMITIVE: return json_boolean(a && !json_is_object(a) && !json_is_array(a));
	case QF_STARTSWITH: case QF_ENDSWITH: case QF_CONTAINS: return text_function(fn, a, b);
	case QF_ARRAY_CONTAINS: return json_is_array(a) && b ? json_boolean(contains(a, b)) : NULL;
	case QF_LENGTH: return json_is_string(a) ? json_integer(length(a)) : NULL;
	case QF_LOWER: return change_case(a, tolower);
	case QF_UPPER: return change_case(a, toupper);
	case QF_ABS: return absolute(a);
	default: return NULL;	/* aggregates are not values */
	}
}

static bool in_list(const struct query_node *list, const json_t *array, const json_t *v)
{
	size_t lo = 0, hi = list->n_ints;

	if (list->set && json_is_string(v))
		return json_object_get(list->set, json_string_value(v)) != NULL;
	if (!list->set || list->has_real || !json_is_integer(v))
		return contains(array, v);
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (list->ints[mid] < json_integer_value(v))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < list->n_ints && list->ints[lo] == json_integer_value(v);
}

static json_t *compare(const struct query_node *n, const json_t *a, const json_t *b)
{
	bool explicit_undefined = n->kids[0]->op == Q_UNDEFINED || n->kids[1]->op == Q_UNDEFINED;
	int c;

	if (explicit_undefined && (n->op == Q_EQ || n->op == Q_NE))
		return json_boolean((!a && !b) == (n->op == Q_EQ));
	if (!a || !b)
		return NULL;
	if (n->op == Q_EQ || n->op == Q_NE)
		return json_boolean(equal(a, b) == (n->op == Q_EQ));
	if (n->op == Q_IN || n->op == Q_NIN)
		return json_is_array(b) ? json_boolean(in_list(n->kids[1], b, a) == (n->op == Q_IN)) : NULL;
	c = query_order(a, b);
	if (c == 2)
		return NULL;
	return json_boolean(n->op == Q_LT ? c < 0 : n->op == Q_LE ? c <= 0 : n->op == Q_GT ? c > 0 : c >= 0);
}

/* Three values: what is not a truth value counts as undefined, unless another member decides. */
static json_t *logic(struct query_row *r, const struct query_node *n)
{
	bool decides = n->op == Q_OR, undefined = false;

	for (unsigned i = 0; i < n->n_kids; i++) {
		json_t *v = query_eval(r, n->kids[i]);

		if (json_is_boolean(v) && json_is_true(v) == decides)
			return v;
		undefined = undefined || !json_is_boolean(v);
		json_decref(v);
	}
	return undefined ? NULL : json_boolean(!decides);
}

json_t *query_eval(struct query_row *r, const struct query_node *n)
{
	json_t *a, *b, *out;

	switch (n->op) {
	case Q_LITERAL: return json_incref(n->lit);
	case Q_UNDEFINED: return NULL;
	case Q_PATH: return resolve(r, n);
	case Q_OR: case Q_AND: return logic(r, n);
	case Q_ARRAY:
		out = json_array();
		for (unsigned i = 0; i < n->n_kids; i++)
			if ((a = query_eval(r, n->kids[i])))
				json_array_append_new(out, a);
		return out;
	default: break;
	}
	if (n->op == Q_CALL && n->fn == QF_CONCAT)
		return concat(r, n);
	a = n->n_kids > 0 ? query_eval(r, n->kids[0]) : NULL;
	b = n->n_kids > 1 ? query_eval(r, n->kids[1]) : NULL;
	if (n->op == Q_CALL)
		out = apply(n->fn, a, b);
	else if (n->op == Q_NOT)
		out = json_is_boolean(a) ? json_boolean(!json_is_true(a)) : NULL;
	else if (n->op == Q_NEG)
		out = negate(a);
	else if (n->op >= Q_ADD)
		out = query_arithmetic(n->op, a, b);
	else
		out = compare(n, a, b);
	json_decref(a);
	json_decref(b);
	return out;
}

bool query_matches(struct query_row *r, const struct hub_query *q)
{
	json_t *v = q->where ? query_eval(r, q->where) : json_true();
	bool yes = json_is_true(v);

	json_decref(v);
	return yes;
}

const char *query_pinned_job(const struct hub_query *q)
{
	const struct query_node *n = q->where;

	for (unsigned i = 0; n; i++) {
		const struct query_node *part = n->op == Q_AND ? (i < n->n_kids ? n->kids[i] : NULL) : i ? NULL : n;

		if (!part)
			break;
		for (unsigned side = 0; part->op == Q_EQ && side < 2; side++) {
			const struct query_node *path = part->kids[side], *text = part->kids[1 - side];

			if (path->op == Q_PATH && path->n_path == 1 && strcmp(path->path[0], "jobId") == 0 &&
			    text->op == Q_LITERAL && json_is_string(text->lit))
				return json_string_value(text->lit);
		}
	}
	return NULL;
}
