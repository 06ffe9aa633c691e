/* SPDX-License-Identifier: GPL-3.0-or-later */
/* amqp/amqp.h - server side of AMQP 1.0 over net/conn, by proton's I/O-free engine. Only amqp/ includes proton.
 *
 * Loop thread. One hf_amqp per connection; it owns the connection and frees itself after `closed`. Callbacks run from
 * the loop, never inside a call of this header, except that hf_amqp_create may deliver nothing yet. Links are borrowed
 * until `gone`. */
#pragma once
#include "amqp/amqp_msg.h"
#include "net/conn.h"

struct hf_amqp;
struct hf_amqp_link;
struct hf_amqp_delivery;	/* one received message that is not settled yet */

enum hf_amqp_outcome { HF_AMQP_ACCEPTED, HF_AMQP_REJECTED, HF_AMQP_RELEASED, HF_AMQP_MODIFIED /* delivery failed */ };

struct hf_amqp_ops {
	/* SASL: PLAIN comes with user and password, the others without. False refuses: outcome 1 and the end. Peers that
	 * use no SASL layer are not asked about. */
	bool (*authenticate)(void *arg, const char *mechanism, struct hf_span user, struct hf_span password);
	/* The peer wants a link: call hf_amqp_link_accept or hf_amqp_link_refuse, now or later. */
	void (*attach)(void *arg, struct hf_amqp_link *link);
	/* A link ended that was not refused, for whatever reason. Its unanswered sends get no outcome any more. */
	void (*gone)(void *arg, struct hf_amqp_link *link);
	/* A whole message came. True: hf_amqp_settle(d) or hf_amqp_forget(d) exactly once, now or later. False: not yet;
	 * after hf_amqp_link_resume it comes again, and what follows on the link waits behind it. raw, msg: during the call. */
	bool (*message)(void *arg, struct hf_amqp_link *link, struct hf_amqp_delivery *d, struct hf_span raw,
			const struct hf_amqp_msg *msg);
	/* The peer's verdict on a message that was sent unsettled. The same choice of hf_amqp_settle(d), which is what
	 * a peer in receive mode "second" waits for, or hf_amqp_forget(d). cookie, tag: as given to hf_amqp_send. */
	void (*outcome)(void *arg, struct hf_amqp_link *link, struct hf_amqp_delivery *d, uint64_t cookie, struct hf_span tag,
			enum hf_amqp_outcome outcome);
	/* There is credit on a link where we send: granted just now, or usable again after HF_EFULL. */
	void (*credit)(void *arg, struct hf_amqp_link *link);
	/* A message or frame that cannot be read (HF_EPROTO), too much of something (HF_ELIMIT), silence (HF_ETIMEOUT). */
	void (*malformed)(void *arg, int err, const char *why);
	void (*closed)(void *arg, int err, const char *detail);	/* after all `gone`; last call */
};
struct hf_amqp_cfg {
	const char *container_id;
	uint32_t idle_timeout_ms;	/* advertised; silence for twice as long ends the connection */
	uint64_t max_message;		/* bytes, of messages to us; more ends the link */
	unsigned max_links;		/* of sessions too; more ends the connection */
};
/* Takes conn over, with its callbacks, also on failure. */
int hf_amqp_create(struct hf_conn *conn, const struct hf_amqp_cfg *cfg, const struct hf_amqp_ops *ops, void *arg,
		   struct hf_amqp **ret_amqp);
struct hf_conn *hf_amqp_conn(struct hf_amqp *a);
void hf_amqp_set_max_links(struct hf_amqp *a, unsigned n);
/* Orderly end; condition NULL = no error. */
void hf_amqp_close(struct hf_amqp *a, const char *condition, const char *text);
void hf_amqp_cut(struct hf_amqp *a);	/* without a word of AMQP; nothing more of the peer is taken */
/* Heartbeats and idle limit: call about once a second. */
void hf_amqp_tick(struct hf_amqp *a, uint64_t now_ms);

/* We are the sender: the peer receives from our source. */
bool hf_amqp_link_we_send(const struct hf_amqp_link *l);
/* Address of our end: source where we send, target where we receive; "" when none. */
const char *hf_amqp_link_address(const struct hf_amqp_link *l);
const char *hf_amqp_link_peer_address(const struct hf_amqp_link *l);	/* the other end */
const char *hf_amqp_link_name(const struct hf_amqp_link *l);
/* Text of a link property (attach `properties`), copied; false when absent or not text. */
bool hf_amqp_link_property(const struct hf_amqp_link *l, const char *key, struct hf_buf *out);
/* Number in a link property; false when absent or not a whole number. */
bool hf_amqp_link_number(const struct hf_amqp_link *l, const char *key, int64_t *ret_n);
/* Text of the source filter apache.org:selector-filter:string. */
bool hf_amqp_link_selector(const struct hf_amqp_link *l, struct hf_buf *out);
void hf_amqp_link_set_arg(struct hf_amqp_link *l, void *arg);
void *hf_amqp_link_arg(const struct hf_amqp_link *l);
bool hf_amqp_link_presettled(const struct hf_amqp_link *l);	/* what we send is settled: no outcomes */
/* Before hf_amqp_link_accept, where no outcome is needed: what we send is settled unless the peer confirms settlements
 * (receive mode "second"). Many readers ask for unsettled messages and never settle one (iothub-protocol 9.6). */
void hf_amqp_link_presettle(struct hf_amqp_link *l);
/* Accepts: echoes source and target; where we receive, grants credit, keeps replenishing it, and tells the size of
 * messages the peer should keep to. */
void hf_amqp_link_accept(struct hf_amqp_link *l, unsigned credit, uint64_t max_message);
void hf_amqp_link_refuse(struct hf_amqp_link *l, const char *condition, const char *text);
/* As a refusal, with what the client needs to go to another address (amqp:link:redirect). */
void hf_amqp_link_redirect(struct hf_amqp_link *l, const char *hostname, const char *address);
void hf_amqp_link_detach(struct hf_amqp_link *l, const char *condition, const char *text);	/* `gone` follows */
void hf_amqp_link_resume(struct hf_amqp_link *l);	/* after `message` said no */

int hf_amqp_credit(struct hf_amqp_link *l);	/* messages that hf_amqp_send would take now */
/* Sends if there is credit. tag: at most 32 bytes, unique among the unsettled of the link; empty: made here. Settled at
 * once where the peer asked for it: then no outcome comes. HF_EFULL: no credit, or too much is under way that the peer
 * has not read or not settled; HF_ELIMIT, -ENOMEM. */
int hf_amqp_send(struct hf_amqp_link *l, struct hf_span tag, const struct hf_amqp_msg *msg, uint64_t cookie);
/* As hf_amqp_send, without tag and outcome; what there is no credit for waits for it: HF_EFULL over 64 messages. */
int hf_amqp_post(struct hf_amqp_link *l, const struct hf_amqp_msg *msg);
/* Answers a received message, or confirms the peer's verdict, and frees d. condition, text: for HF_AMQP_REJECTED. Safe if
 * the link went. */
void hf_amqp_settle(struct hf_amqp_delivery *d, enum hf_amqp_outcome outcome, const char *condition, const char *text);
/* Tells the outcome of a received message without settling it; hf_amqp_settle follows. */
void hf_amqp_tell(struct hf_amqp_delivery *d, enum hf_amqp_outcome outcome);
/* Frees d without any answer; its credit does not come back. */
void hf_amqp_forget(struct hf_amqp_delivery *d);
/* The message is a batch: its data sections are encoded messages (message format 0x80013700). */
bool hf_amqp_is_batch(const struct hf_amqp_delivery *d);
