/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/rest/rest.h - the HTTPS side of the emulator on 443 (iothub-protocol 5, 8). Loop thread. */
#pragma once
#include "hub/model/model.h"

struct hub_rest;
struct hf_tls_ctx;
/* Takes listen_fd. tls is borrowed. The model must outlive the result. */
int hub_rest_create(struct hf_loop *loop, struct hub_model *model, int listen_fd, struct hf_tls_ctx *tls,
		    struct hub_rest **ret_rest);
/* Serves the portal too, which must outlive the result. */
struct hub_portal;
void hub_rest_set_portal(struct hub_rest *rest, struct hub_portal *portal);
/* WebSocket upgrades at /$iothub/websocket and /$servicebus/websocket: fn takes the connection, framing on it. */
enum hub_ws_protocol { HUB_WS_MQTT, HUB_WS_AMQP };
struct hf_conn;
void hub_rest_on_websocket(struct hub_rest *rest, void (*fn)(void *arg, enum hub_ws_protocol protocol, struct hf_conn *conn),
			   void *arg);
/* Requests still waiting are answered 503. */
void hub_rest_destroy(struct hub_rest **rest);
