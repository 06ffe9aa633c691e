/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Encodings and text parsing of core/util.h. */
#include "core/util.h"
#include <errno.h>
#include <holdfast/err.h>
#include <stdio.h>
#include <time.h>

static const char b64_alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void hf_b64_encode(struct hf_span in, struct hf_buf *out)
{
	for (size_t i = 0; i < in.len; i += 3) {
		size_t n = hf_min(in.len - i, (size_t)3);
		uint32_t v = (uint32_t)in.ptr[i] << 16;
		char quad[4];

		if (n > 1)
			v |= (uint32_t)in.ptr[i + 1] << 8;
		if (n > 2)
			v |= in.ptr[i + 2];
		for (size_t k = 0; k < 4; k++)
			quad[k] = k <= n ? b64_alphabet[v >> (18 - 6 * k) & 63] : '=';
		hf_buf_put(out, quad, 4);
	}
}

static int b64_value(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int hf_b64_decode(struct hf_span in, struct hf_buf *out)
{
	if (in.len % 4)
		return HF_EINVALID;
	for (size_t i = 0; i < in.len; i += 4) {
		size_t pad = 0;
		uint32_t v = 0;

		if (i + 4 == in.len)
			pad = in.ptr[i + 3] != '=' ? 0 : in.ptr[i + 2] != '=' ? 1 : 2;
		for (size_t k = 0; k < 4; k++) {
			int x = k >= 4 - pad ? 0 : b64_value(in.ptr[i + k]);

			if (x < 0)
				return HF_EINVALID;
			v = v << 6 | (uint32_t)x;
		}
		if (pad && (v & (pad == 1 ? 0xffu : 0xffffu)))
			return HF_EINVALID;	/* stray bits: not canonical */
		uint8_t bytes[3] = { (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v };
		hf_buf_put(out, bytes, 3 - pad);
	}
	return out->err;
}

static const char hex_upper[] = "0123456789ABCDEF", hex_lower[] = "0123456789abcdef";

void hf_uri_encode(struct hf_span in, struct hf_buf *out)
{
	for (size_t i = 0; i < in.len; i++) {
		uint8_t c = in.ptr[i];

		if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
		    c == '.' || c == '~') {
			hf_buf_u8(out, c);
		} else {
			char esc[3] = { '%', hex_upper[c >> 4], hex_upper[c & 15] };

			hf_buf_put(out, esc, 3);
		}
	}
}

static int hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int hf_uri_decode(struct hf_span in, struct hf_buf *out)
{
	size_t plain = 0;

	for (size_t i = 0; i < in.len; i++) {
		if (in.ptr[i] != '%')
			continue;
		int hi = i + 2 < in.len ? hex_value(in.ptr[i + 1]) : -1;
		int lo = i + 2 < in.len ? hex_value(in.ptr[i + 2]) : -1;

		if (hi < 0 || lo < 0)
			return HF_EINVALID;
		hf_buf_put(out, in.ptr + plain, i - plain);
		hf_buf_u8(out, (uint8_t)(hi << 4 | lo));
		i += 2;
		plain = i + 1;
	}
	if (plain < in.len)
		hf_buf_put(out, in.ptr + plain, in.len - plain);
	return out->err;
}

void hf_hex_encode(struct hf_span in, struct hf_buf *out)
{
	for (size_t i = 0; i < in.len; i++) {
		hf_buf_putc(out, hex_lower[in.ptr[i] >> 4]);
		hf_buf_putc(out, hex_lower[in.ptr[i] & 15]);
	}
}

bool hf_utf8_ok(struct hf_span in)
{
	static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };

	for (size_t i = 0; i < in.len;) {
		uint8_t c = in.ptr[i];
		unsigned more = c < 0x80 ? 0 : (c & 0xe0) == 0xc0 ? 1 : (c & 0xf0) == 0xe0 ? 2 : (c & 0xf8) == 0xf0 ? 3 : 9;
		uint32_t v = more ? c & (0x3fu >> more) : c;

		if (more == 9 || in.len - i <= more || c == 0)
			return false;
		for (unsigned k = 1; k <= more; k++) {
			if ((in.ptr[i + k] & 0xc0) != 0x80)
				return false;
			v = v << 6 | (in.ptr[i + k] & 0x3f);
		}
		if (v < least[more] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
			return false;
		i += more + 1;
	}
	return true;
}

int hf_parse_i64(struct hf_span in, int64_t min, int64_t max, int64_t *ret_v)
{
	bool neg = in.len && in.ptr[0] == '-';
	size_t i = neg ? 1 : 0;
	int64_t v = 0;

	if (i == in.len)
		return HF_EINVALID;
	for (; i < in.len; i++) {
		if (in.ptr[i] < '0' || in.ptr[i] > '9')
			return HF_EINVALID;
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, neg ? -(in.ptr[i] - '0') : in.ptr[i] - '0', &v))
			return HF_EINVALID;
	}
	if (v < min || v > max)
		return HF_EINVALID;
	*ret_v = v;
	return 0;
}

void hf_iso8601(int64_t wall_ms, char out[32])
{
	int64_t s = wall_ms / 1000, ms = wall_ms % 1000;
	struct tm tm;

	if (ms < 0) {
		ms += 1000;
		s--;
	}
	time_t t = (time_t)s;
	if (!gmtime_r(&t, &tm) || tm.tm_year > 8099 || tm.tm_year < -1899)
		memset(&tm, 0, sizeof tm);
	size_t n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, 32 - n, ".%03dZ", (int)ms);
}

int hf_iso8601_parse(struct hf_span in, int64_t *ret_ms)
{
	static const int64_t weight_ms[] = { 100, 10, 1 };
	struct tm tm = { 0 };
	char text[40];
	const char *p;
	int64_t ms = 0, zone_min = 0;

	if (in.len >= sizeof text)
		return HF_EINVALID;
	if (in.len)
		memcpy(text, in.ptr, in.len);
	text[in.len] = '\0';
	p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!p)
		return HF_EINVALID;
	if (*p == '.')
		for (unsigned i = 0; *++p >= '0' && *p <= '9'; i++)
			ms += i < HF_ARRAY_LEN(weight_ms) ? (*p - '0') * weight_ms[i] : 0;
	if (*p == 'Z') {
		p++;
	} else if (*p == '+' || *p == '-') {
		int hours = 0, minutes = 0, n = 0;

		if (sscanf(p + 1, "%2d:%2d%n", &hours, &minutes, &n) != 2 || n != 5 || hours < 0 ||
		    hours > 14 || minutes < 0 || minutes > 59)
			return HF_EINVALID;
		zone_min = (*p == '-' ? -1 : 1) * (hours * 60 + minutes);
		p += 1 + n;
	}
	if (p != text + in.len)
		return HF_EINVALID;
	*ret_ms = ((int64_t)timegm(&tm) - zone_min * 60) * 1000 + ms;
	return 0;
}

void hf_utf8_repair(char *text)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < n;) {
		uint8_t c = (uint8_t)text[i];
		size_t len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

		if (i + len > n || !hf_utf8_ok(hf_span(text + i, len))) {
			text[i] = '?';
			len = 1;
		}
		i += len;
	}
}

unsigned hf_edit_distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	unsigned row[130];

	if (lb + 1 > HF_ARRAY_LEN(row))
		return UINT32_MAX;
	for (size_t j = 0; j <= lb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned diag = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned up = row[j];
			unsigned best = diag + (a[i - 1] != b[j - 1]);

			best = hf_min(best, up + 1);
			best = hf_min(best, row[j - 1] + 1);
			row[j] = best;
			diag = up;
		}
	}
	return row[lb];
}
