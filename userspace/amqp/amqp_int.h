/* SPDX-License-Identifier: GPL-3.0-or-later */
/* amqp/amqp_int.h - inside of a connection. */
#pragma once
#include "amqp/amqp.h"
#include "core/list.h"

#include <proton/connection_driver.h>
#include <proton/engine.h>

static inline uint32_t hf_amqp_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static inline void hf_amqp_put_be32(uint8_t *p, uint32_t u)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(u >> (24 - 8 * i));
}

/* Follows the frame borders of the input, so that proton gets one frame at a time. Reads the one field of a transfer that
 * proton does not tell, the message format, and finds frames that proton must not see. */
#define HF_AMQP_HEADER 0x414d5150u	/* "AMQP": eight bytes that are no frame */
#define HF_AMQP_MAX_FRAME 65536u
#define HF_AMQP_MIN_FRAME 512u
#define HF_AMQP_FULL_ROOM 64u	/* what hf_amqp_write_full may add to a frame */
struct hf_amqp_frames {
	uint8_t head[512];		/* start of the frame under way */
	uint32_t got, size;		/* bytes of it; size 0 = not known yet */
	bool started, had_sasl, opened;	/* past the protocol header, the SASL frame, open */
	struct { uint16_t channel; uint32_t handle; } partial[64];	/* links amid a message of several transfers */
	unsigned n_partial;
};
struct hf_amqp_frame {			/* what is known at the end of a frame */
	bool end, is_transfer, is_batch, is_close;
	const char *error;		/* NULL = nothing wrong; may come before the end */
};
struct hf_amqp {
	struct hf_conn *conn;
	struct hf_loop *loop;
	const struct hf_amqp_ops *ops;
	void *arg;
	pn_connection_driver_t driver;
	struct hf_amqp_codec *codec;
	struct hf_buf encoded;
	struct hf_buf opening;		/* frame of the peer, up to its open */
	struct hf_buf out_frame;	/* start of a frame of ours that proton has not handed over whole */
	struct hf_task pump;		/* events and output after calls of the owner */
	struct hf_list links;
	struct hf_amqp_frames frames;
	uint64_t max_message, next_tag;
	unsigned max_links, n_links, n_sessions;
	uint64_t close_at_ms;		/* set: our close waits for the peer's */
	bool pumping, dead, sasl_refused;
	struct hf_amqp_frame frame;	/* the one just read */
	bool gathers;			/* the frame under way goes to `opening` */
	bool deaf;			/* nothing more is read */
	bool resuming;			/* some link has `resume` */
	bool choked;			/* some link has `choked` */
	bool settled;			/* a settlement is not encoded yet */
};
struct hf_amqp_link {
	struct hf_list node;
	struct hf_amqp *a;
	pn_link_t *pn;
	void *arg;
	struct hf_buf in;		/* a message that is coming in */
	struct hf_list deliveries;	/* given to the owner, not settled */
	struct hf_list posts;		/* struct hf_amqp_post: waiting for credit */
	unsigned n_posts;
	struct hf_list sent;		/* waiting for the peer's verdict */
	struct hf_amqp_delivery *held;	/* the owner said "not yet" */
	unsigned used;			/* credit to give back */
	bool accepted, refused, resume, choked;
	bool presettle;			/* what we send is settled */
};
struct hf_amqp_delivery {
	struct hf_list node;
	struct hf_amqp_link *link;	/* NULL once the link went */
	pn_delivery_t *pn;
	uint64_t cookie;
	bool is_batch;
};

struct hf_amqp_post {
	struct hf_list node;
	size_t len;
	uint8_t bytes[];
};

/* amqp_sasl.c: offers MSSBCBS, PLAIN, ANONYMOUS, EXTERNAL on the connection's transport. */
void hf_amqp_sasl_init(struct hf_amqp *a);
/* amqp_frame.c */
/* A whole frame of the peer: if it is an open with a limit for frames, proton is to see a limit that leaves room. */
void hf_amqp_lower_max_frame(uint8_t *frame, size_t len);
void hf_amqp_skip_value(struct hf_cur *c);	/* one encoded value, with its descriptors */
/* amqp_frame.c: how many bytes of `in` belong to the frame under way. */
size_t hf_amqp_frame_take(struct hf_amqp_frames *f, struct hf_span in, struct hf_amqp_frame *ret_frame);
/* amqp_full.c: writes output of proton, each performative with all of its fields. An error: HF_ELIMIT, -ENOMEM. */
int hf_amqp_write_full(struct hf_amqp *a, struct hf_span in);
/* amqp_link.c */
void hf_amqp_link_remote_open(struct hf_amqp *a, pn_link_t *pn);
void hf_amqp_link_remote_close(struct hf_amqp *a, pn_link_t *pn);
void hf_amqp_link_free(struct hf_amqp_link *l);		/* tells gone */
void hf_amqp_link_flow(pn_link_t *pn);
/* amqp_transfer.c */
void hf_amqp_on_delivery(struct hf_amqp *a, pn_delivery_t *d);
void hf_amqp_resume_links(struct hf_amqp *a);
void hf_amqp_unchoke_links(struct hf_amqp *a);
void hf_amqp_usable(struct hf_amqp_link *l);		/* there is credit: what waits for it goes */
/* amqp_conn.c */
void hf_amqp_later(struct hf_amqp *a);			/* pump at the end of this turn */
void hf_amqp_over_limit(struct hf_amqp *a, const char *what);	/* ends the connection */
