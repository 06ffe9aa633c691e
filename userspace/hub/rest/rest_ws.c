/* SPDX-License-Identifier: GPL-3.0-or-later */
/* WebSocket upgrades: the same path serves MQTT and AMQP, the offered sub-protocol decides (iothub-protocol 0.1). */
#include "core/log.h"
#include "core/metric.h"
#include "core/util.h"
#include "hub/metrics.h"
#include "hub/rest/rest_int.h"
#include "ws/ws.h"

#include <errno.h>
#include <holdfast/err.h>

static const char *const any_protocol[] = { [HUB_WS_MQTT] = "mqtt", [HUB_WS_AMQP] = "AMQPWSB10", NULL };
static const char *const amqp_protocol[] = { "AMQPWSB10", NULL };

struct upgrade {
	struct hub_rest *rest;
	enum hub_ws_protocol protocol;
};

static void on_upgraded(void *arg, struct hf_conn *conn, struct hf_span early)
{
	struct upgrade u = *(struct upgrade *)arg;

	free(arg);
	/* The owner first: bytes that came early are delivered while the framing is put on. */
	u.rest->on_websocket(u.rest->on_websocket_arg, u.protocol, conn);
	if (hf_ws_attach(conn, early) != 0)
		hf_conn_abort(conn, -ENOMEM, "no memory for a WebSocket");
}

void rest_refuse_upgrade(struct rest_req *q, int http, int code, const char *name, const char *why)
{
	static struct hf_log_limit limit;

	hf_metric_add(HUB_M_WEBSOCKETS_REFUSED, 1);
	hf_log_limited(&limit, HF_LOG_NOTICE, "hub.rest.websocket", "upgrade refused: %d %s: %s", http, name, why);
	rest_refuse(q, http, code, name, "%s", why);
}

void rest_websocket(struct rest_req *q, const char *path)
{
	hf_autobuf struct hf_buf headers = HF_BUF_INIT(1024);
	bool any = hf_span_ieq(hf_span_str(path), hf_span_str("$iothub/websocket"));
	const char *reason = "no memory";
	struct upgrade *u;
	unsigned choice;

	if (!q->rest->on_websocket ||
	    (!any && !hf_span_ieq(hf_span_str(path), hf_span_str("$servicebus/websocket")))) {
		rest_refuse_upgrade(q, 404, 404000, "GenericNotFound", "no WebSocket here");
		return;
	}
	if (hf_ws_accept(q->http, any ? any_protocol : amqp_protocol, &choice, &headers, &reason) != 0) {
		rest_refuse_upgrade(q, 400, 400004, "ArgumentInvalid", reason);
		return;
	}
	u = malloc(sizeof *u);
	if (!u) {
		rest_refuse_upgrade(q, 500, 500001, "ServerError", "no memory");
		return;
	}
	*u = (struct upgrade){ .rest = q->rest, .protocol = any ? (enum hub_ws_protocol)choice : HUB_WS_AMQP };
	hf_metric_add(HUB_M_WEBSOCKETS, 1);
	hf_http_upgrade(hf_take(q->x), hf_buf_cstr(&headers), on_upgraded, u);
}
