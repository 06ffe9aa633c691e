/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A gateway with a real store and two workers on loopback, a stand-in for upstream, and a blocking MQTT client.
 * For test_session.c and test_requests.c. */
#pragma once
#include "auth/sas.h"
#include "auth/scope.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "gw/gw.h"
#include "gw/metrics.h"
#include "mqtt/mqtt_codec.h"
#include "net/listener.h"
#include "tls/tls.h"
#include <holdfast/err.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define KEY_A "aGVsbG8gZnJvbSBhIHRlc3Qga2V5IG51bWJlciBvbmU="
#define KEY_B "YW5vdGhlciB0ZXN0IGtleSwgbnVtYmVyIHR3byEhISE="
#define KEY_C "YSB0aGlyZCBrZXksIGFmdGVyIGEgcm90YXRpb24uLi4="
#define SCOPE "ms-azure-iot-edge://edge1-1"
enum { WORKERS = 2, WAIT_MS = 4000 };

/* --- upstream's stand-in ------------------------------------------------------------------------------ */
/* Answers at once, or (hold) keeps what it is asked until let_go. */
struct hf_upstream {
	pthread_mutex_t lock;
	bool offline, hold;
	enum hf_refresh_result refresh;	/* what a login that waits is told */
	unsigned hints, n_presence, method_answers, n_held;
	struct { char ident[HF_IDENT_MAX + 1]; bool connected; unsigned subs; } presence[2048];
	int last_method_status;
	char last_method_rid[64];
	struct { struct hf_inbox *to; struct hf_mail *mail; } held[4096];
};

/* Under the lock. */
static inline void answer(struct hf_upstream *up, struct hf_inbox *to, struct hf_mail *mail, void (*back)(struct hf_mail *mail))
{
	mail->fn = back;
	if (!up->hold) {
		hf_inbox_post(to, mail);
		return;
	}
	assert_true(up->n_held < HF_ARRAY_LEN(up->held));
	up->held[up->n_held].to = to;
	up->held[up->n_held++].mail = mail;
}

static inline void let_go(struct hf_upstream *up)
{
	pthread_mutex_lock(&up->lock);
	up->hold = false;
	for (unsigned i = 0; i < up->n_held; i++)
		hf_inbox_post(up->held[i].to, up->held[i].mail);
	up->n_held = 0;
	pthread_mutex_unlock(&up->lock);
}

static void presence_back(struct hf_mail *mail)
{
	struct hf_presence *p = hf_container_of(mail, struct hf_presence, mail);

	p->done(p);
}

void hf_upstream_presence(struct hf_upstream *up, struct hf_presence *p)
{
	assert_non_null(p->client_type);
	assert_non_null(p->model_id);
	pthread_mutex_lock(&up->lock);
	if (up->n_presence < HF_ARRAY_LEN(up->presence)) {
		snprintf(up->presence[up->n_presence].ident, HF_IDENT_MAX + 1, "%s", p->ident);
		up->presence[up->n_presence].connected = p->connected;
		up->presence[up->n_presence++].subs = p->subs;
	}
	answer(up, p->reply_to, &p->mail, presence_back);
	pthread_mutex_unlock(&up->lock);
}

static void twin_back(struct hf_mail *mail)
{
	struct hf_twin_request *req = hf_container_of(mail, struct hf_twin_request, mail);

	req->done(req);
}

void hf_upstream_twin(struct hf_upstream *up, struct hf_twin_request *req)
{
	req->status = req->is_patch ? hf_span_is(req->body, "bad") ? 400 : 204 : 200;
	if (!req->is_patch)
		hf_buf_puts(&req->reply, "{\"desired\":{\"$version\":1},\"reported\":{\"$version\":1}}");
	pthread_mutex_lock(&up->lock);
	answer(up, req->reply_to, &req->mail, twin_back);
	pthread_mutex_unlock(&up->lock);
}

static void method_answer_back(struct hf_mail *mail)
{
	struct hf_method_answer *a = hf_container_of(mail, struct hf_method_answer, mail);

	a->done(a);
}

void hf_upstream_method_answer(struct hf_upstream *up, struct hf_method_answer *a)
{
	pthread_mutex_lock(&up->lock);
	up->method_answers++;
	up->last_method_status = a->status;
	snprintf(up->last_method_rid, sizeof up->last_method_rid, "%.*s", (int)a->rid.len, (const char *)a->rid.ptr);
	answer(up, a->reply_to, &a->mail, method_answer_back);
	pthread_mutex_unlock(&up->lock);
}

static void refresh_back(struct hf_mail *mail)
{
	struct hf_refresh *r = hf_container_of(mail, struct hf_refresh, mail);

	r->done(r);
}

void hf_upstream_refresh(struct hf_upstream *up, struct hf_refresh *r)
{
	pthread_mutex_lock(&up->lock);
	r->result = up->refresh;
	__atomic_fetch_add(&up->hints, 1, __ATOMIC_RELAXED);
	answer(up, r->reply_to, &r->mail, refresh_back);
	pthread_mutex_unlock(&up->lock);
}

enum hf_uplink_state hf_upstream_state(const struct hf_upstream *up)
{
	return __atomic_load_n(&up->offline, __ATOMIC_RELAXED) ? HF_UPLINK_OFFLINE : HF_UPLINK_ONLINE;
}

/* --- the world ------------------------------------------------------------------------------------------ */
struct world {
	char dir[64];
	struct hf_store *store;
	struct hf_upstream up;
	struct hf_gw *gw;
	uint16_t port[WORKERS];
	uint32_t max_connections, per_address, connect_timeout_ms;
	uint64_t max_bytes;
	struct hf_loop *loop;	/* of the test, for replies */
	struct hf_inbox *inbox;
};

static inline void add_ident(struct hf_scope_builder *b, const char *device, const char *module, const char *status,
			     const char *key, bool edge)
{
	json_t *j = json_pack("{s:s, s:s, s:s, s:{s:b}, s:{s:s, s:{s:s, s:s}}}", "deviceId", device, "generationId",
			      "1", "status", status, "capabilities", "iotEdge", (int)edge, "authentication", "type",
			      "sas", "symmetricKey", "primaryKey", key, "secondaryKey", KEY_B);

	assert_non_null(j);
	if (module) {
		json_object_set_new(j, "moduleId", json_string(module));
	} else {
		json_object_set_new(j, "deviceScope", json_string(SCOPE));
		if (!edge)
			json_object_set_new(j, "parentScopes", json_pack("[s]", SCOPE));
	}
	assert_int_equal(hf_scope_builder_add_json(b, j, module != NULL), 0);
	json_decref(j);
}

/* dev0..dev9, `off` (disabled), module edge1/mod. Without: leave one out. */
static inline void give_scope(struct world *w, const char *without, const char *key)
{
	struct hf_scope_builder *b;
	struct hf_scope *scope;
	char id[16];

	assert_int_equal(hf_scope_builder_create(&b), 0);
	add_ident(b, "edge1", NULL, "enabled", KEY_B, true);
	add_ident(b, "edge1", "mod", "enabled", KEY_A, false);
	add_ident(b, "off", NULL, "disabled", KEY_A, false);
	for (int i = 0; i < 10; i++) {
		snprintf(id, sizeof id, "dev%d", i);
		if (!without || strcmp(without, id) != 0)
			add_ident(b, id, NULL, "enabled", key, false);
	}
	assert_int_equal(hf_scope_builder_finish(&b, 1, &scope), 0);
	hf_gw_scope(w->gw, scope);
	hf_scope_unref(&scope);
}

static inline void world_up(struct world *w)
{
	struct hf_gw_cfg cfg = { .workers = WORKERS, .n_listen = 1, .hub_host = "hub.test", .gateway_host = "gw.test",
				 .edge_id = "edge1", .max_connections = w->max_connections, .per_address = w->per_address,
				 .connect_timeout_ms = w->connect_timeout_ms };
	struct hf_store_cfg store = { .dir = w->dir, .max_bytes = w->max_bytes ? w->max_bytes : 64 << 20,
				      .state_bytes = 16 << 20, .seal_key = { 1, 2, 3 } };
	int fds[WORKERS];

	assert_int_equal(hf_store_create(&store, &w->store), 0);
	for (int i = 0; i < WORKERS; i++) {
		struct sockaddr_in in;
		socklen_t len = sizeof in;

		assert_int_equal(hf_listen_tcp("127.0.0.1:0", false, &fds[i]), 0);
		assert_int_equal(getsockname(fds[i], (struct sockaddr *)&in, &len), 0);
		w->port[i] = ntohs(in.sin_port);
	}
	cfg.listen_fds = fds;
	cfg.store = w->store;
	assert_int_equal(hf_gw_create(&cfg, &w->gw), 0);
	give_scope(w, NULL, KEY_A);
	assert_int_equal(hf_gw_start(w->gw, &w->up), 0);
}

static inline void world_down(struct world *w)
{
	hf_gw_stop(w->gw);
	hf_store_destroy(&w->store);
	hf_gw_destroy(&w->gw);
}

static inline int setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);

	assert_non_null(w);
	snprintf(w->dir, sizeof w->dir, "/tmp/hf-gw-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	pthread_mutex_init(&w->up.lock, NULL);
	assert_int_equal(hf_loop_create(&w->loop), 0);
	assert_int_equal(hf_inbox_create(w->loop, false, &w->inbox), 0);
	*state = w;
	return 0;
}

static inline int teardown(void **state)
{
	struct world *w = *state;
	char cmd[96];
	const char *const names[] = { "spool.mdb", "spool.mdb-lock", "state.mdb", "state.mdb-lock", "lock" };

	if (w->gw)
		world_down(w);
	hf_inbox_destroy(&w->inbox);
	hf_loop_destroy(&w->loop);
	for (size_t i = 0; i < HF_ARRAY_LEN(names); i++) {
		snprintf(cmd, sizeof cmd, "%s/%s", w->dir, names[i]);
		(void)unlink(cmd);
	}
	(void)rmdir(w->dir);
	free(w);
	return 0;
}

/* Waits until a counter rose by at least n above `from`. */
static inline void wait_metric(unsigned id, int64_t from, int64_t n)
{
	for (int i = 0; i < WAIT_MS && hf_metric_get(id) - from < n; i++)
		poll(NULL, 0, 1);
	if (hf_metric_get(id) - from < n)
		fail_msg("%s rose by %lld, not %lld", hf_metric_def(id)->name,
			 (long long)(hf_metric_get(id) - from), (long long)n);
}

/* --- client ------------------------------------------------------------------------------------------------- */
struct client {
	int fd;
	struct hf_buf in, out;
	struct hf_mqtt_packet p;
};

static inline struct client *dial(const struct world *w, int worker)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(w->port[worker]),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct client *c = calloc(1, sizeof *c);

	assert_non_null(c);
	c->out = HF_BUF_INIT(32 << 20);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(c->fd, (struct sockaddr *)&in, sizeof in), 0);
	return c;
}

static inline void hang_up(struct client *c)
{
	close(c->fd);
	hf_buf_fini(&c->in);
	hf_buf_fini(&c->out);
	free(c);
}

static inline void flush(struct client *c)
{
	while (hf_buf_len(&c->out)) {
		struct hf_span s = hf_buf_span(&c->out);
		ssize_t n = send(c->fd, s.ptr, s.len, MSG_NOSIGNAL);

		if (n <= 0)
			break;	/* closed by the gateway: reading tells */
		hf_buf_consume(&c->out, (size_t)n);
	}
	hf_buf_reset(&c->out);
}

/* Next packet's type; 0 = connection ended, -1 = nothing in ms. */
static inline int next(struct client *c, int ms)
{
	struct pollfd pfd = { .fd = c->fd, .events = POLLIN };
	const char *reason;
	size_t need;
	uint8_t *room;
	ssize_t n;

	if (c->p.size)
		hf_buf_consume(&c->in, c->p.size);
	c->p.size = 0;
	for (;;) {
		if (hf_buf_len(&c->in) &&
		    hf_mqtt_decode(hf_buf_span(&c->in), 1 << 20, false, &c->p, &need, &reason) == 0)
			return (int)c->p.type;
		c->p.size = 0;
		if (poll(&pfd, 1, ms) <= 0)
			return -1;
		room = hf_buf_reserve(&c->in, 65536);
		assert_non_null(room);
		n = recv(c->fd, room, 65536, 0);
		if (n <= 0)
			return 0;
		hf_buf_grow(&c->in, (size_t)n);
	}
}

static inline void expect(struct client *c, int type)
{
	int got = next(c, WAIT_MS);

	if (got != type)
		fail_msg("packet type %d, expected %d", got, type);
}

static inline void make_token(const char *ident, const char *key, int64_t expiry_s, struct hf_buf *out)
{
	const char *slash = strchr(ident, '/');
	char aud[256];

	if (slash)
		snprintf(aud, sizeof aud, "hub.test/devices/%.*s/modules/%s", (int)(slash - ident), ident, slash + 1);
	else
		snprintf(aud, sizeof aud, "hub.test/devices/%s", ident);
	assert_int_equal(hf_sas_create(aud, key, NULL, expiry_s, out), 0);
}

struct hello {
	const char *key, *client_id, *user;
	int64_t expiry_s;	/* 0 = an hour from now */
	bool clean, no_password;
	uint16_t keep_alive_s;
	const char *will_topic;
};

static inline void send_connect(struct client *c, const char *ident, const struct hello *h)
{
	struct hf_buf token = HF_BUF_INIT(2048);
	char user[400];
	struct hf_mqtt_connect m = { .level = 4, .clean_session = h->clean, .has_user = true,
				     .has_password = !h->no_password, .keep_alive_s = h->keep_alive_s };

	snprintf(user, sizeof user, "hub.test/%s/?api-version=2021-04-12&DeviceClientType=test", ident);
	make_token(ident, h->key ? h->key : KEY_A, h->expiry_s ? h->expiry_s : hf_clock_wall_s() + 3600, &token);
	m.client_id = hf_span_str(h->client_id ? h->client_id : ident);
	m.user = hf_span_str(h->user ? h->user : user);
	m.password = hf_buf_span(&token);
	if (h->will_topic) {
		m.has_will = true;
		m.will_qos = 1;
		m.will_topic = hf_span_str(h->will_topic);
		m.will_body = hf_span_str("gone");
	}
	hf_mqtt_put_connect(&c->out, &m);
	flush(c);
	hf_buf_fini(&token);
}

/* Connects and returns the CONNACK code; -1 when closed without. */
static inline int connack(struct client *c, const char *ident, const struct hello *h)
{
	send_connect(c, ident, h);
	if (next(c, WAIT_MS) != HF_MQTT_CONNACK)
		return -1;
	return c->p.connack.code;
}

static inline struct client *login(const struct world *w, int worker, const char *ident, bool clean)
{
	struct client *c = dial(w, worker);
	struct hello h = { .clean = clean };

	assert_int_equal(connack(c, ident, &h), 0);
	return c;
}

static inline void publish(struct client *c, const char *topic, uint8_t qos, uint16_t id, struct hf_span body)
{
	hf_mqtt_put_publish(&c->out, qos, false, false, id, hf_span_str(topic), hf_span(NULL, 0), body);
}

static inline uint8_t subscribe(struct client *c, uint16_t id, const char *filter, uint8_t qos)
{
	struct hf_span f = hf_span_str(filter);

	hf_mqtt_put_subscribe(&c->out, id, &f, &qos, 1);
	flush(c);
	expect(c, HF_MQTT_SUBACK);
	assert_int_equal(c->p.suback.packet_id, id);
	return c->p.suback.codes.ptr[0];
}

/* --- downlinks ------------------------------------------------------------------------------------------------ */
struct test_down {
	struct hf_loop *loop;
	struct hf_down down;
};

static inline void down_back(struct hf_down *down)
{
	hf_loop_stop(hf_container_of(down, struct test_down, down)->loop);
}

static inline void start_down(struct world *w, struct test_down *t, const char *ident, const char *topic, uint8_t qos)
{
	*t = (struct test_down){ .loop = w->loop,
				 .down = { .reply_to = w->inbox, .done = down_back, .result = 1, .qos = qos,
					   .topic = hf_span_str(topic), .body = hf_span_str("{}") } };
	snprintf(t->down.ident, sizeof t->down.ident, "%s", ident);
	hf_gw_to_child(w->gw, &t->down);
}
