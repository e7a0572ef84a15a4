/* PayPal signs a checksum of the body, the CRC-32 of zip and PNG. It is no hash: whoever may choose
 * other bytes of the same checksum could exchange the body. That is PayPal's scheme. */
#include "weir/model/builtin.h"

#include <stdio.h>

#include "weir/model/recipe.h"

static uint32_t crc32_of(struct str s)
{
	/* Of half a byte each, reflected polynomial 0xedb88320. */
	static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
	                                   0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
	                                   0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
	                                   0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
	uint32_t crc = 0xffffffff;

	for (size_t i = 0; i < s.len; i++) {
		crc ^= (unsigned char)s.ptr[i];
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return ~crc;
}

enum err builtin_paypal(struct recipe_input *in, struct str webhook, char crc[16],
                        struct str parts[BUILTIN_PAYPAL_PARTS])
{
	const struct recipe_source *built = in->recipe->built;
	enum err e = recipe_fetch(in, &built[PAYPAL_ID], STR_NONE, &parts[0]);

	if (e == ERR_OK)
		e = recipe_fetch(in, &built[PAYPAL_TIME], STR_NONE, &parts[2]);
	if (e != ERR_OK)
		return e;
	snprintf(crc, 16, "%lu", (unsigned long)crc32_of(in->request->body));
	parts[1] = parts[3] = parts[5] = STR("|");
	parts[4] = webhook;
	parts[6] = str_of(crc);
	return ERR_OK;
}
