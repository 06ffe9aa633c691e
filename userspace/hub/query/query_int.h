/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/query/query_int.h - parsed form of a query, shared by query_parse.c, query_eval.c and query.c. */
#pragma once
#include "hub/query/query.h"

enum query_op {
	Q_LITERAL, Q_UNDEFINED, Q_PATH, Q_ARRAY, Q_CALL,
	Q_OR, Q_AND, Q_NOT, Q_NEG,
	Q_EQ, Q_NE, Q_LT, Q_LE, Q_GT, Q_GE, Q_IN, Q_NIN,
	Q_ADD, Q_SUB, Q_MUL, Q_DIV, Q_MOD,
};
enum query_fn {
	QF_IS_DEFINED, QF_IS_NULL, QF_IS_BOOL, QF_IS_NUMBER, QF_IS_STRING, QF_IS_OBJECT, QF_IS_ARRAY, QF_IS_PRIMITIVE,
	QF_STARTSWITH, QF_ENDSWITH, QF_CONTAINS, QF_ARRAY_CONTAINS, QF_LENGTH, QF_LOWER, QF_UPPER, QF_CONCAT, QF_ABS,
	QF_COUNT, QF_SUM, QF_AVG, QF_MIN, QF_MAX,	/* aggregates: in the select list only */
};
struct query_node {
	enum query_op op;
	enum query_fn fn;
	json_t *lit;			/* Q_LITERAL */
	/* literal arrays, for IN: {text: true} of their strings; their integers sorted; is there a number beside? */
	json_t *set;
	int64_t *ints;
	unsigned n_ints;
	bool has_real;
	char **path;			/* Q_PATH */
	struct query_node **kids;	/* AND and OR: any number from two on */
	unsigned n_path, n_kids;
};
struct query_column {
	struct query_node *expr;
	char *name;
};
struct hub_query {
	bool all, aggregate;		/* SELECT * */
	enum hub_query_from from;
	int64_t top;			/* -1 = none */
	struct query_column *columns;
	struct query_node **groups;
	struct query_node *where;
	unsigned n_columns, n_groups, n_nodes;
};

struct query_row {
	struct hub_model *m;
	const struct hub_entry *e;	/* NULL: a result of a job, in doc */
	json_t *doc;			/* the whole twin, made when a member is asked for that is not at hand */
};
json_t *query_doc(struct query_row *r);	/* borrowed */
bool query_matches(struct query_row *r, const struct hub_query *q);
/* The text that jobId must be for a row to match, when the condition says so; else NULL. Borrowed. */
const char *query_pinned_job(const struct hub_query *q);
json_t *query_eval(struct query_row *r, const struct query_node *n);	/* new reference; NULL = undefined */
json_t *query_arithmetic(enum query_op op, const json_t *a, const json_t *b);
/* -1, 0, 1, or 2 when there is no order between them. */
int query_order(const json_t *a, const json_t *b);
