/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/query.h - the query language over twins of devices and modules (iothub-protocol 5.10). */
#pragma once
#include "hub/model.h"

struct hub_query;
/* HF_EINVALID with a text that names what is wrong and where. */
int hub_query_parse(struct hf_span text, struct hub_query **ret_q, char *ret_reason, size_t cap);
void hub_query_destroy(struct hub_query **q);
const char *hub_query_item_type(const struct hub_query *q);	/* "Twin" or "Raw" */
/* One page of at most max rows. token: of the page before, NULL or "" for the first; HF_EINVALID if not ours.
 * *ret_next: heap text for the next page, NULL at the end. */
int hub_query_run(struct hub_model *m, const struct hub_query *q, unsigned max, const char *token, json_t **ret_rows,
		  char **ret_next);
