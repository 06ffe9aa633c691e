/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLS sessions over socket pairs, refused peers, certificates, hashes and sealing. */
#include "tls/tls.h"

#include "core/util.h"
#include "pki.h"

#include <holdfast/err.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <time.h>

#include <cmocka.h>

static struct pki pki;

struct pair {
	struct hf_tls_ctx *srv_ctx, *cl_ctx;
	struct hf_tls *srv, *cl;
	int fds[2];
};

static void pair_init(struct pair *p, const char *ca, const char *name)
{
	struct hf_tls_server_cfg cfg = { .cert_file = pki.cert, .key_file = pki.key,
					 .request_client_cert = true };

	memset(p, 0, sizeof *p);
	assert_int_equal(hf_tls_ctx_create_server(&cfg, &p->srv_ctx), 0);
	assert_int_equal(hf_tls_ctx_create_client(ca, &p->cl_ctx), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p->fds), 0);
	assert_int_equal(hf_tls_create(p->srv_ctx, p->fds[0], NULL, &p->srv), 0);
	assert_int_equal(hf_tls_create(p->cl_ctx, p->fds[1], name, &p->cl), 0);
}

static void pair_fini(struct pair *p)
{
	hf_tls_destroy(&p->srv);
	hf_tls_destroy(&p->cl);
	hf_tls_ctx_unref(&p->srv_ctx);
	hf_tls_ctx_unref(&p->cl_ctx);
	close(p->fds[0]);
	close(p->fds[1]);
}

static void shake(struct pair *p, enum hf_tls_step *ret_srv, enum hf_tls_step *ret_cl)
{
	enum hf_tls_step s = HF_TLS_WANT_READ, c = HF_TLS_WANT_READ;

	for (int i = 0; i < 50; i++) {
		if (c == HF_TLS_WANT_READ || c == HF_TLS_WANT_WRITE)
			c = hf_tls_handshake(p->cl);
		if (s == HF_TLS_WANT_READ || s == HF_TLS_WANT_WRITE)
			s = hf_tls_handshake(p->srv);
	}
	*ret_srv = s;
	*ret_cl = c;
}

static void test_handshake_and_data(void **state)
{
	enum hf_tls_step s, c;
	struct pair p;
	char in[64];
	size_t n = 0;

	(void)state;
	pair_init(&p, pki.ca, "gw.test");
	shake(&p, &s, &c);
	assert_int_equal(s, HF_TLS_OK);
	assert_int_equal(c, HF_TLS_OK);
	assert_string_equal(hf_tls_version(p.srv), "TLSv1.3");
	assert_non_null(strstr(hf_tls_cipher(p.srv), "CHACHA20"));
	assert_int_equal(hf_tls_peer_cert(p.srv).len, 0);
	/* Many records in the socket at once: read one by one, then want-read, then end. */
	for (int i = 0; i < 10; i++)
		assert_int_equal(hf_tls_write(p.cl, "hello", 5, &n), HF_TLS_OK);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(hf_tls_read(p.srv, in, sizeof in, &n), HF_TLS_OK);
		assert_int_equal(n, 5);
		assert_int_equal(hf_tls_pending(p.srv), i < 9);
	}
	assert_int_equal(hf_tls_read(p.srv, in, sizeof in, &n), HF_TLS_WANT_READ);
	assert_int_equal(hf_tls_write(p.cl, "x", 1, &n), HF_TLS_OK);
	assert_int_equal(hf_tls_read(p.srv, in, sizeof in, &n), HF_TLS_OK);
	hf_tls_shutdown(p.cl);
	while ((s = hf_tls_read(p.srv, in, sizeof in, &n)) == HF_TLS_WANT_READ)
		;
	assert_int_equal(s, HF_TLS_EOF);
	assert_true(llabs(hf_tls_ctx_expiry(p.srv_ctx) - (time(NULL) + 2 * 86400)) < 600);
	pair_fini(&p);
}

static void refused(const char *ca, const char *name, const char *why)
{
	enum hf_tls_step s, c;
	struct pair p;

	pair_init(&p, ca, name);
	shake(&p, &s, &c);
	assert_int_equal(c, HF_TLS_FAIL);
	if (!strstr(hf_tls_error(p.cl), why))
		fail_msg("reason: %s", hf_tls_error(p.cl));
	assert_int_equal(s, HF_TLS_FAIL);
	pair_fini(&p);
}

static void test_client_verifies(void **state)
{
	(void)state;
	refused(pki.other_ca, "gw.test", "unknown issuer");
	refused(pki.ca, "gw2.test", "another host");
	refused(pki.ca, "127.0.0.2", "another host");
}

static void test_address_as_name(void **state)
{
	enum hf_tls_step s, c;
	struct pair p;

	(void)state;
	pair_init(&p, pki.ca, "127.0.0.1");
	shake(&p, &s, &c);
	assert_int_equal(c, HF_TLS_OK);
	pair_fini(&p);
}

static void write_pem(char path[96], const char *name, struct hf_buf *text)
{
	FILE *f;

	snprintf(path, 96, "%s/%s", pki.dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(hf_buf_cstr(text), f) >= 0);
	assert_int_equal(fclose(f), 0);
	hf_buf_wipe(text);
}

/* Root and server certificate made here pass the same verification as those that openssl made. */
static void test_issued_certificates(void **state)
{
	struct hf_x509_request root = { .common_name = "made root", .days = 10, .is_ca = true };
	struct hf_x509_request leaf = { .common_name = "made.test", .alt_names = "made.test,127.0.0.1,::1", .days = 3,
					.issuer_name = root.common_name };
	struct hf_buf cert = HF_BUF_INIT(8192), key = HF_BUF_INIT(8192), root_key = HF_BUF_INIT(8192);
	static const struct { const char *name; bool ok; } names[] = { { "made.test", true }, { "127.0.0.1", true },
								       { "other.test", false }, { "127.0.0.2", false } };
	char long_name[6000], ca[96];
	struct pki before = pki;
	enum hf_tls_step s, c;
	struct pair p;

	(void)state;
	assert_int_equal(hf_x509_issue(&root, &cert, &root_key), 0);
	write_pem(ca, "made-ca.pem", &cert);
	leaf.issuer_key_pem = hf_buf_span(&root_key);
	assert_int_equal(hf_x509_issue(&leaf, &cert, &key), 0);
	write_pem(pki.cert, "made.pem", &cert);
	write_pem(pki.key, "made.key", &key);
	for (unsigned i = 0; i < HF_ARRAY_LEN(names); i++) {
		pair_init(&p, ca, names[i].name);
		shake(&p, &s, &c);
		assert_int_equal(c, names[i].ok ? HF_TLS_OK : HF_TLS_FAIL);
		assert_true(llabs(hf_tls_ctx_expiry(p.srv_ctx) - (time(NULL) + 3 * 86400)) < 600);
		pair_fini(&p);
	}
	refused(before.ca, "made.test", "unknown issuer");
	pki = before;

	memset(long_name, 'x', sizeof long_name - 1);
	long_name[sizeof long_name - 1] = '\0';
	leaf.alt_names = long_name;
	assert_int_equal(hf_x509_issue(&leaf, &cert, &key), HF_EINVALID);
	leaf.alt_names = NULL;
	leaf.issuer_key_pem = hf_span_str("no key");
	assert_int_equal(hf_x509_issue(&leaf, &cert, &key), HF_ETLS);
	hf_buf_wipe(&root_key);
	hf_buf_wipe(&cert);
	hf_buf_wipe(&key);
}

/* A peer of another library with one cipher or version, over a socket pair as its stdin side of -connect is
 * not possible: it connects to a listening socket. */
struct openssl_peer {
	pid_t pid;
	int fd;
};

static void peer_start(struct openssl_peer *peer, const char *const *extra)
{
	struct sockaddr_storage ss = { .ss_family = AF_INET };
	const char *argv[24] = { "openssl", "s_client", "-connect", NULL, "-servername", "gw.test", "-CAfile",
				 pki.ca, "-quiet", "-no_ign_eof" };
	int n = 10, lfd = socket(AF_INET, SOCK_STREAM, 0);
	uint8_t addr[16] = { 2, 0, 0, 0, 127, 0, 0, 1 };
	socklen_t len = sizeof addr;
	char target[32];

	memcpy(&ss, addr, sizeof addr);
	ss.ss_family = AF_INET;
	assert_int_equal(bind(lfd, (struct sockaddr *)&ss, sizeof addr), 0);
	assert_int_equal(listen(lfd, 1), 0);
	assert_int_equal(getsockname(lfd, (struct sockaddr *)&ss, &len), 0);
	memcpy(addr, &ss, sizeof addr);
	snprintf(target, sizeof target, "127.0.0.1:%d", addr[2] << 8 | addr[3]);
	argv[3] = target;
	while (*extra)
		argv[n++] = *extra++;
	peer->pid = fork();
	if (peer->pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	peer->fd = accept(lfd, NULL, NULL);
	assert_true(peer->fd >= 0);
	close(lfd);
}

/* Server side against that peer. request_cert as given. The result's session is left for inspection. */
static enum hf_tls_step serve(const char *const *extra, char *ret_text, size_t cap, struct hf_x509_info *ret_x,
			      const char **ret_chain)
{
	struct hf_tls_server_cfg cfg = { .cert_file = pki.cert, .key_file = pki.key,
					 .request_client_cert = ret_x != NULL, .client_ca_file = pki.ca };
	struct openssl_peer peer;
	struct hf_tls_ctx *ctx;
	struct hf_tls *tls;
	enum hf_tls_step s;
	int64_t until;
	struct timeval limit = { .tv_sec = 10 };
	int status;

	assert_int_equal(hf_tls_ctx_create_server(&cfg, &ctx), 0);
	peer_start(&peer, extra);
	assert_int_equal(hf_tls_create(ctx, peer.fd, NULL, &tls), 0);
	while ((s = hf_tls_handshake(tls)) == HF_TLS_WANT_READ) {
		fd_set r;

		FD_ZERO(&r);
		FD_SET(peer.fd, &r);
		assert_int_equal(select(peer.fd + 1, &r, NULL, NULL, &limit), 1);
	}
	snprintf(ret_text, cap, "%s", s == HF_TLS_OK ? hf_tls_cipher(tls) : hf_tls_error(tls));
	if (s == HF_TLS_OK && ret_x && hf_tls_peer_cert(tls).len) {
		assert_int_equal(hf_x509_info(hf_tls_peer_cert(tls), ret_x), 0);
		*ret_chain = hf_tls_peer_refused(tls, time(NULL), &until);
	}
	hf_tls_destroy(&tls);
	hf_tls_ctx_unref(&ctx);
	close(peer.fd);
	waitpid(peer.pid, &status, 0);
	return s;
}

static void test_banned_ciphers(void **state)
{
	static const char *const banned[] = {
		"NULL-SHA256", "ECDHE-ECDSA-NULL-SHA", "ADH-AES256-GCM-SHA384", "AECDH-AES256-SHA",
		"AES256-GCM-SHA384", "AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA",
		"DHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-CCM", "ECDHE-ECDSA-CAMELLIA128-SHA256",
	};
	static const char *const good[] = { "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256",
					    "ECDHE-ECDSA-AES256-GCM-SHA384" };
	char text[160], spec[64];

	(void)state;
	for (size_t i = 0; i < HF_ARRAY_LEN(banned); i++) {
		snprintf(spec, sizeof spec, "%s:@SECLEVEL=0", banned[i]);
		assert_int_equal(serve((const char *const[]){ "-tls1_2", "-cipher", spec, NULL }, text,
				       sizeof text, NULL, NULL), HF_TLS_FAIL);
		if (!strstr(text, "no common cipher"))
			fail_msg("%s: %s", banned[i], text);
	}
	for (size_t i = 0; i < HF_ARRAY_LEN(good); i++)
		assert_int_equal(serve((const char *const[]){ "-tls1_2", "-cipher", good[i], NULL }, text,
				       sizeof text, NULL, NULL), HF_TLS_OK);
	assert_int_equal(serve((const char *const[]){ "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", NULL }, text,
			       sizeof text, NULL, NULL), HF_TLS_FAIL);
	if (!strstr(text, "version"))
		fail_msg("TLS 1.1: %s", text);
}

static void test_client_certificates(void **state)
{
	struct hf_x509_info x;
	char text[160];
	const char *chain = "not judged";

	(void)state;
	for (int v12 = 0; v12 < 2; v12++) {
		const char *v = v12 ? "-tls1_2" : "-tls1_3";

		memset(&x, 0, sizeof x);
		assert_int_equal(serve((const char *const[]){ v, NULL }, text, sizeof text, &x, &chain),
				 HF_TLS_OK);
		assert_string_equal(x.common_name, "");
		assert_int_equal(serve((const char *const[]){ v, "-cert", pki.client_cert, "-key",
			pki.client_key, NULL }, text, sizeof text, &x, &chain), HF_TLS_OK);
		assert_string_equal(x.common_name, "dev0");
		assert_int_equal(strlen(x.sha1_hex), 40);
		assert_int_equal(strlen(x.sha256_hex), 64);
		assert_true(x.not_before <= time(NULL) && x.not_after > time(NULL));
		assert_non_null(chain);
		assert_int_equal(serve((const char *const[]){ v, "-cert", pki.signed_cert, "-key",
			pki.signed_key, NULL }, text, sizeof text, &x, &chain), HF_TLS_OK);
		assert_string_equal(x.common_name, "dev1");
		assert_false(x.is_ca);
		assert_null(chain);
	}
}

static void test_not_tls(void **state)
{
	enum hf_tls_step s;
	struct pair p;

	(void)state;
	pair_init(&p, pki.ca, "gw.test");
	assert_true(write(p.fds[1], "GET / HTTP/1.1\r\n\r\n", 18) == 18);
	do
		s = hf_tls_handshake(p.srv);
	while (s == HF_TLS_WANT_READ);
	assert_int_equal(s, HF_TLS_FAIL);
	pair_fini(&p);
	pair_init(&p, pki.ca, "gw.test");
	shutdown(p.fds[1], SHUT_WR);
	do
		s = hf_tls_handshake(p.srv);
	while (s == HF_TLS_WANT_READ);
	assert_int_equal(s, HF_TLS_EOF);
	pair_fini(&p);
}

static void test_bad_files(void **state)
{
	struct hf_tls_server_cfg cfg = { .cert_file = pki.cert, .key_file = pki.client_key };
	struct hf_tls_ctx *ctx;

	(void)state;
	assert_int_equal(hf_tls_ctx_create_server(&cfg, &ctx), HF_ETLS);
	cfg.key_file = "/nonexistent/key";
	assert_int_equal(hf_tls_ctx_create_server(&cfg, &ctx), -ENOENT);
	cfg.cert_file = pki.key;
	cfg.key_file = pki.key;
	assert_int_equal(hf_tls_ctx_create_server(&cfg, &ctx), HF_ETLS);
	assert_int_equal(hf_tls_ctx_create_client(pki.key, &ctx), HF_ETLS);
}

/* RFC 4231 case 2, FIPS 180-4 "abc". */
static void test_hashes(void **state)
{
	static const uint8_t mac[4] = { 0x5b, 0xdc, 0xc1, 0x46 }, sha[4] = { 0xba, 0x78, 0x16, 0xbf };
	uint8_t out[32];

	(void)state;
	hf_hmac_sha256(hf_span_str("Jefe"), hf_span_str("what do ya want for nothing?"), out);
	assert_memory_equal(out, mac, 4);
	hf_sha256(hf_span_str("abc"), out);
	assert_memory_equal(out, sha, 4);
}

static void test_seal(void **state)
{
	hf_autobuf struct hf_buf sealed = HF_BUF_INIT(4096), plain = HF_BUF_INIT(4096);
	uint8_t key[32] = { 1, 2, 3 }, bad[32] = { 1, 2, 4 };
	struct hf_span aad = hf_span_str("scope/1");

	(void)state;
	assert_int_equal(hf_aead_seal(key, aad, hf_span_str("secret"), &sealed), 0);
	assert_int_equal(hf_buf_len(&sealed), 12 + 6 + 16);
	assert_int_equal(hf_aead_open(key, aad, hf_buf_span(&sealed), &plain), 0);
	assert_true(hf_span_is(hf_buf_span(&plain), "secret"));
	hf_buf_reset(&plain);
	assert_int_equal(hf_aead_open(bad, aad, hf_buf_span(&sealed), &plain), HF_ECORRUPT);
	assert_int_equal(hf_aead_open(key, hf_span_str("scope/2"), hf_buf_span(&sealed), &plain), HF_ECORRUPT);
	sealed.mem[sealed.start + 13] ^= 1;
	assert_int_equal(hf_aead_open(key, aad, hf_buf_span(&sealed), &plain), HF_ECORRUPT);
	assert_int_equal(hf_aead_open(key, aad, hf_span("short", 5), &plain), HF_ECORRUPT);
	assert_int_equal(hf_buf_len(&plain), 0);
	hf_buf_reset(&sealed);
	assert_int_equal(hf_aead_seal(key, hf_span(NULL, 0), hf_span(NULL, 0), &sealed), 0);
	assert_int_equal(hf_aead_open(key, hf_span(NULL, 0), hf_buf_span(&sealed), &plain), 0);
}

static int setup(void **state)
{
	(void)state;
	return hf_tls_global_init() == 0 && pki_make(&pki) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	pki_remove(&pki);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handshake_and_data),
		cmocka_unit_test(test_client_verifies),
		cmocka_unit_test(test_address_as_name),
		cmocka_unit_test(test_issued_certificates),
		cmocka_unit_test(test_banned_ciphers),
		cmocka_unit_test(test_client_certificates),
		cmocka_unit_test(test_not_tls),
		cmocka_unit_test(test_bad_files),
		cmocka_unit_test(test_hashes),
		cmocka_unit_test(test_seal),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
