/* SPDX-License-Identifier: GPL-3.0-or-later */
/* upstream/upstream.h - the uplink: link state, DNS, scope sync, hub sessions, pump, twins.
 *
 * One thread of its own with its own loop. Other threads talk to it with mails; it talks to workers through
 * ops, which are called on the upstream thread and must only post mails. */
#pragma once
#include "auth/clock.h"
#include "auth/scope.h"
#include "core/list.h"
#include "loop/inbox.h"
#include "store/store.h"

struct hf_upstream;
enum hf_uplink_state { HF_UPLINK_OFFLINE, HF_UPLINK_CONNECTING, HF_UPLINK_ONLINE };
const char *hf_uplink_state_name(enum hf_uplink_state s);	/* "offline" "connecting" "online" */

/* Downlink: one packet for a child. Allocated by upstream; the worker side runs done exactly once (any thread
 * posts it back to reply_to) and never frees. */
enum hf_down_kind { HF_DOWN_METHOD, HF_DOWN_DESIRED, HF_DOWN_C2D };
struct hf_down {
	struct hf_mail mail;
	struct hf_inbox *reply_to;
	void (*done)(struct hf_down *down);	/* upstream thread; result is set */
	int result;	/* 0: sent (QoS 0) or PUBACKed (QoS 1); HF_ENOTFOUND: not connected or not subscribed */
	enum hf_down_kind kind;
	uint8_t qos;
	char ident[HF_IDENT_MAX + 1];
	struct hf_span topic, body;		/* ready to PUBLISH; owned by the down */
};
struct hf_upstream_ops {
	void (*to_child)(void *arg, struct hf_down *down);
	/* A new scope snapshot: borrowed, take a reference. Called before any answer that depends on it. */
	void (*scope)(void *arg, struct hf_scope *scope);
	void (*state)(void *arg, enum hf_uplink_state state);
	/* These identities lost their right to be here (left scope, disabled, key changed and not re-verifiable). */
	void (*cut_off)(void *arg, const char *ident, const char *why);
};
struct hf_upstream_cfg {
	const char *hub_host;		/* name in user names and audiences, and TLS server name */
	const char *connection_string;	/* of <edge>/$edgeHub: HostName, DeviceId, ModuleId, SharedAccessKey */
	const char *ca_file;		/* NULL = system roots */
	const char *dns_servers;	/* "10.0.0.1,10.0.0.2:5353" or NULL = system */
	uint16_t mqtt_port, https_port;	/* 8883, 443 */
	uint32_t backoff_max_ms;	/* default 60 000 */
	uint32_t scope_refresh_s;	/* default 3600 */
	uint32_t max_sessions;		/* hub sessions at once, default 1000 */
	struct hf_auth_clock *clock;	/* for our tokens; learns the hub's time. Borrowed; NULL = the wall clock */
	int64_t ttl_s_default;		/* from the configuration; the gateway's twin overrides it */
};
int hf_upstream_create(const struct hf_upstream_cfg *cfg, struct hf_store *store, const struct hf_upstream_ops *ops,
		       void *arg, struct hf_upstream **ret_up);	/* loads scope and twins from the store, then starts the thread */
void hf_upstream_destroy(struct hf_upstream **up);	/* closes sessions, joins; blocks up to 5 s */

/* --- from workers (any thread) ---------------------------------------------------------------------- */
/* Requests: the memory is the requester's, who has it back when done runs on reply_to's thread. Each is answered, so
 * requesters bound what they have on the way; posting needs no memory and never fails. */

/* The child's presence: connected with these subscriptions, or gone. */
struct hf_presence {
	struct hf_mail mail;
	struct hf_inbox *reply_to;
	void (*done)(struct hf_presence *p);
	const char *ident, *client_type, *model_id;	/* "" = not told */
	bool connected;
	unsigned subs;			/* HF_SUB_* */
	struct hf_upstream *up;		/* inside */
};
void hf_upstream_presence(struct hf_upstream *up, struct hf_presence *p);
/* Twin GET / reported PATCH of a child. Online it is passed through; offline it is answered from the local
 * copy; a PATCH is answered 204 after its commit. reply: status and body to send to the child. */
struct hf_twin_request {
	struct hf_mail mail;
	struct hf_inbox *reply_to;
	void (*done)(struct hf_twin_request *req);
	char ident[HF_IDENT_MAX + 1];
	bool is_patch;
	int64_t if_version;		/* precondition of a PATCH: the reported $version; -1 = none */
	struct hf_span body;		/* request body, requester's memory until done */
	int status;			/* 200 204 400 412 413 429 500 504 */
	int64_t version;		/* reported $version after a PATCH passed through; -1 = none (offline) */
	struct hf_buf reply;		/* JSON text; owned by the requester, hf_buf_fini */
	struct hf_upstream *up;		/* inside */
};
void hf_upstream_twin(struct hf_upstream *up, struct hf_twin_request *req);
/* The child's answer to a method: passed to the hub under the hub's rid. Lost when there is no session to the hub, or
 * one that does not read: then the caller's time-out tells. */
struct hf_method_answer {
	struct hf_mail mail;
	struct hf_inbox *reply_to;
	void (*done)(struct hf_method_answer *a);
	const char *ident;
	int status;
	struct hf_span rid, body;
	struct hf_upstream *up;		/* inside */
};
void hf_upstream_method_answer(struct hf_upstream *up, struct hf_method_answer *a);
/* A login that the scope does not allow: the identity's records are asked for at the hub, within bounds
 * (architecture 2, promise 5). The new scope, if there is one, is handed out before the answer. */
enum hf_refresh_result {
	HF_REFRESH_FRESH,	/* the scope holds what the hub said not longer than 2 s ago */
	HF_REFRESH_LATER,	/* the hub was not asked, or did not answer: nobody can say */
	HF_REFRESH_OFFLINE,	/* the scope is all there is */
};
struct hf_refresh {
	struct hf_mail mail;
	struct hf_list node;		/* inside */
	struct hf_inbox *reply_to;
	void (*done)(struct hf_refresh *r);
	char ident[HF_IDENT_MAX + 1];
	enum hf_refresh_result result;
	struct hf_upstream *up;		/* inside */
};
/* Any thread. done runs on reply_to's, exactly once. */
void hf_upstream_refresh(struct hf_upstream *up, struct hf_refresh *r);
void hf_upstream_reconnect(struct hf_upstream *up);	/* now, without back-off */

/* --- views (any thread) -------------------------------------------------------------------------------- */
enum hf_uplink_state hf_upstream_state(const struct hf_upstream *up);
#define HF_STALLED_ALARM_MS 30000	/* from here on it is an alarm */
/* For how many ms no message left although some could (hf_pump_watch); 0 = all is well. */
uint64_t hf_upstream_stalled_ms(const struct hf_upstream *up);
/* JSON for `upstream show`: state, host, addresses, since, last error, back-off, sessions, in flight, scope age,
 * ttl in force, dns. Built on the upstream thread; done runs on reply_to. */
struct hf_upstream_show {
	struct hf_mail mail;
	struct hf_inbox *reply_to;
	void (*done)(struct hf_upstream_show *show);
	json_t *result;			/* the caller's */
	struct hf_upstream *up;		/* inside */
};
void hf_upstream_show(struct hf_upstream *up, struct hf_upstream_show *show);
