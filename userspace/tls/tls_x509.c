/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tls/tls_x509.c - what is asked of certificates beside the handshake. */
#include "tls/tls_int.h"

#include "core/util.h"

#include <holdfast/err.h>
#include <wolfssl/openssl/ssl.h>
#include <wolfssl/wolfcrypt/sha.h>

#include <errno.h>
#include <time.h>

int hf_x509_time(const WOLFSSL_ASN1_TIME *t, int64_t *ret_s)
{
	struct tm tm;

	memset(&tm, 0, sizeof tm);
	if (!t || wolfSSL_ASN1_TIME_to_tm(t, &tm) != WOLFSSL_SUCCESS)
		return HF_EINVALID;
	*ret_s = timegm(&tm);
	return 0;
}

/* A name with a NUL inside would compare equal to a shorter one, and of two names each reader may take another: such
 * certificates are refused. */
static int common_name(WOLFSSL_X509 *x, char *out, size_t cap)
{
	WOLFSSL_X509_NAME *name = wolfSSL_X509_get_subject_name(x);
	WOLFSSL_X509_NAME_ENTRY *entry;
	WOLFSSL_ASN1_STRING *text;
	int at, n;
	const unsigned char *p;

	out[0] = '\0';
	if (!name)
		return HF_EINVALID;
	at = wolfSSL_X509_NAME_get_index_by_NID(name, NID_commonName, -1);
	if (at < 0)
		return 0;
	if (wolfSSL_X509_NAME_get_index_by_NID(name, NID_commonName, at) >= 0)
		return HF_EINVALID;
	entry = wolfSSL_X509_NAME_get_entry(name, at);
	text = entry ? wolfSSL_X509_NAME_ENTRY_get_data(entry) : NULL;
	if (!text)
		return HF_EINVALID;
	p = wolfSSL_ASN1_STRING_data(text);
	n = wolfSSL_ASN1_STRING_length(text);
	if (!p || n < 0 || (size_t)n >= cap || memchr(p, 0, (size_t)n))
		return HF_EINVALID;
	memcpy(out, p, (size_t)n);
	out[n] = '\0';
	return 0;
}

static void hex_of(const uint8_t *p, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[p[i] >> 4];
		out[2 * i + 1] = digits[p[i] & 15];
	}
	out[2 * n] = '\0';
}

int hf_x509_info(struct hf_span der, struct hf_x509_info *ret_info)
{
	struct hf_x509_info info = { 0 };
	uint8_t sha1[20], sha256[32];
	WOLFSSL_X509 *x;
	int r;

	if (der.len == 0 || der.len > INT32_MAX)
		return HF_EINVALID;
	x = wolfSSL_X509_load_certificate_buffer(der.ptr, (int)der.len, WOLFSSL_FILETYPE_ASN1);
	if (!x) {
		wolfSSL_ERR_clear_error();
		return HF_EINVALID;
	}
	r = common_name(x, info.common_name, sizeof info.common_name);
	if (r == 0)
		r = hf_x509_time(wolfSSL_X509_get_notBefore(x), &info.not_before);
	if (r == 0)
		r = hf_x509_time(wolfSSL_X509_get_notAfter(x), &info.not_after);
	info.is_ca = wolfSSL_X509_get_isCA(x) == 1;
	wolfSSL_X509_free(x);
	wolfSSL_ERR_clear_error();
	if (r < 0 || wc_ShaHash(der.ptr, (word32)der.len, sha1) != 0)
		return HF_EINVALID;
	hf_sha256(der, sha256);
	hex_of(sha1, sizeof sha1, info.sha1_hex);
	hex_of(sha256, sizeof sha256, info.sha256_hex);
	*ret_info = info;
	return 0;
}

bool hf_x509_thumb_is(const char *registered, const struct hf_x509_info *info)
{
	char hex[65];
	size_t n = 0;

	for (const char *p = registered; p && *p; p++) {
		if (*p == ':' || *p == ' ' || *p == '-')
			continue;
		if (n == sizeof hex - 1)
			return false;
		hex[n++] = (char)(*p >= 'A' && *p <= 'Z' ? *p + 32 : *p);
	}
	hex[n] = '\0';
	return (n == 40 && strcmp(hex, info->sha1_hex) == 0) || (n == 64 && strcmp(hex, info->sha256_hex) == 0);
}
