/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/query/query_lex.h - tokens of a query, one at a time, for query_parse.c. Behind an error there are none: T_END. */
#pragma once
#include "core/buf.h"
#include <jansson.h>

enum query_tok { T_END, T_WORD, T_QUOTED_NAME, T_STRING, T_NUMBER, T_SIGN };
struct query_parser {
	const char *text, *at;		/* at: behind the current token */
	const char *start;		/* of the current token */
	enum query_tok tok;
	char sign[3];
	struct hf_buf word;		/* word, name or string, decoded */
	json_t *number;
	unsigned depth, nodes;
	int err;
	char *reason;
	size_t cap;
};

/* Says what is wrong at the current token, unless something was before. */
void query_bad(struct query_parser *p, const char *what);
void query_no_memory(struct query_parser *p);
void query_next(struct query_parser *p);
bool query_is_word(struct query_parser *p, const char *word);	/* in any case */
bool query_is_sign(const struct query_parser *p, const char *sign);
bool query_accept_word(struct query_parser *p, const char *word);	/* and goes on, if it is */
bool query_accept_sign(struct query_parser *p, const char *sign);
