/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/query/query.h - the query language over twins of devices and modules, and results of jobs (iothub-protocol 5.10). */
#pragma once
#include "hub/model/model.h"

struct hub_query;
/* HF_EINVALID with a text that names what is wrong and where. */
int hub_query_parse(struct hf_span text, struct hub_query **ret_q, char *ret_reason, size_t cap);
/* A condition alone, as jobs and configurations take it: "" or "*" (every device), "tags.a = 1",
 * "FROM devices.modules [WHERE ...]", or a query that starts with SELECT *. Same errors. */
int hub_query_parse_condition(struct hf_span text, struct hub_query **ret_q, char *ret_reason, size_t cap);
void hub_query_destroy(struct hub_query **q);
enum hub_query_from { HUB_FROM_DEVICES, HUB_FROM_MODULES, HUB_FROM_JOBS };
enum hub_query_from hub_query_from(const struct hub_query *q);
bool hub_query_counts_rows(const struct hub_query *q);	/* no aggregates, no TOP */
const char *hub_query_item_type(const struct hub_query *q);	/* "Twin", "DeviceJob" or "Raw" */
/* Does this device or module match the condition? For FROM devices and FROM devices.modules. */
bool hub_query_matches(struct hub_model *m, const struct hub_query *q, const struct hub_ident *ident);
/* The next match after pos ("" = the first), which moves along. At most *io_visits identities are looked at; NULL with
 * *io_visits left: there is no further one. */
const struct hub_ident *hub_query_next(struct hub_model *m, const struct hub_query *q, char pos[HF_IDENT_MAX + 1],
				       unsigned *io_visits);
unsigned hub_query_steps(const struct hub_query *q);	/* of evaluating its condition once, at most */
/* How many identities may be looked at for so much work, in steps of evaluation; at least one. */
unsigned hub_query_visits(const struct hub_query *q, unsigned work);
/* One page of at most max rows. token: of the page before, NULL or "" for the first; HF_EINVALID if not ours.
 * HF_ELIMIT: an aggregate that would keep the hub busy for too long.
 * *ret_next: heap text for the next page, NULL at the end. */
int hub_query_run(struct hub_model *m, const struct hub_query *q, unsigned max, const char *token, json_t **ret_rows,
		  char **ret_next);
