/* RFC 8032's vector, pairs of each kind against themselves and each other, and what is no key. */
#include "torture.h"

#include <sys/ioctl.h>

#include "weir/base/cert.h"
#include "weir/base/digest.h"
#include "weir/base/pubkey.h"

/* RFC 8032, 7.1, test 3. */
static void test_rfc8032(void **state)
{
	uint8_t key[32], sig[64], message[] = {0xaf, 0x82};
	struct str parts[] = {str_n(message, 1), STR_NONE, str_n(message + 1, 1)};
	struct pubkey *k;
	size_t len;

	(void)state;
	assert_int_equal(
	    hex_decode(STR("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"), key,
	               sizeof(key), &len),
	    ERR_OK);
	assert_int_equal(
	    hex_decode(STR("6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
	                   "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
	               sig, sizeof(sig), &len),
	    ERR_OK);
	assert_int_equal(pubkey_new(PUBKEY_ED25519, PUBKEY_RAW, str_n(key, 32), &k), ERR_OK);
	for (int again = 0; again < 2; again++)
		assert_int_equal(pubkey_verify(k, DIGEST_SHA256, parts, 3, str_n(sig, 64)), ERR_OK);
	for (size_t bit = 0; bit < 64 * 8; bit++) {
		sig[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(pubkey_verify(k, DIGEST_SHA256, parts, 3, str_n(sig, 64)),
		                 ERR_DENIED);
		sig[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(pubkey_verify(k, DIGEST_SHA256, parts, 1, str_n(sig, 64)), ERR_DENIED);
	assert_int_equal(pubkey_verify(k, DIGEST_SHA256, parts, 3, str_n(sig, 63)), ERR_DENIED);
	assert_int_equal(pubkey_verify(k, DIGEST_SHA256, parts, 3, STR("")), ERR_DENIED);
	pubkey_free(k);
}

static void pair_works(enum pubkey_kind kind, enum pubkey_form form, enum digest_algo hash)
{
	struct str parts[] = {STR("1700000000"), STR("."), STR("{\"a\":1}")},
	           other[] = {STR("1700000000.{\"a\":2}")};
	struct buf text, sig;
	struct keypair *p;
	struct pubkey *k;

	buf_init(&text, 8192);
	buf_init(&sig, 8192);
	assert_int_equal(keypair_new(kind, &p), ERR_OK);
	assert_int_equal(keypair_public(p, form, &text), ERR_OK);
	assert_int_equal(keypair_sign(p, hash, parts, 3, &sig), ERR_OK);
	assert_int_equal(pubkey_new(kind, form, buf_str(&text), &k), ERR_OK);
	assert_int_equal(pubkey_verify(k, hash, parts, 3, buf_str(&sig)), ERR_OK);
	assert_int_equal(pubkey_verify(k, hash, other, 1, buf_str(&sig)), ERR_DENIED);
	if (kind == PUBKEY_RSA)
		assert_int_equal(pubkey_verify(k, DIGEST_SHA512, parts, 3, buf_str(&sig)),
		                 ERR_DENIED);
	pubkey_free(k);
	/* Of another kind, in another form, with bytes behind it. */
	for (enum pubkey_kind o = PUBKEY_ED25519; o <= PUBKEY_RSA; o++)
		if (o != kind)
			assert_int_equal(pubkey_new(o, form, buf_str(&text), &k), ERR_INVAL);
	assert_int_equal(pubkey_new(kind, PUBKEY_CERT, buf_str(&text), &k), ERR_INVAL);
	if (form == PUBKEY_DER) {
		assert_int_equal(buf_add_char(&text, 'x'), ERR_OK);
		assert_int_equal(pubkey_new(kind, form, buf_str(&text), &k), ERR_INVAL);
	}
	keypair_free(p);
	buf_done(&text);
	buf_done(&sig);
}

static void test_pairs(void **state)
{
	(void)state;
	pair_works(PUBKEY_ED25519, PUBKEY_RAW, DIGEST_SHA256);
	pair_works(PUBKEY_ED25519, PUBKEY_PEM, DIGEST_SHA256);
	pair_works(PUBKEY_ECDSA_P256, PUBKEY_DER, DIGEST_SHA256);
	pair_works(PUBKEY_ECDSA_P256, PUBKEY_PEM, DIGEST_SHA256);
	pair_works(PUBKEY_RSA, PUBKEY_DER, DIGEST_SHA1);
	pair_works(PUBKEY_RSA, PUBKEY_PEM, DIGEST_SHA256);
}

/* Kept in a file and read again, a pair signs for the same public key. */
static void test_private_text(void **state)
{
	struct str part = STR("x");
	struct buf pem, public, sig;

	(void)state;
	buf_init(&pem, 8192);
	buf_init(&public, 8192);
	buf_init(&sig, 8192);
	for (enum pubkey_kind kind = PUBKEY_ED25519; kind <= PUBKEY_RSA; kind++) {
		struct keypair *p, *again, *other;
		struct pubkey *k;

		buf_reset(&pem);
		buf_reset(&public);
		buf_reset(&sig);
		assert_int_equal(keypair_new(kind, &p), ERR_OK);
		assert_int_equal(keypair_public(p, PUBKEY_DER, &public), ERR_OK);
		assert_int_equal(keypair_write(p, &pem), ERR_OK);
		assert_true(str_starts(buf_str(&pem), STR("-----BEGIN PRIVATE KEY-----")));
		assert_int_equal(keypair_read(kind, buf_str(&pem), &again), ERR_OK);
		assert_int_equal(keypair_sign(again, DIGEST_SHA256, &part, 1, &sig), ERR_OK);
		assert_int_equal(pubkey_new(kind, PUBKEY_DER, buf_str(&public), &k), ERR_OK);
		assert_int_equal(pubkey_verify(k, DIGEST_SHA256, &part, 1, buf_str(&sig)), ERR_OK);
		for (enum pubkey_kind o = PUBKEY_ED25519; o <= PUBKEY_RSA; o++)
			if (o != kind)
				assert_int_equal(keypair_read(o, buf_str(&pem), &other), ERR_INVAL);
		assert_int_equal(keypair_read(kind, buf_str(&public), &other), ERR_INVAL);
		assert_int_equal(keypair_read(kind, STR(""), &other), ERR_INVAL);
		keypair_free(p);
		keypair_free(again);
		pubkey_free(k);
	}
	buf_done(&pem);
	buf_done(&public);
	buf_done(&sig);
}

static void test_no_keys(void **state)
{
	static const char *const texts[] = {
	    "", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
	    "\x30\x82\xff\xff"};
	struct pubkey *k;

	(void)state;
	for (enum pubkey_kind kind = PUBKEY_ED25519; kind <= PUBKEY_RSA; kind++)
		for (enum pubkey_form form = PUBKEY_RAW; form <= PUBKEY_CERT; form++)
			for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
				assert_int_equal(pubkey_new(kind, form, str_of(texts[i]), &k),
				                 ERR_INVAL);
	pubkey_free(NULL);
	keypair_free(NULL);
}

/* Our own allocations; OpenSSL's are its own affair. */
static void scenario_key(void)
{
	static const uint8_t key[32] = {0xfc, 0x51, 0xcd, 0x8e, 0x62, 0x18, 0xa1, 0xa3,
	                                0x8d, 0xa4, 0x7e, 0xd0, 0x02, 0x30, 0xf0, 0x58,
	                                0x08, 0x16, 0xed, 0x13, 0xba, 0x33, 0x03, 0xac,
	                                0x5d, 0xeb, 0x91, 0x15, 0x48, 0x90, 0x80, 0x25};
	struct str message = STR("message");
	struct keypair *p;
	struct pubkey *k;

	if (pubkey_new(PUBKEY_ED25519, PUBKEY_RAW, str_n(key, sizeof(key)), &k) == ERR_OK) {
		(void)!pubkey_verify(k, DIGEST_SHA256, &message, 1, STR("not a signature"));
		pubkey_free(k);
	}
	if (keypair_new(PUBKEY_ED25519, &p) == ERR_OK)
		keypair_free(p);
}

/* `pem` with a head that says it is encrypted. */
static struct str encrypted(struct str pem, struct buf *out)
{
	struct str rest = pem, first = str_split(&rest, '\n');

	buf_reset(out);
	buf_add_str(out, first);
	buf_add_cstr(out, "\nProc-Type: 4,ENCRYPTED\n"
	                  "DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\n");
	assert_int_equal(buf_add_str(out, rest), ERR_OK);
	return buf_str(out);
}

/* Without a terminal OpenSSL asks standard input, from which nothing may be taken. */
static void read_unasked(struct str key, struct str cert, struct str private)
{
	usec_t now = 1700000000 * USEC_PER_SEC, until;
	struct pubkey *k;
	struct keypair *p;
	int fds[2], left = 0;

	if (setsid() < 0 || pipe(fds) != 0 || dup2(fds[0], 0) < 0 ||
	    write(fds[1], "open sesame\nopen sesame\n", 24) != 24)
		_exit(2);
	if (pubkey_new(PUBKEY_RSA, PUBKEY_PEM, key, &k) != ERR_INVAL ||
	    pubkey_new(PUBKEY_RSA, PUBKEY_CERT, cert, &k) != ERR_INVAL ||
	    keypair_read(PUBKEY_RSA, private, &p) != ERR_INVAL ||
	    cert_judge(cert, now, false, NULL, &until, NULL) != ERR_INVAL)
		_exit(3);
	_exit(ioctl(0, FIONREAD, &left) == 0 && left == 24 ? 0 : 4);
}

static void test_nobody_is_asked(void **state)
{
	struct buf plain, key, cert, private;
	struct keypair *p;
	int status;
	pid_t pid;

	(void)state;
	buf_init(&plain, 8192);
	buf_init(&key, 8192);
	buf_init(&cert, 8192);
	buf_init(&private, 8192);
	assert_int_equal(keypair_new(PUBKEY_RSA, &p), ERR_OK);
	assert_int_equal(keypair_public(p, PUBKEY_PEM, &plain), ERR_OK);
	encrypted(buf_str(&plain), &key);
	buf_reset(&plain);
	assert_int_equal(cert_self_signed(p, "a.example", 0, 2000000000 * USEC_PER_SEC, &plain),
	                 ERR_OK);
	encrypted(buf_str(&plain), &cert);
	buf_reset(&plain);
	assert_int_equal(keypair_write(p, &plain), ERR_OK);
	encrypted(buf_str(&plain), &private);
	keypair_free(p);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		read_unasked(buf_str(&key), buf_str(&cert), buf_str(&private));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	buf_done(&plain);
	buf_done(&key);
	buf_done(&cert);
	buf_done(&private);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_rfc8032),         cmocka_unit_test(test_pairs),
	    cmocka_unit_test(test_private_text),    cmocka_unit_test(test_no_keys),
	    cmocka_unit_test(test_nobody_is_asked),
	};
	const struct torture torture[] = {TORTURE(scenario_key)};

	return TESTS_OR_TORTURE(tests, torture);
}
