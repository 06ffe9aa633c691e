/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Connections of the MQTT head: accept, framing, sweep of silent and expired ones, teardown. */
#include "core/clock.h"
#include "core/log.h"
#include "core/util.h"
#include "hub/mqtt/dev_int.h"
#include "net/listener.h"
#include <errno.h>
#include <holdfast/err.h>

void hub_dev_end(struct hub_session *s, const char *why)
{
	static struct hf_log_limit limit;

	if (s->closing)
		return;
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.device.drop", "%s: \"%s\": %s", hf_conn_peer(s->conn), s->id, why);
	s->closing = true;
	hf_conn_close(s->conn);
}

void hub_dev_drop(struct hub_session *s, enum hub_metric metric, const char *why)
{
	if (!s->closing)
		hf_metric_add(metric, 1);
	hub_dev_end(s, why);
}

static enum hf_mqtt_next on_packet(void *arg, const struct hf_mqtt_packet *pkt)
{
	struct hub_session *s = arg;
	int r = hub_dev_packet(s, pkt);

	s->passed = false;
	if (r == HUB_DEV_CLOSED || s->closing)
		return HF_MQTT_END;
	if (r != HUB_DEV_PUT_OFF)
		return HF_MQTT_NEXT;
	s->waits = true;
	hf_conn_pause(s->conn);
	return HF_MQTT_HOLD_AGAIN;
}

static void check_stream(struct hub_session *s, int err, const char *reason)
{
	if (err)
		hub_dev_drop(s, err == HF_EPROTO ? HUB_M_MALFORMED : HUB_M_OVERSIZE, reason);
}

static void on_data(void *arg, struct hf_conn *c, struct hf_span in)
{
	struct hub_session *s = arg;
	const char *reason = NULL;

	(void)c;
	if (s->closing || s->mute)
		return;
	s->last_in_ms = hf_loop_now_ms(s->dev->loop);
	check_stream(s, hf_mqtt_stream_feed(&s->stream, in, on_packet, s, &reason), reason);
}

void hub_dev_go_on(struct hub_session *s)
{
	const char *reason = NULL;

	s->waits = false;
	s->passed = true;
	s->last_in_ms = hf_loop_now_ms(s->dev->loop);
	hf_conn_resume(s->conn);
	check_stream(s, hf_mqtt_stream_resume(&s->stream, on_packet, s, &reason), reason);
}

static void session_free(struct hub_session *s)
{
	if (s->answers_open)
		hub_wait_cancel(&s->answers_wait);
	hub_hold_fini(&s->hold);
	hf_buf_fini(&s->answers);
	free(s->will_topic);
	free(s->client.auth_chain);
	free(s->generation);
	hf_buf_fini(&s->will_body);
	hf_mqtt_stream_reset(&s->stream);
	json_decref(s->filters);
	hf_list_del(&s->node);
	free(s);
}

static void on_closed(void *arg, struct hf_conn *c, int err, const char *detail)
{
	struct hub_session *s = arg;
	struct hub_dev *d = s->dev;

	(void)c;
	if (err && !s->connected)
		hf_metric_add(HUB_M_TLS_FAILED, err == HF_ETLS || err == HF_ETIMEOUT);
	if (err)
		hf_log(HF_LOG_DEBUG, "hub.device.closed", "\"%s\": %s (%s)", s->id, hf_strerror(err), detail ? detail : "");
	if (s->connected) {
		if (!s->graceful)
			hub_dev_will(s);
		if (s->sink_on)
			hub_method_sink_remove(d->model, &s->sink);
		hub_c2d_release_all(d->model, s->id, s);
		if (hf_map_get(d->by_id, hf_span_str(s->id)) == s)
			hf_map_remove(d->by_id, hf_span_str(s->id));
		hub_client_remove(d->model, &s->client);
	}
	d->n_connections--;
	hub_conn_limit_remove(d->limit);
	session_free(s);
}

static const struct hf_conn_ops conn_ops = { .data = on_data, .closed = on_closed };

static struct hub_session *session_new(struct hub_dev *d)
{
	struct hub_session *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->dev = d;
	hf_mqtt_stream_init(&s->stream, true, HUB_DEV_MAX_PACKET, HUB_DEV_MAX_PACKET + 65536);
	s->will_body = HF_BUF_INIT(HF_MSG_MAX_SIZE);
	s->answers = HF_BUF_INIT(HUB_DEV_OUT_CAP);
	hub_hold_init(&s->hold, d->loop, hub_model_faults(d->model));
	s->connected_ms = s->last_in_ms = hf_loop_now_ms(d->loop);
	s->filters = json_object();
	if (!s->filters) {
		free(s);
		return NULL;
	}
	return s;
}

static void session_add(struct hub_session *s)
{
	struct hub_dev *d = s->dev;

	hf_list_add_tail(&d->all, &s->node);
	d->n_connections++;
	hub_conn_limit_add(d->limit);
}

static void on_accept(void *arg, int fd, const struct sockaddr_storage *peer)
{
	struct hub_dev *d = arg;
	struct hf_conn_cfg cfg = { .tls = d->tls, .out_cap = HUB_DEV_OUT_CAP };
	struct hub_session *s = hub_conn_limit_reached(d->limit) ? NULL : session_new(d);

	(void)peer;
	if (!s) {
		close(fd);
	} else if (hf_conn_create(d->loop, fd, &cfg, &conn_ops, s, &s->conn) != 0) {
		json_decref(s->filters);
		free(s);
	} else {
		session_add(s);
	}
}

void hub_dev_adopt(struct hub_dev *d, struct hf_conn *conn)
{
	struct hub_session *s = !d->listener || hub_conn_limit_reached(d->limit) ? NULL : session_new(d);

	if (!s) {
		hf_conn_close(conn);
		return;
	}
	s->conn = conn;
	s->is_ws = true;
	hf_conn_set_ops(conn, &conn_ops, s);
	session_add(s);
}

uint64_t hub_dev_keepalive_ms(uint16_t keep_alive_s)
{
	uint64_t ms = keep_alive_s * 1500ull;

	return ms && ms < HUB_DEV_KEEPALIVE_CAP_MS ? ms : HUB_DEV_KEEPALIVE_CAP_MS;
}

static void on_sweep(void *arg)
{
	struct hub_dev *d = arg;
	uint64_t now = hf_loop_now_ms(d->loop);
	int64_t wall = hf_clock_wall_s();
	struct hf_list *pos, *tmp;

	hf_list_for_each_safe(pos, tmp, &d->all) {
		struct hub_session *s = hf_container_of(pos, struct hub_session, node);

		bool is_heard = !s->waits && !s->mute;	/* else the hub keeps it waiting */

		if (is_heard && !s->connected && now - s->connected_ms > HUB_DEV_CONNECT_LIMIT_MS)
			hub_dev_drop(s, HUB_M_KEEPALIVE, "no CONNECT in time");
		else if (is_heard && s->connected && now - s->last_in_ms > s->keepalive_ms)
			hub_dev_drop(s, HUB_M_KEEPALIVE, "silent for 1.5 x keep-alive");
		else if (s->connected && s->expiry_s && wall > s->expiry_s + 5)
			hub_dev_drop(s, HUB_M_EXPIRED, "token expired");
	}
}

int hub_dev_create(struct hf_loop *loop, struct hub_model *model, const struct hub_dev_cfg *cfg,
		   struct hub_dev **ret_dev)
{
	struct hub_dev *d = calloc(1, sizeof *d);
	int r = -ENOMEM;

	if (!d) {
		close(cfg->listen_fd);
		return r;
	}
	hf_list_init(&d->all);
	d->loop = loop;
	d->model = model;
	d->tls = hf_tls_ctx_ref(cfg->tls);
	d->limit = cfg->limit;
	d->host = strdup(cfg->host);
	if (!d->host || (r = hf_map_create(&d->by_id)) != 0) {
		close(cfg->listen_fd);
		goto fail;
	}
	r = hf_listener_create(loop, cfg->listen_fd, on_accept, d, &d->listener);
	if (r == 0)
		r = hf_timer_create(loop, on_sweep, d, &d->sweep);
	if (r != 0)
		goto fail;
	hf_timer_start(d->sweep, 1000, 1000);
	hub_on_desired(model, hub_dev_on_desired, d);
	hub_on_c2d(model, hub_dev_on_c2d, d);
	*ret_dev = d;
	return 0;
fail:
	hub_dev_destroy(&d);
	return r;
}

void hub_dev_stop(struct hub_dev *d)
{
	struct hf_list *pos, *tmp;

	hf_listener_destroy(&d->listener);
	hf_list_for_each_safe(pos, tmp, &d->all) {
		struct hub_session *s = hf_container_of(pos, struct hub_session, node);

		if (!s->closing)
			hf_conn_close(s->conn);
		s->closing = true;
	}
}

unsigned hub_dev_count(const struct hub_dev *d)
{
	return d->n_connections;
}

void hub_dev_destroy(struct hub_dev **dev)
{
	struct hub_dev *d = *dev;

	if (!d)
		return;
	assert(d->n_connections == 0);
	hf_listener_destroy(&d->listener);
	hf_timer_destroy(&d->sweep);
	hf_map_destroy(&d->by_id);
	hf_tls_ctx_unref(&d->tls);
	free(d->host);
	free(d);
	*dev = NULL;
}
