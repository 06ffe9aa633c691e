/* SPDX-License-Identifier: GPL-3.0-or-later */
/* load - many MQTT clients at once: QoS 1 publishing under a window, or connections that only stay.
 * Never connects again: a lost connection is an error of the run, told in the result. */
#include "auth/sas.h"
#include "core/clock.h"
#include "core/util.h"
#include "mqtt/mqtt_codec.h"
#include "net/conn.h"

#include <holdfast/err.h>

#include <getopt.h>
#include <jansson.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>

enum {
	EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_UNREACHABLE = 3, EXIT_TIMED_OUT = 4,
	MAX_PACKET = 64 * 1024,
	CONNECTING_MAX = 64,
	LATENCY_BUCKETS = 2 * 1000 * 1000,	/* 1 us each */
	DRAIN_MS = 15000,
	TOKEN_LIFE_S = 6 * 3600,
};

struct options {
	const char *target, *name, *ca_file, *children_file, *user, *password, *ack_log, *id_prefix;
	int64_t clients, window, payload, count, seconds, start, keep_alive_s;
	bool no_tls, connect_only;
};

struct slot {
	uint64_t sent_ns;
	int64_t counter;
	bool used;
};

struct client {
	struct load *load;
	struct hf_conn *conn;
	char *id, *host, *key;		/* host, key NULL with --plain-auth */
	struct hf_buf in;
	struct slot *slots;
	unsigned n_in_flight;
	int64_t next, end;		/* counters still to send: [next, end) */
	bool connected, dead;
};

struct load {
	struct options opt;
	struct hf_loop *loop;
	struct hf_tls_ctx *tls;
	struct hf_timer *timer;
	struct hf_signal *sigterm, *sigint;
	struct sockaddr_storage addr;
	socklen_t addr_len;
	struct client *clients;
	int64_t n_clients, n_started, n_connected, n_failed;
	int64_t acked, acked_in_time, errors, in_flight;
	uint64_t begin_ns, last_ack_ns, end_ns;
	bool publishing, stopping, leaving, timed_out, interrupted;
	uint32_t *latency;
	FILE *ack_log;
	char *body;
};

static void start_clients(struct load *l);

/* --- publishing ------------------------------------------------------------------------------------------ */

static void put_body(struct load *l, const struct client *c, int64_t counter, struct hf_span *ret_body)
{
	size_t cap = (size_t)l->opt.payload;
	int n = snprintf(l->body, cap + 1, "{\"n\":%lld,\"d\":\"%s\"}", (long long)counter, c->id);

	/* White space after a JSON text is JSON still. */
	if ((size_t)n < cap)
		memset(l->body + n, ' ', cap - (size_t)n);
	*ret_body = hf_span(l->body, cap);
}

static void publish_more(struct client *c)
{
	struct load *l = c->load;
	char topic[300];
	int topic_len;
	bool any = false;

	if (!l->publishing || l->stopping || c->dead || !c->connected)
		return;
	topic_len = snprintf(topic, sizeof topic, "devices/%s/messages/events/", c->id);
	for (unsigned i = 0; i < l->opt.window && c->next < c->end; i++) {
		struct slot *s = &c->slots[i];
		struct hf_span body;

		if (s->used)
			continue;
		put_body(l, c, c->next, &body);
		s->used = true;
		s->counter = c->next++;
		s->sent_ns = hf_clock_mono_ns();
		hf_mqtt_put_publish(hf_conn_out(c->conn), 1, false, false, (uint16_t)(i + 1),
				    hf_span(topic, (size_t)topic_len), hf_span(NULL, 0), body);
		c->n_in_flight++;
		l->in_flight++;
		any = true;
	}
	if (any)
		hf_conn_flush_later(c->conn);
}

static void check_done(struct load *l)
{
	if (!l->publishing || l->in_flight > 0)
		return;
	for (int64_t i = 0; i < l->n_clients && !l->stopping; i++)
		if (!l->clients[i].dead && l->clients[i].next < l->clients[i].end)
			return;
	hf_loop_stop(l->loop);
}

static void on_puback(struct client *c, uint16_t id)
{
	struct load *l = c->load;
	struct slot *s;
	uint64_t now = hf_clock_mono_ns(), us;

	if (id == 0 || id > l->opt.window || !c->slots[id - 1].used) {
		l->errors++;
		fprintf(stderr, "%s: PUBACK for %u, which is not in flight\n", c->id, id);
		return;
	}
	s = &c->slots[id - 1];
	s->used = false;
	c->n_in_flight--;
	l->in_flight--;
	l->acked++;
	if (!l->end_ns || now <= l->end_ns)
		l->acked_in_time++;
	l->last_ack_ns = now;
	us = (now - s->sent_ns) / 1000;
	l->latency[hf_min(us, (uint64_t)LATENCY_BUCKETS - 1)]++;
	if (l->ack_log)
		fprintf(l->ack_log, "%s %lld\n", c->id, (long long)s->counter);
}

static void begin_publishing(struct load *l)
{
	l->publishing = true;
	l->begin_ns = hf_clock_mono_ns();
	if (l->opt.seconds) {
		l->end_ns = l->begin_ns + (uint64_t)l->opt.seconds * 1000000000u;
		hf_timer_start(l->timer, (uint64_t)l->opt.seconds * 1000, 0);
	}
	for (int64_t i = 0; i < l->n_clients; i++)
		publish_more(&l->clients[i]);
	check_done(l);
}

/* --- connections ----------------------------------------------------------------------------------------- */

static void print_connected(struct load *l)
{
	printf("{\"connected\":%lld,\"errors\":%lld,\"seconds\":%.6f}\n", (long long)l->n_connected,
	       (long long)l->errors, (double)(hf_clock_mono_ns() - l->begin_ns) / 1e9);
	fflush(stdout);
	if (l->opt.seconds)
		hf_timer_start(l->timer, (uint64_t)l->opt.seconds * 1000, 0);
}

static void one_settled(struct load *l)
{
	if (l->n_connected + l->n_failed < l->n_clients) {
		start_clients(l);
		return;
	}
	if (l->publishing)
		return;
	if (l->n_connected == 0)
		hf_loop_stop(l->loop);
	else if (l->opt.connect_only)
		print_connected(l);
	else
		begin_publishing(l);
}

static void send_connect(struct client *c)
{
	struct load *l = c->load;
	hf_autobuf struct hf_buf user = HF_BUF_INIT(1024), token = HF_BUF_INIT(4096), audience = HF_BUF_INIT(1024);
	struct hf_mqtt_connect m = { .level = 4, .clean_session = true, .client_id = hf_span_str(c->id),
				     .keep_alive_s = (uint16_t)l->opt.keep_alive_s };

	if (c->key) {
		hf_buf_printf(&user, "%s/%s/?api-version=2021-04-12", c->host, c->id);
		hf_buf_printf(&audience, "%s/devices/%s", c->host, c->id);
		if (hf_sas_create(hf_buf_cstr(&audience), c->key, NULL, hf_clock_wall_s() + TOKEN_LIFE_S,
				  &token) < 0) {
			hf_conn_abort(c->conn, HF_EINVALID, "key is not base64");
			return;
		}
		m.user = hf_buf_span(&user);
		m.password = hf_buf_span(&token);
	} else {
		m.user = hf_span_str(l->opt.user);
		m.password = hf_span_str(l->opt.password);
	}
	m.has_user = m.user.len > 0;
	m.has_password = m.password.len > 0;
	hf_mqtt_put_connect(hf_conn_out(c->conn), &m);
	hf_conn_flush_later(c->conn);
}

static void on_ready(void *arg, struct hf_conn *conn)
{
	(void)conn;
	send_connect(arg);
}

static void on_packet(struct client *c, const struct hf_mqtt_packet *p)
{
	struct load *l = c->load;

	if (p->type == HF_MQTT_CONNACK && !c->connected) {
		if (p->connack.code != HF_CONNACK_OK) {
			fprintf(stderr, "%s: refused with CONNACK %u\n", c->id, p->connack.code);
			c->dead = true;
			hf_conn_abort(c->conn, HF_EDENIED, "CONNACK");
			return;
		}
		c->connected = true;
		l->n_connected++;
		one_settled(l);
	} else if (p->type == HF_MQTT_PUBACK) {
		on_puback(c, p->ack.packet_id);
	} else if (p->type != HF_MQTT_PINGRESP) {
		c->dead = true;
		hf_conn_abort(c->conn, HF_EPROTO, "unexpected packet");
	}
}

static void on_data(void *arg, struct hf_conn *conn, struct hf_span in)
{
	struct client *c = arg;
	struct hf_span rest = in;
	bool buffered = hf_buf_len(&c->in) > 0;

	if (buffered) {
		hf_buf_put_span(&c->in, in);
		rest = hf_buf_span(&c->in);
	}
	while (rest.len > 0 && !c->dead) {
		struct hf_mqtt_packet p;
		const char *reason = "malformed";
		size_t need = 0;
		int r = hf_mqtt_decode(rest, MAX_PACKET, false, &p, &need, &reason);

		if (r == HF_EMORE)
			break;
		if (r < 0) {
			hf_conn_abort(conn, r, reason);
			return;
		}
		on_packet(c, &p);
		rest = hf_span_skip(rest, p.size);
	}
	if (buffered)
		hf_buf_consume(&c->in, hf_buf_len(&c->in) - rest.len);
	else if (rest.len)
		hf_buf_put_span(&c->in, rest);
	if (hf_buf_len(&c->in) == 0)
		hf_buf_shrink(&c->in);
	publish_more(c);
	check_done(c->load);
}

static void on_closed(void *arg, struct hf_conn *conn, int err, const char *detail)
{
	struct client *c = arg;
	struct load *l = c->load;

	(void)conn;
	(void)err;
	c->conn = NULL;
	c->dead = true;
	hf_buf_fini(&c->in);
	if (l->leaving)
		return;
	l->errors++;
	l->in_flight -= c->n_in_flight;
	fprintf(stderr, "%s: connection lost: %s\n", c->id, detail);
	if (!c->connected) {
		l->n_failed++;
		one_settled(l);
	} else if (l->opt.connect_only) {
		if (--l->n_connected == 0)
			hf_loop_stop(l->loop);
		l->n_failed++;
	}
	check_done(l);
}

static void start_clients(struct load *l)
{
	static const struct hf_conn_ops ops = { .ready = on_ready, .data = on_data, .closed = on_closed };
	struct hf_conn_cfg cfg = { .tls = l->tls, .server_name = l->opt.name, .handshake_timeout_ms = 60000 };

	while (l->n_started < l->n_clients && l->n_started - l->n_connected - l->n_failed < CONNECTING_MAX) {
		struct client *c = &l->clients[l->n_started++];
		int r = hf_conn_connect(l->loop, (struct sockaddr *)&l->addr, l->addr_len, &cfg, &ops, c,
					&c->conn);

		if (r < 0) {
			fprintf(stderr, "%s: connect: %s\n", c->id, hf_strerror(r));
			c->dead = true;
			l->errors++;
			l->n_failed++;
			if (l->n_failed == l->n_clients)
				hf_loop_stop(l->loop);
		}
	}
}

static void on_timer(void *arg)
{
	struct load *l = arg;

	if (l->opt.connect_only || l->stopping) {
		l->timed_out = !l->opt.connect_only;
		hf_loop_stop(l->loop);
		return;
	}
	/* Time is over: what is in flight may still be answered, but does not count for the rate. */
	l->stopping = true;
	hf_timer_start(l->timer, DRAIN_MS, 0);
	check_done(l);
}

static void on_signal(void *arg, int signo)
{
	struct load *l = arg;

	(void)signo;
	l->interrupted = true;
	hf_loop_stop(l->loop);
}

/* --- input ------------------------------------------------------------------------------------------------ */

static char *connstr_dup(const char *text, const char *name)
{
	struct hf_span v;

	return hf_connstr_get(hf_span_str(text), name, &v) ? hf_span_dup(v) : NULL;
}

static int load_children(struct load *l)
{
	json_error_t err;
	json_t *root = json_load_file(l->opt.children_file, 0, &err), *child;
	size_t i;

	if (!json_is_array(root) || json_array_size(root) < (size_t)l->n_clients) {
		fprintf(stderr, "%s: %s\n", l->opt.children_file,
			root ? "holds fewer children than clients are wanted" : err.text);
		json_decref(root);
		return HF_EINVALID;
	}
	json_array_foreach(root, i, child) {
		const char *id = json_string_value(json_object_get(child, "deviceId"));
		const char *cs = json_string_value(json_object_get(child, "connectionString"));
		struct client *c = &l->clients[i];

		if ((int64_t)i == l->n_clients)
			break;
		c->id = id ? strdup(id) : NULL;
		c->host = cs ? connstr_dup(cs, "HostName") : NULL;
		c->key = cs ? connstr_dup(cs, "SharedAccessKey") : NULL;
		if (!c->id || !c->host || !c->key || strlen(c->id) > 128) {
			fprintf(stderr, "%s: entry %zu is incomplete\n", l->opt.children_file, i);
			json_decref(root);
			return HF_EINVALID;
		}
	}
	json_decref(root);
	return 0;
}

static int make_clients(struct load *l)
{
	struct options *o = &l->opt;
	char id[160];

	l->n_clients = o->clients;
	l->clients = calloc((size_t)l->n_clients, sizeof *l->clients);
	if (!l->clients)
		return HF_ELIMIT;
	if (o->children_file && load_children(l) < 0)
		return HF_EINVALID;
	for (int64_t i = 0; i < l->n_clients; i++) {
		struct client *c = &l->clients[i];

		c->load = l;
		c->in = HF_BUF_INIT(MAX_PACKET * 2);
		if (!c->id) {
			snprintf(id, sizeof id, "%s%lld", o->id_prefix, (long long)i);
			c->id = strdup(id);
		}
		c->slots = o->connect_only ? NULL : calloc((size_t)o->window, sizeof *c->slots);
		if (!c->id || (!c->slots && !o->connect_only))
			return HF_ELIMIT;
		c->next = o->start;
		/* The total is shared out evenly, the first clients taking the rest. */
		c->end = o->count ? o->start + o->count / l->n_clients + (i < o->count % l->n_clients)
				  : INT64_MAX;
		if (!o->connect_only && strlen(c->id) + 40 > (size_t)o->payload) {
			fprintf(stderr, "--payload %lld is too small for the counter and \"%s\"\n",
				(long long)o->payload, c->id);
			return HF_EINVALID;
		}
	}
	return 0;
}

static int resolve(struct load *l)
{
	char *host = strdup(l->opt.target), *colon = host ? strrchr(host, ':') : NULL;
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *res = NULL;
	int r;

	if (!colon) {
		fprintf(stderr, "--target: HOST:PORT\n");
		free(host);
		return HF_EINVALID;
	}
	*colon = '\0';
	r = getaddrinfo(host, colon + 1, &hints, &res);
	if (r != 0) {
		fprintf(stderr, "%s: %s\n", host, gai_strerror(r));
		free(host);
		return HF_ENOTFOUND;
	}
	memcpy(&l->addr, res->ai_addr, res->ai_addrlen);
	l->addr_len = res->ai_addrlen;
	freeaddrinfo(res);
	if (!l->opt.name)
		l->opt.name = host;	/* kept to the end of the program */
	else
		free(host);
	return 0;
}

static const char usage[] =
	"usage: load --target HOST:PORT (--ca FILE | --no-tls) (--children FILE | --plain-auth USER:PASSWORD)\n"
	"            (--count N | --seconds S | --connect-only N) [option ...]\n"
	"Publishes with MQTT 3.1.1 at QoS 1 and prints one JSON object: acks_per_s p50_us p99_us acked errors seconds.\n"
	"  --target HOST:PORT   whom to connect to\n"
	"  --name NAME          name to verify and send as SNI (default: the host of --target)\n"
	"  --ca FILE            PEM roots for TLS;  --no-tls: plain TCP\n"
	"  --children FILE      JSON array with deviceId and connectionString: SAS login, one client a child\n"
	"  --plain-auth U:P     same user and password for all; ':' alone: none. Ids are --id-prefix + number\n"
	"  --id-prefix TEXT     default dev\n"
	"  --clients N          default 1\n"
	"  --window W           publishes in flight per client, default 1\n"
	"  --payload B          bytes per message, default 256\n"
	"  --count N            messages in all;  --seconds S: publish for that long\n"
	"  --start N            first counter of each client, default 0\n"
	"  --ack-log FILE       appends 'child counter' for each PUBACK\n"
	"  --connect-only N     connects N clients, prints connected, errors, seconds, and holds them until a\n"
	"                       signal or --seconds\n"
	"  --keep-alive S       of CONNECT, default 1200; no pings are sent\n"
	"A lost connection is an error and is not made again. Exit: 0 ok, 1 errors, 2 usage, 3 unreachable, 4 timeout.\n";

static bool number(const char *text, int64_t min, int64_t max, int64_t *ret_v)
{
	return hf_parse_i64(hf_span_str(text), min, max, ret_v) == 0;
}

enum opt_id {
	OPT_TARGET = 256, OPT_NAME, OPT_CA, OPT_NO_TLS, OPT_CHILDREN, OPT_PLAIN, OPT_PREFIX, OPT_CLIENTS, OPT_WINDOW,
	OPT_PAYLOAD, OPT_COUNT, OPT_SECONDS, OPT_START, OPT_ACK_LOG, OPT_CONNECT_ONLY, OPT_KEEP_ALIVE, OPT_HELP,
};

static bool set_option(struct options *o, int id, char *arg)
{
	char *colon;

	switch (id) {
	case OPT_TARGET: o->target = arg; return true;
	case OPT_NAME: o->name = arg; return true;
	case OPT_CA: o->ca_file = arg; return true;
	case OPT_NO_TLS: o->no_tls = true; return true;
	case OPT_CHILDREN: o->children_file = arg; return true;
	case OPT_PREFIX: o->id_prefix = arg; return strlen(arg) < 100;
	case OPT_ACK_LOG: o->ack_log = arg; return true;
	case OPT_PLAIN:
		colon = strchr(arg, ':');
		if (!colon)
			return false;
		*colon = '\0';
		o->user = arg;
		o->password = colon + 1;
		return true;
	case OPT_CLIENTS: return number(arg, 1, 1000000, &o->clients);
	case OPT_WINDOW: return number(arg, 1, 60000, &o->window);
	case OPT_PAYLOAD: return number(arg, 48, MAX_PACKET - 1024, &o->payload);
	case OPT_COUNT: return number(arg, 1, INT64_MAX / 2, &o->count);
	case OPT_SECONDS: return number(arg, 1, 1000000, &o->seconds);
	case OPT_START: return number(arg, 0, INT64_MAX / 4, &o->start);
	case OPT_KEEP_ALIVE: return number(arg, 0, 65535, &o->keep_alive_s);
	case OPT_CONNECT_ONLY:
		o->connect_only = true;
		return number(arg, 1, 1000000, &o->clients);
	default: return false;
	}
}

static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option table[] = {
		{ "target", 1, NULL, OPT_TARGET }, { "name", 1, NULL, OPT_NAME }, { "ca", 1, NULL, OPT_CA },
		{ "no-tls", 0, NULL, OPT_NO_TLS }, { "children", 1, NULL, OPT_CHILDREN },
		{ "plain-auth", 1, NULL, OPT_PLAIN }, { "id-prefix", 1, NULL, OPT_PREFIX },
		{ "clients", 1, NULL, OPT_CLIENTS }, { "window", 1, NULL, OPT_WINDOW },
		{ "payload", 1, NULL, OPT_PAYLOAD }, { "count", 1, NULL, OPT_COUNT },
		{ "seconds", 1, NULL, OPT_SECONDS }, { "start", 1, NULL, OPT_START },
		{ "ack-log", 1, NULL, OPT_ACK_LOG }, { "connect-only", 1, NULL, OPT_CONNECT_ONLY },
		{ "keep-alive", 1, NULL, OPT_KEEP_ALIVE }, { "help", 0, NULL, OPT_HELP }, { NULL, 0, NULL, 0 },
	};
	int id;

	*o = (struct options){ .clients = 1, .window = 1, .payload = 256, .keep_alive_s = 1200,
			       .id_prefix = "dev" };
	while ((id = getopt_long(argc, argv, "h", table, NULL)) != -1) {
		if (id == OPT_HELP || id == 'h') {
			fputs(usage, stdout);
			exit(0);
		}
		if (!set_option(o, id, optarg)) {
			fprintf(stderr, "%s: wrong option or value; --help\n", argv[optind - 1]);
			return HF_EINVALID;
		}
	}
	if (optind != argc || !o->target || !o->ca_file == !o->no_tls || !o->children_file == !o->user ||
	    (!o->connect_only && !o->count == !o->seconds) || (o->connect_only && o->count)) {
		fputs(usage, stderr);
		return HF_EINVALID;
	}
	return 0;
}

/* --- run -------------------------------------------------------------------------------------------------- */

static uint64_t percentile(const struct load *l, double share)
{
	uint64_t want = (uint64_t)((double)l->acked * share), sum = 0;

	for (uint64_t i = 0; i < LATENCY_BUCKETS; i++) {
		sum += l->latency[i];
		if (sum > want)
			return i;
	}
	return l->acked ? LATENCY_BUCKETS - 1 : 0;
}

static int print_result(struct load *l)
{
	double seconds = l->opt.seconds && l->stopping ? (double)l->opt.seconds
					: (double)(l->last_ack_ns - l->begin_ns) / 1e9;
	int64_t lost = l->in_flight;

	if (!l->publishing || l->last_ack_ns < l->begin_ns)
		seconds = 0;
	/* Unanswered at the end is an error too: nothing may be left out silently. */
	l->errors += lost;
	printf("{\"acks_per_s\":%.1f,\"p50_us\":%llu,\"p99_us\":%llu,\"acked\":%lld,\"errors\":%lld,"
	       "\"seconds\":%.6f}\n",
	       seconds > 0 ? (double)l->acked_in_time / seconds : 0.0,
	       (unsigned long long)percentile(l, 0.50), (unsigned long long)percentile(l, 0.99),
	       (long long)l->acked, (long long)l->errors, seconds);
	if (l->n_connected == 0 && l->acked == 0)
		return EXIT_UNREACHABLE;
	if (l->timed_out)
		return EXIT_TIMED_OUT;
	return l->errors || l->interrupted ? EXIT_REFUSED : 0;
}

static int prepare(struct load *l)
{
	int r = resolve(l);

	if (r < 0)
		return r;
	if (make_clients(l) < 0)
		return HF_EINVALID;
	if (l->opt.ack_log && !(l->ack_log = fopen(l->opt.ack_log, "a"))) {
		perror(l->opt.ack_log);
		return HF_EINVALID;
	}
	l->latency = calloc(LATENCY_BUCKETS, sizeof *l->latency);
	l->body = malloc((size_t)l->opt.payload + 1);
	if (!l->latency || !l->body || hf_tls_global_init() < 0 || hf_loop_create(&l->loop) < 0)
		return HF_ELIMIT;
	if (!l->opt.no_tls && hf_tls_ctx_create_client(l->opt.ca_file, &l->tls) < 0)
		return HF_EINVALID;
	if (hf_timer_create(l->loop, on_timer, l, &l->timer) < 0 ||
	    hf_signal_create(l->loop, SIGTERM, on_signal, l, &l->sigterm) < 0 ||
	    hf_signal_create(l->loop, SIGINT, on_signal, l, &l->sigint) < 0)
		return HF_ELIMIT;
	return 0;
}

static void on_end(void *arg)
{
	struct load *l = arg;

	hf_loop_stop(l->loop);
}

/* Says goodbye on every connection and gives the memory back. */
static void clean_up(struct load *l)
{
	if (l->loop) {
		struct hf_timer *end;

		l->stopping = l->leaving = true;
		for (int64_t i = 0; i < l->n_started; i++) {
			if (!l->clients[i].conn)
				continue;
			if (l->clients[i].connected)
				hf_mqtt_put_empty(hf_conn_out(l->clients[i].conn), HF_MQTT_DISCONNECT);
			hf_conn_close(l->clients[i].conn);
		}
		if (hf_timer_create(l->loop, on_end, l, &end) == 0) {
			hf_timer_start(end, 100, 0);
			hf_loop_run(l->loop);
			hf_timer_destroy(&end);
		}
		hf_timer_destroy(&l->timer);
		hf_signal_destroy(&l->sigterm);
		hf_signal_destroy(&l->sigint);
	}
	for (int64_t i = 0; l->clients && i < l->n_clients; i++) {
		free(l->clients[i].id);
		free(l->clients[i].host);
		free(l->clients[i].key);
		free(l->clients[i].slots);
	}
	free(l->clients);
	free(l->latency);
	free(l->body);
	hf_tls_ctx_unref(&l->tls);
	if (l->loop)
		hf_loop_destroy(&l->loop);
}

int main(int argc, char **argv)
{
	struct load l = { 0 };
	int r, code = EXIT_USAGE;

	if (parse_options(argc, argv, &l.opt) < 0)
		return EXIT_USAGE;
	r = prepare(&l);
	if (r == HF_ENOTFOUND)
		code = EXIT_UNREACHABLE;
	if (r == 0) {
		l.begin_ns = hf_clock_mono_ns();
		start_clients(&l);
		if (l.n_failed < l.n_clients)
			hf_loop_run(l.loop);
		if (!l.opt.connect_only)
			code = print_result(&l);
		else
			code = l.n_connected == 0 ? EXIT_UNREACHABLE : l.errors ? EXIT_REFUSED : 0;
	}
	if (l.ack_log && fclose(l.ack_log) != 0) {
		perror(l.opt.ack_log);
		code = EXIT_REFUSED;
	}
	clean_up(&l);
	return code;
}
