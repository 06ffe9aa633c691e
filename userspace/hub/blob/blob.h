/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/blob/blob.h - files that devices upload (iothub-protocol 4.3): announced uploads, blobs and their blocks. Loop thread.
 *
 * Bytes lie in files under <storage>/blobs whose names are numbers; what they mean is in the database: a blob is a list of
 * files. So no name of a client ever reaches the file system, a blob appears and changes in one commit, and joining blocks
 * copies nothing. A file that no record names is removed at the next start. */
#pragma once
#include "hub/model/model.h"

#define HUB_BLOB_CONTAINER "uploads"
#define HUB_BLOB_NAME_MAX 1024		/* bytes, the device's id included */
#define HUB_BLOB_MAX_BLOCKS 5000	/* of one blob */
#define HUB_BLOCK_ID_MAX 88		/* base64 of 64 bytes */
#define HUB_UPLOADS_MAX 10		/* of one device at a time */

/* --- uploads that devices announced --------------------------------------------------------------------------- */
struct hub_upload_ticket {
	char correlation_id[HUB_UUID_SIZE];
	char blob_name[HUB_BLOB_NAME_MAX + 1];	/* "D/name" */
	char sas[256];				/* "?sv=...&sig=...": may read and write that blob for an hour */
};
int hub_upload_start(struct hub_model *m, const char *device_id, const char *name, struct hub_upload_ticket *ret_ticket,
		     struct hub_error *err);
/* The device is done; a success becomes a file notification. */
int hub_upload_finish(struct hub_model *m, const char *device_id, const char *correlation_id, bool is_success,
		      struct hub_error *err);
/* Parameters of a shared access signature, decoded; empty when absent. */
struct hub_blob_sas { char sv[16], sr[8], sp[16], se[32], sig[64]; };
enum hub_blob_right { HUB_BLOB_READ = 'r', HUB_BLOB_WRITE = 'w' };
enum hub_blob_verdict { HUB_BLOB_GRANTED, HUB_BLOB_UNSIGNED, HUB_BLOB_FORGED, HUB_BLOB_EXPIRED, HUB_BLOB_NO_RIGHT };
enum hub_blob_verdict hub_blob_authorize(struct hub_model *m, const char *blob_name, const struct hub_blob_sas *sas,
					 enum hub_blob_right right);

/* --- writing -------------------------------------------------------------------------------------------------- */
struct hub_file { int fd; uint64_t id, size; };	/* fd -1: none, an empty one */
int hub_file_create(struct hub_model *m, struct hub_file *ret_file);
/* HF_ELIMIT: longer than a blob may be. HF_EFULL: budget or disk. Writes to the page cache; whoever promises more syncs. */
int hub_file_write(struct hub_model *m, struct hub_file *f, struct hf_span part);
void hub_file_discard(struct hub_model *m, struct hub_file *f);	/* f is none afterwards */
int hub_blob_dir(const struct hub_model *m);			/* fd of the folder, to be synced after a new file */

struct hub_blob {
	uint64_t version, size;
	int64_t modified_ms;
	unsigned n_parts;
	char type[128];			/* content type, "" = none given */
};
/* The calls that take a file do so in any case. Acknowledge after hub_commit_wait. HF_EFULL: too many blocks wait. */
int hub_blob_put(struct hub_model *m, const char *name, const char *type, struct hub_file *f, struct hub_blob *ret_blob);
/* A block that waits for its blob, 2 hours after the last one. */
int hub_block_put(struct hub_model *m, const char *name, struct hf_span block_id, struct hub_file *f);
enum hub_block_from { HUB_BLOCK_LATEST, HUB_BLOCK_UNCOMMITTED, HUB_BLOCK_COMMITTED };
struct hub_block_ref { struct hf_span id; enum hub_block_from from; };
/* Makes the blob of these blocks; other waiting blocks of it go. HF_ENOTFOUND: a block is unknown; HF_ELIMIT: too long. */
int hub_blob_commit(struct hub_model *m, const char *name, const char *type, const struct hub_block_ref *refs, size_t n,
		    struct hub_blob *ret_blob);
int hub_blob_delete(struct hub_model *m, const char *name);

/* --- reading -------------------------------------------------------------------------------------------------- */
bool hub_blobs_on(const struct hub_model *m);		/* file upload is configured */
bool hub_blobs_sync(const struct hub_model *m);		/* an answer promises the disk, not only the page cache */
uint64_t hub_blob_max_bytes(const struct hub_model *m);
int hub_blob_find(struct hub_model *m, const char *name, struct hub_blob *ret_blob);	/* HF_ENOTFOUND */
void hub_blob_list(struct hub_model *m, void (*fn)(void *arg, const char *name, const struct hub_blob *blob), void *arg);
/* Reads from an offset on; goes on although the blob is replaced or deleted meanwhile, as long as its files were open. */
struct hub_blob_reader;
int hub_blob_open(struct hub_model *m, const char *name, uint64_t offset, struct hub_blob_reader **ret_reader);
int hub_blob_read(struct hub_blob_reader *r, uint8_t *p, size_t cap, size_t *ret_n);	/* *ret_n 0 at the end */
void hub_blob_close(struct hub_blob_reader **r);
