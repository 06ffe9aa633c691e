/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Query text to tokens. */
#include "core/util.h"
#include "hub/query/query_lex.h"

#include <ctype.h>
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>
#include <strings.h>

void query_bad(struct query_parser *p, const char *what)
{
	int n = (int)strnlen(p->start, 30);

	if (p->err)
		return;
	p->err = HF_EINVALID;
	while (n > 0 && ((unsigned char)p->start[n] & 0xc0) == 0x80)	/* whole characters */
		n--;
	snprintf(p->reason, p->cap, "%s at position %zu near '%.*s'", what, (size_t)(p->start - p->text) + 1, n, p->start);
}

void query_no_memory(struct query_parser *p)
{
	if (!p->err)
		p->err = -ENOMEM;
}

static void lex_string(struct query_parser *p)
{
	char quote = *p->at++;

	p->tok = T_STRING;
	while (*p->at && *p->at != quote) {
		if (*p->at == '\\' && p->at[1]) {
			p->at++;
			hf_buf_putc(&p->word, *p->at == 'n' ? '\n' : *p->at == 't' ? '\t' : *p->at == 'r' ? '\r' : *p->at);
		} else {
			hf_buf_putc(&p->word, *p->at);
		}
		p->at++;
	}
	if (!*p->at)
		query_bad(p, "text without an end");
	else
		p->at++;
}

static void lex_number(struct query_parser *p)
{
	bool hex = p->at[0] == '0' && (p->at[1] == 'x' || p->at[1] == 'X');
	const char *q = p->at;
	char *end = NULL;

	if (!hex)
		while (isdigit((unsigned char)*q))
			q++;
	errno = 0;
	if (hex || !(*q == '.' || *q == 'e' || *q == 'E'))
		p->number = json_integer(strtoll(p->at, &end, hex ? 16 : 10));
	else
		p->number = json_real(strtod(p->at, &end));
	p->tok = T_NUMBER;
	if (errno == ERANGE || !end || isalnum((unsigned char)*end) || *end == '_')
		query_bad(p, "bad number");
	else
		p->at = end;
}

static bool word_char(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '$';
}

void query_next(struct query_parser *p)
{
	hf_buf_reset(&p->word);
	json_decref(p->number);
	p->number = NULL;
	while (isspace((unsigned char)*p->at))
		p->at++;
	p->start = p->at;
	if (p->err || !*p->at) {
		p->tok = T_END;
	} else if (*p->at == '\'' || *p->at == '"') {
		lex_string(p);
	} else if (isdigit((unsigned char)*p->at)) {
		lex_number(p);
	} else if (word_char(*p->at)) {
		p->tok = T_WORD;
		while (word_char(*p->at))
			hf_buf_putc(&p->word, *p->at++);
	} else if (p->at[0] == '[' && p->at[1] == '[') {
		const char *end = strstr(p->at, "]]");

		p->tok = T_QUOTED_NAME;
		if (!end) {
			query_bad(p, "[[ without ]]");
			return;
		}
		hf_buf_put(&p->word, p->at + 2, (size_t)(end - p->at - 2));
		p->at = end + 2;
	} else {
		bool two = strchr("<>!", *p->at) && (p->at[1] == '=' || (p->at[0] == '<' && p->at[1] == '>'));

		p->tok = T_SIGN;
		snprintf(p->sign, sizeof p->sign, "%.*s", two ? 2 : 1, p->at);
		if (!strchr("=<>!()[],.+-*/%", *p->at) || (*p->at == '!' && !two))
			query_bad(p, "unexpected character");
		p->at += two ? 2 : 1;
	}
	if (p->word.err)
		p->err = p->word.err;
}

bool query_is_word(struct query_parser *p, const char *word)
{
	return !p->err && p->tok == T_WORD && strcasecmp(hf_buf_cstr(&p->word), word) == 0;
}

bool query_is_sign(const struct query_parser *p, const char *sign)
{
	return !p->err && p->tok == T_SIGN && strcmp(p->sign, sign) == 0;
}

bool query_accept_word(struct query_parser *p, const char *word)
{
	bool yes = query_is_word(p, word);

	if (yes)
		query_next(p);
	return yes;
}

bool query_accept_sign(struct query_parser *p, const char *sign)
{
	bool yes = query_is_sign(p, sign);

	if (yes)
		query_next(p);
	return yes;
}
