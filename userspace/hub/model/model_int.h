/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/model/model_int.h - inside of the model: one entry per identity, the dirty set, the databases. */
#pragma once
#include "core/map.h"
#include "db/db.h"
#include "hub/fault/fault.h"
#include "hub/model/feedback.h"
#include "hub/model/model.h"
#include "hub/fault/throttle.h"

#define HUB_FORMAT 1	/* of both databases; docs/storage-format.md */
enum { HUB_C_TWIN_ETAG, HUB_C_C2D_SEQ, HUB_C_FEEDBACK_SEQ, HUB_COUNTERS };	/* counters.c */
enum { HUB_T_META, HUB_T_IDENT, HUB_T_TWIN, HUB_T_C2D, HUB_T_SESSION, HUB_T_POLICY, HUB_T_FEEDBACK, HUB_T_JOB,
       HUB_T_JOB_STATE, HUB_T_JOB_RESULT, HUB_T_CONFIG, HUB_T_BLOB, HUB_T_BLOCK, HUB_T_UPLOAD,
       HUB_T_TRANSFER };	/* state.mdb */
enum { HUB_T_EVENT, HUB_T_PARTITION };							/* events.mdb */
#define HUB_MAX_LISTENERS 8
#define HUB_TICK_MS 250
#define HUB_C2D_MAX_BYTES 65536
#define HUB_C2D_MAX_QUEUED 50
#define HUB_C2D_MAX_DELIVERY 10
/* More than the service allows (100): one gateway with thousands of children must be testable. */
#define HUB_MAX_CHILDREN 100000
#define HUB_MAX_MODULES 50
#define HUB_SCOPE_PREFIX "ms-azure-iot-edge://"

struct hub_twin {
	json_t *tags, *desired, *reported;		/* desired and reported without $ members */
	json_t *desired_meta, *reported_meta;
	json_t *configurations;			/* {id: {"status": ...}}; NULL = never any */
	int64_t desired_version, reported_version, version;
	uint64_t etag;
};

struct hub_entry {
	struct hub_ident ident;
	struct hub_twin twin;
	struct hub_entry **modules;	/* devices: sorted by module id */
	size_t n_modules;
	struct hf_list c2d;		/* struct hub_c2d_item, oldest first */
	struct hf_list c2d_node;	/* in c2d_busy while there are any */
	unsigned n_c2d, n_children, n_uploads;
	bool is_unsaved;		/* freed of its parent; children.c writes it soon */
	char *model_id;
};

struct hub_listener { void (*fn)(void); void *arg; };
struct hub_listeners { struct hub_listener at[HUB_MAX_LISTENERS]; unsigned n; };

enum hub_note_kind { HUB_NOTE_IDENT, HUB_NOTE_DESIRED, HUB_NOTE_C2D, HUB_NOTE_FEEDBACK };
struct hub_note {		/* told to listeners after the commit */
	struct hf_list node;
	enum hub_note_kind kind;
	json_t *patch;
	int64_t version;
	char id[HF_IDENT_MAX + 1];
};

/* What is known of one partition without reading events. */
struct hub_partition {
	uint64_t first, next;		/* sequence numbers of the oldest event kept and of the next to come */
	uint64_t last_seq;		/* of the newest event, in the hub */
	int64_t last_enqueued_ms;
};

struct hub_feedback_queue {
	struct hf_list items;		/* struct hub_feedback_item, oldest first */
	unsigned n, fresh;		/* fresh: became available and listeners do not know */
	uint64_t fresh_since_ms;
};

struct hub_model {
	struct hf_loop *loop;
	char *host;
	struct hub_faults *faults;
	struct hub_clients *clients;
	struct hub_blobs *blobs;		/* hub/blob/blob_int.h */
	struct hub_throttle throttle;
	struct hub_jobs *jobs;
	struct hub_configs *configs;
	struct hub_transfers *transfers;
	struct hf_db *state, *events;
	int lock_fd;				/* no second process in the same directory */
	struct hf_txn *state_txn, *event_txn;
	struct hf_task task;
	bool closing, armed;

	struct hf_map *idents;			/* id -> struct hub_entry */
	struct hub_entry **devices;		/* sorted by device id */
	size_t n_devices, cap_devices;
	size_t n_unsaved;			/* devices with is_unsaved */
	struct hf_map *dirty_idents, *dirty_twins;	/* ids whose records the next commit writes */
	struct hf_map *late_idents, *late_twins;	/* those of commits that failed */
	struct hf_map *leftovers;	/* ids deleted since a commit succeeded: what is stored for them goes first */
	struct hf_timer *retry;
	struct hf_map *policies;
	int64_t last_ticks, created_ms;
	uint64_t twin_etag, c2d_seq, feedback_seq;	/* never go back: counters.c */
	uint64_t stored_counters[HUB_COUNTERS];
	struct hub_c2d c2d_out;
	struct hf_list c2d_busy;		/* entries with messages */
	struct hub_feedback_queue feedback[HUB_FEEDBACK__COUNT];
	struct hf_timer *tick;			/* runs while time has something to end */

	uint64_t next_seq, first_seq, committed_end, committed_first;
	struct hub_partition partitions[HUB_PARTITIONS], committed[HUB_PARTITIONS];
	size_t turn_bytes, max_event_bytes;
	int64_t max_age_ms;			/* of events; 0 = no bound */
	struct hf_timer *retention;
	bool new_events, new_scopes;		/* listeners are told after the commit */
	int turn_err;				/* of a commit in the middle of a turn */

	struct hf_list waits, notes, held;	/* held: notes of commits that failed */
	struct hub_listeners on_ident, on_scopes, on_desired, on_c2d, on_event, on_feedback;

	struct hf_map *sinks;			/* id -> struct hub_method_sink */
	struct hf_list calls;			/* struct pending_call */
	uint64_t next_rid;
};

/* model.c */
void hub_model_touch(struct hub_model *m);		/* a commit at the end of this turn */
void hub_model_tick(struct hub_model *m);		/* locks and lives will end: the clock runs */
int hub_state_txn(struct hub_model *m, struct hf_txn **ret_txn);
int hub_event_flush(struct hub_model *m);		/* commits the events of this turn so far */
void hub_dirty_ident(struct hub_model *m, const char *id);
void hub_dirty_twin(struct hub_model *m, const char *id);
void hub_leftover(struct hub_model *m, const char *id);	/* an identity is deleted; its id may be used again */
void hub_scopes_changed(struct hub_model *m);		/* a parent was given, taken or changed */
int hub_listen(struct hub_listeners *l, void (*fn)(void), void *arg);
void hub_note(struct hub_model *m, enum hub_note_kind kind, const char *id, json_t *patch_take, int64_t version);
int hub_refuse(struct hub_error *err, int ret, int http, int code, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));
void hub_error_default(struct hub_error *err);	/* 500: for failures that are nobody's fault */
bool hub_etag_fits(const char *if_match, const char *etag);

/* counters.c: load when everything that is numbered is loaded; write with each commit, stored once it succeeded. */
int hub_counters_load(struct hub_model *m);
int hub_counters_write(struct hub_model *m, struct hf_txn *txn);
void hub_counters_stored(struct hub_model *m);

/* children.c */
int hub_children_free(struct hub_model *m, struct hub_entry *parent);	/* it is about to go. -ENOMEM: none is free */
int hub_children_load(struct hub_model *m);				/* counts them; frees those without a parent */
void hub_children_forget(struct hub_model *m, struct hub_entry *e);	/* e goes, or its record is written anyway */
bool hub_children_step(struct hub_model *m);				/* true: there are more */
void hub_children_save(struct hub_model *m);				/* all that are left, before the last commit */

/* registry.c, ident_parse.c */
struct hub_entry *hub_entry_find(struct hub_model *m, struct hf_span id);
int hub_registry_load(struct hub_model *m);
int hub_registry_write(struct hub_model *m, struct hf_txn *txn, struct hf_span id);
void hub_registry_fini(struct hub_model *m);
int hub_ident_new_etag(struct hub_ident *i);
void hub_ident_free(struct hub_ident *i);
/* Reads status, authentication and capabilities of doc into *io (a copy of the present state). *ret_parent_scope: what
 * doc says about the parent, "" = none, NULL = nothing. HF_EINVALID, -ENOMEM. */
int hub_ident_parse(struct hub_ident *io, const json_t *doc, bool create, const char **ret_parent_scope,
		    struct hub_error *err);
char *hub_new_key(void);
bool hub_name_valid(const char *id);	/* of jobs */
bool hub_id_valid(const char *id);	/* of devices and modules */
/* scope.c */
struct hub_entry *hub_scope_owner(struct hub_model *m, const char *scope);
/* HF_EINVALID with the error body of a broken rule about parents (400028), counted and logged. */
int hub_scope_refuse(struct hub_error *err, const char *device_id, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* May child, whose own device_scope is settled, have the parent that owns parent_scope? 0 or HF_EINVALID (400028). */
int hub_scope_check(struct hub_model *m, const struct hub_ident *child, const char *parent_scope, struct hub_error *err);

/* twins.c */
int hub_twin_init(struct hub_model *m, struct hub_twin *t);
void hub_twin_fini(struct hub_twin *t);
int hub_twin_load(struct hub_model *m);
int hub_twin_write(struct hub_model *m, struct hf_txn *txn, struct hf_span id);

/* c2d.c, feedback.c. A step looks at a bounded number of entries; true: there is more to watch. */
void hub_uuid(char out[HUB_UUID_SIZE]);
int hub_c2d_load(struct hub_model *m);
int hub_c2d_erase(struct hf_txn *txn, struct hf_span device_id);	/* the records of a device that is gone */
int hub_c2d_enqueue(struct hub_model *m, struct hub_entry *e, const struct hub_c2d *msg);	/* copies */
void hub_c2d_refresh(struct hub_model *m, struct hub_entry *e);	/* ends locks and lives that are over */
bool hub_c2d_step(struct hub_model *m);
void hub_c2d_drop_unstored(struct hub_model *m);	/* of a commit that failed: their senders were refused */
void hub_c2d_drop_all(struct hub_model *m, struct hub_entry *e);	/* for good, with their records */
void hub_c2d_free_all(struct hub_entry *e);			/* from memory only */
void hub_feedback_init(struct hub_model *m);
int hub_feedback_load(struct hub_model *m);
void hub_feedback_fini(struct hub_model *m);
bool hub_feedback_step(struct hub_model *m);
int hub_feedback_outcome(struct hub_model *m, const struct hub_ident *device, const char *message_id, const char *outcome);

/* jobs.c. Time and age are looked at by hub_jobs_step; true: time will end something. */
int hub_jobs_load(struct hub_jobs *jobs);
bool hub_jobs_step(struct hub_jobs *jobs);
bool hub_jobs_changed(const struct hub_jobs *jobs);	/* the next commit has states of jobs to write */
int hub_jobs_write(struct hub_jobs *jobs, struct hf_txn *txn);
void hub_jobs_written(struct hub_jobs *jobs, int err);	/* how that commit ended */

/* transfer.c */
int hub_transfers_load(struct hub_transfers *t);	/* when the blobs are there */

/* configs.c, config_apply.c */
int hub_configs_load(struct hub_configs *c);		/* when the twins are there */
void hub_configs_touch(struct hub_configs *c, const char *id);		/* an identity or its twin changed */
int hub_configs_write(struct hub_configs *c, struct hf_txn *txn);	/* what a failed commit left unstored */
void hub_configs_written(struct hub_configs *c, int err);		/* how a commit ended */
bool hub_configs_unstored(const struct hub_configs *c);
void hub_configs_removed(struct hub_configs *c, const struct hub_entry *e);	/* it is about to go */

/* blob.c, upload.c */
int hub_blobs_open(struct hub_model *m, const struct hub_model_cfg *cfg);
void hub_blobs_fini(struct hub_model *m);
bool hub_blobs_step(struct hub_model *m);
void hub_uploads_drop(struct hub_model *m, const char *device_id);	/* the device is deleted; its blobs stay */

/* events.c, methods.c, policy.c */
int hub_events_load(struct hub_model *m);
int hub_partitions_write(struct hub_model *m);	/* before the commit of event_txn */
void hub_events_committed(struct hub_model *m, bool ok);	/* after it */
int hub_event_txn(struct hub_model *m);			/* m->event_txn is open, with room */
/* retention.c: before events are taken; and by the clock, until m->retention is destroyed. */
int hub_retain_size(struct hub_model *m);
int hub_retention_start(struct hub_model *m);
int hub_event_parse(uint64_t seq, struct hf_span value, struct hub_event *ret_event);
void hub_seq_key(uint64_t seq, uint8_t out[8]);
uint64_t hub_key_seq(struct hf_span key);
void hub_methods_fini(struct hub_model *m);
int hub_policies_load(struct hub_model *m);
void hub_policies_fini(struct hub_model *m);
