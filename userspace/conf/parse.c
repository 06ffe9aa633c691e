/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "conf/parse.h"
#include "conf/conf.h"
#include "core/util.h"
#include <errno.h>
#include <holdfast/err.h>
#include <libconfig.h>
#include <stdio.h>

struct walk {
	void (*fn)(void *arg, const struct hf_conf_setting *setting);
	void *arg;
	const char *file;
};

static void emit(const struct walk *w, const config_setting_t *s, const char *path)
{
	const char *file = config_setting_source_file(s);
	struct hf_conf_setting out = {
		.path = path,
		.file = file ? file : w->file,
		.line = config_setting_source_line(s),
		.type = HF_CONF_T_OTHER,
	};
	const char *texts[64];

	switch (config_setting_type(s)) {
	case CONFIG_TYPE_INT:
		out.type = HF_CONF_T_INT;
		out.i = config_setting_get_int(s);
		break;
	case CONFIG_TYPE_INT64:
		out.type = HF_CONF_T_INT;
		out.i = config_setting_get_int64(s);
		break;
	case CONFIG_TYPE_BOOL:
		out.type = HF_CONF_T_BOOL;
		out.i = config_setting_get_bool(s);
		break;
	case CONFIG_TYPE_STRING:
		out.type = HF_CONF_T_STR;
		out.s = config_setting_get_string(s);
		break;
	case CONFIG_TYPE_ARRAY:
	case CONFIG_TYPE_LIST:
		out.type = HF_CONF_T_LIST;
		out.list = texts;
		for (int i = 0; i < config_setting_length(s) && out.n < HF_ARRAY_LEN(texts); i++) {
			texts[out.n] = config_setting_get_string_elem(s, i);
			if (!texts[out.n++])
				out.type = HF_CONF_T_OTHER;
		}
		break;
	default:
		break;
	}
	w->fn(w->arg, &out);
}

static void walk(const struct walk *w, const config_setting_t *group, const char *prefix)
{
	for (int i = 0; i < config_setting_length(group); i++) {
		const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
		char path[128];

		snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "", config_setting_name(s));
		if (config_setting_is_group(s) && strlen(path) + 1 < sizeof path)
			walk(w, s, path);
		else
			emit(w, s, path);
	}
}

int hf_conf_parse(const char *file, void (*fn)(void *arg, const struct hf_conf_setting *setting), void *arg,
		  struct hf_buf *problems)
{
	struct walk w = { .fn = fn, .arg = arg, .file = file };
	FILE *in = fopen(file, "re");
	config_t cfg;
	int r = 0;

	if (!in) {
		hf_conf_problem(problems, file, "%s", strerror(errno));
		return HF_EBADCONF;
	}
	config_init(&cfg);
	if (config_read(&cfg, in) == CONFIG_TRUE) {
		walk(&w, config_root_setting(&cfg), "");
	} else {
		const char *where = config_error_file(&cfg);

		hf_buf_printf(problems, "%s:%d: %s\n", where ? where : file, config_error_line(&cfg), config_error_text(&cfg));
		r = HF_EBADCONF;
	}
	config_destroy(&cfg);
	fclose(in);
	return r;
}
