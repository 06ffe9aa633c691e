/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/model/model.h - what the emulated hub knows: registry, twins, C2D queues, events. One loop thread.
 *
 * Everything that was acknowledged is in LMDB before the acknowledgement: changes of one loop turn share a
 * transaction; hub_commit_wait() runs its callback after that commit (process durability: MDB_NOSYNC; "sync":
 * with sync). Heads (MQTT, REST, control socket) call this API and never touch the database. */
#pragma once
#include "core/buf.h"
#include "core/list.h"
#include "dialect/batch.h"
#include "loop/loop.h"
#include "msg/msg.h"
#include <jansson.h>

struct hub_model;
struct hub_faults;
struct hub_clients;
struct hub_jobs;
struct hub_configs;
struct hub_transfers;
struct hub_model_cfg {
	const char *dir, *host;
	bool sync;
	bool throttle;			/* limits of an S1 unit: hub/fault/throttle.h */
	uint64_t max_bytes;		/* budget of events */
	uint32_t max_age_s;		/* events older than that go; 0 = only max_bytes counts */
	uint64_t max_blob_bytes, blobs_max_bytes;	/* of one uploaded file, of all; 0: devices upload none */
};
/* -EBUSY when another process has dir. */
int hub_model_open(struct hf_loop *loop, const struct hub_model_cfg *cfg, struct hub_model **ret_m);
/* Waiters and method calls that are left get their one answer here: their owners go later. */
void hub_model_close(struct hub_model **m);
const char *hub_model_host(const struct hub_model *m);
struct hf_span hub_model_short_name(const struct hub_model *m);	/* the host's first label; name of the Event Hubs entity */
int64_t hub_model_created_ms(const struct hub_model *m);	/* when the storage was made */
struct hub_faults *hub_model_faults(struct hub_model *m);	/* hub/fault/fault.h; heads ask it before each operation */
struct hub_clients *hub_model_clients(struct hub_model *m);	/* hub/model/clients.h: for it alone */

/* fn runs when everything changed so far is committed (err 0) or failed. Order of waiters is kept. Embed. */
struct hub_wait { struct hf_list node; void (*fn)(void *arg, int err); void *arg; };
void hub_commit_wait(struct hub_model *m, struct hub_wait *wait, void (*fn)(void *arg, int err), void *arg);
void hub_wait_cancel(struct hub_wait *wait);

/* --- identities: devices and modules, id = "D" or "D/M" ------------------------------------------------ */
enum hub_auth { HUB_AUTH_SAS, HUB_AUTH_SELF_SIGNED, HUB_AUTH_CA, HUB_AUTH_NONE };
struct hub_ident {
	char *id, *device_id, *module_id;	/* module_id NULL for devices */
	char *etag, *generation_id, *managed_by, *status_reason;
	enum hub_auth auth;
	char *primary_key, *secondary_key, *primary_thumb, *secondary_thumb;
	bool enabled, is_edge;
	char *device_scope, *parent_scope;	/* "" = none */
	int64_t status_updated_ms, state_updated_ms, last_activity_ms;
	unsigned connections;			/* live device-side connections */
};
const struct hub_ident *hub_ident_find(struct hub_model *m, struct hf_span id);
const struct hub_ident *hub_ident_lookup(struct hub_model *m, const char *device_id, const char *module_id /* NULL: the device */);
/* hub_error: HTTP status (500 when nobody is to blame), IoT Hub code and text; filled when a call returns HF_EINVALID, HF_ENOTFOUND, ... */
struct hub_error { int http_status; int code; const char *name; char message[256]; };
/* Create or update from a service document (iothub-protocol 5.3/5.4). if_match NULL = create only.
 * *ret_doc (may be NULL): the resulting document. */
int hub_ident_put(struct hub_model *m, const char *device_id, const char *module_id, const json_t *doc,
		  const char *if_match, json_t **ret_doc, struct hub_error *err);
int hub_ident_delete(struct hub_model *m, const char *device_id, const char *module_id, const char *if_match,
		     struct hub_error *err);
json_t *hub_ident_doc(struct hub_model *m, const struct hub_ident *ident);	/* service document */
json_t *hub_ident_scope_record(struct hub_model *m, const struct hub_ident *ident);	/* section 8.1 record */
#define HUB_MAX_LAYERS 5		/* of nested edge devices */
const struct hub_ident *hub_ident_parent(struct hub_model *m, const struct hub_ident *ident);	/* NULL = none */
/* Devices in id order after `after` (NULL = first); NULL at the end. Modules of a device likewise. */
const struct hub_ident *hub_device_next(struct hub_model *m, const char *after);
const struct hub_ident *hub_module_next(struct hub_model *m, const char *device_id, const char *after);
void hub_ident_connected(struct hub_model *m, const char *id, bool connected);	/* counts and stamps */
/* Told when an identity is deleted, disabled or re-keyed: device heads close its connections. */
void hub_on_ident_change(struct hub_model *m, void (*fn)(void *arg, const char *id), void *arg);
/* Told after a commit in which parents changed: who acts for a child that is no longer his is cut. */
void hub_on_scopes(struct hub_model *m, void (*fn)(void *arg), void *arg);

/* --- twins --------------------------------------------------------------------------------------------- */
json_t *hub_twin_doc(struct hub_model *m, const struct hub_ident *ident);		/* service view, 5.5; new ref */
/* The plug and play model that the client names when it connects; kept with the twin, stamped on its telemetry. */
int hub_twin_set_model(struct hub_model *m, const struct hub_ident *ident, const char *model_id);
json_t *hub_twin_device_view(struct hub_model *m, const struct hub_ident *ident);	/* 1.6: desired, reported, $version */
/* Service PATCH (replace false) or PUT: tags and desired. *ret_desired_patch: what to send to the client or NULL. */
int hub_twin_update(struct hub_model *m, const struct hub_ident *ident, const json_t *patch, bool replace,
		    const char *if_match, json_t **ret_doc, struct hub_error *err);
/* Would that update be taken, by this identity or (NULL) by one without properties? As hub_twin_update, without effect. */
int hub_twin_check(const struct hub_ident *ident, const json_t *patch, bool replace, struct hub_error *err);
/* Are these the present desired properties? Nulls count as absent, $ members are ignored. */
bool hub_twin_has_desired(const struct hub_ident *ident, const json_t *desired);
/* Device reported patch; *ret_version new reported $version. */
int hub_twin_report(struct hub_model *m, const struct hub_ident *ident, const json_t *patch, size_t doc_len,
		    int64_t if_version /* -1 none */, int64_t *ret_version, struct hub_error *err);
/* Desired changed: patch with "$version" included. Several listeners are allowed. */
void hub_on_desired(struct hub_model *m, void (*fn)(void *arg, const char *id, const json_t *patch, int64_t version),
		    void *arg);

/* --- events -------------------------------------------------------------------------------------------- */
/* Takes a telemetry message with the authenticated origin; stamps system properties (1.4). Returns its sequence
 * number through ret_seq. auth_type: "sas", "policy" (token of a policy) or "x509". Acknowledge only after hub_commit_wait. HF_EFULL, HF_ELIMIT. */
int hub_event_append(struct hub_model *m, const struct hub_ident *ident, const char *auth_type, struct hf_span bag,
		     struct hf_span body, const char *message_source, uint64_t *ret_seq);
/* All of them or none, in one transaction; together at most 256 KiB. */
int hub_event_append_all(struct hub_model *m, const struct hub_ident *ident, const char *auth_type,
			 const struct hf_batch_part *parts, size_t n, const char *message_source);
/* One stored event as the JSON object of `holdfast-hub events --json`; NULL at the end. *seq in: first wanted,
 * out: the one found. Committed events only. */
json_t *hub_event_get(struct hub_model *m, uint64_t *seq);
uint64_t hub_event_end(struct hub_model *m);	/* next sequence number */
uint64_t hub_event_first(struct hub_model *m);	/* older ones are gone */
#define HUB_PARTITIONS 4
struct hub_event {
	uint64_t seq, partition_seq;
	unsigned partition;
	int64_t enqueued_ms;
	struct hf_span ident, generation_id, auth_type, model_id, source, bag, body;
};
/* Committed events with a sequence number of at least `from`, oldest first, until fn returns false. fn must copy. */
int hub_event_scan(struct hub_model *m, uint64_t from, bool (*fn)(void *arg, const struct hub_event *e), void *arg);
json_t *hub_event_doc(const struct hub_event *e);	/* the same as JSON; NULL: no memory */
/* A sequence number before which no event has that number in its partition, or that time. By time it is the place itself;
 * by number earlier events may follow, to be skipped. Looks at a bounded number of events. */
struct hub_event_position { bool by_partition_seq; unsigned partition; uint64_t partition_seq; int64_t enqueued_ms; };
uint64_t hub_event_seek(struct hub_model *m, const struct hub_event_position *at);
/* begin_seq: of the oldest event kept. next_seq - 1, last_offset, last_enqueued_ms: of the newest, also when it is gone. */
struct hub_event_tail { bool is_empty; uint64_t begin_seq, next_seq, last_offset; int64_t last_enqueued_ms; };
void hub_event_partition(struct hub_model *m, unsigned partition, struct hub_event_tail *ret_tail);
/* The stamp iothub-connection-auth-method. */
void hub_event_auth_method(const struct hub_event *e, struct hf_buf *out);
/* System properties: key in a bag and name at the service side; name NULL: never shown. Ends with key NULL. */
struct hub_event_name { const char *key, *name; };
extern const struct hub_event_name hub_event_names[];
void hub_on_event(struct hub_model *m, void (*fn)(void *arg), void *arg);	/* after a commit with new events */

/* --- C2D queues (devices only) ------------------------------------------------------------------------- */
#define HUB_UUID_SIZE 37
struct hub_c2d {
	uint64_t seq;
	int64_t enqueued_ms, expiry_ms;
	unsigned delivery_count;	/* how often it was abandoned */
	bool redelivered;		/* handed out before, since the hub started */
	const char *message_id, *ack;
	char lock[HUB_UUID_SIZE];	/* token of the present lock */
	struct hf_span bag, body;
};
int hub_c2d_send(struct hub_model *m, const char *device_id, const json_t *props /* messageId, correlationId, to, expiryTimeUtc, userId, ack, properties{} */,
		 struct hf_span body, struct hub_error *err);
#define HUB_C2D_LOCK_MS 60000
/* Locks the oldest available message for owner (any address that tells receivers apart) for lock_ms, 0 = until
 * hub_c2d_release_all or its time to live. HF_ENOTFOUND: none. Borrowed until the next call. */
int hub_c2d_receive(struct hub_model *m, const char *device_id, const void *owner, uint32_t lock_ms,
		    const struct hub_c2d **ret_msg);
/* Abandon counts a delivery; the tenth ends the message. Each end is told as feedback where the sender asked.
 * HF_ENOTFOUND: the lock is lost. Acknowledge after hub_commit_wait. */
enum hub_verdict { HUB_COMPLETE, HUB_ABANDON, HUB_REJECT };
int hub_c2d_settle(struct hub_model *m, const char *device_id, const char *lock, enum hub_verdict verdict);
int hub_c2d_settle_seq(struct hub_model *m, const char *device_id, const void *owner, uint64_t seq,
		       enum hub_verdict verdict);
/* Does owner still hold that message? Its time to live, a purge or a lost lock may have ended that. */
bool hub_c2d_holds(struct hub_model *m, const char *device_id, const void *owner, uint64_t seq);
/* The receiver is gone: what it holds is available at once, without counting. */
void hub_c2d_release_all(struct hub_model *m, const char *device_id, const void *owner);
unsigned hub_c2d_count(struct hub_model *m, const char *device_id);	/* available and locked */
int hub_c2d_purge(struct hub_model *m, const char *device_id, unsigned *ret_n);
/* Told when messages become available: sent, abandoned, released, lock ended. */
void hub_on_c2d(struct hub_model *m, void (*fn)(void *arg, const char *device_id), void *arg);

/* --- persistent MQTT sessions and policies ---------------------------------------------------------------- */
/* Stored filters of a CleanSession=0 client as JSON {"filter": qos}; NULL value deletes. HF_ENOTFOUND: no such identity. */
int hub_session_save(struct hub_model *m, const char *id, json_t *filters);
json_t *hub_session_load(struct hub_model *m, const char *id);
struct hub_policy { char *name, *primary_key, *secondary_key; unsigned rights; };
enum { HUB_REGISTRY_READ = 1, HUB_REGISTRY_WRITE = 2, HUB_SERVICE_CONNECT = 4, HUB_DEVICE_CONNECT = 8 };
const struct hub_policy *hub_policy_find(struct hub_model *m, const char *name);	/* created at first open, random keys */

/* --- direct methods: routed to whichever device head has the client --------------------------------------- */
struct hub_method_call {
	struct hf_list node;
	char target[HF_IDENT_MAX + 1];
	const char *name; json_t *payload;	/* payload NULL = none */
	uint32_t response_timeout_s, connect_timeout_s;
	/* exactly once: status/payload of the device, or err->http_status 404/504 */
	void (*done)(void *arg, int device_status, struct hf_span payload_json, const struct hub_error *err);
	void *arg;
};
#define HUB_METHOD_MAX (128 * 1024)	/* bytes of a payload, either way */
/* Reads {"methodName", "payload", "responseTimeoutInSeconds", "connectTimeoutInSeconds"} into *call, which borrows from
 * doc; target, done and arg are the caller's. HF_EINVALID with err. */
int hub_method_read(const json_t *doc, struct hub_method_call *call, struct hub_error *err);
/* Implemented by hub/model/methods.c: waits for the client, correlates, times out. Copies what it needs. */
int hub_method_invoke(struct hub_model *m, const struct hub_method_call *call);
/* A device head offers itself for an identity with a method subscription. send publishes the request. */
struct hub_method_sink {
	struct hub_method_sink *older;	/* of another client of the identity: it is called when this one is removed */
	const char *id;
	void (*send)(void *arg, const char *name, const char *rid, struct hf_span payload);
	void *arg;
};
void hub_method_sink_add(struct hub_model *m, struct hub_method_sink *sink);
void hub_method_sink_remove(struct hub_model *m, struct hub_method_sink *sink);	/* its outstanding calls: 404104 */
void hub_method_answer(struct hub_model *m, const char *id, struct hf_span rid, int status, struct hf_span body);
