/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/amqp/amqp_int.h - shared inside the AMQP head only.
 *
 * A connection collects claims: tokens shown over $cbs or with SASL PLAIN, or the peer's certificate. A link is found by
 * its address in a table of kinds (amqp_link.c); what the kind demands is checked at attach, and again whenever a claim
 * ends. A kind that serves an identity gives the link a login: one per identity and connection. */
#pragma once
#include "amqp/amqp.h"
#include "core/map.h"
#include "hub/amqp/amqp.h"
#include "hub/auth.h"
#include "hub/amqp/amqp_props.h"
#include "hub/model/clients.h"
#include "hub/fault/fault_run.h"
#include "hub/metrics.h"

#define HUB_AMQP_MAX_WORDS 12
#define HUB_AMQP_MAX_ADDR 1024
#define HUB_AMQP_MAX_POLICIES 8		/* claims of policies on one connection */
#define HUB_AMQP_MAX_CLAIMS 8192	/* identities on one connection */
#define HUB_AMQP_GRACE_S 5		/* a token is good for that long after its end */
#define HUB_AMQP_MAX_MESSAGE HF_MSG_MAX_SIZE	/* bytes, told to the peer */

struct hub_amqp {
	struct hf_loop *loop;
	struct hub_model *model;
	struct hf_tls_ctx *tls;
	struct hub_conn_limit *limit;
	unsigned n_connections;
	struct hf_listener *listener;
	struct hf_timer *sweep;
	struct hf_list conns;
	struct hub_amqp_events *events;
	struct hf_amqp_codec *codec;	/* for the messages in a batch */
	struct hub_amqp_out out;
	uint8_t salt[8];		/* of correlation ids of methods */
	struct hf_map *identities;	/* id -> struct hub_amqp_identity: links of the identity over all connections */
};

struct hub_amqp_conn {
	struct hf_list node;
	struct hub_amqp *head;
	struct hf_amqp *amqp;
	bool is_ws, closing;
	uint64_t since_ms;
	int64_t plain_expiry_s;		/* of the token that came with SASL PLAIN: ends the connection; 0 = none */
	struct hub_claim policies[HUB_AMQP_MAX_POLICIES];
	unsigned n_policies;
	struct hf_map *claims;		/* id -> struct hub_claim of that identity's own token */
	struct hf_map *logins;		/* id -> struct hub_amqp_login */
	struct hf_list links;		/* struct hub_amqp_link */
	struct hf_list answers;		/* struct hub_amqp_answer */
	struct hub_hold hold;		/* late ones of them */
};

/* An address, without "amqps://host[:port]" and slashes in front, cut at slashes, words percent-decoded. */
struct hub_amqp_addr {
	char ident[HF_IDENT_MAX + 1];	/* "D" or "D/M" of devices/D[/modules/M]/...; "" for other addresses */
	unsigned n;
	struct hf_span word[HUB_AMQP_MAX_WORDS];	/* those after the identity */
	char text[HUB_AMQP_MAX_ADDR];	/* what the words point into */
};
/* HF_EINVALID: too long or too many words. Where both the raw and the decoded id could be meant, the one
 * that is registered is. */
int hub_amqp_addr_parse(struct hub_model *m, const char *address, struct hub_amqp_addr *ret_addr);
/* Words without regard to case; "*" stands for any one word. */
bool hub_amqp_addr_is(const struct hub_amqp_addr *addr, const char *pattern);

/* Who is on the other side of an identity's links. */
struct hub_amqp_login {
	struct hub_amqp_conn *conn;
	struct hub_client client;	/* client.id, client.auth_chain */
	const char *auth_type;		/* "sas", "policy", "x509" */
	unsigned n_links;
	bool is_cut, wants_desired;
};

struct hub_amqp_link {
	struct hf_list node;
	struct hub_amqp_conn *conn;
	struct hf_amqp_link *link;
	const struct hub_amqp_kind *kind;
	struct hub_amqp_login *login;	/* NULL unless kind->who is HUB_AMQP_IDENTITY */
	void *arg;			/* for the kind */
	struct hub_hold hold;		/* a fault rule makes it, or a message on it, wait */
	bool was_held;			/* the wait is over: nothing asks again */
	struct hf_task task;		/* goes on with an attach that waited */
	bool open, ended;
	struct hub_amqp_addr addr;
};

/* Of each kind that serves an identity there is one link over all connections: a newer one steals it (2.3). */
enum hub_amqp_slot {
	HUB_AMQP_NO_SLOT,
	HUB_AMQP_TELEMETRY, HUB_AMQP_C2D, HUB_AMQP_INPUTS, HUB_AMQP_METHOD_REQUESTS, HUB_AMQP_METHOD_RESPONSES,
	HUB_AMQP_TWIN_REQUESTS, HUB_AMQP_TWIN_REPLIES,
	HUB_AMQP__SLOTS
};
struct hub_amqp_identity {
	struct hub_amqp_link *slot[HUB_AMQP__SLOTS];
	char id[HF_IDENT_MAX + 1];
};

enum hub_amqp_who {
	HUB_AMQP_ANYBODY,	/* $cbs */
	HUB_AMQP_IDENTITY,	/* who may act as the device or module of the address */
	HUB_AMQP_SERVICE,	/* who holds a claim with HUB_SERVICE_CONNECT over the whole hub */
};
enum hub_amqp_verdict {
	HUB_AMQP_ACCEPT,
	HUB_AMQP_ANSWERED,	/* open has refused or redirected the link itself (hub_amqp_link_refuse) */
};
/* One kind of link. Callbacks may be NULL but for `message` where we receive. */
struct hub_amqp_kind {
	const char *name;		/* for logs */
	const char *address[3];		/* patterns for hub_amqp_addr_is */
	bool we_send;
	enum hub_amqp_who who;
	enum hub_amqp_slot slot;	/* HUB_AMQP_IDENTITY only */
	unsigned credit;		/* where we receive: messages the peer may have under way */
	uint64_t max_message;		/* where we receive: bytes, told to the peer */
	enum hub_amqp_verdict (*open)(struct hub_amqp_link *l);	/* authorised; before the answer */
	/* Once for every link whose open said ACCEPT: at the detach of either side, of which hub_amqp_link_detach may be
	 * the cause. No other callback follows. */
	void (*closed)(struct hub_amqp_link *l);
	/* As in struct hf_amqp_ops; hub_amqp_gate() may say that the message is to wait. */
	bool (*message)(struct hub_amqp_link *l, struct hf_amqp_delivery *d, struct hf_span raw, const struct hf_amqp_msg *msg);
	void (*outcome)(struct hub_amqp_link *l, struct hf_amqp_delivery *d, uint64_t cookie, struct hf_span tag,
			enum hf_amqp_outcome outcome);
	void (*credit_given)(struct hub_amqp_link *l);
};

/* amqp_link.c: from attach to the end. Refusals and detachments are counted and logged there. */
void hub_amqp_on_attach(struct hub_amqp_conn *c, struct hf_amqp_link *link);
void hub_amqp_on_gone(struct hub_amqp_conn *c, struct hf_amqp_link *link);
void hub_amqp_link_refuse(struct hub_amqp_link *l, const char *condition, const char *text);
void hub_amqp_link_detach(struct hub_amqp_link *l, enum hub_metric metric, const char *condition, const char *text);
/* Detaches the links of the connection whose authorisation is gone. */
void hub_amqp_recheck(struct hub_amqp_conn *c);
/* The link of an identity, over any connection; NULL when there is none. */
struct hub_amqp_link *hub_amqp_link_of(struct hub_amqp *head, const char *id, enum hub_amqp_slot slot);

/* amqp_auth.c: claims of a connection. Functions that judge return NULL for yes, else a static reason. */
bool hub_amqp_on_sasl(struct hub_amqp_conn *c, const char *mechanism, struct hf_span user, struct hf_span password);
/* Adds the claim, or prolongs the one that says the same. HF_ELIMIT, -ENOMEM. */
int hub_amqp_claim_add(struct hub_amqp_conn *c, const struct hub_claim *claim);
void hub_amqp_claims_expire(struct hub_amqp_conn *c, int64_t wall_s);
void hub_amqp_claims_free(struct hub_amqp_conn *c);
bool hub_amqp_has_claims(const struct hub_amqp_conn *c);
const char *hub_amqp_may_serve(struct hub_amqp_conn *c, unsigned right);	/* HUB_SERVICE_CONNECT, ... over the whole hub */
const char *hub_amqp_may_act_as(struct hub_amqp_conn *c, const struct hub_ident *ident, const char *auth_chain,
				const char **ret_auth_type);

/* amqp_login.c */
struct hub_amqp_login *hub_amqp_login_find(struct hub_amqp_conn *c, const char *id);
/* Limits and fault rules for a login that would be new, asked before it is made. */
bool hub_amqp_login_fault(struct hub_amqp_conn *c, const char *id, struct hub_fault *ret_fault);
/* The login of an identity that may act; made when there is none. NULL: no memory. */
struct hub_amqp_login *hub_amqp_login_get(struct hub_amqp_conn *c, const char *id);
/* Ends logins that have neither links nor a token of their own. */
void hub_amqp_login_settle(struct hub_amqp_login *login);
void hub_amqp_logins_free(struct hub_amqp_conn *c);

/* amqp_answer.c */
/* Runs fn(c, err, data) once: late_ms after everything changed so far is committed, err 0 or what the commit failed with;
 * or with -ECANCELED when the connection ends first. data is copied. No memory: at once, with -ENOMEM. */
typedef void (*hub_amqp_answer_fn)(struct hub_amqp_conn *c, int err, void *data);
void hub_amqp_answer(struct hub_amqp_conn *c, uint32_t late_ms, hub_amqp_answer_fn fn, const void *data, size_t len);
void hub_amqp_answers_cancel(struct hub_amqp_conn *c);
/* Confirms the peer's verdict once everything changed so far is committed; never, when that failed. */
void hub_amqp_settle_committed(struct hub_amqp_conn *c, struct hf_amqp_delivery *d, enum hf_amqp_outcome outcome);
/* Accepts a message to us, late_ms after that or as a fault rule says (HUB_DO_ACK_...); rejects it when the commit failed. */
void hub_amqp_accept(struct hub_amqp_conn *c, struct hf_amqp_delivery *d, uint32_t late_ms, const struct hub_fault *fault);
/* Counts and logs a message or request that is refused. */
void hub_amqp_note_refusal(const struct hub_amqp_link *l, const char *condition, const char *why);
/* That, and rejects the message with the condition of 2.9 for the status. */
void hub_amqp_reject(struct hub_amqp_link *l, struct hf_amqp_delivery *d, int http_status, const char *why);
/* Sends without interest in the outcome, now or when the peer gives credit; counts what cannot be kept until then. */
void hub_amqp_post(struct hub_amqp_link *l, const struct hf_amqp_msg *msg);

/* amqp_events.c, amqp_feedback.c: their parts of the head. */
int hub_amqp_events_create(struct hub_amqp *head);
void hub_amqp_events_destroy(struct hub_amqp *head);
void hub_amqp_feedback_init(struct hub_amqp *head);
/* Does this name the hub's Event Hubs entity? */
bool hub_amqp_is_entity(const struct hub_model *m, struct hf_span name);

/* amqp_fault.c: fault rules (hub/fault/fault.h). A delay holds the link: what follows on it waits, other links do not. */
#define HUB_AMQP_NO_FAULT ((struct hub_fault){ .action = HUB_DO__COUNT })
enum hub_amqp_gate {
	HUB_AMQP_GO,		/* ret_fault: none, a refusal, or how to answer late, twice or never */
	HUB_AMQP_WAIT,		/* the message comes again: return false */
	HUB_AMQP_DONE,		/* d is dealt with */
};
enum hub_amqp_gate hub_amqp_gate(struct hub_amqp_link *l, enum hub_fault_on on, const char *id, struct hf_amqp_delivery *d,
				 struct hub_fault *ret_fault);
void hub_amqp_cut_off(struct hub_amqp_conn *c);	/* closes it without a word of AMQP */
void hub_amqp_hold_attach(struct hub_amqp_link *l, uint32_t ms);	/* then runs l->task */
/* HTTP status of a fault on connect, whose codes are those of CONNACK. 0: the fault is no refusal. */
int hub_amqp_login_status(const struct hub_fault *fault);
const char *hub_amqp_condition(int http_status);	/* of 2.9 */

/* amqp_srv.c */
void hub_amqp_drop(struct hub_amqp_conn *c, enum hub_metric metric, const char *condition, const char *why);
/* amqp_c2d.c, amqp_twin.c: listeners of the model, arg is the head. */
void hub_amqp_on_c2d(void *arg, const char *device_id);
void hub_amqp_on_desired(void *arg, const char *id, const json_t *patch, int64_t version);

/* Rows of the table in amqp_link.c. */
extern const struct hub_amqp_kind hub_amqp_cbs_requests, hub_amqp_cbs_replies, hub_amqp_telemetry, hub_amqp_c2d,
	hub_amqp_inputs, hub_amqp_twin_requests, hub_amqp_twin_replies, hub_amqp_method_requests, hub_amqp_method_responses,
	hub_amqp_c2d_send, hub_amqp_feedback, hub_amqp_file_notifications, hub_amqp_event_readers, hub_amqp_mgmt_requests,
	hub_amqp_mgmt_replies, hub_amqp_redirect_readers, hub_amqp_redirect_senders;
