/* SPDX-License-Identifier: GPL-3.0-or-later */
/* conf/conf.h - configuration as a table: libconfig text -> schema -> a plain struct of the caller.
 *
 * One row per setting gives type, bounds, default and help; the same row parses, checks, shows and documents.
 * All problems of all files are reported in one go, each with file, line and, for unknown keys, the nearest
 * name. Blocks (reads files). Any thread. */
#pragma once
#include "core/buf.h"
#include <jansson.h>

enum hf_conf_kind {
	HF_CONF_STR,	/* char *, heap; "" = unset */
	HF_CONF_INT,	/* int64_t */
	HF_CONF_SIZE,	/* int64_t bytes; also text "64 MiB", "1 GiB", "512 KiB" */
	HF_CONF_ENUM,	/* int, index into names */
	HF_CONF_LIST,	/* char **, heap, ends with NULL; also one text with commas */
};
enum { HF_CONF_REQUIRED = 1, HF_CONF_RELOADABLE = 2 };
struct hf_conf_row {
	const char *path;		/* "store.max_bytes" */
	enum hf_conf_kind kind;
	size_t offset;			/* of the member in the caller's struct */
	const char *def;		/* default as text; lists: comma separated */
	int64_t min, max;		/* INT, SIZE */
	const char *const *names;	/* ENUM; ends with NULL */
	unsigned flags;
	const char *help;
	/* STR, or each text of a LIST: NULL = fine, else what was expected. */
	const char *(*refuse)(const char *text);
};
struct hf_conf_schema {
	const struct hf_conf_row *rows;	/* grouped by section; ends with path NULL */
	size_t struct_size;
	/* Cross-field checks: each problem is one hf_conf_problem(). NULL = none. */
	void (*check)(const void *values, const char *file, struct hf_buf *problems);
};

/* Fills *values (struct_size bytes, uninitialised) with defaults, then the files in order, later ones
 * overriding setting by setting. HF_EBADCONF: `problems` has one line each ("FILE:LINE: ..."), and *values
 * holds nothing to free. */
int hf_conf_load(const struct hf_conf_schema *schema, const char *const *files, unsigned n_files, void *values,
		 struct hf_buf *problems);
void hf_conf_fini(const struct hf_conf_schema *schema, void *values);
void hf_conf_problem(struct hf_buf *problems, const char *file, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Effective values as libconfig text that loads back to the same values; with_help adds the help as comments. */
void hf_conf_render(const struct hf_conf_schema *schema, const void *values, bool with_help, struct hf_buf *out);
/* One flat object: path -> value. New reference. */
json_t *hf_conf_json(const struct hf_conf_schema *schema, const void *values);
/* Paths of settings that differ; live = those marked reloadable, else the others. Array of strings. */
json_t *hf_conf_diff(const struct hf_conf_schema *schema, const void *a, const void *b, bool live);
/* Markdown table of the whole schema (docs/configuration.md). */
void hf_conf_document(const struct hf_conf_schema *schema, struct hf_buf *out);
