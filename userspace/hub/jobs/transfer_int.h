/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/jobs/transfer_int.h - inside of import and export jobs: transfer.c their life, transfer_run.c their work. */
#pragma once
#include "hub/blob/blob.h"
#include "hub/model/model_int.h"
#include "hub/jobs/transfer.h"

#define HUB_MAX_TRANSFERS 100		/* kept, finished ones included */
#define HUB_TRANSFER_NAME_MAX 400	/* of a blob */
#define HUB_TRANSFER_MAX_ERRORS 1000	/* that an import tells one by one */

enum hub_transfer_status { HUB_TRANSFER_ENQUEUED, HUB_TRANSFER_RUNNING, HUB_TRANSFER_COMPLETED, HUB_TRANSFER_FAILED,
			   HUB_TRANSFER_CANCELLED, HUB_TRANSFER__COUNT };
struct hub_transfer {
	struct hf_list node;		/* transfers->all: as created */
	uint64_t seq;
	char id[33];
	bool is_import, without_keys;
	enum hub_transfer_status status;
	int64_t start_ms, end_ms;
	json_t *request;		/* members that answers repeat */
	char input[HUB_TRANSFER_NAME_MAX + 1], output[HUB_TRANSFER_NAME_MAX + 1];	/* blobs; an import's output: its errors */
	char failure[160];
	uint64_t offset, version;	/* import: bytes done, of that version of the blob */
	json_t *errors;
	uint64_t n_errors, n_lines;
};
struct hub_transfer_work;
struct hub_transfers {
	struct hub_model *m;
	struct hf_list all;
	size_t n;
	uint64_t last_seq;
	struct hub_transfer *active;
	struct hub_transfer_work *work;	/* of active, while it runs */
	struct hf_list orphans;		/* work that was given up during a sync */
	struct hf_task task;
};

/* transfer.c */
int hub_transfer_store(struct hub_transfers *t, const struct hub_transfer *x);
void hub_transfer_end(struct hub_transfers *t, enum hub_transfer_status status, const char *failure);	/* of active */
/* transfer_run.c */
void hub_transfers_work(void *arg);			/* the task */
void hub_transfer_stop(struct hub_transfers *t);	/* lets go of what the work holds */
void hub_transfer_forsake(struct hub_transfers *t);	/* the transfers go before what is being synced */
unsigned hub_transfer_progress(const struct hub_transfers *t, const struct hub_transfer *x);	/* percent */
