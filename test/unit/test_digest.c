/* Published vectors (FIPS 180, RFC 4231, RFC 2202, RFC 4648), pieces against the whole, and every
 * malformed encoding. */
#include "torture.h"

#include <openssl/hmac.h>

#include "weir/base/digest.h"
#include "weir/base/rnd.h"

static void digest_is(enum digest_algo algo, const char *expected)
{
	struct str parts[] = {STR("a"), STR_NONE, STR("bc")};
	uint8_t out[DIGEST_MAX_LEN];
	char text[2 * DIGEST_MAX_LEN + 1];

	for (int again = 0; again < 2; again++) {
		assert_int_equal(digest_parts(algo, parts, 3, out), ERR_OK);
		hex_encode(out, digest_len(algo), text);
		assert_string_equal(text, expected);
	}
}

static void test_digests(void **state)
{
	uint8_t out[DIGEST_MAX_LEN];
	char text[2 * DIGEST_MAX_LEN + 1];

	(void)state;
	digest_is(DIGEST_SHA256,
	          "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	digest_is(DIGEST_SHA1, "a9993e364706816aba3e25717850c26c9cd0d89d");
	digest_is(DIGEST_SHA512,
	          "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
	          "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
	assert_int_equal(digest_parts(DIGEST_SHA1, NULL, 0, out), ERR_OK);
	hex_encode(out, 20, text);
	assert_string_equal(text, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
	assert_string_equal(digest_name(DIGEST_SHA512), "sha512");
}

static void hmac_is(enum digest_algo algo, struct str key, struct str data, const char *expected)
{
	uint8_t out[DIGEST_MAX_LEN];
	char text[2 * DIGEST_MAX_LEN + 1];
	struct str halves[] = {str_n(data.ptr, data.len / 2),
	                       str_n(data.ptr + data.len / 2, data.len - data.len / 2)};
	struct str noise = STR("something else in between");
	struct hmac *h;

	assert_int_equal(hmac_new(algo, key, &h), ERR_OK);
	for (int again = 0; again < 3; again++) {
		assert_int_equal(hmac_parts(h, halves, 2, out), ERR_OK);
		hex_encode(out, digest_len(algo), text);
		assert_string_equal(text, expected);
		assert_int_equal(hmac_parts(h, &noise, 1, out), ERR_OK);
	}
	hmac_free(h);
}

/* Keys as long as a block, and a byte less and more, among them. */
static void test_hmac_keys(void **state)
{
	uint8_t out[DIGEST_MAX_LEN], right[DIGEST_MAX_LEN];
	struct str data = STR("what do ya want for nothing?");
	char key[150];

	(void)state;
	for (size_t len = 0; len < sizeof(key); len++) {
		struct hmac *h;

		key[len] = (char)(len * 7);
		assert_int_equal(hmac_new(DIGEST_SHA256, str_n(key, len), &h), ERR_OK);
		assert_int_equal(hmac_parts(h, &data, 1, out), ERR_OK);
		hmac_free(h);
		assert_non_null(HMAC(EVP_sha256(), key, (int)len, (const uint8_t *)data.ptr,
		                     data.len, right, NULL));
		assert_memory_equal(out, right, digest_len(DIGEST_SHA256));
	}
}

static void test_hmacs(void **state)
{
	char long_key[131];

	(void)state;
	memset(long_key, 0xaa, sizeof(long_key));
	hmac_is(DIGEST_SHA256, STR("Jefe"), STR("what do ya want for nothing?"),
	        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	hmac_is(DIGEST_SHA1, STR("Jefe"), STR("what do ya want for nothing?"),
	        "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
	hmac_is(DIGEST_SHA512, STR("Jefe"), STR("what do ya want for nothing?"),
	        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
	        "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737");
	hmac_is(DIGEST_SHA256, str_n(long_key, sizeof(long_key)),
	        STR("Test Using Larger Than Block-Size Key - Hash Key First"),
	        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
	hmac_is(DIGEST_SHA256, STR_NONE, STR_NONE,
	        "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
	hmac_free(NULL);
}

static void two_keys_at_once(enum digest_algo algo)
{
	struct str data = STR("what do ya want for nothing?");
	uint8_t first[DIGEST_MAX_LEN], out[DIGEST_MAX_LEN];
	size_t len = digest_len(algo);
	struct hmac *a, *b;

	assert_int_equal(hmac_new(algo, STR("Jefe"), &a), ERR_OK);
	assert_int_equal(hmac_new(algo, STR("other"), &b), ERR_OK);
	assert_int_equal(hmac_parts(a, &data, 1, first), ERR_OK);
	assert_int_equal(hmac_parts(b, &data, 1, out), ERR_OK);
	assert_false(digest_equal(first, out, len));
	hmac_free(b);
	assert_int_equal(hmac_parts(a, &data, 1, out), ERR_OK);
	assert_true(digest_equal(first, out, len));
	out[len - 1] ^= 1;
	assert_false(digest_equal(first, out, len));
	assert_true(digest_equal(first, out, len - 1));
	hmac_free(a);
}

static void test_two_keys_at_once(void **state)
{
	(void)state;
	two_keys_at_once(DIGEST_SHA256);
	two_keys_at_once(DIGEST_SHA1);
	two_keys_at_once(DIGEST_SHA512);
	assert_true(digest_equal(NULL, NULL, 0));
}

static void test_hex(void **state)
{
	static const char *const bad[] = {"0", "0g", "g0", "0x", " 0", "00 ", "@0", "`0"};
	uint8_t out[4] = {9, 9, 9, 9};
	size_t len = 77;

	(void)state;
	assert_int_equal(hex_decode(STR("00fFAb"), out, 3, &len), ERR_OK);
	assert_int_equal(len, 3);
	assert_memory_equal(out, "\x00\xff\xab\x09", 4);
	assert_int_equal(hex_decode(STR_NONE, out, 0, &len), ERR_OK);
	assert_int_equal(len, 0);
	len = 77;
	for (size_t i = 0; i < TORTURE_LEN(bad); i++)
		assert_int_equal(hex_decode(str_of(bad[i]), out, 4, &len), ERR_INVAL);
	assert_int_equal(hex_decode(STR("0011"), out, 1, &len), ERR_TOOBIG);
	assert_int_equal(len, 77);
}

static void base64_is(const char *plain, const char *encoded, const char *url_encoded)
{
	uint8_t out[16];
	struct buf b;
	size_t len;

	buf_init(&b, 100);
	assert_int_equal(base64_encode(&b, plain, strlen(plain), false), ERR_OK);
	assert_true(str_eq(buf_str(&b), str_of(encoded)));
	buf_reset(&b);
	assert_int_equal(base64_encode(&b, plain, strlen(plain), true), ERR_OK);
	assert_true(str_eq(buf_str(&b), str_of(url_encoded)));
	buf_done(&b);
	assert_int_equal(base64_decode(str_of(encoded), false, out, strlen(plain), &len), ERR_OK);
	assert_true(str_eq(str_n(out, len), str_of(plain)));
	assert_int_equal(base64_decode(str_of(url_encoded), true, out, 16, &len), ERR_OK);
	assert_true(str_eq(str_n(out, len), str_of(plain)));
}

static void test_base64(void **state)
{
	static const char *const bad[] = {"Z",    "Zg",   "Zg=",      "Zg===", "Zm8",
	                                  "====", "Z===", "Zg==Zg==", "Zm9v ", "Zm9v\n",
	                                  "Zm-v", "Zm_v", "=Zm9",     "Zm9v="};
	static const char *const bad_url[] = {"Z",     "Zg=",   "Zm+v",  "Zm/v",
	                                      "Zg===", "Zm8==", "Zm9v=", "="};
	uint8_t out[16];
	size_t len = 55;

	(void)state;
	base64_is("", "", "");
	base64_is("f", "Zg==", "Zg");
	base64_is("fo", "Zm8=", "Zm8");
	base64_is("foo", "Zm9v", "Zm9v");
	base64_is("foobar", "Zm9vYmFy", "Zm9vYmFy");
	base64_is("\xfb\xff\xfe\xff", "+//+/w==", "-__-_w");
	for (size_t i = 0; i < TORTURE_LEN(bad); i++)
		assert_int_equal(base64_decode(str_of(bad[i]), false, out, 16, &len), ERR_INVAL);
	for (size_t i = 0; i < TORTURE_LEN(bad_url); i++)
		assert_int_equal(base64_decode(str_of(bad_url[i]), true, out, 16, &len), ERR_INVAL);
	assert_int_equal(base64_decode(STR("Zm9v"), false, out, 2, &len), ERR_TOOBIG);
	assert_int_equal(len, 55);
	assert_int_equal(base64_decode(STR("Zm8="), true, out, 2, &len), ERR_OK);
	assert_int_equal(len, 2);
}

static void test_base64_round_trip(void **state)
{
	uint8_t in[100], out[100];
	struct buf b;
	size_t len;

	(void)state;
	buf_init(&b, 1000);
	for (size_t n = 0; n <= sizeof(in); n++) {
		rnd_bytes(in, n);
		for (int url = 0; url < 2; url++) {
			buf_reset(&b);
			assert_int_equal(base64_encode(&b, in, n, url), ERR_OK);
			assert_int_equal(base64_decode(buf_str(&b), url, out, n, &len), ERR_OK);
			assert_int_equal(len, n);
			assert_memory_equal(in, out, n);
		}
	}
	buf_done(&b);
}

static void scenario_digest_and_encode(void)
{
	struct str data = STR("data");
	uint8_t out[DIGEST_MAX_LEN];
	struct hmac *h;
	struct buf b;

	if (hmac_new(DIGEST_SHA256, STR("key"), &h))
		return;
	if (!hmac_parts(h, &data, 1, out) && !digest_parts(DIGEST_SHA512, &data, 1, out)) {
		buf_init(&b, 1000);
		(void)!base64_encode(&b, out, sizeof(out), false);
		buf_done(&b);
	}
	hmac_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_digests),
	    cmocka_unit_test(test_hmacs),
	    cmocka_unit_test(test_hmac_keys),
	    cmocka_unit_test(test_two_keys_at_once),
	    cmocka_unit_test(test_hex),
	    cmocka_unit_test(test_base64),
	    cmocka_unit_test(test_base64_round_trip),
	};
	const struct torture torture[] = {TORTURE(scenario_digest_and_encode)};

	return TESTS_OR_TORTURE(tests, torture);
}
