/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Runs a query: walks identities in id order, reads members straight from the model, builds rows only for
 * what matches. Undefined is NULL throughout, so a missing member matches nothing. */
#include "core/util.h"
#include "hub/model_int.h"
#include "hub/query_int.h"

#include <ctype.h>
#include <errno.h>
#include <holdfast/err.h>
#include <math.h>
#include <stdio.h>

struct row {
	struct hub_model *m;
	const struct hub_entry *e;
	json_t *doc;		/* the whole twin, made when a member is asked for that is not at hand */
};

static json_t *whole(struct row *r)
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

static json_t *resolve(struct row *r, const struct query_node *n)
{
	const struct hub_ident *i = &r->e->ident;
	const char *head = n->path[0], *sub = n->n_path > 1 ? n->path[1] : "";

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
	return walk(whole(r), n, 0);
}

/* --- values ----------------------------------------------------------------------------------------------- */

static bool equal(const json_t *a, const json_t *b)
{
	if (json_is_number(a) && json_is_number(b))
		return json_is_integer(a) && json_is_integer(b) ? json_integer_value(a) == json_integer_value(b)
								: json_number_value(a) == json_number_value(b);
	return json_equal(a, b);
}

/* -1, 0, 1, or 2 when there is no order between them. */
static int order(const json_t *a, const json_t *b)
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

static bool contains(const json_t *array, const json_t *v)
{
	json_t *at;
	size_t i;

	json_array_foreach((json_t *)array, i, at)
		if (equal(at, v))
			return true;
	return false;
}

static json_t *arithmetic(enum query_op op, const json_t *a, const json_t *b)
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

static json_t *eval(struct row *r, const struct query_node *n);

static json_t *concat(struct row *r, const struct query_node *n)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(65536);
	bool ok = true;

	for (unsigned i = 0; i < n->n_kids; i++) {
		json_t *v = eval(r, n->kids[i]);

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
	case QF_LENGTH: return json_is_string(a) ? json_integer((json_int_t)json_string_length(a)) : NULL;
	case QF_LOWER: return change_case(a, tolower);
	case QF_UPPER: return change_case(a, toupper);
	case QF_ABS: return json_is_integer(a) ? json_integer(llabs(json_integer_value(a))) :
			    json_is_real(a) ? json_real(fabs(json_real_value(a))) : NULL;
	default: return NULL;	/* aggregates are not values */
	}
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
		return json_is_array(b) ? json_boolean(contains(b, a) == (n->op == Q_IN)) : NULL;
	c = order(a, b);
	if (c == 2)
		return NULL;
	return json_boolean(n->op == Q_LT ? c < 0 : n->op == Q_LE ? c <= 0 : n->op == Q_GT ? c > 0 : c >= 0);
}

/* Three values: what is not a truth value counts as undefined. */
static json_t *logic(struct row *r, const struct query_node *n)
{
	bool stop = n->op == Q_OR;	/* the value that decides */
	json_t *a = eval(r, n->kids[0]), *b;

	if (json_is_boolean(a) && json_is_true(a) == stop)
		return a;
	b = eval(r, n->kids[1]);
	if (json_is_boolean(b) && json_is_true(b) == stop) {
		json_decref(a);
		return b;
	}
	if (json_is_boolean(a) && json_is_boolean(b)) {
		json_decref(a);
		return b;
	}
	json_decref(a);
	json_decref(b);
	return NULL;
}

static json_t *eval(struct row *r, const struct query_node *n)
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
			if ((a = eval(r, n->kids[i])))
				json_array_append_new(out, a);
		return out;
	default: break;
	}
	if (n->op == Q_CALL && n->fn == QF_CONCAT)
		return concat(r, n);
	a = n->n_kids > 0 ? eval(r, n->kids[0]) : NULL;
	b = n->n_kids > 1 ? eval(r, n->kids[1]) : NULL;
	if (n->op == Q_CALL)
		out = apply(n->fn, a, b);
	else if (n->op == Q_NOT)
		out = json_is_boolean(a) ? json_boolean(!json_is_true(a)) : NULL;
	else if (n->op == Q_NEG)
		out = json_is_integer(a) ? json_integer(-json_integer_value(a)) :
		      json_is_real(a) ? json_real(-json_real_value(a)) : NULL;
	else if (n->op >= Q_ADD)
		out = arithmetic(n->op, a, b);
	else
		out = compare(n, a, b);
	json_decref(a);
	json_decref(b);
	return out;
}

/* --- rows ------------------------------------------------------------------------------------------------- */

const char *hub_query_item_type(const struct hub_query *q)
{
	return q->all ? "Twin" : "Raw";
}

static const struct hub_ident *next_ident(struct hub_model *m, bool modules, char pos[HF_IDENT_MAX + 1])
{
	const struct hub_ident *d, *mod;
	char *slash;

	if (!modules)
		return hub_device_next(m, *pos ? pos : NULL);
	slash = strchr(pos, '/');
	if (slash) {
		*slash = '\0';
		mod = hub_module_next(m, pos, slash + 1);
		if (mod)
			return mod;
	}
	for (d = hub_device_next(m, *pos ? pos : NULL); d; d = hub_device_next(m, d->device_id)) {
		mod = hub_module_next(m, d->device_id, NULL);
		if (mod)
			return mod;
	}
	return NULL;
}

static bool matches(struct row *r, const struct hub_query *q)
{
	json_t *v = q->where ? eval(r, q->where) : json_true();
	bool yes = json_is_true(v);

	json_decref(v);
	return yes;
}

static int project(struct row *r, const struct hub_query *q, json_t *rows)
{
	json_t *o;

	if (q->all)
		return whole(r) ? json_array_append(rows, r->doc) : -1;
	o = json_object();
	for (unsigned i = 0; i < q->n_columns; i++) {
		json_t *v = eval(r, q->columns[i].expr);

		if (v && json_object_set_new(o, q->columns[i].name, v) != 0) {
			json_decref(o);
			return -1;
		}
	}
	return json_array_append_new(rows, o);
}

/* One group: {"key": [...], "n": rows, "c": [{count,sum,min,max} per column]}. */
static int aggregate_row(struct row *r, const struct hub_query *q, json_t *groups)
{
	json_t *key = json_array(), *g;
	char *text;
	int err = 0;

	for (unsigned i = 0; i < q->n_groups; i++) {
		json_t *v = eval(r, q->groups[i]);

		err |= json_array_append_new(key, v ? v : json_object());
	}
	text = json_dumps(key, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(key);
	if (!text)
		return -1;
	g = json_object_get(groups, text);
	if (!g) {
		g = json_object();
		err |= json_object_set_new(groups, text, g);
	}
	free(text);
	for (unsigned i = 0; g && i < q->n_columns; i++) {
		const struct query_node *n = q->columns[i].expr;
		const char *name = q->columns[i].name;
		json_t *v = n->op != Q_CALL ? eval(r, n) : n->n_kids ? eval(r, n->kids[0]) : json_true();
		json_t *old = json_object_get(g, name), *now = NULL;

		if (!v)
			continue;
		if (n->op != Q_CALL || n->fn < QF_COUNT)
			now = old ? NULL : json_incref(v);
		else if (n->fn == QF_COUNT)
			now = json_integer(json_integer_value(old) + 1);
		else if (n->fn == QF_MIN || n->fn == QF_MAX)
			now = !old || order(v, old) == (n->fn == QF_MIN ? -1 : 1) ? json_incref(v) : NULL;
		else if (n->fn == QF_SUM && json_is_number(v))
			now = old ? arithmetic(Q_ADD, old, v) : json_incref(v);
		else if (n->fn == QF_AVG && json_is_number(v))
			now = json_pack("[f, I]", json_number_value(json_array_get(old, 0)) + json_number_value(v),
					json_integer_value(json_array_get(old, 1)) + 1);
		if (now)
			err |= json_object_set_new(g, name, now);
		json_decref(v);
	}
	return err;
}

static int finish_groups(const struct hub_query *q, json_t *groups, json_t *rows)
{
	const char *key;
	json_t *g;
	int err = 0;

	if (q->n_groups == 0 && json_object_size(groups) == 0)
		err |= json_object_set_new(groups, "", json_object());
	json_object_foreach(groups, key, g) {
		for (unsigned i = 0; i < q->n_columns; i++) {
			const struct query_node *n = q->columns[i].expr;
			json_t *v = json_object_get(g, q->columns[i].name);

			if (n->op == Q_CALL && n->fn == QF_AVG && v)
				err |= json_object_set_new(g, q->columns[i].name,
							   json_real(json_number_value(json_array_get(v, 0)) /
								     (double)json_integer_value(json_array_get(v, 1))));
			else if (n->op == Q_CALL && n->fn == QF_COUNT && !v)
				err |= json_object_set_new(g, q->columns[i].name, json_integer(0));
		}
		if (q->top < 0 || (int64_t)json_array_size(rows) < q->top)
			err |= json_array_append(rows, g);
	}
	return err;
}

/* Token: base64 of "rows so far:last id". */
static int read_token(const char *token, uint64_t *ret_n, char pos[HF_IDENT_MAX + 1])
{
	hf_autobuf struct hf_buf raw = HF_BUF_INIT(1024);
	struct hf_span rest, head;
	int64_t n;

	if (hf_b64_decode(hf_span_str(token), &raw) != 0 || raw.err)
		return HF_EINVALID;
	rest = hf_buf_span(&raw);
	if (!hf_span_cut(&rest, ':', &head) || hf_parse_i64(head, 0, INT64_MAX, &n) != 0 || rest.len == 0 ||
	    rest.len > HF_IDENT_MAX || memchr(rest.ptr, 0, rest.len))
		return HF_EINVALID;
	memcpy(pos, rest.ptr, rest.len);
	pos[rest.len] = '\0';
	*ret_n = (uint64_t)n;
	return 0;
}

static char *make_token(uint64_t n, const char *pos)
{
	hf_autobuf struct hf_buf raw = HF_BUF_INIT(1024), text = HF_BUF_INIT(1024);

	hf_buf_printf(&raw, "%llu:%s", (unsigned long long)n, pos);
	hf_b64_encode(hf_buf_span(&raw), &text);
	return raw.err || text.err ? NULL : strdup(hf_buf_cstr(&text));
}

int hub_query_run(struct hub_model *m, const struct hub_query *q, unsigned max, const char *token, json_t **ret_rows,
		  char **ret_next)
{
	char pos[HF_IDENT_MAX + 1] = "", copy[HF_IDENT_MAX + 1], last[HF_IDENT_MAX + 1] = "";
	json_t *rows, *groups;
	const struct hub_ident *i;
	uint64_t n = 0;
	bool more = false;
	int err = 0;

	if (token && *token && read_token(token, &n, pos) != 0)
		return HF_EINVALID;
	rows = json_array();
	groups = json_object();
	for (;;) {
		struct row r = { .m = m };

		snprintf(copy, sizeof copy, "%s", pos);
		i = next_ident(m, q->modules, copy);
		if (!i || (!q->aggregate && q->top >= 0 && (int64_t)n >= q->top))
			break;
		snprintf(pos, sizeof pos, "%s", i->id);
		r.e = hf_container_of(i, struct hub_entry, ident);
		if (matches(&r, q)) {
			more = !q->aggregate && json_array_size(rows) >= max;
			if (!more) {
				err |= q->aggregate ? aggregate_row(&r, q, groups) : project(&r, q, rows);
				snprintf(last, sizeof last, "%s", pos);
				n++;
			}
		}
		json_decref(r.doc);
		if (more || err)
			break;
	}
	if (q->aggregate && !err)
		err = finish_groups(q, groups, rows);
	json_decref(groups);
	*ret_next = more && !err ? make_token(n, last) : NULL;
	if (err || (more && !*ret_next)) {
		json_decref(rows);
		return -ENOMEM;
	}
	*ret_rows = rows;
	return 0;
}
