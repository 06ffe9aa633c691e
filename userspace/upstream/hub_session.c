/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One MQTT connection to the hub per identity, opened on demand with the gateway's own token (edgehub 5.1). */
#include "auth/sas.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "upstream/hub_session_int.h"
#include <errno.h>
#include <holdfast/err.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>

#define MAX_PACKET (HF_MSG_MAX_SIZE + 70 * 1024)
#define KEEP_ALIVE_S 230
#define OWN_PING_MS 5000
#define CHILD_PING_MS 60000
#define ROOM_BYTES (512 * 1024)	/* waiting for a hub that does not read */
#define OUT_MAX (4u << 20)
#define SILENT_MS 15000		/* after a ping without an answer */

static void session_closed(struct hf_hub_session *s, int err, const char *why, bool by_hub);

/* --- registry -------------------------------------------------------------------------------------------- */
struct hf_hub_session *hf_hub_session_find(struct hf_upstream *up, struct hf_span ident)
{
	return hf_map_get(up->sessions, ident);
}

struct hf_hub_session *hf_hub_session_get(struct hf_upstream *up, const char *ident)
{
	struct hf_hub_session *s = hf_hub_session_find(up, hf_span_str(ident));

	if (s)
		return s;
	s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->up = up;
	s->backoff.max_ms = 60000;
	hf_list_init(&s->wait);
	hf_mqtt_stream_init(&s->stream, false, MAX_PACKET, MAX_PACKET + 65536);
	snprintf(s->ident, sizeof s->ident, "%s", ident);
	if (hf_map_put(up->sessions, hf_span_str(ident), s) != 0) {
		free(s);
		return NULL;
	}
	return s;
}

const char *hf_hub_session_ident(const struct hf_hub_session *s) { return s->ident; }
struct hf_upstream *hf_hub_session_up(const struct hf_hub_session *s) { return s->up; }
bool hf_hub_session_is_up(const struct hf_hub_session *s) { return s->state == SESSION_UP; }
bool hf_hub_session_has_room(const struct hf_hub_session *s)
{
	return s->state == SESSION_UP && hf_conn_out_len(s->conn->conn) < ROOM_BYTES;
}
unsigned hf_hub_session_subs(const struct hf_hub_session *s) { return s->present ? s->subs : 0; }

bool hf_hub_session_local_addr(const struct hf_hub_session *s, struct sockaddr_storage *ret_addr)
{
	socklen_t len = sizeof *ret_addr;

	return s->conn && getsockname(hf_conn_fd(s->conn->conn), (struct sockaddr *)ret_addr, &len) == 0;
}

/* --- credentials ------------------------------------------------------------------------------------------ */
const char *hf_own_token(struct hf_upstream *up)
{
	hf_autobuf struct hf_buf audience = HF_BUF_INIT(1024);
	struct hf_buf token = HF_BUF_INIT(4096);
	int64_t now = up->clock ? hf_auth_clock_now_s(up->clock) : hf_clock_wall_s();

	if (up->token && up->token_expiry_s - now > HF_OWN_TOKEN_S / 2 && up->token_expiry_s - now <= HF_OWN_TOKEN_S)
		return up->token;
	hf_own_token_forget(up);
	/* ids are encoded once inside the audience, and the audience again as sr (edgehub-behaviour 4) */
	hf_buf_printf(&audience, "%s/devices/", up->hub_host);
	hf_uri_encode(hf_span_str(up->edge_id), &audience);
	hf_buf_puts(&audience, "/modules/%24edgeHub");
	if (!audience.err && hf_sas_create(hf_buf_cstr(&audience), up->key, NULL, now + HF_OWN_TOKEN_S, &token) == 0) {
		up->token = strdup(hf_buf_cstr(&token));
		up->token_expiry_s = now + HF_OWN_TOKEN_S;
	}
	hf_buf_wipe(&token);
	return up->token;
}

void hf_own_token_forget(struct hf_upstream *up)
{
	if (up->token)
		explicit_bzero(up->token, strlen(up->token));
	free(up->token);
	up->token = NULL;
}

static void put_connect(struct hf_hub_session *s, const char *token)
{
	hf_autobuf struct hf_buf user = HF_BUF_INIT(8192), type = HF_BUF_INIT(1024), chain = HF_BUF_INIT(2048);
	struct hf_mqtt_connect c = { .level = 4, .clean_session = true, .has_user = true, .has_password = true,
				     .keep_alive_s = KEEP_ALIVE_S };

	hf_buf_printf(&type, "%s%sholdfast/" HF_VERSION, s->client_type ? s->client_type : "", s->client_type ? " " : "");
	hf_buf_printf(&chain, "%s;%s", s->ident, s->up->edge_id);
	hf_buf_printf(&user, "%s/%s/?api-version=2021-04-12", s->up->hub_host, s->ident);
	if (s->model_id) {
		hf_buf_puts(&user, "&model-id=");
		hf_uri_encode(hf_span_str(s->model_id), &user);
	}
	hf_buf_puts(&user, "&DeviceClientType=");
	hf_uri_encode(hf_buf_span(&type), &user);
	hf_buf_puts(&user, "&auth-chain=");
	hf_uri_encode(hf_buf_span(&chain), &user);
	c.client_id = hf_span_str(s->ident);
	c.user = hf_buf_span(&user);
	c.password = hf_span_str(token);
	hf_mqtt_put_connect(hf_conn_out(s->conn->conn), &c);
	hf_conn_flush_later(s->conn->conn);
}

/* --- connection ------------------------------------------------------------------------------------------- */
static void on_ready(void *arg, struct hf_conn *c)
{
	struct session_conn *sc = arg;
	const char *token;
	int ms = SILENT_MS;

	if (!sc->session)
		return;
	/* unacknowledged bytes on a dead path end the connection long before TCP would */
	setsockopt(hf_conn_fd(c), IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
	token = hf_own_token(sc->session->up);
	if (!token) {
		hf_hub_session_drop(sc->session, HF_EDENIED, "no token: is SharedAccessKey in hub.connection_string_file base64?");
		return;
	}
	put_connect(sc->session, token);
}

static enum hf_mqtt_next on_packet(void *arg, const struct hf_mqtt_packet *pkt)
{
	struct session_conn *sc = arg;

	hf_hub_session_packet(sc->session, pkt);
	return sc->session ? HF_MQTT_NEXT : HF_MQTT_END;	/* NULL: it dropped this connection */
}

static void on_data(void *arg, struct hf_conn *c, struct hf_span in)
{
	struct session_conn *sc = arg;
	struct hf_hub_session *s = sc->session;
	const char *reason = NULL;
	int r;

	(void)c;
	if (!s)
		return;
	s->last_in_ms = hf_loop_now_ms(s->up->loop);
	s->ping_sent_ms = 0;
	r = hf_mqtt_stream_feed(&s->stream, in, on_packet, sc, &reason);
	if (r != 0)
		hf_hub_session_drop(s, r, reason);
}

static void on_drained(void *arg, struct hf_conn *c)
{
	struct session_conn *sc = arg;

	(void)c;
	if (!sc->session)
		return;
	if (sc->session->child)
		hf_pump_kick(sc->session->up->pump, sc->session->child);
	hf_twin_send_waiting(sc->session);
}

static void on_closed(void *arg, struct hf_conn *c, int err, const char *detail)
{
	struct session_conn *sc = arg;
	struct hf_hub_session *s = sc->session;

	(void)c;
	if (s) {
		s->conn = NULL;
		session_closed(s, err, detail && *detail ? detail : err ? hf_strerror(err) : "closed by the hub", true);
	}
	free(sc);
}

static const struct hf_conn_ops conn_ops = { .ready = on_ready, .data = on_data, .drained = on_drained, .closed = on_closed };

int hf_hub_session_connect(struct hf_hub_session *s, const struct hf_address *addr)
{
	struct hf_upstream *up = s->up;
	struct hf_conn_cfg cfg = { .tls = up->tls, .server_name = up->hub_host, .is_client = true,
				   .handshake_timeout_ms = 10000, .out_cap = OUT_MAX };
	struct session_conn *sc = calloc(1, sizeof *sc);
	int r;

	if (!sc)
		return -ENOMEM;
	sc->session = s;
	r = hf_conn_connect(up->loop, (const struct sockaddr *)&addr->addr, addr->len, &cfg, &conn_ops, sc, &sc->conn);
	if (r != 0) {
		free(sc);
		return r;
	}
	s->conn = sc;
	s->state = SESSION_CONNECTING;
	s->generation++;
	s->connect_ms = s->last_in_ms = s->last_used_ms = hf_loop_now_ms(up->loop);
	up->n_connecting++;
	hf_mqtt_stream_reset(&s->stream);
	return 0;
}

/* An end that the hub may have chosen: a close, or a reset. A path that went silent is none. */
static bool is_the_hubs_will(int err)
{
	return err == 0 || err == HF_ETLS || err == HF_ECLOSED || err == -ECONNRESET || err == -EPIPE;
}

/* The connection is gone (or cut loose): state, window and pump follow, then whoever must know. */
static void session_closed(struct hf_hub_session *s, int err, const char *why, bool by_hub)
{
	struct hf_upstream *up = s->up;
	enum session_state was = s->state;

	if (was == SESSION_CONNECTING)
		up->n_connecting--;
	else if (was == SESSION_UP)
		up->n_up--;
	s->state = SESSION_IDLE;
	s->n_flight = 0;
	s->ping_sent_ms = 0;
	hf_mqtt_stream_reset(&s->stream);
	if (was == SESSION_UP && s->child) {
		if (by_hub && is_the_hubs_will(err))
			hf_pump_closed_by_hub(up->pump, s->child, hf_link_number(up));
		hf_pump_session_lost(up->pump, s->child);
	}
	if (was == SESSION_UP)
		hf_twin_session_down(up, s->ident);
	hf_log(s == up->own ? HF_LOG_INFO : HF_LOG_DEBUG, "upstream.session", "%s: %s", s->ident, why);
	if (s == up->own) {
		hf_link_own_down(up, why);
	} else if (was != SESSION_IDLE && err != HF_EOFFLINE) {
		hf_backoff_down(&s->backoff, hf_loop_now_ms(up->loop));
		s->retry_at_ms = hf_loop_now_ms(up->loop) + (was == SESSION_UP ? 100 : hf_backoff_next(&s->backoff));
	}
	hf_hub_session_start_waiting(up);
}

void hf_hub_session_drop(struct hf_hub_session *s, int err, const char *why)
{
	struct session_conn *sc = s->conn;

	if (hf_list_linked(&s->wait))
		hf_list_del(&s->wait);
	if (!sc)
		return;
	sc->session = NULL;	/* its callbacks are nobody's from here on */
	s->conn = NULL;
	hf_conn_abort(sc->conn, err, why);
	session_closed(s, err, why, false);
}

static void for_each(struct hf_upstream *up, void (*fn)(struct hf_hub_session *s))
{
	struct hf_span key;
	size_t pos = 0;
	void *v;

	while (hf_map_next(up->sessions, &pos, &key, &v))
		fn(v);
}

void hf_hub_session_drop_all(struct hf_upstream *up, int err, const char *why)
{
	struct hf_span key;
	size_t pos = 0;
	void *v;

	while (hf_map_next(up->sessions, &pos, &key, &v))
		if (v != up->own)
			hf_hub_session_drop(v, err, why);
	hf_hub_session_drop(up->own, err, why);
}

/* --- wanting ------------------------------------------------------------------------------------------------ */
static bool needed(const struct hf_hub_session *s)
{
	struct hf_upstream *up = s->up;

	return (s->present && (s->subs & (HF_SUB_METHODS | HF_SUB_DESIRED | HF_SUB_C2D))) ||
	       (s->child && hf_pump_wants_session(up->pump, s->child)) || hf_twin_wants_session(up, s->ident);
}

/* Room for one more: the session that was used least recently and is not needed goes. */
static bool make_room(struct hf_upstream *up)
{
	struct hf_hub_session *oldest = NULL;
	struct hf_span key;
	size_t pos = 0;
	void *v;

	if (up->n_up + up->n_connecting < up->max_sessions)
		return true;
	while (hf_map_next(up->sessions, &pos, &key, &v)) {
		struct hf_hub_session *s = v;

		if (s->state == SESSION_UP && s != up->own && s->n_flight == 0 &&
		    (!oldest || s->last_used_ms < oldest->last_used_ms) &&
		    !(s->child && hf_pump_wants_session(up->pump, s->child)))
			oldest = s;
	}
	if (oldest)
		hf_hub_session_drop(oldest, 0, "closed to make room for another child");
	return oldest != NULL;
}

void hf_hub_session_want(struct hf_hub_session *s)
{
	if (s->state != SESSION_IDLE || s == s->up->own || hf_list_linked(&s->wait))
		return;
	hf_list_add_tail(&s->up->waiting, &s->wait);
	hf_hub_session_start_waiting(s->up);
}

void hf_hub_session_start_waiting(struct hf_upstream *up)
{
	uint64_t now = hf_loop_now_ms(up->loop);
	struct hf_list *pos, *tmp;

	if (!hf_link_online(up) || up->stopping || up->starting_waiting)
		return;
	up->starting_waiting = true;	/* a drop below comes back here */
	hf_list_for_each_safe(pos, tmp, &up->waiting) {
		struct hf_hub_session *s = hf_container_of(pos, struct hf_hub_session, wait);

		if (up->n_connecting >= HF_SESSION_CONNECTING_MAX)
			break;
		if (now < s->retry_at_ms)
			continue;
		if (!make_room(up))
			break;
		hf_list_del(&s->wait);
		if (hf_hub_session_connect(s, hf_link_address(up)) != 0)
			s->retry_at_ms = now + hf_backoff_next(&s->backoff);
	}
	up->starting_waiting = false;
}

static void want_if_needed(struct hf_hub_session *s)
{
	if (s->state == SESSION_IDLE && s != s->up->own && needed(s))
		hf_hub_session_want(s);
}

static void retry_now(struct hf_hub_session *s)
{
	s->retry_at_ms = 0;
	hf_backoff_reset(&s->backoff);
	want_if_needed(s);
}

void hf_hub_session_open_wanted(struct hf_upstream *up)
{
	for_each(up, retry_now);
}

static void set_text(char **slot, const char *text)
{
	char *copy = text && *text ? strdup(text) : NULL;

	free(*slot);
	*slot = copy;
}

void hf_hub_session_presence(struct hf_hub_session *s, bool connected, unsigned subs, const char *client_type,
			 const char *model_id)
{
	unsigned before = hf_hub_session_subs(s);

	s->present = connected;
	s->subs = subs;
	if (connected && client_type)
		set_text(&s->client_type, client_type);
	if (connected && model_id)
		set_text(&s->model_id, model_id);
	if (hf_hub_session_is_up(s))
		hf_hub_session_mirror_subs(s);
	else
		want_if_needed(s);
	if ((hf_hub_session_subs(s) & ~before & HF_SUB_DESIRED) && hf_hub_session_is_up(s))
		hf_twin_subscribed(s);
}

/* --- once a second ------------------------------------------------------------------------------------------ */
static void tick_up(struct hf_hub_session *s, uint64_t now)
{
	struct hf_upstream *up = s->up;
	bool own = s == up->own;

	if (s->child && hf_pump_oldest_unanswered_ms(up->pump, s->child) > HF_UNANSWERED_MS) {
		hf_hub_session_drop(s, HF_ETIMEOUT, "no PUBACK for 30 s");
		return;
	}
	if (s->ping_sent_ms && now - s->ping_sent_ms > SILENT_MS) {
		hf_hub_session_drop(s, HF_ETIMEOUT, "no answer to a ping");
		return;
	}
	if (!s->ping_sent_ms && now - s->last_in_ms > (own || s->n_flight ? OWN_PING_MS : CHILD_PING_MS)) {
		s->ping_sent_ms = now;
		hf_mqtt_put_empty(hf_conn_out(s->conn->conn), HF_MQTT_PINGREQ);
		hf_conn_flush_later(s->conn->conn);
	}
	if (!own && !needed(s) && now - s->last_used_ms > HF_SESSION_IDLE_MS)
		hf_hub_session_drop(s, 0, "idle");
}

void hf_hub_session_tick(struct hf_upstream *up)
{
	uint64_t now = hf_loop_now_ms(up->loop);
	struct hf_span key;
	size_t pos = 0;
	void *v;

	while (hf_map_next(up->sessions, &pos, &key, &v)) {
		struct hf_hub_session *s = v;

		if (s->state == SESSION_UP)
			tick_up(s, now);
		else if (s->state == SESSION_CONNECTING && now - s->connect_ms > 15000)
			hf_hub_session_drop(s, HF_ETIMEOUT, "no CONNACK in time");
		else if (s->state == SESSION_IDLE && hf_link_online(up))
			want_if_needed(s);
	}
	hf_hub_session_start_waiting(up);
}

void hf_hub_session_free_all(struct hf_upstream *up)
{
	struct hf_span key;
	size_t pos = 0;
	void *v;

	while (up->sessions && hf_map_next(up->sessions, &pos, &key, &v)) {
		struct hf_hub_session *s = v;

		hf_mqtt_stream_reset(&s->stream);
		free(s->client_type);
		free(s->model_id);
		free(s);
	}
	hf_map_destroy(&up->sessions);
}
