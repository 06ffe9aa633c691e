/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/blob/blob_int.h - shared by the files of the blob storage. */
#pragma once
#include "hub/blob/blob.h"
#include "hub/model/model_int.h"

#define HUB_BLOB_KEY_MAX 480
#define HUB_BLOB_TTL_MS (3600 * 1000)	/* of an upload and its signature */

struct hub_blobs {
	int dir;			/* -1: file upload is off and always was */
	bool sync;
	uint64_t max_blob, max_bytes;
	uint64_t used;			/* as files are charged */
	uint64_t next_id;		/* of files and of versions */
	uint8_t key[32];		/* signs */
	struct hf_map *waiting;		/* blob name -> struct hub_waiting */
	struct hf_list waiting_order;	/* the one whose last block is oldest first */
	size_t n_waiting_blocks;
	struct hf_map *uploads;		/* correlation id -> struct hub_upload */
	struct hf_list upload_order;	/* the first to expire first */
};

/* One file of a blob, or a block that waits to become one. */
struct hub_part {
	uint64_t file, size;
	struct hf_span id;		/* of the block; empty for a blob sent in one piece */
};

/* blob.c */
struct hub_blob_record {		/* spans and parts live as long as mem and the struct */
	struct hub_blob blob;
	struct hub_part *parts;
	struct hf_buf mem;
};
int hub_blob_load_record(struct hub_model *m, const char *name, struct hub_blob_record *ret_record);
void hub_blob_record_fini(struct hub_blob_record *r);
uint64_t hub_file_charge(uint64_t size);

/* Files that go once the commit of this turn is known. Without memory (NULL included) nothing goes: what is left over, the
 * next start removes. */
struct hub_removal;
struct hub_removal *hub_removal_new(struct hub_model *m);
void hub_removal_keep(struct hub_removal *r, const struct hub_part *parts, size_t n);	/* whatever is added; once */
void hub_removal_add(struct hub_removal *r, uint64_t file, uint64_t size, bool when_ok /* else when it failed */);
void hub_removal_start(struct hub_removal *r);		/* taken */
void hub_removal_free(struct hub_removal *r);		/* instead */
/* Writes the record of a blob made of these parts; adds the files of the old one. */
int hub_blob_store(struct hub_model *m, const char *name, const char *type, const struct hub_part *parts, size_t n,
		   struct hub_removal *removal, struct hub_blob *ret_blob);

/* blob_block.c */
int hub_blocks_load(struct hub_model *m, int (*keep)(void *arg, uint64_t file, uint64_t size), void *arg);
void hub_blocks_fini(struct hub_model *m);
bool hub_blocks_step(struct hub_model *m);
/* Forgets the waiting blocks of a blob; their files are added. */
void hub_blocks_drop(struct hub_model *m, const char *name, struct hub_removal *removal);

/* upload.c */
int hub_uploads_load(struct hub_model *m);
void hub_uploads_fini(struct hub_model *m);
bool hub_uploads_step(struct hub_model *m);
