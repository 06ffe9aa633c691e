/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gw/metrics.h - the one table of all counters and gauges of holdfastd, for hf_metrics_init().
 *
 * X(id, name, kind, help). Rows may be added anywhere but inside the AUTH block, whose order is that of
 * enum hf_auth_verdict. */
#pragma once
#include "core/metric.h"

#define HF_METRIC_LIST(X)                                                                          \
	X(CONN_ACCEPTED, "connections_accepted_total", COUNTER, "TCP connections accepted")        \
	X(CONN_OVER_LIMIT, "connections_over_limit_total", COUNTER,                                \
	  "connections closed before TLS: limits.connections reached, all are logged in")          \
	X(CONN_OVER_ADDRESS, "connections_over_address_limit_total", COUNTER,                      \
	  "connections closed before TLS: limits.per_address reached")                             \
	X(CONN_GAVE_WAY, "connections_gave_way_total", COUNTER,                                    \
	  "connections closed before their login for a newer one: limits.connections reached")     \
	X(CONN_OPEN, "connections_open", GAUGE, "connections that hold a slot")                    \
	X(CONN_STRANGERS, "connections_unauthenticated", GAUGE, "those of them that have not logged in") \
	X(CHILDREN, "children_connected", GAUGE, "children with an accepted CONNECT")              \
	X(TLS_REFUSED, "tls_refused_total", COUNTER, "handshakes that failed")                     \
	X(SLOW_HANDSHAKE, "handshake_timeout_total", COUNTER, "handshakes that took too long")     \
	X(SLOW_CONNECT, "connect_timeout_total", COUNTER, "no CONNECT in time after TLS")          \
	X(KEEPALIVE, "keepalive_timeout_total", COUNTER, "silent for 1.5 keep-alive times")        \
	X(MQTT_MALFORMED, "mqtt_malformed_total", COUNTER, "malformed packets")                    \
	X(MQTT_UNEXPECTED, "mqtt_unexpected_total", COUNTER, "packets out of place")               \
	X(MQTT_FOREIGN_TOPIC, "mqtt_foreign_topic_total", COUNTER,                                 \
	  "publishes in the name of another identity")                                             \
	X(MQTT_BAD_TOPIC, "mqtt_bad_topic_total", COUNTER, "publishes to topics nobody serves")    \
	X(MQTT_OVERSIZE, "mqtt_oversize_total", COUNTER, "packets or messages above the limit")    \
	X(MQTT_BAD_BAG, "mqtt_bad_bag_total", COUNTER, "property bags that cannot be decoded")     \
	X(MQTT_QOS2, "mqtt_qos2_total", COUNTER, "publishes with QoS 2")                           \
	X(MQTT_BAD_WILL, "mqtt_bad_will_total", COUNTER, "wills refused")                          \
	X(MQTT_FILTER_REFUSED, "mqtt_filter_refused_total", COUNTER, "filters answered 0x80")      \
	X(CONNECT_VERSION, "connect_bad_version_total", COUNTER, "CONNECT with another level")     \
	X(CONNECT_USER, "connect_bad_user_total", COUNTER, "CONNECT user name not parseable")      \
	X(CONNECT_CLIENT_ID, "connect_bad_client_id_total", COUNTER,                               \
	  "client id other than the user name's identity")                                         \
	X(AUTH_ALLOW, "auth_allowed_total", COUNTER, "credentials accepted")                       \
	X(AUTH_UNKNOWN, "auth_unknown_total", COUNTER, "identity not in scope")                    \
	X(AUTH_DISABLED, "auth_disabled_total", COUNTER, "identity disabled")                      \
	X(AUTH_BAD_TOKEN, "auth_bad_token_total", COUNTER, "token not parseable")                  \
	X(AUTH_SIGNATURE, "auth_signature_total", COUNTER, "token signature wrong")                \
	X(AUTH_AUDIENCE, "auth_audience_total", COUNTER, "token for somebody else")                \
	X(AUTH_EXPIRED, "auth_expired_total", COUNTER, "token expired")                            \
	X(AUTH_CERT, "auth_cert_total", COUNTER, "client certificate refused")                     \
	X(AUTH_NO_CREDENTIALS, "auth_no_credentials_total", COUNTER, "neither token nor certificate") \
	X(AUTH_TYPE, "auth_type_total", COUNTER, "credential kind not allowed for the identity")   \
	X(CUT_OFF, "sessions_cut_off_total", COUNTER, "sessions ended: right to connect lost")     \
	X(CREDENTIAL_END, "sessions_credential_end_total", COUNTER,                                \
	  "sessions ended: token or certificate no longer valid")                                  \
	X(OPERATOR_CLOSE, "sessions_disconnected_total", COUNTER, "sessions ended by the operator") \
	X(TAKEOVER, "takeovers_total", COUNTER, "connections replaced by a newer one")             \
	X(TAKEOVER_DAMPED, "takeovers_damped_total", COUNTER, "claims delayed: rapid alternation") \
	X(TAKEOVER_TIMEOUT, "takeover_timeout_total", COUNTER, "claims given up after 2 s")        \
	X(PUBLISH_ACCEPTED, "publishes_accepted_total", COUNTER, "messages stored for children")   \
	X(PUBLISH_FULL, "publishes_refused_full_total", COUNTER, "messages refused: store full")   \
	X(PUBLISH_STORE_ERROR, "publishes_store_error_total", COUNTER,                             \
	  "messages refused: store failed")                                                        \
	X(PUBLISH_HELD, "publishes_unanswered_total", COUNTER,                                     \
	  "publishes left unanswered behind a refused one")                                        \
	X(PUBACKS, "pubacks_total", COUNTER, "PUBACKs sent to children")                           \
	X(WILLS, "wills_published_total", COUNTER, "wills stored as messages")                     \
	X(TO_STORE, "store_requests_open", GAUGE, "messages handed to the store, not answered yet") \
	X(TO_STORE_BYTES, "store_requests_open_bytes", GAUGE, "bytes of them")                     \
	X(TO_UP, "upstream_requests_open", GAUGE, "requests of children handed to upstream, not answered yet") \
	X(TO_UP_BYTES, "upstream_requests_open_bytes", GAUGE, "bytes of them, with room for the answers") \
	X(CREDIT_WAITS, "credit_waits_total", COUNTER, "sessions paused for back-pressure")        \
	X(READER_WAITS, "reader_waits_total", COUNTER, "sessions paused until they read what they were sent") \
	X(TWIN_REQUESTS, "twin_requests_total", COUNTER, "twin requests of children")              \
	X(METHOD_RESPONSES, "method_responses_total", COUNTER, "method responses of children")     \
	X(METHOD_UNASKED, "method_responses_unasked_total", COUNTER, "method responses to no request: dropped") \
	X(DOWN_SENT, "downlinks_delivered_total", COUNTER, "methods, patches, C2D delivered")      \
	X(DOWN_FAILED, "downlinks_undelivered_total", COUNTER, "downlinks that found no taker")    \
	X(NO_MEMORY, "allocation_failed_total", COUNTER, "operations refused for lack of memory")

enum hf_metric_id {
#define HF_METRIC_ENUM(id, name, kind, help) HF_M_##id,
	HF_METRIC_LIST(HF_METRIC_ENUM)
#undef HF_METRIC_ENUM
	HF_M__COUNT,
};
extern const struct hf_metric_def hf_metric_table[HF_M__COUNT];
