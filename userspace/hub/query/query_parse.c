/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Query text to tree: one pass, recursive descent with a bound on depth and size. */
#include "core/util.h"
#include "hub/query/query_int.h"
#include "hub/query/query_lex.h"

#include <ctype.h>
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>
#include <strings.h>

#define MAX_DEPTH 64
#define MAX_NODES 4000		/* literals apart: a list may fill the text */
#define MAX_TEXT 65536

static const struct { const char *name; enum query_fn fn; unsigned char min, max; } functions[] = {
	{ "IS_DEFINED", QF_IS_DEFINED, 1, 1 }, { "IS_NULL", QF_IS_NULL, 1, 1 }, { "IS_BOOL", QF_IS_BOOL, 1, 1 },
	{ "IS_NUMBER", QF_IS_NUMBER, 1, 1 }, { "IS_STRING", QF_IS_STRING, 1, 1 },
	{ "IS_OBJECT", QF_IS_OBJECT, 1, 1 }, { "IS_ARRAY", QF_IS_ARRAY, 1, 1 },
	{ "IS_PRIMITIVE", QF_IS_PRIMITIVE, 1, 1 }, { "STARTSWITH", QF_STARTSWITH, 2, 2 },
	{ "STARTS_WITH", QF_STARTSWITH, 2, 2 }, { "ENDSWITH", QF_ENDSWITH, 2, 2 }, { "ENDS_WITH", QF_ENDSWITH, 2, 2 },
	{ "CONTAINS", QF_CONTAINS, 2, 2 }, { "ARRAY_CONTAINS", QF_ARRAY_CONTAINS, 2, 2 },
	{ "LENGTH", QF_LENGTH, 1, 1 }, { "LOWER", QF_LOWER, 1, 1 }, { "UPPER", QF_UPPER, 1, 1 },
	{ "CONCAT", QF_CONCAT, 2, 32 }, { "ABS", QF_ABS, 1, 1 }, { "COUNT", QF_COUNT, 0, 1 },
	{ "SUM", QF_SUM, 1, 1 }, { "AVG", QF_AVG, 1, 1 }, { "MIN", QF_MIN, 1, 1 }, { "MAX", QF_MAX, 1, 1 },
};

/* --- tree ------------------------------------------------------------------------------------------------- */

static void node_free(struct query_node *n)
{
	if (!n)
		return;
	json_decref(n->lit);
	json_decref(n->set);
	free(n->ints);
	for (unsigned i = 0; i < n->n_path; i++)
		free(n->path[i]);
	for (unsigned i = 0; i < n->n_kids; i++)
		node_free(n->kids[i]);
	free(n->path);
	free(n->kids);
	free(n);
}

static struct query_node *node(struct query_parser *p, enum query_op op)
{
	struct query_node *n = NULL;

	if (!p->err && op != Q_LITERAL && ++p->nodes > MAX_NODES)
		query_bad(p, "query too large");
	if (!p->err) {
		n = calloc(1, sizeof *n);
		if (n)
			n->op = op;
		else
			query_no_memory(p);
	}
	return n;
}

/* Takes kid; n may be NULL after an error. */
static void add_kid(struct query_parser *p, struct query_node *n, struct query_node *kid)
{
	struct query_node **grown = n && kid ? realloc(n->kids, (n->n_kids + 1) * sizeof(struct query_node *)) : NULL;

	if (!grown) {
		node_free(kid);
		query_no_memory(p);
		return;
	}
	n->kids = grown;
	n->kids[n->n_kids++] = kid;
}

static struct query_node *pair(struct query_parser *p, enum query_op op, struct query_node *a, struct query_node *b)
{
	struct query_node *n = node(p, op);

	add_kid(p, n, a);
	add_kid(p, n, b);
	return n;
}

static struct query_node *parse_or(struct query_parser *p);

static struct query_node *parse_literal(struct query_parser *p, json_t *lit)
{
	struct query_node *n = node(p, Q_LITERAL);

	if (n)
		n->lit = lit;
	else
		json_decref(lit);
	query_next(p);
	return n;
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

/* A list of literals is one literal, its texts and integers found without walking it. */
static void fold_array(struct query_parser *p, struct query_node *n)
{
	n->op = Q_LITERAL;
	n->ints = calloc(n->n_kids + 1, sizeof *n->ints);
	if (!n->ints)
		query_no_memory(p);
	n->lit = json_array();
	n->set = json_object();
	for (unsigned i = 0; i < n->n_kids; i++) {
		json_t *v = n->kids[i]->lit;

		if (json_array_append(n->lit, v) != 0 ||
		    (json_is_string(v) && json_object_set_new(n->set, json_string_value(v), json_true()) != 0))
			query_no_memory(p);
		if (json_is_integer(v) && n->ints)
			n->ints[n->n_ints++] = json_integer_value(v);
		n->has_real = n->has_real || json_is_real(v);
		node_free(n->kids[i]);
	}
	n->n_kids = 0;
	if (n->ints)
		qsort(n->ints, n->n_ints, sizeof *n->ints, by_value);
}

static struct query_node *parse_array(struct query_parser *p)
{
	struct query_node *n = node(p, Q_ARRAY);
	bool fixed = true;

	while (!p->err && !query_is_sign(p, "]")) {
		struct query_node *kid = parse_or(p);

		fixed = fixed && kid && kid->op == Q_LITERAL;
		add_kid(p, n, kid);
		if (!query_accept_sign(p, ",") && !query_is_sign(p, "]"))
			query_bad(p, "expected ',' or ']'");
	}
	query_next(p);
	if (!p->err && fixed)
		fold_array(p, n);
	return n;
}

static struct query_node *parse_call(struct query_parser *p, unsigned which)
{
	struct query_node *n = node(p, Q_CALL);

	if (n)
		n->fn = functions[which].fn;
	query_next(p);	/* the parenthesis */
	if (functions[which].fn == QF_COUNT)
		query_accept_sign(p, "*");
	while (!p->err && !query_is_sign(p, ")")) {
		add_kid(p, n, parse_or(p));
		if (!query_accept_sign(p, ",") && !query_is_sign(p, ")"))
			query_bad(p, "expected ',' or ')'");
	}
	if (n && !p->err && (n->n_kids < functions[which].min || n->n_kids > functions[which].max))
		query_bad(p, "wrong number of arguments");
	query_next(p);
	return n;
}

static void add_step(struct query_parser *p, struct query_node *n)
{
	char **grown = n ? realloc(n->path, (n->n_path + 1) * sizeof *grown) : NULL;

	if (!grown) {
		query_no_memory(p);
		return;
	}
	n->path = grown;
	n->path[n->n_path] = strdup(hf_buf_cstr(&p->word));
	if (!n->path[n->n_path])
		query_no_memory(p);
	else
		n->n_path++;
}

static void drop_step(struct query_node *n)
{
	free(n->path[0]);
	n->n_path--;
	memmove(n->path, n->path + 1, n->n_path * sizeof *n->path);
}

static struct query_node *parse_path(struct query_parser *p)
{
	struct query_node *n = node(p, Q_PATH);
	bool quoted = p->tok == T_QUOTED_NAME;

	add_step(p, n);
	query_next(p);
	while (!p->err && query_is_sign(p, ".")) {
		query_next(p);
		if (p->tok != T_WORD && p->tok != T_QUOTED_NAME) {
			query_bad(p, "expected a name after '.'");
			break;
		}
		add_step(p, n);
		query_next(p);
	}
	if (!p->err && !quoted && n->n_path > 1 && strcmp(n->path[0], "devices") == 0) {
		drop_step(n);
		if (n->n_path > 1 && (strcmp(n->path[0], "modules") == 0 || strcmp(n->path[0], "jobs") == 0))
			drop_step(n);
	}
	return n;
}

static struct query_node *parse_primary(struct query_parser *p)
{
	struct query_node *n;

	if (p->tok == T_NUMBER)
		return parse_literal(p, json_incref(p->number));
	if (p->tok == T_STRING)
		return parse_literal(p, json_stringn(hf_buf_cstr(&p->word), hf_buf_len(&p->word)));
	if (query_is_word(p, "true") || query_is_word(p, "false"))
		return parse_literal(p, json_boolean(query_is_word(p, "true")));
	if (query_is_word(p, "null"))
		return parse_literal(p, json_null());
	if (query_accept_word(p, "undefined"))
		return node(p, Q_UNDEFINED);
	if (query_accept_sign(p, "["))
		return parse_array(p);
	if (query_accept_sign(p, "(")) {
		n = parse_or(p);
		if (!query_accept_sign(p, ")"))
			query_bad(p, "expected ')'");
		return n;
	}
	if (p->tok == T_WORD && !p->err) {
		const char *q = p->at;

		while (isspace((unsigned char)*q))
			q++;
		for (unsigned i = 0; *q == '(' && i < HF_ARRAY_LEN(functions); i++)
			if (strcasecmp(hf_buf_cstr(&p->word), functions[i].name) == 0) {
				query_next(p);
				return parse_call(p, i);
			}
		if (*q == '(')
			query_bad(p, "unknown function");
	}
	if (!p->err && (p->tok == T_WORD || p->tok == T_QUOTED_NAME))
		return parse_path(p);
	query_bad(p, "expected a value");
	return NULL;
}

static struct query_node *parse_unary(struct query_parser *p)
{
	struct query_node *n;

	if (!query_accept_sign(p, "-"))
		return parse_primary(p);
	if (!p->err && p->tok == T_NUMBER) {
		json_t *v = json_is_integer(p->number) ? json_integer(-json_integer_value(p->number)) :
							 json_real(-json_real_value(p->number));

		return parse_literal(p, v);
	}
	if (++p->depth > MAX_DEPTH)
		query_bad(p, "nested too deep");
	n = p->err ? NULL : node(p, Q_NEG);
	if (n)
		add_kid(p, n, parse_unary(p));
	p->depth--;
	return n;
}

static struct query_node *parse_mul(struct query_parser *p)
{
	struct query_node *n = parse_unary(p);

	for (;;) {
		enum query_op op = query_is_sign(p, "*") ? Q_MUL : query_is_sign(p, "/") ? Q_DIV : Q_MOD;

		if (op == Q_MOD && !query_is_sign(p, "%"))
			return n;
		query_next(p);
		n = pair(p, op, n, parse_unary(p));
	}
}

static struct query_node *parse_add(struct query_parser *p)
{
	struct query_node *n = parse_mul(p);

	while (query_is_sign(p, "+") || query_is_sign(p, "-")) {
		enum query_op op = query_is_sign(p, "+") ? Q_ADD : Q_SUB;

		query_next(p);
		n = pair(p, op, n, parse_mul(p));
	}
	return n;
}

static struct query_node *parse_compare(struct query_parser *p)
{
	static const struct { const char *sign; enum query_op op; } signs[] = {
		{ "=", Q_EQ }, { "!=", Q_NE }, { "<>", Q_NE }, { "<", Q_LT }, { "<=", Q_LE }, { ">", Q_GT }, { ">=", Q_GE },
	};
	struct query_node *n = parse_add(p);

	for (unsigned i = 0; i < HF_ARRAY_LEN(signs); i++)
		if (query_accept_sign(p, signs[i].sign))
			return pair(p, signs[i].op, n, parse_add(p));
	if (query_accept_word(p, "IN"))
		return pair(p, Q_IN, n, parse_add(p));
	if (query_accept_word(p, "NIN"))
		return pair(p, Q_NIN, n, parse_add(p));
	if (query_accept_word(p, "NOT")) {
		if (!query_accept_word(p, "IN"))
			query_bad(p, "expected IN after NOT");
		return pair(p, Q_NIN, n, parse_add(p));
	}
	return n;
}

static struct query_node *parse_not(struct query_parser *p)
{
	struct query_node *n;

	if (!query_accept_word(p, "NOT"))
		return parse_compare(p);
	if (++p->depth > MAX_DEPTH)
		query_bad(p, "nested too deep");
	n = p->err ? NULL : node(p, Q_NOT);
	if (n)
		add_kid(p, n, parse_not(p));
	p->depth--;
	return n;
}

/* One node for the whole chain, so that a long one is not deep. */
static struct query_node *chain(struct query_parser *p, enum query_op op, const char *word,
				struct query_node *(*part)(struct query_parser *p))
{
	struct query_node *first = part(p), *n;

	if (!query_is_word(p, word))
		return first;
	n = node(p, op);
	add_kid(p, n, first);
	while (query_accept_word(p, word))
		add_kid(p, n, part(p));
	return n;
}

static struct query_node *parse_and(struct query_parser *p)
{
	return chain(p, Q_AND, "AND", parse_not);
}

static struct query_node *parse_or(struct query_parser *p)
{
	struct query_node *n = NULL;

	if (++p->depth > MAX_DEPTH)
		query_bad(p, "nested too deep");
	if (!p->err)
		n = chain(p, Q_OR, "OR", parse_and);
	p->depth--;
	return n;
}

/* --- clauses ---------------------------------------------------------------------------------------------- */

static bool is_aggregate(const struct query_node *n)
{
	return n && n->op == Q_CALL && n->fn >= QF_COUNT;
}

static bool has_aggregate(const struct query_node *n)
{
	bool found = is_aggregate(n);

	for (unsigned i = 0; n && i < n->n_kids; i++)
		found = found || has_aggregate(n->kids[i]);
	return found;
}

static void add_column(struct query_parser *p, struct hub_query *q)
{
	struct query_column *grown = realloc(q->columns, (q->n_columns + 1) * sizeof *grown), *c;

	if (!grown) {
		query_no_memory(p);
		return;
	}
	q->columns = grown;
	c = &q->columns[q->n_columns];
	c->name = NULL;
	c->expr = parse_or(p);
	q->n_columns++;
	if (p->err)
		return;
	if (query_accept_word(p, "AS")) {
		if (p->tok != T_WORD && p->tok != T_QUOTED_NAME)
			query_bad(p, "expected a name after AS");
		c->name = strdup(hf_buf_cstr(&p->word));
		query_next(p);
	} else if (c->expr->op == Q_PATH) {
		c->name = strdup(c->expr->path[c->expr->n_path - 1]);
	} else if (asprintf(&c->name, "$%u", q->n_columns) < 0) {
		c->name = NULL;
	}
	if (!c->name)
		query_no_memory(p);
	q->aggregate = q->aggregate || is_aggregate(c->expr);
	for (unsigned i = 0; i < c->expr->n_kids; i++)
		if (has_aggregate(c->expr->kids[i]))
			query_bad(p, "an aggregate inside an expression");
}

/* Groups are kept by column name. */
static bool named_twice(const struct hub_query *q)
{
	for (unsigned i = 0; i < q->n_columns; i++)
		for (unsigned j = 0; j < i; j++)
			if (strcmp(q->columns[i].name, q->columns[j].name) == 0)
				return true;
	return false;
}

static void parse_select(struct query_parser *p, struct hub_query *q)
{
	if (!query_accept_word(p, "SELECT"))
		query_bad(p, "expected SELECT");
	if (query_accept_word(p, "TOP")) {
		bool paren = query_accept_sign(p, "(");

		if (p->err || p->tok != T_NUMBER || !json_is_integer(p->number))
			query_bad(p, "expected a number after TOP");
		else
			q->top = json_integer_value(p->number);
		query_next(p);
		if (paren && !query_accept_sign(p, ")"))
			query_bad(p, "expected ')'");
	}
	q->all = query_accept_sign(p, "*");
	if (q->all)
		return;
	do {
		add_column(p, q);
	} while (!p->err && query_accept_sign(p, ","));
}

static void parse_from(struct query_parser *p, struct hub_query *q)
{
	if (!query_accept_word(p, "FROM"))
		query_bad(p, "expected FROM");
	if (p->err || p->tok != T_WORD || strcmp(hf_buf_cstr(&p->word), "devices") != 0) {
		query_bad(p, "expected devices, devices.modules or devices.jobs");
		return;
	}
	query_next(p);
	if (!query_accept_sign(p, "."))
		return;
	if (p->tok == T_WORD && strcmp(hf_buf_cstr(&p->word), "modules") == 0)
		q->from = HUB_FROM_MODULES;
	else if (p->tok == T_WORD && strcmp(hf_buf_cstr(&p->word), "jobs") == 0)
		q->from = HUB_FROM_JOBS;
	else
		query_bad(p, "only devices, devices.modules and devices.jobs can be asked for");
	query_next(p);
}

static void parse_where(struct query_parser *p, struct hub_query *q)
{
	q->where = parse_or(p);
	if (!p->err && has_aggregate(q->where))
		query_bad(p, "an aggregate in WHERE");
}

static bool grouped(const struct hub_query *q, const struct query_node *col)
{
	if (col->op != Q_PATH)
		return col->op == Q_LITERAL;
	for (unsigned i = 0; i < q->n_groups; i++) {
		const struct query_node *g = q->groups[i];
		unsigned s = 0;

		while (s < g->n_path && s < col->n_path && strcmp(g->path[s], col->path[s]) == 0)
			s++;
		if (s == g->n_path && s == col->n_path)
			return true;
	}
	return false;
}

static void parse_group(struct query_parser *p, struct hub_query *q)
{
	if (query_accept_word(p, "GROUP")) {
		if (!query_accept_word(p, "BY"))
			query_bad(p, "expected BY");
		do {
			struct query_node **grown = realloc(q->groups, (q->n_groups + 1) * sizeof(struct query_node *));
			struct query_node *n;

			if (!grown) {
				query_no_memory(p);
				return;
			}
			q->groups = grown;
			n = parse_primary(p);
			if (n)
				q->groups[q->n_groups++] = n;
			if (!p->err && n->op != Q_PATH)
				query_bad(p, "GROUP BY takes paths");
		} while (!p->err && query_accept_sign(p, ","));
		q->aggregate = true;
	}
	if (!p->err && q->aggregate && q->all)
		query_bad(p, "SELECT * with GROUP BY");
	if (!p->err && q->aggregate && q->from == HUB_FROM_JOBS)
		query_bad(p, "devices.jobs takes no aggregates");
	if (!p->err && q->aggregate && named_twice(q))
		query_bad(p, "two columns of one name: use AS");
	for (unsigned i = 0; !p->err && q->aggregate && i < q->n_columns; i++)
		if (!is_aggregate(q->columns[i].expr) && !grouped(q, q->columns[i].expr))
			query_bad(p, "a column that is neither grouped nor an aggregate");
}

static void parse_query(struct query_parser *p, struct hub_query *q)
{
	parse_select(p, q);
	parse_from(p, q);
	if (query_accept_word(p, "WHERE"))
		parse_where(p, q);
	parse_group(p, q);
}

/* "", "*", a condition, "[*] FROM devices.modules [WHERE condition]", or a whole query that selects everything. */
static void parse_condition(struct query_parser *p, struct hub_query *q)
{
	if (query_is_word(p, "SELECT")) {
		parse_query(p, q);
		if (!p->err && !q->all)
			query_bad(p, "a condition selects nothing but *");
		if (!p->err && q->top >= 0)
			query_bad(p, "a condition takes no TOP");
	} else {
		q->all = true;
		if (query_accept_sign(p, "*") || query_is_word(p, "FROM")) {
			if (query_is_word(p, "FROM"))
				parse_from(p, q);
			if (query_accept_word(p, "WHERE"))
				parse_where(p, q);
		} else if (p->tok != T_END) {
			parse_where(p, q);
		}
	}
	if (!p->err && q->from == HUB_FROM_JOBS)
		query_bad(p, "a condition is about devices or devices.modules");
}

static int parse(struct hf_span text, void (*rule)(struct query_parser *p, struct hub_query *q), struct hub_query **ret_q,
		 char *ret_reason, size_t cap)
{
	struct query_parser p = { .reason = ret_reason, .cap = cap, .word = HF_BUF_INIT(MAX_TEXT) };
	struct hub_query *q = calloc(1, sizeof *q);
	char *copy = hf_span_dup(text);

	ret_reason[0] = '\0';
	if (!q || !copy) {
		free(q);
		free(copy);
		return -ENOMEM;
	}
	q->top = -1;
	p.text = p.at = p.start = copy;
	if (text.len > MAX_TEXT || memchr(copy, 0, text.len) || !hf_utf8_ok(text)) {
		copy[0] = '\0';
		query_bad(&p, "the query is too long or not UTF-8");
	}
	query_next(&p);
	rule(&p, q);
	if (!p.err && p.tok != T_END)
		query_bad(&p, "unexpected text");
	hf_buf_fini(&p.word);
	json_decref(p.number);
	free(copy);
	q->n_nodes = p.nodes;
	if (p.err)
		hub_query_destroy(&q);
	else
		*ret_q = q;
	return p.err;
}

int hub_query_parse(struct hf_span text, struct hub_query **ret_q, char *ret_reason, size_t cap)
{
	return parse(text, parse_query, ret_q, ret_reason, cap);
}

int hub_query_parse_condition(struct hf_span text, struct hub_query **ret_q, char *ret_reason, size_t cap)
{
	return parse(text, parse_condition, ret_q, ret_reason, cap);
}

void hub_query_destroy(struct hub_query **pq)
{
	struct hub_query *q = *pq;

	if (!q)
		return;
	*pq = NULL;
	for (unsigned i = 0; i < q->n_columns; i++) {
		node_free(q->columns[i].expr);
		free(q->columns[i].name);
	}
	for (unsigned i = 0; i < q->n_groups; i++)
		node_free(q->groups[i]);
	node_free(q->where);
	free(q->columns);
	free(q->groups);
	free(q);
}
