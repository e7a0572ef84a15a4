/* Private keys in files, to sign as those providers do that have one: throw-away keys for tests. */
#ifndef WEIR_CLI_SIGN_KEY_H
#define WEIR_CLI_SIGN_KEY_H

struct keypair;
struct tool;

/* The key for a tool's requests: NULL where they need none. Reads `file`, or makes it (mode 0600),
 * and prints the public half on stderr in the form in which the tool wants it as a secret. Returns
 * an exit code and says what is wrong. keypair_free(*ret). */
int sign_key_open(const char *file, const struct tool *t, struct keypair **ret);
/* For a tool that could not be read because it has no secret yet: the same for the preset of this
 * name, if it is one whose requests need a key. */
void sign_key_suggest(const char *file, const char *preset);

#endif
