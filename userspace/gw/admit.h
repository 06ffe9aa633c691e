/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/admit.h - who may hold a connection. Private to gw/.
 *
 * Two limits: a total, and a share of it for one address (an IPv4 address, or a /64 of IPv6). A connection counts from
 * accept to close. At an address's share the new connection is refused, before it costs a handshake. At the total the
 * oldest connection that has not logged in gives way to the new one; one that has logged in never does, and when there
 * is no other, the new one is refused. So strangers can neither fill the gateway nor push a child out of it.
 *
 * One count for all workers, since an address may land on any of them: the calls take a short lock, at accept, login
 * and close. Any thread, unless marked. */
#pragma once
#include "core/list.h"
#include "net/prefix.h"
#include <stdint.h>

struct hf_admit;
struct hf_admit_cfg {
	uint32_t max, per_address;		/* 0 = no limit */
	const struct hf_prefix *exempt;		/* from per_address; copied */
	unsigned n_exempt;
};
/* One thread's door: through it that thread learns which of its connections have to give way. */
struct hf_admit_door {
	struct hf_list leaving;			/* inside */
	void (*tell)(struct hf_admit_door *door);	/* any thread; may post a mail, no more */
};
/* One connection, part of its owner's memory until hf_admit_leave. */
struct hf_admit_seat {
	struct hf_list node;			/* inside, as all that follows */
	struct hf_admit_door *door;
	struct hf_admit_peer *peer;		/* NULL = counts for no address */
	enum { HF_SEAT_NONE, HF_SEAT_STRANGER, HF_SEAT_TRUSTED, HF_SEAT_LEAVING } state;
};
enum hf_admit_verdict { HF_ADMIT_OK, HF_ADMIT_FULL, HF_ADMIT_ADDRESS_FULL, HF_ADMIT_NO_MEMORY };

int hf_admit_create(const struct hf_admit_cfg *cfg, struct hf_admit **ret_admit);
void hf_admit_destroy(struct hf_admit **admit);
void hf_admit_door_init(struct hf_admit_door *door, void (*tell)(struct hf_admit_door *door));
/* A new connection; seat is zeroed memory. Another one may be told to give way. */
enum hf_admit_verdict hf_admit_enter(struct hf_admit *admit, struct hf_admit_seat *seat, struct hf_admit_door *door,
				     const struct sockaddr_storage *peer);
/* It has logged in. False: too late, it was told to give way. */
bool hf_admit_trust(struct hf_admit *admit, struct hf_admit_seat *seat);
/* It is closed. Does nothing for a seat that was never taken. */
void hf_admit_leave(struct hf_admit *admit, struct hf_admit_seat *seat);
/* Door's thread, after it was told: the next seat whose connection is to be closed, NULL = no more. The seat counts
 * until hf_admit_leave. */
struct hf_admit_seat *hf_admit_next_leaving(struct hf_admit *admit, struct hf_admit_door *door);
