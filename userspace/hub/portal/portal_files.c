/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The portal's pages, as they lie in the binary (scripts/embed). */
#include "core/util.h"
#include "hub/portal/portal_files.h"
#include "hub/portal/portal_int.h"

#include <stdio.h>

/* Nothing from elsewhere, nothing inline, nobody may frame it; text never becomes markup. */
#define POLICY                                                                                                       \
	"Content-Security-Policy: default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "      \
	"frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'\r\n"

static const char *type_of(const char *name)
{
	static const struct { const char *ending, *type; } types[] = {
		{ ".html", "text/html; charset=utf-8" }, { ".css", "text/css; charset=utf-8" },
		{ ".js", "text/javascript; charset=utf-8" }, { ".svg", "image/svg+xml" },
	};
	const char *dot = strrchr(name, '.');

	for (size_t i = 0; dot && i < HF_ARRAY_LEN(types); i++)
		if (strcmp(dot, types[i].ending) == 0)
			return types[i].type;
	return "application/octet-stream";
}

static const struct hub_portal_file *find(const char *path)
{
	if (!*path)
		path = "index.html";
	for (const struct hub_portal_file *f = hub_portal_files; f->name; f++)
		if (strcmp(f->name, path) == 0)
			return f;
	return NULL;
}

/* Is the tag among those the client has? Weak ones count, as RFC 9110 13.1.2 says. */
static bool has_tag(const struct rest_req *q, const char *tag)
{
	struct hf_span list, item;

	if (!hf_http_header(q->http, "If-None-Match", &list))
		return false;
	while (list.len) {
		hf_span_cut(&list, ',', &item);
		while (item.len && item.ptr[0] == ' ')
			item = hf_span_skip(item, 1);
		if (hf_span_starts(item, "W/"))
			item = hf_span_skip(item, 2);
		if (hf_span_is(item, tag) || hf_span_is(item, "*"))
			return true;
	}
	return false;
}

void portal_file(struct rest_req *q, const char *path)
{
	const struct hub_portal_file *f = find(path);
	char headers[1024];

	if (strcmp(q->http->method, "GET") != 0 && strcmp(q->http->method, "HEAD") != 0) {
		hf_http_respond(hf_take(q->x), 405, "text/plain", hf_span_str("Only GET and HEAD.\n"), "Allow: GET, HEAD\r\n" PORTAL_HEADERS);
		return;
	}
	if (!f) {
		hf_http_respond(hf_take(q->x), 404, "text/plain", hf_span_str("There is no such page. The portal is at /portal/\n"), PORTAL_HEADERS);
		return;
	}
	snprintf(headers, sizeof headers, "ETag: %s\r\nCache-Control: no-cache\r\n" PORTAL_HEADERS POLICY, f->etag);
	hf_http_respond(hf_take(q->x), has_tag(q, f->etag) ? 304 : 200, type_of(f->name),
			hf_span(f->begin, (size_t)(f->end - f->begin)), headers);
}
