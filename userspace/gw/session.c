/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/session.c - life cycle of a child's connection, packet loop, time-outs. */
#include "gw/session.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include <arpa/inet.h>
#include <errno.h>
#include <holdfast/err.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	PACKET_MAX_CONNECT = 64 * 1024,		/* before a child is known */
	PACKET_MAX = HF_MSG_MAX_SIZE + 4096,	/* topic prefix and packet head on top of the message */
	IN_CAP = 2 * PACKET_MAX,
};

static const struct end_info {
	int metric;
	enum hf_log_level level;
	const char *event, *text;
} end_infos[HF_END__COUNT] = {
#define END_ROW(name, metric, level, event, text) [HF_END_##name] = { metric, HF_LOG_##level, event, text },
	HF_END_LIST(END_ROW)
#undef END_ROW
};

static void note_end(struct hf_session *s, enum hf_end why, const char *detail)
{
	static struct hf_log_limit limits[HF_END__COUNT];
	const struct end_info *info = &end_infos[why];

	if (info->metric >= 0)
		hf_metric_add((unsigned)info->metric, 1);
	hf_log_limited(&limits[why], info->level, info->event, "peer %s child %s: %s%s%s",
		       s->conn ? hf_conn_peer(s->conn) : "-", s->ident ? s->ident : "-", info->text,
		       detail ? ": " : "", detail ? detail : "");
}

static bool waiting_for_us(const struct hf_session *s)
{
	return s->wait_claim || s->wait_state || s->wait_fifo || s->wait_credit || s->wait_twins;
}

static bool waiting(const struct hf_session *s)
{
	return waiting_for_us(s) || s->wait_reader;
}

static bool ended(const struct hf_session *s)
{
	return s->state >= HF_S_CLOSING;
}

void hf_session_end(struct hf_session *s, enum hf_end why, const char *detail)
{
	if (ended(s))
		return;
	note_end(s, why, detail);
	s->state = HF_S_CLOSING;
	hf_session_fail_downs(s);
	hf_session_detach_twins(s);
	if (why == HF_END_BYE || why == HF_END_SHUTDOWN || !s->claimed)
		hf_msg_unref(&s->will);
	if (s->will)
		hf_session_publish_will(s);
	hf_conn_close(s->conn);
	hf_session_settle(s);	/* the identity is free as soon as nothing is outstanding */
}

/* --- packets -------------------------------------------------------------------------------------------- */
/* False: blocked, offer the packet again. */
static bool handle(struct hf_session *s, const struct hf_mqtt_packet *p)
{
	if (s->state == HF_S_CONNECT) {
		if (p->type == HF_MQTT_CONNECT)
			hf_session_connect(s, &p->connect);
		else
			hf_session_end(s, HF_END_UNEXPECTED, "first packet is not CONNECT");
		return true;
	}
	switch (p->type) {
	case HF_MQTT_PUBLISH:
		return hf_session_publish(s, &p->publish);
	case HF_MQTT_PUBACK:
		hf_session_puback(s, p->ack.packet_id);
		return true;
	case HF_MQTT_SUBSCRIBE:
		hf_session_subscribe(s, p->subscribe.packet_id, p->subscribe.filters);
		return true;
	case HF_MQTT_UNSUBSCRIBE:
		hf_session_unsubscribe(s, p->subscribe.packet_id, p->subscribe.filters);
		return true;
	case HF_MQTT_PINGREQ:
		hf_mqtt_put_empty(hf_conn_out(s->conn), HF_MQTT_PINGRESP);
		hf_conn_flush_later(s->conn);
		return true;
	case HF_MQTT_DISCONNECT:
		hf_session_end(s, HF_END_BYE, NULL);
		return true;
	case HF_MQTT_CONNECT:
		hf_session_end(s, HF_END_UNEXPECTED, "second CONNECT");
		return true;
	case HF_MQTT_CONNACK:
	case HF_MQTT_PUBREC:
	case HF_MQTT_PUBREL:
	case HF_MQTT_PUBCOMP:
	case HF_MQTT_SUBACK:
	case HF_MQTT_UNSUBACK:
	case HF_MQTT_PINGRESP:
		break;
	}
	hf_session_end(s, HF_END_UNEXPECTED, "packet type that a client may not send here");
	return true;
}

static enum hf_mqtt_next on_packet(void *arg, const struct hf_mqtt_packet *p)
{
	struct hf_session *s = arg;

	if (!handle(s, p))
		return HF_MQTT_HOLD_AGAIN;
	s->stream.max_packet = PACKET_MAX;	/* it passed CONNECT, or ended */
	if (!ended(s) && !s->wait_reader && hf_conn_out_len(s->conn) > HF_DOWN_LOW_WATER) {
		s->wait_reader = true;		/* it asks and does not read the answers */
		hf_metric_add(HF_M_READER_WAITS, 1);
	}
	return ended(s) ? HF_MQTT_END : waiting(s) ? HF_MQTT_HOLD : HF_MQTT_NEXT;
}

static void check_stream(struct hf_session *s, int err, const char *reason)
{
	if (err)
		hf_session_end(s, err == HF_ELIMIT ? HF_END_OVERSIZE : err == -ENOMEM ? HF_END_NO_MEMORY : HF_END_MALFORMED,
			       reason);
}

static void on_data(void *arg, struct hf_conn *c, struct hf_span in)
{
	struct hf_session *s = arg;
	const char *reason = NULL;

	(void)c;
	if (ended(s))
		return;
	s->last_rx_ms = hf_loop_now_ms(s->w->loop);
	check_stream(s, hf_mqtt_stream_feed(&s->stream, in, on_packet, s, &reason), reason);
	if (waiting(s) && s->conn)
		hf_conn_pause(s->conn);
}

static void on_wake(void *arg)
{
	struct hf_session *s = arg;
	const char *reason = NULL;

	if (ended(s) || waiting(s))
		return;
	s->last_rx_ms = hf_loop_now_ms(s->w->loop);
	check_stream(s, hf_mqtt_stream_resume(&s->stream, on_packet, s, &reason), reason);
	if (!ended(s) && !waiting(s) && !s->stopping && !s->release)
		hf_conn_resume(s->conn);
}

void hf_session_wake(struct hf_session *s)
{
	if (!waiting(s) && s->state == HF_S_UP && !s->stopping && !s->release)
		hf_task_next_turn(s->w->loop, &s->task);
}

/* --- life ------------------------------------------------------------------------------------------------ */
static void on_ready(void *arg, struct hf_conn *c)
{
	struct hf_session *s = arg;

	(void)c;
	s->state = HF_S_CONNECT;
	s->since_ms = hf_loop_now_ms(s->w->loop);
}

static void on_drained(void *arg, struct hf_conn *c)
{
	struct hf_session *s = arg;

	(void)c;
	s->wait_reader = false;
	hf_session_pump_downs(s);
	hf_session_wake(s);
}

static enum hf_end closed_reason(const struct hf_session *s, int err)
{
	if (s->state != HF_S_HANDSHAKE)
		return HF_END_PEER;
	return err == HF_ETIMEOUT ? HF_END_SLOW_HANDSHAKE : err == HF_ETLS ? HF_END_TLS : HF_END_PEER;
}

static void uncount(struct hf_session *s)
{
	if (s->counted)
		hf_metric_add(HF_M_CHILDREN, -1);
	s->counted = false;
}

static void on_closed(void *arg, struct hf_conn *c, int err, const char *detail)
{
	struct hf_session *s = arg;

	(void)c;
	if (!ended(s))
		note_end(s, closed_reason(s, err), detail && *detail ? detail : err ? hf_strerror(err) : NULL);
	s->state = HF_S_DEAD;
	s->conn = NULL;
	uncount(s);
	hf_admit_leave(s->w->gw->admit, &s->seat);
	hf_metric_add(HF_M_CONN_OPEN, -1);
	hf_task_cancel(&s->task);
	hf_list_del(&s->blocked);
	hf_mqtt_stream_reset(&s->stream);
	hf_session_fail_downs(s);
	hf_session_detach_twins(s);
	hf_session_detach_refresh(s);
	if (s->ticket && !s->claimed) {		/* on its way; whoever gets it sees that we are gone */
		s->ticket->claimant = NULL;
		s->ticket = NULL;
	}
	if (s->claimed && !s->release && s->will)
		hf_session_publish_will(s);
	hf_session_settle(s);
}

static const struct hf_conn_ops conn_ops = {
	.ready = on_ready, .data = on_data, .drained = on_drained, .closed = on_closed,
};

static void note_refused(const struct sockaddr_storage *peer, enum hf_admit_verdict v)
{
	static const struct { unsigned metric; const char *text; } why[] = {
		[HF_ADMIT_FULL] = { HF_M_CONN_OVER_LIMIT, "limits.connections is reached, and all of them are logged in" },
		[HF_ADMIT_ADDRESS_FULL] = { HF_M_CONN_OVER_ADDRESS, "limits.per_address is reached" },
		[HF_ADMIT_NO_MEMORY] = { HF_M_NO_MEMORY, "out of memory" },
	};
	static struct hf_log_limit limits[HF_ARRAY_LEN(why)];
	char text[INET6_ADDRSTRLEN] = "?";

	if (peer->ss_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)peer)->sin_addr, text, sizeof text);
	else if (peer->ss_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)peer)->sin6_addr, text, sizeof text);
	hf_metric_add(why[v].metric, 1);
	hf_log_limited(&limits[v], HF_LOG_WARN, "child.too-many", "peer %s child -: too many connections: %s", text, why[v].text);
}

static struct hf_session *session_new(struct hf_worker *w)
{
	struct hf_session *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->w = w;
	s->sid = (uint64_t)w->index << 48 | w->next_sid++;
	hf_mqtt_stream_init(&s->stream, true, PACKET_MAX_CONNECT, IN_CAP);
	s->since_ms = s->last_rx_ms = hf_loop_now_ms(w->loop);
	hf_list_init(&s->node);
	hf_list_init(&s->blocked);
	hf_list_init(&s->down_wait);
	hf_list_init(&s->down_out);
	hf_list_init(&s->twins);
	hf_task_init(&s->task, on_wake, s);
	return s;
}

void hf_session_accept(void *arg, int fd, const struct sockaddr_storage *peer)
{
	struct hf_worker *w = arg;
	struct hf_gw *gw = w->gw;
	struct hf_conn_cfg cfg = { .tls = w->tls, .handshake_timeout_ms = gw->handshake_timeout_ms };
	struct hf_session *s = session_new(w);
	enum hf_admit_verdict v = s ? hf_admit_enter(gw->admit, &s->seat, &w->door, peer) : HF_ADMIT_NO_MEMORY;

	hf_metric_add(HF_M_CONN_ACCEPTED, 1);
	if (v != HF_ADMIT_OK) {
		note_refused(peer, v);
		close(fd);
		free(s);
		return;
	}
	hf_list_add_tail(&w->sessions, &s->node);
	hf_metric_add(HF_M_CONN_OPEN, 1);
	if (hf_conn_create(w->loop, fd, &cfg, &conn_ops, s, &s->conn)) {
		hf_metric_add(HF_M_CONN_OPEN, -1);
		hf_metric_add(HF_M_NO_MEMORY, 1);
		hf_list_del(&s->node);
		hf_admit_leave(gw->admit, &s->seat);
		free(s);
	}
}

static void leave(struct hf_session *s)
{
	s->claimed = false;
	hf_map_remove(s->w->by_ident, hf_span_str(s->ident));
}

static void depart(struct hf_session *s)
{
	leave(s);
	hf_session_left(s);
	s->ticket->damp = s->damp;
	hf_dir_gone(hf_take(s->ticket));
}

static void session_free(struct hf_session *s)
{
	struct hf_worker *w = s->w;

	hf_session_free_fifo(s);
	hf_msg_unref(&s->will);
	if (s->token) {
		explicit_bzero(s->token, s->token_len);
		free(s->token);
	}
	free(s->subs);
	free(s->asked);
	free(s->client_type);
	free(s->model_id);
	free(s->ident);
	hf_list_del(&s->node);
	free(s);
	hf_worker_check_quiet(w);
}

void hf_session_finish_release(struct hf_session *s)
{
	struct hf_dir_mail *rel;

	if (s->claimed && s->will) {	/* the old connection ends abnormally: iothub-protocol 1.9 */
		hf_session_publish_will(s);
		if (s->n_appends)
			return;
	}
	rel = hf_take(s->release);
	if (s->claimed) {
		leave(s);
		uncount(s);
		hf_dir_mail_free(hf_take(s->ticket));
	}
	hf_dir_released(rel);
	hf_session_end(s, HF_END_REPLACED, NULL);
}

void hf_session_settle(struct hf_session *s)
{
	if (s->n_appends || s->n_state)
		return;
	if (s->release) {
		hf_session_finish_release(s);
		if (s->n_appends)
			return;
	}
	if (s->stopping)
		hf_session_end(s, HF_END_SHUTDOWN, NULL);
	if (ended(s) && s->claimed && !s->presence_busy)
		depart(s);
	if (!s->conn && !s->claimed && !s->presence_busy)
		session_free(s);
}

void hf_session_stop(struct hf_session *s)
{
	s->stopping = true;
	if (s->state == HF_S_UP)
		hf_conn_pause(s->conn);
	else
		hf_session_end(s, HF_END_SHUTDOWN, NULL);
	hf_session_settle(s);
}

void hf_session_sweep(struct hf_session *s, uint64_t now_ms)
{
	uint64_t idle_ms = s->keep_alive_s ? (uint64_t)s->keep_alive_s * 1500 : 600000;

	switch (s->state) {
	case HF_S_CONNECT:
		if (now_ms - s->since_ms > s->w->gw->connect_timeout_ms)
			hf_session_end(s, HF_END_SLOW_CONNECT, NULL);
		return;
	case HF_S_REFRESHING:
		if (now_ms >= s->deadline_ms)
			hf_session_judge_again(s, HF_REFRESH_LATER);
		return;
	case HF_S_CLAIMING:
		if (now_ms >= s->deadline_ms)
			hf_session_connack(s, HF_CONNACK_UNAVAILABLE, HF_END_TAKEOVER_TIMEOUT, NULL);
		return;
	case HF_S_UP:
		if (s->stopping && now_ms >= s->w->stop_at_ms)
			hf_session_end(s, HF_END_SHUTDOWN, "appends unanswered");
		else if (s->held_until_ms && now_ms >= s->held_until_ms)
			hf_session_end(s, HF_END_FULL, NULL);
		else if (!waiting_for_us(s) && now_ms - s->last_rx_ms > hf_min(idle_ms, (uint64_t)600000))
			hf_session_end(s, HF_END_KEEPALIVE, NULL);
		else if (now_ms >= s->next_check_ms)
			hf_session_recheck(s, now_ms, false);
		return;
	case HF_S_HANDSHAKE:
	case HF_S_CLOSING:
	case HF_S_DEAD:
		return;
	}
}
