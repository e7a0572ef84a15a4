/* The description of the admin API, as it lies in deploy/openapi.json. */
#include "weir/app/admin.h"

__asm__(".section .rodata\n"
        ".global openapi_json\n"
        "openapi_json:\n"
        ".incbin \"deploy/openapi.json\"\n"
        ".byte 0\n"
        ".previous\n");
