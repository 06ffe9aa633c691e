/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Runs a query: walks identities in id order, builds rows only for what matches, cuts pages. */
#include "core/util.h"
#include "hub/jobs/jobs.h"
#include "hub/model/model_int.h"
#include "hub/query/query_int.h"

#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

#define WORK_MAX 1000000
#define GROUPS_WORK_MAX 10000000	/* an aggregate is not cut into pages: about a second */
#define RESULT_WORK 30		/* reading one result costs as much as so many evaluations */
#define POS_MAX HUB_JOB_KEY_MAX	/* position: an identity, or the key of a job's result */

enum hub_query_from hub_query_from(const struct hub_query *q)
{
	return q->from;
}

bool hub_query_counts_rows(const struct hub_query *q)
{
	return !q->aggregate && q->top < 0;
}

const char *hub_query_item_type(const struct hub_query *q)
{
	return !q->all ? "Raw" : q->from == HUB_FROM_JOBS ? "DeviceJob" : "Twin";
}

unsigned hub_query_steps(const struct hub_query *q)
{
	return q->n_nodes + 1;
}

unsigned hub_query_visits(const struct hub_query *q, unsigned work)
{
	return hf_max(work / hub_query_steps(q), 1u);
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

bool hub_query_matches(struct hub_model *m, const struct hub_query *q, const struct hub_ident *ident)
{
	struct query_row r = { .m = m, .e = hf_container_of(ident, struct hub_entry, ident) };
	bool yes = query_matches(&r, q);

	json_decref(r.doc);
	return yes;
}

const struct hub_ident *hub_query_next(struct hub_model *m, const struct hub_query *q, char pos[HF_IDENT_MAX + 1],
				       unsigned *io_visits)
{
	char copy[HF_IDENT_MAX + 1];

	for (; *io_visits; (*io_visits)--) {
		const struct hub_ident *i;

		snprintf(copy, sizeof copy, "%s", pos);
		i = next_ident(m, q->from == HUB_FROM_MODULES, copy);
		if (!i)
			return NULL;
		snprintf(pos, HF_IDENT_MAX + 1, "%s", i->id);
		if (hub_query_matches(m, q, i)) {
			(*io_visits)--;
			return i;
		}
	}
	return NULL;
}

static int project(struct query_row *r, const struct hub_query *q, json_t *rows)
{
	json_t *o;

	if (q->all)
		return query_doc(r) ? json_array_append(rows, r->doc) : -1;
	o = json_object();
	for (unsigned i = 0; i < q->n_columns; i++) {
		json_t *v = query_eval(r, q->columns[i].expr);

		if (v && json_object_set_new(o, q->columns[i].name, v) != 0) {
			json_decref(o);
			return -1;
		}
	}
	return json_array_append_new(rows, o);
}

/* One group: {"key": [...], "n": rows, "c": [{count,sum,min,max} per column]}. */
static int aggregate_row(struct query_row *r, const struct hub_query *q, json_t *groups)
{
	json_t *key = json_array(), *g;
	char *text;
	int err = 0;

	for (unsigned i = 0; i < q->n_groups; i++) {
		json_t *v = query_eval(r, q->groups[i]);

		err |= json_array_append_new(key, v ? json_pack("[o]", v) : json_array());	/* missing is a group, too */
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
		json_t *v = n->op != Q_CALL ? query_eval(r, n) : n->n_kids ? query_eval(r, n->kids[0]) : json_true();
		json_t *old = json_object_get(g, name), *now = NULL;

		if (!v)
			continue;
		if (n->op != Q_CALL || n->fn < QF_COUNT)
			now = old ? NULL : json_incref(v);
		else if (n->fn == QF_COUNT)
			now = json_integer(json_integer_value(old) + 1);
		else if (n->fn == QF_MIN || n->fn == QF_MAX)
			now = !old || query_order(v, old) == (n->fn == QF_MIN ? -1 : 1) ? json_incref(v) : NULL;
		else if (n->fn == QF_SUM && json_is_number(v))
			now = old ? query_arithmetic(Q_ADD, old, v) : json_incref(v);
		else if (n->fn == QF_AVG && json_is_number(v))
			now = json_pack("[f, I]", json_number_value(json_array_get(old, 0)) + json_number_value(v),
					json_integer_value(json_array_get(old, 1)) + 1);
		if (now)
			err |= json_object_set_new(g, name, now);
		json_decref(v);
	}
	return err;
}

/* The page of at most max groups after the first *io_n; *io_n: how many were handed out with it. */
static int finish_groups(const struct hub_query *q, json_t *groups, unsigned max, json_t *rows,
			 uint64_t *io_n, bool *ret_more)
{
	uint64_t at = 0, end = q->top < 0 ? UINT64_MAX : (uint64_t)q->top, skip = *io_n;
	const char *key;
	json_t *g;
	int err = 0;

	if (q->n_groups == 0 && json_object_size(groups) == 0)
		err |= json_object_set_new(groups, "", json_object());
	json_object_foreach(groups, key, g) {
		if (at >= end || (*ret_more = json_array_size(rows) >= max))
			break;
		if (at++ < skip)
			continue;
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
		err |= json_array_append(rows, g);
	}
	*io_n = at;
	return err;
}

/* Token: base64 of "rows so far:position". */
static int read_token(const char *token, uint64_t *ret_n, char pos[POS_MAX + 1])
{
	hf_autobuf struct hf_buf raw = HF_BUF_INIT(1024);
	struct hf_span rest, head;
	int64_t n;

	if (hf_b64_decode(hf_span_str(token), &raw) != 0 || raw.err)
		return HF_EINVALID;
	rest = hf_buf_span(&raw);
	if (!hf_span_cut(&rest, ':', &head) || hf_parse_i64(head, 0, INT64_MAX, &n) != 0 || rest.len == 0 ||
	    rest.len > POS_MAX || memchr(rest.ptr, 0, rest.len))
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

/* Rows after *pos, at most max and TOP's; *n counts over all pages, *pos is the last one seen. A page also ends after
 * WORK_MAX evaluations, so that no query holds up the loop. */
static int take_rows(struct hub_model *m, const struct hub_query *q, unsigned max, json_t *rows, uint64_t *n,
		     char pos[POS_MAX + 1], bool *ret_more)
{
	char at[HF_IDENT_MAX + 1], copy[HF_IDENT_MAX + 1];
	uint64_t visits = hub_query_visits(q, WORK_MAX);
	const struct hub_ident *i;
	int err = 0;

	if (snprintf(at, sizeof at, "%s", pos) >= (int)sizeof at)
		return 0;	/* a token of another query: behind every identity */
	while (!err && !*ret_more && (q->top < 0 || *n < (uint64_t)q->top)) {
		struct query_row r = { .m = m };

		snprintf(copy, sizeof copy, "%s", at);
		i = next_ident(m, q->from == HUB_FROM_MODULES, copy);
		if (!i)
			break;
		if (visits-- == 0) {
			*ret_more = true;
			break;
		}
		snprintf(at, sizeof at, "%s", i->id);
		r.e = hf_container_of(i, struct hub_entry, ident);
		if (query_matches(&r, q)) {
			*ret_more = json_array_size(rows) >= max;
			if (!*ret_more) {
				err = project(&r, q, rows);
				(*n)++;
			}
		}
		if (!*ret_more)
			snprintf(pos, POS_MAX + 1, "%s", at);
		json_decref(r.doc);
	}
	return err;
}

static int take_groups(struct hub_model *m, const struct hub_query *q, unsigned max, json_t *rows, uint64_t *n,
		       char pos[POS_MAX + 1], bool *ret_more)
{
	char copy[HF_IDENT_MAX + 1] = "";
	json_t *groups = json_object();
	unsigned visits = hub_query_visits(q, GROUPS_WORK_MAX);
	const struct hub_ident *i;
	int err = 0;

	while (!err && (i = next_ident(m, q->from == HUB_FROM_MODULES, copy))) {
		struct query_row r = { .m = m, .e = hf_container_of(i, struct hub_entry, ident) };

		snprintf(copy, sizeof copy, "%s", i->id);
		if (visits-- == 0)
			err = HF_ELIMIT;
		else if (query_matches(&r, q))
			err = aggregate_row(&r, q, groups);
		json_decref(r.doc);
	}
	if (!err)
		err = finish_groups(q, groups, max, rows, n, ret_more);
	json_decref(groups);
	snprintf(pos, POS_MAX + 1, "groups");
	return err;
}

struct results_page {
	struct hub_model *m;
	const struct hub_query *q;
	json_t *rows;
	uint64_t *n, visits;
	unsigned max;
	char *pos;
	bool more;
	int err;
};

static bool take_result(void *arg, const char *key, json_t *doc)
{
	struct results_page *p = arg;
	struct query_row r = { .m = p->m, .doc = doc };

	json_object_del(doc, "generationId");	/* for the job's own use */

	if (p->q->top >= 0 && *p->n >= (uint64_t)p->q->top)
		return false;
	p->more = p->visits-- == 0;
	if (!p->more && query_matches(&r, p->q)) {
		p->more = json_array_size(p->rows) >= p->max;
		if (!p->more) {
			p->err = project(&r, p->q, p->rows);
			(*p->n)++;
		}
	}
	if (!p->more)
		snprintf(p->pos, POS_MAX + 1, "%s", key);
	return !p->more && !p->err;
}

static int take_results(struct hub_model *m, const struct hub_query *q, unsigned max, json_t *rows, uint64_t *n,
			char pos[POS_MAX + 1], bool *ret_more)
{
	struct results_page p = { .m = m, .q = q, .rows = rows, .n = n, .max = max, .pos = pos,
				  .visits = WORK_MAX / (q->n_nodes + RESULT_WORK) };
	char after[POS_MAX + 1];
	int r;

	snprintf(after, sizeof after, "%s", pos);
	r = hub_job_results(m, query_pinned_job(q), after, take_result, &p);
	*ret_more = p.more;
	return r ? r : p.err;
}

int hub_query_run(struct hub_model *m, const struct hub_query *q, unsigned max, const char *token, json_t **ret_rows,
		  char **ret_next)
{
	char pos[POS_MAX + 1] = "";
	json_t *rows = json_array();
	uint64_t n = 0;
	bool more = false;
	int err;

	if (token && *token && read_token(token, &n, pos) != 0) {
		json_decref(rows);
		return HF_EINVALID;
	}
	err = (q->aggregate ? take_groups : q->from == HUB_FROM_JOBS ? take_results : take_rows)(m, q, max, rows, &n, pos, &more);
	*ret_next = more && !err ? make_token(n, pos) : NULL;
	if (err || (more && !*ret_next)) {
		json_decref(rows);
		return err == HF_ELIMIT ? err : -ENOMEM;
	}
	*ret_rows = rows;
	return 0;
}
