/* What the built-in schemes share. Each answers like verify_request(): structure, timestamp,
 * signature, in this order. */
#ifndef WEIR_RECEIVE_VERIFY_PRIV_H
#define WEIR_RECEIVE_VERIFY_PRIV_H

#include "weir/base/clock.h"
#include "weir/model/recipe.h"
#include "weir/receive/verify.h"

enum verify_verdict verify_twilio(struct recipe_input *in, struct verify_result *ret);
enum verify_verdict verify_jwt(struct recipe_input *in, struct verify_result *ret);
/* VERIFY_CERT: nothing is wrong but that the certificate is not in the store. */
enum verify_verdict verify_sns(struct recipe_input *in, struct cert_store *certs,
                               struct verify_result *ret);
enum verify_verdict verify_paypal(struct recipe_input *in, struct cert_store *certs,
                                  struct verify_result *ret);

/* The text of the one place where the scheme has its signature. */
enum verify_verdict verify_find(struct recipe_input *in, struct str *ret);
/* The bytes of a signature in the recipe's encoding; `out` has room for PUBKEY_MAX_SIGNATURE. One
 * signature has one spelling, but for the case of hex digits. */
enum err verify_decode(const struct recipe *r, struct str text, uint8_t *out,
                       size_t *ret_len) MUST_CHECK;
/* Compares with the MACs of all keys, each computed over the same parts; the first key that fits
 * counts. `mac` has the length of the recipe's hash. */
enum verify_verdict verify_macs(const struct recipe *r, const uint8_t *mac, const struct str *parts,
                                size_t n, struct verify_result *ret);
/* The recipe's timestamp; *ret_age as verify_window() has it. */
enum verify_verdict verify_time(struct recipe_input *in, struct str sig, usec_t *ret_age);
/* Of a signature that fits: how far its timestamp is off. False where that does not matter. */
bool verify_skew(struct recipe_input *in, struct str sig, usec_t *ret);
/* Whether `ts` lies in the window. *ret_age is set where it does not. */
enum verify_verdict verify_window(usec_t ts, usec_t now, usec_t past, usec_t future,
                                  usec_t *ret_age);

#endif
