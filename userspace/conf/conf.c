/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "conf/conf.h"
#include "conf/parse.h"
#include "core/util.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>

struct load {
	const struct hf_conf_schema *schema;
	uint8_t *values;
	bool *seen;
	struct hf_buf *problems;
};

void hf_conf_problem(struct hf_buf *problems, const char *file, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	hf_buf_printf(problems, "%s: %s\n", file, text);
}

static const struct hf_conf_row *find_row(const struct hf_conf_schema *schema, const char *path, const char **ret_near)
{
	unsigned best = UINT32_MAX;

	*ret_near = NULL;
	for (const struct hf_conf_row *r = schema->rows; r->path; r++) {
		unsigned d = hf_edit_distance(path, r->path);

		if (d == 0)
			return r;
		if (d < best) {
			best = d;
			*ret_near = r->path;
		}
	}
	return NULL;
}

static void free_list(char **list)
{
	for (char **p = list; p && *p; p++)
		free(*p);
	free(list);
}

static char **make_list(const char *const *texts, unsigned n)
{
	char **list = calloc(n + 1, sizeof *list);

	for (unsigned i = 0; list && i < n; i++) {
		list[i] = strdup(texts[i]);
		if (!list[i]) {
			free_list(list);
			return NULL;
		}
	}
	return list;
}

static char **split_list(const char *text)
{
	hf_autofree char *copy = strdup(text);
	const char *parts[64];
	char *save = NULL;
	unsigned n = 0;

	if (!copy)
		return NULL;
	for (char *p = strtok_r(copy, ", \t", &save); p && n < HF_ARRAY_LEN(parts); p = strtok_r(NULL, ", \t", &save))
		parts[n++] = p;
	return make_list(parts, n);
}

static int parse_size(const char *text, int64_t *ret_v)
{
	static const struct { const char *unit; int shift; } units[] = { { "", 0 },	  { "B", 0 },	 { "KiB", 10 },
									 { "MiB", 20 }, { "GiB", 30 }, { "TiB", 40 } };
	size_t n = strspn(text, "0123456789");
	const char *unit = text + n + strspn(text + n, " ");
	int64_t v;

	if (hf_parse_i64(hf_span(text, n), 0, INT64_MAX, &v) != 0)
		return HF_EINVALID;
	for (size_t i = 0; i < HF_ARRAY_LEN(units); i++)
		if (strcmp(unit, units[i].unit) == 0 && v <= INT64_MAX >> units[i].shift) {
			*ret_v = v << units[i].shift;
			return 0;
		}
	return HF_EINVALID;
}

static int enum_index(const struct hf_conf_row *row, const char *text)
{
	for (int i = 0; row->names[i]; i++)
		if (strcmp(row->names[i], text) == 0)
			return i;
	return -1;
}

static void *member(void *values, const struct hf_conf_row *row)
{
	return (uint8_t *)values + row->offset;
}

/* Stores text as the row's type. False: not that type. */
static bool store_text(void *values, const struct hf_conf_row *row, const char *text)
{
	char **str = member(values, row), ***list = member(values, row), **made, *dup;
	int64_t *num = member(values, row), v;
	int *idx = member(values, row), e;

	switch (row->kind) {
	case HF_CONF_STR:
		dup = strdup(text);
		if (!dup)
			return false;
		free(*str);
		*str = dup;
		return true;
	case HF_CONF_LIST:
		made = split_list(text);
		if (!made)
			return false;
		free_list(*list);
		*list = made;
		return true;
	case HF_CONF_SIZE:
		if (parse_size(text, &v) != 0)
			return false;
		*num = v;
		return true;
	case HF_CONF_INT:
		if (hf_parse_i64(hf_span_str(text), INT64_MIN, INT64_MAX, &v) != 0)
			return false;
		*num = v;
		return true;
	case HF_CONF_ENUM:
		e = enum_index(row, text);
		if (e < 0)
			return false;
		*idx = e;
		return true;
	}
	return false;
}

static void expected(const struct hf_conf_row *row, char out[256])
{
	static const char *const kinds[] = { "a text", "a whole number", "a size: bytes, or text such as \"64 MiB\"", "",
					     "a list of texts, or one text with commas" };
	size_t n = 0;

	if (row->kind != HF_CONF_ENUM) {
		snprintf(out, 256, "%s", kinds[row->kind]);
		return;
	}
	n = (size_t)snprintf(out, 256, "one of");
	for (int i = 0; row->names[i] && n < 200; i++)
		n += (size_t)snprintf(out + n, 256 - n, " \"%s\"", row->names[i]);
}

static bool store(const struct load *l, const struct hf_conf_row *row, const struct hf_conf_setting *s)
{
	bool numeric = row->kind == HF_CONF_INT || row->kind == HF_CONF_SIZE;
	int64_t *num = member(l->values, row);
	char ***list = member(l->values, row), **made;

	if (s->type == HF_CONF_T_INT && numeric) {
		*num = s->i;
		return true;
	}
	if (s->type == HF_CONF_T_LIST && row->kind == HF_CONF_LIST) {
		made = make_list(s->list, s->n);
		if (!made)
			return false;
		free_list(*list);
		*list = made;
		return true;
	}
	return s->type == HF_CONF_T_STR && row->kind != HF_CONF_INT && store_text(l->values, row, s->s);
}

/* The row's own judgement of a text; NULL = fine. */
static const char *refused(const struct load *l, const struct hf_conf_row *row)
{
	char *const *str = member(l->values, row);
	char **const *list = member(l->values, row);
	const char *why = NULL;

	if (!row->refuse)
		return NULL;
	if (row->kind == HF_CONF_STR)
		return row->refuse(*str);
	for (char **p = row->kind == HF_CONF_LIST ? *list : NULL; p && *p && !why; p++)
		why = row->refuse(*p);
	return why;
}

static void on_setting(void *arg, const struct hf_conf_setting *s)
{
	struct load *l = arg;
	const char *near;
	const struct hf_conf_row *row = find_row(l->schema, s->path, &near);
	char want[256];

	if (!row) {
		hf_buf_printf(l->problems, "%s:%u: %s: unknown key; did you mean %s?\n", s->file, s->line, s->path, near);
		return;
	}
	l->seen[row - l->schema->rows] = true;
	if (!store(l, row, s)) {
		expected(row, want);
		hf_buf_printf(l->problems, "%s:%u: %s: expected %s\n", s->file, s->line, s->path, want);
		return;
	}
	const char *why = refused(l, row);

	if (why)
		hf_buf_printf(l->problems, "%s:%u: %s: expected %s\n", s->file, s->line, s->path, why);
	int64_t *num = member(l->values, row);
	if ((row->kind == HF_CONF_INT || row->kind == HF_CONF_SIZE) && (*num < row->min || *num > row->max))
		hf_buf_printf(l->problems, "%s:%u: %s: %lld is outside %lld to %lld\n", s->file, s->line, s->path,
			      (long long)*num, (long long)row->min, (long long)row->max);
}

int hf_conf_load(const struct hf_conf_schema *schema, const char *const *files, unsigned n_files, void *values,
		 struct hf_buf *problems)
{
	struct load l = { .schema = schema, .values = values, .problems = problems };
	size_t n_rows = 0;

	memset(values, 0, schema->struct_size);
	for (const struct hf_conf_row *r = schema->rows; r->path; r++, n_rows++)
		if (!store_text(values, r, r->def))
			hf_conf_problem(problems, "built-in", "%s: bad default or no memory", r->path);
	hf_autofree bool *seen = calloc(n_rows + 1, sizeof *seen);
	if (!seen)
		hf_conf_problem(problems, "built-in", "out of memory");
	l.seen = seen;
	bool all_read = seen;
	for (unsigned i = 0; seen && i < n_files; i++)
		all_read = hf_conf_parse(files[i], on_setting, &l, problems) == 0 && all_read;
	for (size_t i = 0; all_read && i < n_rows; i++)	/* what a file that was not read lacks is not known */
		if ((schema->rows[i].flags & HF_CONF_REQUIRED) && !seen[i])
			hf_conf_problem(problems, files[0], "%s is missing: %s", schema->rows[i].path, schema->rows[i].help);
	if (hf_buf_len(problems) == 0 && schema->check)
		schema->check(values, files[n_files - 1], problems);
	if (hf_buf_len(problems) == 0 && !problems->err)
		return 0;
	hf_conf_fini(schema, values);
	return HF_EBADCONF;
}

void hf_conf_fini(const struct hf_conf_schema *schema, void *values)
{
	for (const struct hf_conf_row *r = schema->rows; r->path; r++) {
		char **str = member(values, r), ***list = member(values, r);

		if (r->kind == HF_CONF_STR) {
			free(*str);
			*str = NULL;
		} else if (r->kind == HF_CONF_LIST) {
			free_list(*list);
			*list = NULL;
		}
	}
}

static void put_quoted(struct hf_buf *out, const char *text)
{
	hf_buf_putc(out, '"');
	for (const char *p = text; *p; p++) {
		if (*p == '"' || *p == '\\')
			hf_buf_putc(out, '\\');
		hf_buf_putc(out, *p);
	}
	hf_buf_putc(out, '"');
}

static void put_value(const struct hf_conf_row *r, const void *values, struct hf_buf *out)
{
	char *const *str = member((void *)values, r);
	char **const *list = member((void *)values, r);
	const int64_t *num = member((void *)values, r);
	const int *idx = member((void *)values, r);

	switch (r->kind) {
	case HF_CONF_STR:
		put_quoted(out, *str);
		break;
	case HF_CONF_INT:
	case HF_CONF_SIZE:
		hf_buf_printf(out, *num > INT32_MAX || *num < INT32_MIN ? "%lldL" : "%lld", (long long)*num);
		break;
	case HF_CONF_ENUM:
		put_quoted(out, r->names[*idx]);
		break;
	case HF_CONF_LIST:
		hf_buf_puts(out, "[ ");
		for (char **p = *list; *p; p++) {
			put_quoted(out, *p);
			hf_buf_puts(out, p[1] ? ", " : " ");
		}
		hf_buf_putc(out, ']');
		break;
	}
}

void hf_conf_render(const struct hf_conf_schema *schema, const void *values, bool with_help, struct hf_buf *out)
{
	char group[64] = "";

	for (const struct hf_conf_row *r = schema->rows; r->path; r++) {
		size_t n = strcspn(r->path, ".");

		if (strlen(group) != n || strncmp(group, r->path, n) != 0) {
			hf_buf_printf(out, "%s%.*s: {\n", *group ? "};\n" : "", (int)n, r->path);
			snprintf(group, sizeof group, "%.*s", (int)n, r->path);
		}
		if (with_help)
			hf_buf_printf(out, "\t# %s\n", r->help);
		hf_buf_printf(out, "\t%s = ", r->path + n + 1);
		put_value(r, values, out);
		hf_buf_puts(out, ";\n");
	}
	if (*group)
		hf_buf_puts(out, "};\n");
}

static json_t *value_json(const struct hf_conf_row *r, const void *values)
{
	char *const *str = member((void *)values, r);
	char **const *list = member((void *)values, r);
	const int64_t *num = member((void *)values, r);
	const int *idx = member((void *)values, r);
	json_t *array;

	switch (r->kind) {
	case HF_CONF_STR:
		return json_string(*str);
	case HF_CONF_INT:
	case HF_CONF_SIZE:
		return json_integer(*num);
	case HF_CONF_ENUM:
		return json_string(r->names[*idx]);
	case HF_CONF_LIST:
		array = json_array();
		for (char **p = *list; p && *p; p++)
			json_array_append_new(array, json_string(*p));
		return array;
	}
	return NULL;
}

json_t *hf_conf_json(const struct hf_conf_schema *schema, const void *values)
{
	json_t *all = json_object();

	for (const struct hf_conf_row *r = schema->rows; r->path; r++)
		json_object_set_new(all, r->path, value_json(r, values));
	return all;
}

json_t *hf_conf_diff(const struct hf_conf_schema *schema, const void *a, const void *b, bool live)
{
	json_t *paths = json_array();

	for (const struct hf_conf_row *r = schema->rows; r->path; r++) {
		json_t *va = value_json(r, a), *vb = value_json(r, b);

		if (!json_equal(va, vb) && !!(r->flags & HF_CONF_RELOADABLE) == live)
			json_array_append_new(paths, json_string(r->path));
		json_decref(va);
		json_decref(vb);
	}
	return paths;
}

void hf_conf_document(const struct hf_conf_schema *schema, struct hf_buf *out)
{
	hf_buf_puts(out, "| setting | default | live on SIGHUP | meaning |\n| --- | --- | --- | --- |\n");
	for (const struct hf_conf_row *r = schema->rows; r->path; r++)
		hf_buf_printf(out, "| `%s` | %s%s%s | %s | %s |\n", r->path,
			      r->flags & HF_CONF_REQUIRED ? "required" : *r->def ? "`" : "-",
			      r->flags & HF_CONF_REQUIRED ? "" : r->def,
			      r->flags & HF_CONF_REQUIRED || !*r->def ? "" : "`",
			      r->flags & HF_CONF_RELOADABLE ? "yes" : "no", r->help);
}
