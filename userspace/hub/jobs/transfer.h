/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/jobs/transfer.h - import and export jobs: identities and twins as lines of JSON in a blob of the hub's own storage
 * (iothub-protocol 5.1, 5.7). Container addresses are https://HOST/uploads, a folder may follow. One job at a time works,
 * some lines per loop turn; an import goes on after a restart where it was, an export begins anew. Loop thread. */
#pragma once
#include "hub/model/model.h"

struct hub_transfers;
int hub_transfers_create(struct hub_model *m, struct hub_transfers **ret_t);
void hub_transfers_destroy(struct hub_transfers **t);

/* Takes the request of POST /jobs/create. HF_EINVALID, HF_ELIMIT: one is at work; -ENOMEM. *ret_doc: new reference. */
int hub_transfer_create(struct hub_model *m, const json_t *request, json_t **ret_doc, struct hub_error *err);
json_t *hub_transfer_doc(struct hub_model *m, const char *id);	/* new reference; NULL: unknown or no memory */
json_t *hub_transfer_list(struct hub_model *m);			/* array of all, oldest first; NULL: no memory */
/* Ends a job that has not ended. HF_ENOTFOUND, HF_EINVALID: it has ended. */
int hub_transfer_cancel(struct hub_model *m, const char *id, struct hub_error *err);
