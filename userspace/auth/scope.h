/* SPDX-License-Identifier: GPL-3.0-or-later */
/* auth/scope.h - the gateway's device scope: immutable snapshots of the identities that may connect.
 *
 * A snapshot is built by the scope pass (upstream thread), swapped in whole by pointer, and read by any
 * thread for one loop turn. Keys live in memory that is wiped on release. */
#pragma once
#include "core/buf.h"
#include <jansson.h>

enum hf_auth_type { HF_AUTH_SAS, HF_AUTH_THUMBPRINT, HF_AUTH_CA, HF_AUTH_NONE };
struct hf_scope_ident {
	char *id;			/* "dev0" or "edge1/mod" */
	enum hf_auth_type auth;
	bool enabled, is_edge;
	char *primary_key, *secondary_key;	/* base64, "" when absent */
	char *primary_thumb, *secondary_thumb;
	char *generation_id, *device_scope, *parent_scope;
};
struct hf_scope;
struct hf_scope_builder;
int hf_scope_builder_create(struct hf_scope_builder **ret_b);
/* The next snapshot after s, which it shares all records with that are not added or removed. s may go meanwhile. */
int hf_scope_builder_create_over(const struct hf_scope *s, struct hf_scope_builder **ret_b);
void hf_scope_builder_destroy(struct hf_scope_builder **b);
/* Adds one element of "devices" / "modules" of a scope page (edgehub-behaviour 4.2). HF_EINVALID names what. */
int hf_scope_builder_add_json(struct hf_scope_builder *b, const json_t *record, bool is_module);
int hf_scope_builder_remove(struct hf_scope_builder *b, const char *id);
/* Serialised record for the store (plain; sealed there) and back. */
int hf_scope_ident_encode(const struct hf_scope_ident *ident, struct hf_buf *out);
int hf_scope_builder_add_encoded(struct hf_scope_builder *b, struct hf_span record);
/* Ends the builder; the snapshot has one reference. synced_at: wall ms of the pass, 0 = loaded from disk. */
int hf_scope_builder_finish(struct hf_scope_builder **b, int64_t synced_at_ms, struct hf_scope **ret_scope);
struct hf_scope *hf_scope_ref(struct hf_scope *s);
void hf_scope_unref(struct hf_scope **s);
const struct hf_scope_ident *hf_scope_find(const struct hf_scope *s, struct hf_span id);
size_t hf_scope_count(const struct hf_scope *s);
int64_t hf_scope_synced_at_ms(const struct hf_scope *s);
bool hf_scope_next(const struct hf_scope *s, size_t *pos, const struct hf_scope_ident **ret_ident);
/* What a builder over `old` changed: *ret_ident is NULL where the record is gone. *pos begins with 0. */
bool hf_scope_next_change(const struct hf_scope *old, const struct hf_scope *now, size_t *pos, const char **ret_id,
			  const struct hf_scope_ident **ret_ident);
bool hf_scope_ident_equal(const struct hf_scope_ident *a, const struct hf_scope_ident *b);
/* Is the identity allowed to connect here: a module of edge_id, a device whose parent scope is edge_id's own
 * scope, a module of such a device. */
bool hf_scope_may_connect(const struct hf_scope *s, const char *edge_id, const struct hf_scope_ident *ident);

/* auth/decide.c - allow / deny, no I/O. */
enum hf_auth_verdict {
	HF_ALLOW,
	HF_DENY_UNKNOWN,	/* not in scope */
	HF_DENY_DISABLED, HF_DENY_BAD_TOKEN, HF_DENY_SIGNATURE, HF_DENY_AUDIENCE, HF_DENY_EXPIRED,
	HF_DENY_CERT, HF_DENY_NO_CREDENTIALS, HF_DENY_TYPE,
	HF_AUTH_VERDICT__COUNT,
};
const char *hf_auth_verdict_name(enum hf_auth_verdict v);
struct hf_auth_request {
	struct hf_span device, module;		/* module empty for devices */
	struct hf_span password;		/* SAS token; empty = none */
	struct hf_span cert_der;		/* peer certificate; empty = none */
	int64_t chain_until_s;			/* the chain builds to a trusted root until then; 0 = it does not */
	int64_t now_s;				/* auth time */
	const char *hub_host, *gateway_host;	/* accepted audience hosts */
	const char *edge_id;
};
#define HF_SAS_SKEW_S 300
/* *ret_expiry_s: when the credential ends (0 = never), for the periodic re-check. */
enum hf_auth_verdict hf_auth_decide(const struct hf_scope *scope, const struct hf_auth_request *req,
				    int64_t *ret_expiry_s);
