/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ctlproto/cli_print.h"
#include "core/util.h"
#include <errno.h>
#include <stdio.h>

#define MAX_COLUMNS 12

struct hf_cli_printer {
	bool json, stream;
	unsigned n_columns;
	struct hf_span path[MAX_COLUMNS], title[MAX_COLUMNS];
	size_t width[MAX_COLUMNS];
	json_t *rows;	/* array of arrays of strings */
};

int hf_cli_printer_create(bool json, const char *columns, bool stream, struct hf_cli_printer **ret_p)
{
	struct hf_cli_printer *p = calloc(1, sizeof *p);
	struct hf_span rest = hf_span_str(columns), one;

	if (!p)
		return -ENOMEM;
	p->json = json;
	p->stream = stream;
	p->rows = json_array();
	while (rest.len && p->n_columns < MAX_COLUMNS) {
		hf_span_cut(&rest, ',', &one);
		p->title[p->n_columns] = one;
		hf_span_cut(&p->title[p->n_columns], ':', &p->path[p->n_columns]);
		p->width[p->n_columns] = p->title[p->n_columns].len;
		p->n_columns++;
	}
	*ret_p = p;
	return 0;
}

static char *text_of(const json_t *v)
{
	if (!v || json_is_null(v))
		return strdup("-");
	if (json_is_string(v))
		return strdup(json_string_value(v));
	return json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
}

/* A member that is named ...Base64, for people: as the text it holds, unless that is no printable text. */
static char *body_text(const char *base64)
{
	hf_autobuf struct hf_buf body = HF_BUF_INIT(1u << 20);
	struct hf_span text;

	if (hf_b64_decode(hf_span_str(base64), &body) != 0 || !hf_utf8_ok(hf_buf_span(&body)))
		return strdup(base64);
	text = hf_buf_span(&body);
	for (size_t i = 0; i < text.len; i++)
		if (text.ptr[i] < 0x20 || text.ptr[i] == 0x7f)
			return strdup(base64);
	return strdup(hf_buf_cstr(&body));
}

static char *cell_of(const json_t *v, struct hf_span path)
{
	static const char suffix[] = "Base64";
	size_t n = sizeof suffix - 1;

	if (json_is_string(v) && path.len > n && memcmp(path.ptr + path.len - n, suffix, n) == 0)
		return body_text(json_string_value(v));
	return text_of(v);
}

static const json_t *lookup(const json_t *item, struct hf_span path)
{
	struct hf_span part;

	while (path.len && item) {
		hf_span_cut(&path, '.', &part);
		char name[128];

		if (part.len >= sizeof name)
			return NULL;
		memcpy(name, part.ptr, part.len);
		name[part.len] = 0;
		item = json_object_get(item, name);
	}
	return item;
}

static void print_members(const json_t *item, const char *prefix)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)item, key, v) {
		char path[256];

		snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "", key);
		if (json_is_object(v) && json_object_size(v)) {
			print_members(v, path);
		} else {
			hf_autofree char *text = text_of(v);

			printf("%-28s %s\n", path, text ? text : "?");
		}
	}
}

static void print_row(const struct hf_cli_printer *p, const json_t *row)
{
	for (unsigned c = 0; c < p->n_columns; c++) {
		const char *text = json_string_value(json_array_get(row, c));

		if (c + 1 == p->n_columns)
			printf("%s\n", text ? text : "?");
		else
			printf("%-*s  ", (int)p->width[c], text ? text : "?");
	}
}

static void print_titles(const struct hf_cli_printer *p)
{
	for (unsigned c = 0; c < p->n_columns; c++)
		printf("%-*.*s%s", c + 1 == p->n_columns ? 0 : (int)p->width[c], (int)p->title[c].len,
		       (const char *)p->title[c].ptr, c + 1 == p->n_columns ? "\n" : "  ");
}

void hf_cli_printer_item(void *printer, const json_t *item)
{
	struct hf_cli_printer *p = printer;

	if (p->json) {
		json_dumpf(item, stdout, JSON_COMPACT);
		putchar('\n');
		if (p->stream)
			fflush(stdout);
		return;
	}
	if (!p->n_columns) {
		print_members(item, "");
		return;
	}
	json_t *row = json_array();
	for (unsigned c = 0; c < p->n_columns; c++) {
		hf_autofree char *text = cell_of(lookup(item, p->path[c]), p->path[c]);

		p->width[c] = hf_max(p->width[c], text ? strlen(text) : 1);
		json_array_append_new(row, json_string(text ? text : "?"));
	}
	if (p->stream) {
		print_row(p, row);
		fflush(stdout);
		json_decref(row);
	} else {
		json_array_append_new(p->rows, row);
	}
}

void hf_cli_printer_finish(struct hf_cli_printer **printer, bool complete)
{
	struct hf_cli_printer *p = *printer;
	json_t *row;
	size_t i;

	if (!p->json && p->n_columns && !p->stream && (complete || json_array_size(p->rows))) {
		print_titles(p);
		json_array_foreach(p->rows, i, row)
			print_row(p, row);
	}
	fflush(stdout);
	json_decref(p->rows);
	free(p);
	*printer = NULL;
}
