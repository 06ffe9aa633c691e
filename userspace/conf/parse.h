/* SPDX-License-Identifier: GPL-3.0-or-later */
/* conf/parse.h - walks a libconfig file and hands out its settings. parse.c is the only includer of libconfig. */
#pragma once
#include "core/buf.h"

enum hf_conf_type { HF_CONF_T_INT, HF_CONF_T_BOOL, HF_CONF_T_STR, HF_CONF_T_LIST, HF_CONF_T_OTHER };
struct hf_conf_setting {
	const char *path;	/* "store.max_bytes" */
	const char *file;
	unsigned line;
	enum hf_conf_type type;
	int64_t i;		/* INT, BOOL */
	const char *s;		/* STR */
	const char **list;	/* LIST of strings; n of them */
	unsigned n;
};
/* Calls fn for each setting that is not a group. 0, HF_EBADCONF after appending "FILE:LINE: why" to problems. */
int hf_conf_parse(const char *file, void (*fn)(void *arg, const struct hf_conf_setting *setting), void *arg,
		  struct hf_buf *problems);
