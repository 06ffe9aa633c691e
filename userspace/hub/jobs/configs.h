/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/jobs/configs.h - automatic configurations of devices and modules, deployments of edge devices (iothub-protocol 5.8).
 *
 * Whatever changes an identity or its twin has the configurations weighed again for its device, a bounded number per
 * loop turn. Of those that target a device or module the one with the highest priority is applied, the later one of
 * equals; of deployments the highest that says all about $edgeAgent, with the layered ones above it on top. Twins show
 * the outcome as "configurations": {id: {"status": "Targeted" or "Applied"}}. Loop thread. */
#pragma once
#include "hub/model/model.h"

struct hub_configs;
int hub_configs_create(struct hub_model *m, struct hub_configs **ret_configs);
void hub_configs_destroy(struct hub_configs **configs);

/* Create (if_match NULL) or update; content cannot be changed. Refusals: HF_EINVALID, HF_EEXISTS, HF_ENOTFOUND, HF_ESTALE,
 * HF_ELIMIT; -ENOMEM. *ret_doc: new reference to the document. */
int hub_config_put(struct hub_model *m, const char *id, const json_t *doc, const char *if_match, json_t **ret_doc,
		   struct hub_error *err);
/* What it has set stays. if_match NULL = any. */
int hub_config_delete(struct hub_model *m, const char *id, const char *if_match, struct hub_error *err);
json_t *hub_config_doc(struct hub_model *m, const char *id);	/* new reference; NULL: unknown or no memory */
/* The next one in order of id after `after` (NULL = the first): its id, NULL at the end. */
const char *hub_config_next(struct hub_model *m, const char *after);
/* Answer of testQueries: what is wrong with a targetCondition and customMetricQueries. NULL: no memory. */
json_t *hub_config_test(const json_t *request);
