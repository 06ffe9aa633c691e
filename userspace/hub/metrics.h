/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hub/metrics.h - every counter of holdfast-hub, one row each (core/metric.h). */
#pragma once
#include "core/metric.h"

#define HUB_METRICS(X)                                                                                       \
	X(HUB_M_CONNECTIONS, "connections", HF_METRIC_GAUGE, "device connections now")                      \
	X(HUB_M_ACCEPTED, "accepted_total", HF_METRIC_COUNTER, "connections accepted")                      \
	X(HUB_M_REFUSED_MAX, "refused_max_connections_total", HF_METRIC_COUNTER, "closed: too many connections") \
	X(HUB_M_TLS_FAILED, "tls_failed_total", HF_METRIC_COUNTER, "handshakes that failed or timed out")    \
	X(HUB_M_MALFORMED, "mqtt_malformed_total", HF_METRIC_COUNTER, "malformed packets")                   \
	X(HUB_M_BAD_TOPIC, "mqtt_bad_topic_total", HF_METRIC_COUNTER, "publishes to a foreign or unknown topic") \
	X(HUB_M_BAD_BAG, "mqtt_bad_bag_total", HF_METRIC_COUNTER, "property bags that cannot be decoded")    \
	X(HUB_M_OVERSIZE, "mqtt_oversize_total", HF_METRIC_COUNTER, "messages over 256 KiB")                 \
	X(HUB_M_QOS2, "mqtt_qos2_total", HF_METRIC_COUNTER, "QoS 2 publishes")                               \
	X(HUB_M_AUTH_REFUSED, "auth_refused_total", HF_METRIC_COUNTER, "CONNECTs refused")                   \
	X(HUB_M_TAKEOVER, "takeover_total", HF_METRIC_COUNTER, "connections replaced by a newer one")        \
	X(HUB_M_EXPIRED, "token_expired_total", HF_METRIC_COUNTER, "connections closed at token expiry")     \
	X(HUB_M_KEEPALIVE, "keepalive_timeout_total", HF_METRIC_COUNTER, "connections silent for too long")  \
	X(HUB_M_AMQP_MALFORMED, "amqp_malformed_total", HF_METRIC_COUNTER, "AMQP frames and messages that cannot be read")    \
	X(HUB_M_AMQP_LIMIT, "amqp_limit_total", HF_METRIC_COUNTER, "AMQP peers with too many links or messages, or too large ones") \
	X(HUB_M_AMQP_REFUSED, "amqp_links_refused_total", HF_METRIC_COUNTER, "AMQP links refused at attach")    \
	X(HUB_M_AMQP_DETACHED, "amqp_links_detached_total", HF_METRIC_COUNTER, "AMQP links and connections cut by the hub") \
	X(HUB_M_AMQP_REJECTED, "amqp_rejected_total", HF_METRIC_COUNTER, "messages and twin requests over AMQP that were refused") \
	X(HUB_M_AMQP_UNSENT, "amqp_unsent_total", HF_METRIC_COUNTER, "messages the AMQP peer had no link or credit for") \
	X(HUB_M_EVENTS_DROPPED, "events_dropped_total", HF_METRIC_COUNTER, "events that retention dropped, by size or age") \
	X(HUB_M_UNANSWERED, "mqtt_unanswered_total", HF_METRIC_COUNTER, "connections closed because an answer was not possible") \
	X(HUB_M_EVENTS_MISSED, "events_missed_total", HF_METRIC_COUNTER, "events that retention dropped before a reader got them") \
	X(HUB_M_EVENTS, "events_total", HF_METRIC_COUNTER, "telemetry messages taken")               \
	X(HUB_M_WEBSOCKETS, "websockets_total", HF_METRIC_COUNTER, "WebSocket connections")                   \
	X(HUB_M_WEBSOCKETS_REFUSED, "websockets_refused_total", HF_METRIC_COUNTER, "refused WebSocket upgrades") \
	X(HUB_M_C2D_COMPLETED, "c2d_completed_total", HF_METRIC_COUNTER, "messages devices completed")       \
	X(HUB_M_C2D_DEAD, "c2d_dead_total", HF_METRIC_COUNTER, "messages expired, rejected, purged or abandoned too often") \
	X(HUB_M_FEEDBACK_DROPPED, "feedback_dropped_total", HF_METRIC_COUNTER, "feedback records no receiver completed") \
	X(HUB_M_HTTP_REFUSED, "http_refused_total", HF_METRIC_COUNTER, "HTTPS requests that cannot be read, connections over the limit") \
	X(HUB_M_REST_REQUESTS, "rest_requests_total", HF_METRIC_COUNTER, "HTTPS requests")                   \
	X(HUB_M_SCOPE_REFUSED, "scope_refused_total", HF_METRIC_COUNTER, "parents refused: no edge device, a circle, too deep") \
	X(HUB_M_REST_REFUSED, "rest_refused_total", HF_METRIC_COUNTER, "HTTPS requests without a fitting token") \
	X(HUB_M_REST_DEVICE_REFUSED, "rest_device_refused_total", HF_METRIC_COUNTER, "device requests over HTTPS refused: batches, locks, uploads") \
	X(HUB_M_SERVICE_REFUSED, "service_refused_total", HF_METRIC_COUNTER, "requests about jobs, configurations, manifests, digital twins refused") \
	X(HUB_M_JOBS_FAILED, "jobs_failed_total", HF_METRIC_COUNTER, "jobs that the hub could not go on with") \
	X(HUB_M_CONFIGS_FAILED, "configurations_failed_total", HF_METRIC_COUNTER, "times a configuration could not be applied to one device") \
	X(HUB_M_BLOB_BYTES, "blob_bytes", HF_METRIC_GAUGE, "disk space of uploaded files")                     \
	X(HUB_M_BLOB_REFUSED, "blob_refused_total", HF_METRIC_COUNTER, "requests for blobs refused: signatures, sizes, budget") \
	X(HUB_M_BLOCKS_EXPIRED, "blocks_expired_total", HF_METRIC_COUNTER, "uploaded blocks that no blob was made of") \
	X(HUB_M_UPLOADS_EXPIRED, "uploads_expired_total", HF_METRIC_COUNTER, "announced uploads never completed") \
	X(HUB_M_FAULTS, "faults_total", HF_METRIC_COUNTER, "operations that failed on purpose: fault rules") \
	X(HUB_M_PORTAL_LOGINS, "portal_logins_total", HF_METRIC_COUNTER, "sign-ins to the portal")             \
	X(HUB_M_PORTAL_REFUSED, "portal_logins_refused_total", HF_METRIC_COUNTER, "sign-ins with a wrong key or connection string") \
	X(HUB_M_PORTAL_LIMITED, "portal_logins_limited_total", HF_METRIC_COUNTER, "sign-ins not looked at: too many failed before") \
	X(HUB_M_PORTAL_FORGED, "portal_forged_total", HF_METRIC_COUNTER, "changes of foreign origin or without the session's token") \
	X(HUB_M_PORTAL_DROPPED, "portal_streams_dropped_total", HF_METRIC_COUNTER, "readers of live telemetry: too many or too slow") \
	X(HUB_M_THROTTLED, "throttled_total", HF_METRIC_COUNTER, "operations over the limits of limits.throttle")

enum hub_metric {
#define X(id, name, kind, help) id,
	HUB_METRICS(X)
#undef X
	HUB_M__COUNT
};
