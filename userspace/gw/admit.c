/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/admit.c - limits.connections, limits.per_address, and who gives way. */
#include "gw/admit.h"
#include "core/map.h"
#include "core/util.h"
#include "gw/metrics.h"
#include <errno.h>
#include <pthread.h>

/* Connections that were told to give way and are still open: so many may be there above the total. */
enum { LEAVING_MAX = 64 };

struct hf_admit_peer {
	struct hf_prefix key;
	unsigned n;
};
struct hf_admit {
	pthread_mutex_t lock;
	uint32_t max, per_address;
	struct hf_prefix *exempt;
	unsigned n_exempt;
	struct hf_map *peers;		/* key's address bytes and family -> struct hf_admit_peer */
	struct hf_list strangers;	/* seats that have not logged in, oldest first */
	unsigned n, n_leaving;		/* seats, of which leaving */
};

int hf_admit_create(const struct hf_admit_cfg *cfg, struct hf_admit **ret_admit)
{
	struct hf_admit *a = calloc(1, sizeof *a);
	int err = a ? hf_map_create(&a->peers) : -ENOMEM;

	if (!err && cfg->n_exempt) {
		a->exempt = calloc(cfg->n_exempt, sizeof *a->exempt);
		err = a->exempt ? 0 : -ENOMEM;
	}
	if (err) {
		if (a)
			hf_map_destroy(&a->peers);
		free(a);
		return err;
	}
	pthread_mutex_init(&a->lock, NULL);
	a->max = cfg->max;
	a->per_address = cfg->per_address;
	a->n_exempt = cfg->n_exempt;
	if (cfg->n_exempt)
		memcpy(a->exempt, cfg->exempt, cfg->n_exempt * sizeof *a->exempt);
	hf_list_init(&a->strangers);
	*ret_admit = a;
	return 0;
}

void hf_admit_destroy(struct hf_admit **pa)
{
	struct hf_admit *a = *pa;
	struct hf_span key;
	void *value;
	size_t pos = 0;

	*pa = NULL;
	if (!a)
		return;
	while (hf_map_next(a->peers, &pos, &key, &value))
		free(value);
	hf_map_destroy(&a->peers);
	pthread_mutex_destroy(&a->lock);
	free(a->exempt);
	free(a);
}

void hf_admit_door_init(struct hf_admit_door *door, void (*tell)(struct hf_admit_door *door))
{
	hf_list_init(&door->leaving);
	door->tell = tell;
}

static bool is_exempt(const struct hf_admit *a, const struct sockaddr_storage *peer)
{
	for (unsigned i = 0; i < a->n_exempt; i++)
		if (hf_prefix_has(&a->exempt[i], peer))
			return true;
	return false;
}

static struct hf_span peer_key(const struct hf_prefix *p)
{
	return hf_span(p, sizeof *p);
}

/* Counts one more for the address. */
static enum hf_admit_verdict take_share(struct hf_admit *a, const struct sockaddr_storage *peer,
					struct hf_admit_peer **ret_peer)
{
	struct hf_admit_peer *p;
	struct hf_prefix key;

	*ret_peer = NULL;
	if (!a->per_address || is_exempt(a, peer) || !hf_prefix_of_peer(peer, &key))
		return HF_ADMIT_OK;
	p = hf_map_get(a->peers, peer_key(&key));
	if (p && p->n >= a->per_address)
		return HF_ADMIT_ADDRESS_FULL;
	if (!p) {
		p = calloc(1, sizeof *p);
		if (!p)
			return HF_ADMIT_NO_MEMORY;
		p->key = key;
		if (hf_map_put(a->peers, peer_key(&key), p)) {
			free(p);
			return HF_ADMIT_NO_MEMORY;
		}
	}
	p->n++;
	*ret_peer = p;
	return HF_ADMIT_OK;
}

static void give_share(struct hf_admit *a, struct hf_admit_peer *p)
{
	if (!p || --p->n)
		return;
	hf_map_remove(a->peers, peer_key(&p->key));
	free(p);
}

static void no_stranger(struct hf_admit_seat *seat)
{
	hf_list_del(&seat->node);
	hf_metric_add(HF_M_CONN_STRANGERS, -1);
}

static bool is_full(const struct hf_admit *a)
{
	return a->max && a->n - a->n_leaving >= a->max;
}

static bool can_make_room(const struct hf_admit *a)
{
	return !hf_list_empty(&a->strangers) && a->n_leaving < LEAVING_MAX;
}

/* The oldest that has not logged in is to go. Its door. */
static struct hf_admit_door *make_room(struct hf_admit *a)
{
	struct hf_admit_seat *oldest = hf_container_of(a->strangers.next, struct hf_admit_seat, node);

	no_stranger(oldest);
	oldest->state = HF_SEAT_LEAVING;
	hf_list_add_tail(&oldest->door->leaving, &oldest->node);
	a->n_leaving++;
	return oldest->door;
}

enum hf_admit_verdict hf_admit_enter(struct hf_admit *a, struct hf_admit_seat *seat, struct hf_admit_door *door,
				     const struct sockaddr_storage *peer)
{
	struct hf_admit_door *tell = NULL;
	enum hf_admit_verdict v = HF_ADMIT_FULL;

	pthread_mutex_lock(&a->lock);
	if (!is_full(a) || can_make_room(a))
		v = take_share(a, peer, &seat->peer);
	if (v == HF_ADMIT_OK) {
		if (is_full(a))
			tell = make_room(a);
		seat->door = door;
		seat->state = HF_SEAT_STRANGER;
		hf_list_add_tail(&a->strangers, &seat->node);
		hf_metric_add(HF_M_CONN_STRANGERS, 1);
		a->n++;
	}
	pthread_mutex_unlock(&a->lock);
	if (tell)
		tell->tell(tell);
	return v;
}

bool hf_admit_trust(struct hf_admit *a, struct hf_admit_seat *seat)
{
	bool ok;

	pthread_mutex_lock(&a->lock);
	if (seat->state == HF_SEAT_STRANGER) {
		no_stranger(seat);
		seat->state = HF_SEAT_TRUSTED;
	}
	ok = seat->state == HF_SEAT_TRUSTED;
	pthread_mutex_unlock(&a->lock);
	return ok;
}

void hf_admit_leave(struct hf_admit *a, struct hf_admit_seat *seat)
{
	pthread_mutex_lock(&a->lock);
	switch (seat->state) {
	case HF_SEAT_STRANGER:
		no_stranger(seat);
		break;
	case HF_SEAT_LEAVING:
		hf_list_del(&seat->node);
		a->n_leaving--;
		break;
	case HF_SEAT_TRUSTED:
	case HF_SEAT_NONE:
		break;
	}
	if (seat->state != HF_SEAT_NONE) {
		give_share(a, hf_take(seat->peer));
		a->n--;
	}
	seat->state = HF_SEAT_NONE;
	pthread_mutex_unlock(&a->lock);
}

struct hf_admit_seat *hf_admit_next_leaving(struct hf_admit *a, struct hf_admit_door *door)
{
	struct hf_admit_seat *seat = NULL;

	pthread_mutex_lock(&a->lock);
	if (!hf_list_empty(&door->leaving)) {
		seat = hf_container_of(door->leaving.next, struct hf_admit_seat, node);
		hf_list_del(&seat->node);
	}
	pthread_mutex_unlock(&a->lock);
	return seat;
}
