/* SPDX-License-Identifier: GPL-3.0-or-later */
/* `holdfast-hub init`: everything a first `serve` needs, in one new directory. */
#include "core/util.h"
#include "hub/ctl/cli.h"
#include "tls/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <holdfast/err.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>

#define DAYS 3650

struct init {
	const struct hf_cli *cli;
	const char *host, *listen;
	char *dir;		/* absolute */
	int fd;			/* of it */
};

static int fail(const struct init *i, const char *what, const char *why)
{
	fprintf(stderr, "%s: init: %s: %s\n", i->cli->tool, what, why);
	return HF_EXIT_REFUSED;
}

static int write_file(const struct init *i, const char *name, struct hf_span text, mode_t mode)
{
	int fd = openat(i->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode), err = 0;

	if (fd < 0)
		return fail(i, name, strerror(errno));
	while (text.len && err == 0) {
		ssize_t n = write(fd, text.ptr, text.len);

		if (n < 0 && errno != EINTR)
			err = errno;
		else if (n > 0)
			text = hf_span_skip(text, (size_t)n);
	}
	if (close(fd) < 0 && err == 0)
		err = errno;
	return err == 0 ? HF_EXIT_OK : fail(i, name, strerror(err));
}

/* Makes a certificate and writes it with its key, which is appended to key. */
static int issue(const struct init *i, const struct hf_x509_request *req, const char *stem, struct hf_buf *key)
{
	hf_autobuf struct hf_buf cert = HF_BUF_INIT(65536);
	char name[64];
	int r = hf_x509_issue(req, &cert, key), code = HF_EXIT_OK;

	if (r != 0)
		code = fail(i, stem, hf_strerror(r));
	snprintf(name, sizeof name, "%s.pem", stem);
	if (code == HF_EXIT_OK)
		code = write_file(i, name, hf_buf_span(&cert), 0644);
	snprintf(name, sizeof name, "%s.key", stem);
	if (code == HF_EXIT_OK)
		code = write_file(i, name, hf_buf_span(key), 0600);
	return code;
}

/* The host name, and what else people call the machine. */
static int write_certificates(const struct init *i)
{
	hf_autobuf struct hf_buf names = HF_BUF_INIT(1024);
	struct hf_buf ca_key = HF_BUF_INIT(65536), key = HF_BUF_INIT(65536);
	struct hf_x509_request ca = { .common_name = "holdfast-hub test root", .days = DAYS, .is_ca = true };
	struct hf_x509_request server = { .common_name = i->host, .days = DAYS, .issuer_name = ca.common_name };
	int code;

	hf_buf_puts(&names, i->host);
	if (strcmp(i->host, "localhost") != 0)
		hf_buf_puts(&names, ",localhost");
	hf_buf_puts(&names, ",127.0.0.1,::1");
	if (strcmp(i->listen, "127.0.0.1") != 0 && strcmp(i->listen, "0.0.0.0") != 0)
		hf_buf_printf(&names, ",%s", i->listen);
	server.alt_names = hf_buf_cstr(&names);
	code = issue(i, &ca, "ca", &ca_key);
	server.issuer_key_pem = hf_buf_span(&ca_key);
	if (code == HF_EXIT_OK)
		code = issue(i, &server, "hub", &key);
	hf_buf_wipe(&ca_key);
	hf_buf_wipe(&key);
	return code;
}

static int write_conf(const struct init *i)
{
	hf_autobuf struct hf_buf text = HF_BUF_INIT(65536);

	hf_buf_printf(&text, "# written by holdfast-hub init\n"
			     "hub: { host = \"%s\"; };\n"
			     "listen: { mqtt = \"%s:8883\"; amqp = \"%s:5671\"; https = \"%s:443\"; };\n"
			     "tls: {\n"
			     "\tcert_file = \"%s/hub.pem\";\n"
			     "\tkey_file = \"%s/hub.key\";\n"
			     "\tclient_ca_file = \"%s/ca.pem\";	# devices with certificates that ca.key signed\n"
			     "};\n"
			     "control: { socket = \"%s/hub.sock\"; };\n"
			     "storage: { dir = \"%s/data\"; };\n",
		      i->host, i->listen, i->listen, i->listen, i->dir, i->dir, i->dir, i->dir, i->dir);
	return text.err ? fail(i, "hub.conf", "out of memory") : write_file(i, "hub.conf", hf_buf_span(&text), 0644);
}

/* What goes into a configuration text between quotes, and into a certificate. */
static bool is_host(const char *s)
{
	size_t n = strlen(s);

	return n > 0 && n < 64 && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == n;
}

static int make_dir(struct init *i, const char *dir)
{
	if (mkdir(dir, 0755) != 0)
		return fail(i, dir, errno == EEXIST ? "is there already; name a new directory" : strerror(errno));
	i->dir = realpath(dir, NULL);
	i->fd = i->dir ? open(i->dir, O_DIRECTORY | O_CLOEXEC) : -1;
	if (i->fd < 0)
		return fail(i, dir, strerror(errno));
	if (strlen(i->dir) + sizeof "/hub.sock" > sizeof ((struct sockaddr_un *)0)->sun_path || strpbrk(i->dir, "\"\\\n")) {
		rmdir(i->dir);
		return fail(i, i->dir, "no path for the control socket: use a shorter one, without quotes");
	}
	return HF_EXIT_OK;
}

static int print_json(const struct init *i)
{
	json_t *o = json_pack("{ss so so so}", "host", i->host, "config", json_sprintf("%s/hub.conf", i->dir), "socket",
			      json_sprintf("%s/hub.sock", i->dir), "ca", json_sprintf("%s/ca.pem", i->dir));
	int r = json_dumpf(o, stdout, JSON_COMPACT);

	json_decref(o);
	putchar('\n');
	return r == 0 ? HF_EXIT_OK : fail(i, "output", "cannot be written");
}

int hub_cli_init(const struct hf_cli *cli, const json_t *args)
{
	const char *host = json_string_value(json_object_get(args, "host")), *address = json_string_value(json_object_get(args, "listen"));
	struct init i = { .cli = cli, .host = host ? host : "localhost", .listen = address ? address : "127.0.0.1", .fd = -1 };
	struct in_addr v4;
	int code;

	if (!is_host(i.host) || inet_pton(AF_INET, i.listen, &v4) != 1) {
		fprintf(stderr, "%s: init: %s\n", cli->tool, is_host(i.host) ? "--listen takes an IPv4 address, 0.0.0.0 for all" :
			"--host takes a host name of at most 63 characters");
		return HF_EXIT_USAGE;
	}
	code = make_dir(&i, json_string_value(json_object_get(args, "dir")));
	if (code == HF_EXIT_OK)
		code = write_certificates(&i);
	if (code == HF_EXIT_OK)
		code = write_conf(&i);
	if (code == HF_EXIT_OK && cli->json)
		code = print_json(&i);
	else if (code == HF_EXIT_OK)
		printf("ready; next:\n  export HOLDFAST_HUB_SOCKET=%s/hub.sock\n  holdfast-hub serve -c %s/hub.conf\n"
		       "clients trust %s/ca.pem\n", i.dir, i.dir, i.dir);
	if (i.fd >= 0)
		close(i.fd);
	free(i.dir);
	return code;
}
