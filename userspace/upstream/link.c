/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Link state: offline -> connecting -> online. The own session ($edgeHub's) is the evidence; netlink wakes. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "upstream/up_int.h"
#include <arpa/inet.h>
#include <errno.h>
#include <holdfast/err.h>
#include <netinet/in.h>
#include <stdio.h>

#define SETTLE_MS 100	/* a burst of netlink events is one change */

static const char *const names[] = { "offline", "connecting", "online" };

const char *hf_uplink_state_name(enum hf_uplink_state s)
{
	return (unsigned)s < HF_ARRAY_LEN(names) ? names[s] : "unknown";
}

bool hf_link_online(const struct hf_upstream *up)
{
	return up->state == HF_UPLINK_ONLINE;
}

static void set_state(struct hf_upstream *up, enum hf_uplink_state state)
{
	if (up->state == (int)state)
		return;
	if (state != HF_UPLINK_CONNECTING || up->state == HF_UPLINK_ONLINE)
		hf_log(HF_LOG_NOTICE, "upstream.state", "%s%s%s", names[state], state == HF_UPLINK_ONLINE ? "" : ": ",
		       state == HF_UPLINK_ONLINE ? "" : up->last_error);
	up->state = state;
	up->since_ms = hf_loop_now_ms(up->loop);
	up->since_wall_ms = hf_clock_wall_ms();
	if (up->ops->state)
		up->ops->state(up->arg, state);
}

static void address_text(const struct hf_address *a, char out[80])
{
	char host[INET6_ADDRSTRLEN] = "?";
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&a->addr;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&a->addr;

	if (a->addr.ss_family == AF_INET)
		inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
	else if (a->addr.ss_family == AF_INET6)
		inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
	snprintf(out, 80, "%s", host);
}

const struct hf_address *hf_link_address(const struct hf_upstream *up)
{
	return up->n_addrs ? &up->addrs[up->addr_at % up->n_addrs] : NULL;
}

static void schedule_retry(struct hf_upstream *up)
{
	uint32_t delay = hf_backoff_next(&up->backoff);

	up->attempting = false;
	set_state(up, HF_UPLINK_OFFLINE);
	hf_log(HF_LOG_DEBUG, "upstream.retry", "in %u ms: %s", delay, up->last_error);
	hf_timer_start(up->retry, delay, 0);
}

/* Connects the own session to the next address; false when all were tried. */
static bool try_next(struct hf_upstream *up)
{
	while (up->n_tries < up->n_addrs) {
		const struct hf_address *a;
		int r;

		if (up->n_tries++)
			up->addr_at++;
		a = hf_link_address(up);
		address_text(a, up->addr_text);
		r = hf_hub_session_connect(up->own, a);
		if (r == 0)
			return true;
		snprintf(up->last_error, sizeof up->last_error, "%s: %s", up->addr_text, hf_strerror(r));
	}
	return false;
}

static void on_resolved(void *arg, int err, const char *text, const struct hf_address *addrs, unsigned n)
{
	struct hf_upstream *up = arg;

	if (!up->attempting || up->stopping)
		return;
	if (err == 0) {
		memcpy(up->addrs, addrs, n * sizeof *addrs);
		up->n_addrs = n;
		up->addr_at = 0;
	} else {
		snprintf(up->last_error, sizeof up->last_error, "%s: %s", up->hub_host, text);
		if (up->n_addrs)
			hf_log(HF_LOG_INFO, "upstream.dns", "%s; using the last good address", up->last_error);
	}
	up->n_tries = 0;
	if (!try_next(up))
		schedule_retry(up);
}

static void attempt(void *arg)
{
	struct hf_upstream *up = arg;
	int r;

	if (up->attempting || up->stopping || hf_link_online(up))
		return;
	hf_timer_stop(up->retry);
	up->attempting = true;
	up->attempt_ms = hf_loop_now_ms(up->loop);
	set_state(up, HF_UPLINK_CONNECTING);
	hf_resolver_reset(up->resolver);	/* never a cached failure or a stale server list */
	r = hf_resolve(up->resolver, up->hub_host, up->mqtt_port, on_resolved, up);
	if (r != 0) {
		snprintf(up->last_error, sizeof up->last_error, "resolver: %s", hf_strerror(r));
		schedule_retry(up);
	}
}

void hf_link_start(struct hf_upstream *up)
{
	attempt(up);
}

void hf_link_wake(struct hf_upstream *up, const char *why)
{
	if (hf_link_online(up) || up->stopping)
		return;
	hf_log(HF_LOG_INFO, "upstream.wake", "%s", why);
	hf_backoff_reset(&up->backoff);
	if (up->attempting) {	/* a SYN sent into the void would be repeated late: start over */
		up->attempting = false;
		hf_hub_session_drop(up->own, HF_EOFFLINE, "starting over");
	}
	attempt(up);
}

/* Links, addresses or routes changed and the burst is over. */
static void on_settled(void *arg)
{
	struct hf_upstream *up = arg;
	struct sockaddr_storage local;

	if (!hf_link_online(up)) {
		hf_link_wake(up, "links or routes changed");
		return;
	}
	if (hf_hub_session_local_addr(up->own, &local) && !hf_nl_local_is_up((struct sockaddr *)&local)) {
		snprintf(up->last_error, sizeof up->last_error, "the uplink's interface lost its carrier or address");
		hf_hub_session_drop_all(up, HF_EOFFLINE, "uplink lost");
	}
}

static void on_netlink(void *arg)
{
	struct hf_upstream *up = arg;

	if (!hf_timer_active(up->settle))
		hf_timer_start(up->settle, SETTLE_MS, 0);
}

void hf_link_own_up(struct hf_upstream *up)
{
	up->attempting = false;
	up->last_error[0] = 0;
	hf_backoff_up(&up->backoff, hf_loop_now_ms(up->loop));
	up->n.reconnects++;
	set_state(up, HF_UPLINK_ONLINE);
	hf_scope_sync_start(up);
	hf_hub_session_open_wanted(up);
	hf_twin_open_pending(up);
}

unsigned hf_link_number(const struct hf_upstream *up)
{
	return (unsigned)up->n.reconnects;
}

void hf_link_own_down(struct hf_upstream *up, const char *why)
{
	bool was_online = hf_link_online(up);

	if (up->stopping)
		return;
	snprintf(up->last_error, sizeof up->last_error, "%s: %s", up->addr_text, why);
	if (was_online) {
		hf_backoff_down(&up->backoff, hf_loop_now_ms(up->loop));
		schedule_retry(up);
	} else if (up->attempting) {
		up->n.conn_failures++;
		if (!try_next(up))
			schedule_retry(up);
	}
}

int hf_link_init(struct hf_upstream *up)
{
	int r = hf_resolver_create(up->loop, up->dns_servers, &up->resolver);

	if (r == 0)
		r = hf_timer_create(up->loop, attempt, up, &up->retry);
	if (r == 0)
		r = hf_timer_create(up->loop, on_settled, up, &up->settle);
	if (r == 0)
		r = hf_nl_create(up->loop, on_netlink, up, &up->nl);
	return r;
}

void hf_link_fini(struct hf_upstream *up)
{
	hf_nl_destroy(&up->nl);
	hf_timer_destroy(&up->retry);
	hf_timer_destroy(&up->settle);
	hf_resolver_destroy(&up->resolver);
}

json_t *hf_link_show(struct hf_upstream *up)
{
	char since[32];

	hf_iso8601(up->since_wall_ms, since);
	return json_pack("{s:s, s:s, s:s, s:i, s:s, s:s, s:i, s:s}", "state", hf_uplink_state_name(up->state), "host",
			 up->hub_host, "address", up->addr_text, "addresses", up->n_addrs, "since", since, "lastError",
			 up->last_error, "backoffMs", up->backoff.next_ms ? up->backoff.next_ms : HF_BACKOFF_FIRST_MS,
			 "dns", up->dns_servers && *up->dns_servers ? up->dns_servers : "system");
}
