/* The health page's component "queue", from a stream_watch; both roles may have one. */
#ifndef WEIR_APP_QUEUE_HEALTH_H
#define WEIR_APP_QUEUE_HEALTH_H

#include "weir/base/err.h"

struct health;
struct stream_watch;

enum err queue_health_add(struct health *h, struct stream_watch *w) MUST_CHECK;

#endif
