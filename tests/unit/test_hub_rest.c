/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The HTTPS side over a real connection (here without TLS): documents, tokens, scope sync, methods, errors. */
#include "auth/sas.h"
#include "core/clock.h"
#include "core/util.h"
#include "hub/model/model_int.h"
#include "hub/rest/rest.h"
#include "net/listener.h"

#include <holdfast/err.h>

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct world {
	char dir[64];
	struct hf_loop *loop;
	struct hub_model *m;
	struct hub_rest *rest;
	struct hf_timer *tick;
	struct sockaddr_in addr;
	struct hf_buf got;
	int fd, status;
	bool eof;
	unsigned ticks;
	const char *token;		/* NULL = iothubowner's */
	char token_mem[1024], headers[512];
	json_t *doc;			/* of the last answer */
};

static void on_tick(void *arg)
{
	struct world *w = arg;
	char in[8192];
	ssize_t n;

	while ((n = recv(w->fd, in, sizeof in, MSG_DONTWAIT)) > 0)
		hf_buf_put(&w->got, in, (size_t)n);
	w->eof = n == 0;
	if (w->eof)
		hf_loop_stop(w->loop);
	if (++w->ticks > 20000)
		fail_msg("no answer: %s", hf_buf_cstr(&w->got));
}

static const char *sign(struct world *w, const char *audience, const char *key, const char *policy, int64_t lifetime)
{
	hf_autobuf struct hf_buf b = HF_BUF_INIT(1024);

	assert_int_equal(hf_sas_create(audience, key, policy, hf_clock_wall_s() + lifetime, &b), 0);
	snprintf(w->token_mem, sizeof w->token_mem, "%s", hf_buf_cstr(&b));
	return w->token_mem;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof *w);
	struct hub_model_cfg cfg = { .dir = w->dir, .host = "hub.test" };
	socklen_t len = sizeof w->addr;
	int fd;

	snprintf(w->dir, sizeof w->dir, "/tmp/holdfast-rest-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	w->got = HF_BUF_INIT(8 << 20);
	assert_int_equal(hf_loop_create(&w->loop), 0);
	assert_int_equal(hub_model_open(w->loop, &cfg, &w->m), 0);
	assert_int_equal(hf_listen_tcp("127.0.0.1:0", false, &fd), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&w->addr, &len), 0);
	assert_int_equal(hub_rest_create(w->loop, w->m, fd, NULL, &w->rest), 0);
	assert_int_equal(hf_timer_create(w->loop, on_tick, w, &w->tick), 0);
	*state = w;
	return 0;
}

static void on_stop(void *arg)
{
	hf_loop_stop(arg);
}

static int teardown(void **state)
{
	static const char *const files[] = { "state.mdb", "state.mdb-lock", "events.mdb", "events.mdb-lock", "lock" };
	struct world *w = *state;
	struct hf_timer *t;
	char path[128];

	hf_timer_destroy(&w->tick);
	hub_rest_destroy(&w->rest);
	assert_int_equal(hf_timer_create(w->loop, on_stop, w->loop, &t), 0);
	hf_timer_start(t, 5, 0);
	hf_loop_run(w->loop);
	hf_timer_destroy(&t);
	hub_model_close(&w->m);
	hf_loop_destroy(&w->loop);
	for (unsigned i = 0; i < HF_ARRAY_LEN(files); i++) {
		snprintf(path, sizeof path, "%s/%s", w->dir, files[i]);
		unlink(path);
	}
	rmdir(w->dir);
	json_decref(w->doc);
	hf_buf_fini(&w->got);
	free(w);
	return 0;
}

/* One request with the token in force; body with ' for ". Returns the status, leaves the document in w->doc. */
static int ask(struct world *w, const char *method, const char *target, const char *body)
{
	hf_autobuf struct hf_buf out = HF_BUF_INIT(1 << 20);
	const char *token = w->token ? w->token :
			    sign(w, "hub.test", hub_policy_find(w->m, "iothubowner")->primary_key, "iothubowner", 600);
	const char *end;

	hf_buf_printf(&out, "%s %s HTTP/1.1\r\nHost: hub.test\r\nConnection: close\r\n%s", method, target, w->headers);
	if (*token)
		hf_buf_printf(&out, "Authorization: %s\r\n", token);
	hf_buf_printf(&out, "Content-Length: %zu\r\n\r\n", strlen(body));
	for (; *body; body++)
		hf_buf_putc(&out, *body == '\'' ? '"' : *body);
	w->fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(w->fd, (struct sockaddr *)&w->addr, sizeof w->addr), 0);
	assert_int_equal(send(w->fd, hf_buf_cstr(&out), hf_buf_len(&out), MSG_NOSIGNAL), hf_buf_len(&out));
	hf_buf_reset(&w->got);
	w->ticks = 0;
	w->headers[0] = '\0';
	hf_timer_start(w->tick, 1, 1);
	hf_loop_run(w->loop);
	hf_timer_stop(w->tick);
	close(w->fd);
	json_decref(w->doc);
	end = strstr(hf_buf_cstr(&w->got), "\r\n\r\n");
	assert_non_null(end);
	w->doc = end[4] ? json_loads(end + 4, JSON_DECODE_ANY, NULL) : NULL;
	assert_int_equal(sscanf(hf_buf_cstr(&w->got), "HTTP/1.1 %d", &w->status), 1);
	return w->status;
}

static const char *text(struct world *w, const char *name)
{
	const char *s = json_string_value(json_object_get(w->doc, name));

	return s ? s : "";
}

static bool head_has(struct world *w, const char *part)
{
	return strstr(hf_buf_cstr(&w->got), part) != NULL;
}

static void test_registry(void **state)
{
	struct world *w = *state;
	char body[512], scope[200], path[600];

	assert_int_equal(ask(w, "PUT", "/devices/edge1?api-version=2021-04-12",
			     "{'deviceId':'edge1','capabilities':{'iotEdge':true},'parentScopes':[],'authentication':"
			     "{'type':'sas','symmetricKey':{'primaryKey':'','secondaryKey':''}}}"), 200);
	assert_true(head_has(w, "application/json"));
	assert_true(head_has(w, "ETag: \""));
	snprintf(scope, sizeof scope, "%s", text(w, "deviceScope"));
	assert_int_equal(ask(w, "PUT", "/devices/edge1", "{}"), 409);
	assert_non_null(strstr(text(w, "Message"), "ErrorCode:DeviceAlreadyExists;"));
	/* A message with a cut character would be no JSON. */
	snprintf(path, sizeof path, "/devices/%0128d", 7);
	assert_int_equal(ask(w, "PUT", path, "{}"), 200);
	snprintf(path + strlen(path), sizeof path - strlen(path), "/modules/");
	for (int i = 0; i < 64; i++)
		snprintf(path + strlen(path), sizeof path - strlen(path), "%%C3%%A9");
	assert_int_equal(ask(w, "GET", path, ""), 404);
	assert_non_null(strstr(text(w, "Message"), "ErrorCode:ModuleNotFound;"));
	*strstr(path, "/modules/") = '\0';
	snprintf(w->headers, sizeof w->headers, "If-Match: *\r\n");
	assert_int_equal(ask(w, "DELETE", path, ""), 204);
	assert_int_equal(ask(w, "GET", "/devices/none", ""), 404);
	assert_true(head_has(w, "iothub-errorcode: DeviceNotFound"));
	assert_int_equal(ask(w, "PUT", "/devices/dev%3A1", "{}"), 200);
	assert_string_equal(text(w, "deviceId"), "dev:1");
	assert_int_equal(ask(w, "GET", "/devices/?api-version=2021-04-12", ""), 200);
	assert_int_equal(json_array_size(w->doc), 2);
	assert_int_equal(ask(w, "GET", "/devices/edge1/modules/%24edgeHub", ""), 200);
	assert_string_equal(text(w, "managedBy"), "iotEdge");
	assert_int_equal(ask(w, "GET", "/devices/edge1/modules", ""), 200);
	assert_int_equal(json_array_size(w->doc), 2);

	/* The whole document, read and put back with a parent, as the command line tool does. */
	assert_int_equal(ask(w, "GET", "/devices/dev%3A1", ""), 200);
	snprintf(body, sizeof body, "{'deviceId':'dev:1','etag':'x','connectionState':'Disconnected','hub':'h','deviceScope':'%s'}",
		 scope);
	snprintf(w->headers, sizeof w->headers, "If-Match: \"%s\"\r\n", text(w, "etag"));
	assert_int_equal(ask(w, "PUT", "/devices/dev%3A1", body), 200);
	assert_string_equal(json_string_value(json_array_get(json_object_get(w->doc, "parentScopes"), 0)), scope);
	snprintf(w->headers, sizeof w->headers, "If-Match: \"stale\"\r\n");
	assert_int_equal(ask(w, "PUT", "/devices/dev%3A1", body), 412);
	assert_int_equal(ask(w, "PUT", "/devices/x", "{'deviceScope':'ms-azure-iot-edge://none-1'}"), 400);
	assert_non_null(strstr(text(w, "Message"), "ErrorCode:InvalidDeviceScope;"));
	assert_int_equal(ask(w, "PUT", "/devices/x", "{'deviceScope'"), 400);
	assert_int_equal(ask(w, "PATCH", "/devices/x", "{}"), 405);
	assert_int_equal(ask(w, "GET", "/nothing/here", ""), 404);
	assert_int_equal(ask(w, "GET", "/devices/%zz", ""), 400);

	assert_int_equal(ask(w, "POST", "/devices", "[{'id':'a','importMode':'create'},{'id':'b','importMode':'create',"
			     "'tags':{'t':1}},{'id':'c','importMode':'DeleteIfMatchETag','eTag':'x'}]"), 400);
	assert_int_equal(json_array_size(json_object_get(w->doc, "errors")), 1);
	assert_int_equal(ask(w, "POST", "/devices", "[{'id':'a','importMode':'Update','status':'disabled'}]"), 200);
	assert_true(json_is_true(json_object_get(w->doc, "isSuccessful")));
	assert_int_equal(ask(w, "GET", "/statistics/devices", ""), 200);
	assert_int_equal(json_integer_value(json_object_get(w->doc, "totalDeviceCount")), 4);
	assert_int_equal(json_integer_value(json_object_get(w->doc, "disabledDeviceCount")), 1);

	hf_autofree char *key = strdup(hub_ident_find(w->m, hf_span_str("b"))->primary_key);

	assert_int_equal(ask(w, "POST", "/devices/keys/regenerate", "{'policyKey':'primaryKey','devices':[{'id':'b'}]}"), 200);
	assert_string_not_equal(hub_ident_find(w->m, hf_span_str("b"))->primary_key, key);
	snprintf(w->headers, sizeof w->headers, "If-Match: \"*\"\r\n");
	assert_int_equal(ask(w, "DELETE", "/devices/edge1", ""), 204);
	assert_string_equal(hub_ident_find(w->m, hf_span_str("dev:1"))->parent_scope, "");
}

static void test_tokens(void **state)
{
	struct world *w = *state;
	const char *read_key = hub_policy_find(w->m, "registryRead")->primary_key;
	const char *service_key = hub_policy_find(w->m, "service")->secondary_key;

	assert_int_equal(ask(w, "PUT", "/devices/d", "{}"), 200);
	w->token = "";
	assert_int_equal(ask(w, "GET", "/devices/d", ""), 401);
	w->token = sign(w, "hub.test", read_key, "registryRead", 600);
	assert_int_equal(ask(w, "GET", "/devices/d", ""), 200);
	assert_int_equal(ask(w, "PUT", "/devices/e", "{}"), 401);
	assert_int_equal(ask(w, "GET", "/twins/d", ""), 401);
	w->token = sign(w, "hub.test", service_key, "service", 600);
	assert_int_equal(ask(w, "GET", "/twins/d", ""), 200);
	w->token = sign(w, "hub.test/devices/other", service_key, "service", 600);
	assert_int_equal(ask(w, "GET", "/twins/d", ""), 401);
	w->token = sign(w, "hub.test/devices/d", service_key, "service", 600);
	assert_int_equal(ask(w, "GET", "/twins/d", ""), 200);
	w->token = sign(w, "hub.test", read_key, "service", 600);
	assert_int_equal(ask(w, "GET", "/twins/d", ""), 401);
	w->token = sign(w, "hub.test", service_key, "service", -1);
	assert_int_equal(ask(w, "GET", "/twins/d", ""), 401);
	w->token = sign(w, "else.test", service_key, "service", 600);
	assert_int_equal(ask(w, "GET", "/twins/d", ""), 401);
	w->token = sign(w, "hub.test", service_key, "nobody", 600);
	assert_int_equal(ask(w, "GET", "/twins/d", ""), 401);
	/* A token for the event hub reads events, over AMQP. */
	w->token = sign(w, "sb://hub.test/hub", service_key, "service", 600);
	assert_int_equal(ask(w, "GET", "/twins/d", ""), 401);
	/* A device may send telemetry, and nothing else. */
	w->token = sign(w, "hub.test/devices/d", hub_ident_find(w->m, hf_span_str("d"))->primary_key, NULL, 600);
	assert_int_equal(ask(w, "GET", "/devices/d", ""), 401);
	snprintf(w->headers, sizeof w->headers, "iothub-app-k: v&=\r\nIoTHub-MessageId: id 1\r\n");
	assert_int_equal(ask(w, "POST", "/devices/d/messages/events", "hello"), 204);
	uint64_t seq = 1;
	json_t *o = hub_event_get(w->m, &seq);

	assert_string_equal(json_string_value(json_object_get(json_object_get(o, "properties"), "k")), "v&=");
	assert_string_equal(json_string_value(json_object_get(json_object_get(o, "systemProperties"), "messageId")), "id 1");
	assert_string_equal(json_string_value(json_object_get(o, "bodyBase64")), "aGVsbG8=");
	json_decref(o);
}

static void test_twins_and_content(void **state)
{
	struct world *w = *state;
	json_t *desired;

	assert_int_equal(ask(w, "PUT", "/devices/edge1", "{'capabilities':{'iotEdge':true}}"), 200);
	snprintf(w->headers, sizeof w->headers, "If-Match: \"*\"\r\n");
	assert_int_equal(ask(w, "PATCH", "/twins/edge1", "{'tags':{'a':1},'properties':{'desired':{'x':1,'$version':7}}}"), 200);
	desired = json_object_get(json_object_get(w->doc, "properties"), "desired");
	assert_int_equal(json_integer_value(json_object_get(desired, "$version")), 2);
	assert_non_null(json_object_get(desired, "$metadata"));
	assert_int_equal(ask(w, "PATCH", "/twins/edge1", "{'properties':{'desired':{'x.y':1}}}"), 400);
	assert_int_equal(ask(w, "PATCH", "/twins/edge1", "[]"), 400);
	assert_int_equal(ask(w, "GET", "/twins/edge1/modules/none", ""), 404);

	assert_int_equal(ask(w, "POST", "/devices/edge1/applyConfigurationContent",
			     "{'modulesContent':{'$edgeAgent':{'properties.desired':{'modules':{'m1':{'env':{}},'m2':{}}}},"
			     "'$edgeHub':{'properties.desired':{'storeAndForwardConfiguration':{'timeToLiveSecs':5}}},"
			     "'m1':{'properties.desired.a.b':3}}}"), 204);
	assert_int_equal(ask(w, "GET", "/twins/edge1/modules/m1", ""), 200);
	desired = json_object_get(json_object_get(w->doc, "properties"), "desired");
	assert_int_equal(json_integer_value(json_object_get(json_object_get(desired, "a"), "b")), 3);
	assert_int_equal(ask(w, "POST", "/devices/edge1/applyConfigurationContent",
			     "{'modulesContent':{'$edgeAgent':{'properties.desired':{'modules':{'m2':{}}}}}}"), 204);
	assert_int_equal(ask(w, "GET", "/devices/edge1/modules", ""), 200);
	assert_int_equal(json_array_size(w->doc), 3);
	assert_int_equal(ask(w, "PUT", "/devices/leaf", "{}"), 200);
	assert_int_equal(ask(w, "POST", "/devices/leaf/applyConfigurationContent", "{'modulesContent':{}}"), 400);
	assert_int_equal(ask(w, "POST", "/twins/leaf/methods", "{'methodName':'go','responseTimeoutInSeconds':'30'}"), 404);
	assert_non_null(strstr(text(w, "Message"), "\"errorCode\":404103"));
	assert_int_equal(ask(w, "POST", "/twins/leaf/methods", "{'methodName':'go','responseTimeoutInSeconds':1}"), 400);
}

static void answer(void *arg, const char *name, const char *rid, struct hf_span payload)
{
	struct world *w = arg;

	assert_string_equal(name, "doIt");
	assert_true(hf_span_is(payload, "{\"a\":1}"));
	hub_method_answer(w->m, "d", hf_span_str(rid), 201, hf_span_str("{\"ok\":true}"));
}

static void test_method(void **state)
{
	struct world *w = *state;
	struct hub_method_sink sink = { .id = "d", .send = answer, .arg = w };

	assert_int_equal(ask(w, "PUT", "/devices/d", "{}"), 200);
	hub_method_sink_add(w->m, &sink);
	assert_int_equal(ask(w, "POST", "/twins/d/methods",
			     "{'methodName':'doIt','payload':{'a':1},'responseTimeoutInSeconds':15,'connectTimeoutInSeconds':5}"),
			 200);
	assert_int_equal(json_integer_value(json_object_get(w->doc, "status")), 201);
	assert_true(json_is_true(json_object_get(json_object_get(w->doc, "payload"), "ok")));
	hub_method_sink_remove(w->m, &sink);
}

/* How long a device holds a message is its own to say, within bounds. */
static void test_lock_timeout(void **state)
{
	static const struct { const char *header; int status; uint64_t ms; } cases[] = {
		{ "", 200, 60000 }, { "IotHub-MessageLockTimeout: 10\r\n", 200, 10000 }, { "iothub-messagelocktimeout: 300\r\n", 200, 300000 },
		{ "IotHub-MessageLockTimeout: 9\r\n", 400, 0 }, { "IotHub-MessageLockTimeout: 301\r\n", 400, 0 },
		{ "IotHub-MessageLockTimeout: -10\r\n", 400, 0 }, { "IotHub-MessageLockTimeout: soon\r\n", 400, 0 },
		{ "IotHub-MessageLockTimeout: \r\n", 400, 0 }, { "IotHub-MessageLockTimeout: 4294967306\r\n", 400, 0 },
	};
	struct world *w = *state;
	assert_int_equal(ask(w, "PUT", "/devices/d", "{}"), 200);
	snprintf(w->headers, sizeof w->headers, "iothub-to: /devices/d/messages/deviceBound\r\n");
	assert_int_equal(ask(w, "POST", "/messages/deviceBound", "x"), 204);
	w->token = sign(w, "hub.test/devices/d", hub_ident_find(w->m, hf_span_str("d"))->primary_key, NULL, 600);
	for (size_t i = 0; i < HF_ARRAY_LEN(cases); i++) {
		struct hf_clock_fake clock = { .mono_ms = hf_clock_mono_ms() + cases[i].ms - 1, .wall_ms = hf_clock_wall_ms() };
		const struct hub_c2d *msg;

		clock.boot_ms = clock.mono_ms;
		snprintf(w->headers, sizeof w->headers, "%s", cases[i].header);
		assert_int_equal(ask(w, "GET", "/devices/d/messages/deviceBound", ""), cases[i].status);
		if (cases[i].status != 200)
			continue;
		hf_clock_fake(&clock);	/* a moment before the lock that was taken later can end */
		hub_c2d_refresh(w->m, hub_entry_find(w->m, hf_span_str("d")));
		assert_int_equal(hub_c2d_receive(w->m, "d", w, 0, &msg), HF_ENOTFOUND);
		hf_clock_fake(NULL);
		clock.mono_ms = clock.boot_ms = hf_clock_mono_ms() + cases[i].ms;
		hf_clock_fake(&clock);
		hub_c2d_refresh(w->m, hub_entry_find(w->m, hf_span_str("d")));
		assert_int_equal(hub_c2d_receive(w->m, "d", w, 0, &msg), 0);
		hf_clock_fake(NULL);
		hub_c2d_release_all(w->m, "d", w);
	}
}

static void test_query(void **state)
{
	struct world *w = *state;
	char *token, *end;

	assert_int_equal(ask(w, "POST", "/devices", "[{'id':'a','importMode':'create'},{'id':'b','importMode':'create'},"
			     "{'id':'c','importMode':'create'}]"), 200);
	snprintf(w->headers, sizeof w->headers, "x-ms-max-item-count: 2\r\n");
	assert_int_equal(ask(w, "POST", "/devices/query", "{'query':'SELECT * FROM devices'}"), 200);
	assert_int_equal(json_array_size(w->doc), 2);
	assert_true(head_has(w, "x-ms-item-type: Twin"));
	token = strstr(hf_buf_cstr(&w->got), "x-ms-continuation: ");
	assert_non_null(token);
	end = strstr(token, "\r\n");
	snprintf(w->headers, sizeof w->headers, "%.*s\r\n", (int)(end - token), token);
	assert_int_equal(ask(w, "POST", "/devices/query", "{'query':'SELECT * FROM devices'}"), 200);
	assert_int_equal(json_array_size(w->doc), 1);
	assert_false(head_has(w, "x-ms-continuation"));
	assert_int_equal(ask(w, "POST", "/devices/query", "{'query':'SELECT * FORM devices'}"), 400);
	assert_non_null(strstr(text(w, "Message"), "expected FROM"));
}

static void test_scope(void **state)
{
	struct world *w = *state;
	char body[256], scope[200], path[1024], id[16], edge2[200];
	unsigned n = 0, modules = 0, pages = 0;

	assert_int_equal(ask(w, "PUT", "/devices/edge1", "{'capabilities':{'iotEdge':true}}"), 200);
	snprintf(scope, sizeof scope, "%s", text(w, "deviceScope"));
	snprintf(body, sizeof body, "{'capabilities':{'iotEdge':true},'parentScopes':['%s']}", scope);
	assert_int_equal(ask(w, "PUT", "/devices/edge2", body), 200);
	snprintf(edge2, sizeof edge2, "%s", text(w, "deviceScope"));
	snprintf(body, sizeof body, "{'deviceScope':'%s'}", scope);
	for (unsigned i = 0; i < 7; i++) {
		snprintf(path, sizeof path, "/devices/dev%u", i);
		assert_int_equal(ask(w, "PUT", path, body), 200);
	}
	snprintf(body, sizeof body, "{'deviceScope':'%s'}", edge2);
	assert_int_equal(ask(w, "PUT", "/devices/grandchild", body), 200);
	assert_int_equal(ask(w, "PUT", "/devices/stranger", "{}"), 200);

	snprintf(path, sizeof path, "/devices/edge1/modules/%%24edgeHub/devicesAndModulesInDeviceScope?deviceCount=3"
				    "&continuationToken=&api-version=2018-08-30-preview");
	assert_int_equal(ask(w, "GET", path, ""), 401);		/* a service token is not the gateway */
	w->token = sign(w, "hub.test/devices/dev0", hub_ident_find(w->m, hf_span_str("dev0"))->primary_key, NULL, 600);
	assert_int_equal(ask(w, "GET", path, ""), 401);
	assert_int_equal(ask(w, "GET", "/devices/dev0/modules/%24edgeHub/devicesAndModulesInDeviceScope", ""), 401);
	w->token = sign(w, "hub.test/devices/edge1/modules/$edgeHub",
			hub_ident_find(w->m, hf_span_str("edge1/$edgeHub"))->primary_key, NULL, 600);
	for (;; pages++) {
		const char *link;
		json_t *d;
		size_t i;

		assert_int_equal(ask(w, "GET", path, ""), 200);
		n += json_array_size(json_object_get(w->doc, "devices"));
		modules += json_array_size(json_object_get(w->doc, "modules"));
		json_array_foreach(json_object_get(w->doc, "devices"), i, d) {
			snprintf(id, sizeof id, "%s", json_string_value(json_object_get(d, "deviceId")));
			assert_string_not_equal(id, "stranger");
			assert_string_not_equal(id, "grandchild");
			assert_non_null(json_object_get(json_object_get(json_object_get(d, "authentication"), "symmetricKey"),
						"primaryKey"));
		}
		link = json_string_value(json_object_get(w->doc, "continuationLink"));
		if (!link)
			break;
		snprintf(path, sizeof path, "%s", link);
	}
	assert_int_equal(n, 9);		/* edge1, edge2, dev0..dev6 */
	assert_int_equal(modules, 4);
	assert_int_equal(pages, 2);

	assert_int_equal(ask(w, "GET", "/devices/edge1/modules/$edgeHub/deviceAndModuleInDeviceScope?targetDeviceId=dev1"
			     "&targetModuleId=&api-version=2018-08-30-preview", ""), 200);
	assert_int_equal(json_array_size(json_object_get(w->doc, "devices")), 1);
	assert_int_equal(ask(w, "GET", "/devices/edge1/modules/$edgeHub/deviceAndModuleInDeviceScope?targetDeviceId=stranger",
			     ""), 404);
	assert_int_equal(ask(w, "POST", "/devices/edge1/modules/$edgeHub/devicesAndModulesInTargetDeviceScope",
			     "{'pageSize':100,'authChain':'edge2;edge1'}"), 200);
	assert_int_equal(json_array_size(json_object_get(w->doc, "devices")), 2);
	assert_int_equal(ask(w, "POST", "/devices/edge1/modules/$edgeHub/getDeviceAndModuleOnBehalfOf",
			     "{'targetDeviceId':'grandchild','authChain':'grandchild;edge2;edge1'}"), 200);
	assert_int_equal(ask(w, "POST", "/devices/edge1/modules/$edgeHub/getDeviceAndModuleOnBehalfOf",
			     "{'targetDeviceId':'grandchild','authChain':'grandchild;edge1'}"), 401);
	assert_int_equal(ask(w, "POST", "/devices/edge1/modules/$edgeHub/devicesAndModulesInTargetDeviceScope",
			     "{'authChain':'edge2'}"), 401);
	/* The edge device's own token will do too; not once it is disabled. */
	w->token = sign(w, "hub.test/devices/edge1", hub_ident_find(w->m, hf_span_str("edge1"))->primary_key, NULL, 600);
	assert_int_equal(ask(w, "GET", "/devices/edge1/modules/$edgeHub/devicesAndModulesInDeviceScope", ""), 200);
	w->token = NULL;
	snprintf(w->headers, sizeof w->headers, "If-Match: *\r\n");
	assert_int_equal(ask(w, "PUT", "/devices/edge1", "{'status':'disabled'}"), 200);
	w->token = sign(w, "hub.test/devices/edge1/modules/$edgeHub",
			hub_ident_find(w->m, hf_span_str("edge1/$edgeHub"))->primary_key, NULL, 600);
	assert_int_equal(ask(w, "GET", "/devices/edge1/modules/$edgeHub/devicesAndModulesInDeviceScope", ""), 401);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_registry, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tokens, setup, teardown),
		cmocka_unit_test_setup_teardown(test_twins_and_content, setup, teardown),
		cmocka_unit_test_setup_teardown(test_method, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lock_timeout, setup, teardown),
		cmocka_unit_test_setup_teardown(test_query, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scope, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
