/* Ready mappings, in the very language of TOOLS_FILE. What decides between words:
 *
 * - SendGrid calls a refusal that says nothing against the address a bounce of type "blocked".
 * - Mailgun's "failed" is a delay as long as the severity is "temporary".
 * - Postmark has one Bounce for all that comes back by mail, also for what is none: its Type tells.
 *   Transient and SoftBounce are delays that Postmark goes on to retry.
 * - SES publishes a Transient bounce only after it stopped trying, so it is final, but soft; it may
 *   come in SNS's envelope or (raw delivery) without; eventType is the name of event publishing,
 *   notificationType that of older notifications.
 *
 * A new subscription is no report: a status that was reached stays reached. */
#include <string.h>

#include "weir/model/recipient.h"

static const struct {
	const char *name;
	const char *text;
} presets[] = {
    {"mailgun", "{\"message_id\": \"json:event-data.message.headers.message-id\","
                " \"address\": \"json:event-data.recipient\","
                " \"status\": \"json:event-data.event\", \"detail\": \"json:event-data.severity\","
                " \"time\": \"json:event-data.timestamp s\","
                " \"words\": {\"accepted\": \"queued\", \"delivered\": \"delivered\","
                " \"opened\": \"opened\", \"clicked\": \"clicked\", \"rejected\": \"failed\","
                " \"failed\": \"failed\", \"failed/temporary\": \"deferred\","
                " \"failed/permanent\": \"bounced\", \"complained\": \"complained\","
                " \"unsubscribed\": \"unsubscribed\"}}"},
    {"postmark",
     "{\"message_id\": \"json:MessageID\", \"address\": [\"json:Recipient\", \"json:Email\"],"
     " \"status\": \"json:RecordType\","
     " \"detail\": [\"json:Type\", \"json:SuppressSending\"],"
     " \"time\": [\"json:DeliveredAt iso\", \"json:BouncedAt iso\", \"json:ReceivedAt iso\","
     " \"json:ChangedAt iso\"],"
     " \"words\": {\"Delivery\": \"delivered\", \"Open\": \"opened\", \"Click\": \"clicked\","
     " \"Bounce\": \"bounced\", \"Bounce/HardBounce\": \"bounced\","
     " \"Bounce/Transient\": \"deferred\", \"Bounce/SoftBounce\": \"deferred\","
     " \"Bounce/DnsError\": \"soft_bounced\", \"Bounce/Blocked\": \"soft_bounced\","
     " \"Bounce/SpamNotification\": \"soft_bounced\","
     " \"Bounce/VirusNotification\": \"soft_bounced\","
     " \"Bounce/Unknown\": \"soft_bounced\", \"Bounce/DMARCPolicy\": \"failed\","
     " \"Bounce/SMTPApiError\": \"failed\", \"Bounce/TemplateRenderingFailed\": \"failed\","
     " \"Bounce/ManuallyDeactivated\": \"failed\", \"Bounce/SpamComplaint\": \"complained\","
     " \"Bounce/Unsubscribe\": \"unsubscribed\", \"Bounce/Subscribe\": null,"
     " \"Bounce/AutoResponder\": null, \"Bounce/AddressChange\": null,"
     " \"Bounce/OpenRelayTest\": null, \"Bounce/ChallengeVerification\": null,"
     " \"Bounce/InboundError\": null, \"SMTPApiError\": \"failed\","
     " \"SpamComplaint\": \"complained\", \"SubscriptionChange\": \"unsubscribed\","
     " \"SubscriptionChange/false\": null}}"},
    {"resend", "{\"message_id\": \"json:data.email_id\", \"address\": \"json:data.to[]\","
               " \"status\": \"json:type\", \"detail\": \"json:data.bounce.type\","
               " \"time\": \"json:created_at iso\","
               " \"words\": {\"email.scheduled\": \"queued\", \"email.sent\": \"sent\","
               " \"email.delivery_delayed\": \"deferred\", \"email.delivered\": \"delivered\","
               " \"email.opened\": \"opened\", \"email.clicked\": \"clicked\","
               " \"email.bounced\": \"bounced\", \"email.bounced/Permanent\": \"bounced\","
               " \"email.bounced/Transient\": \"soft_bounced\","
               " \"email.bounced/Undetermined\": \"soft_bounced\", \"email.failed\": \"failed\","
               " \"email.suppressed\": \"failed\", \"email.complained\": \"complained\"}}"},
    {"sendgrid",
     "{\"message_id\": \"json:sg_message_id\", \"message_id_until\": \".\","
     " \"address\": \"json:email\", \"status\": \"json:event\", \"detail\": \"json:type\","
     " \"time\": \"json:timestamp s\","
     " \"words\": {\"processed\": \"queued\", \"deferred\": \"deferred\","
     " \"delivered\": \"delivered\", \"open\": \"opened\", \"click\": \"clicked\","
     " \"bounce\": \"bounced\", \"bounce/blocked\": \"soft_bounced\","
     " \"blocked\": \"soft_bounced\", \"dropped\": \"failed\","
     " \"spamreport\": \"complained\", \"unsubscribe\": \"unsubscribed\","
     " \"group_unsubscribe\": \"unsubscribed\", \"group_resubscribe\": null}}"},
    {"ses", "{\"in\": \"json:Message\", \"message_id\": \"json:mail.messageId\","
            " \"address\": [\"json:bounce.bouncedRecipients[].emailAddress\","
            " \"json:complaint.complainedRecipients[].emailAddress\","
            " \"json:deliveryDelay.delayedRecipients[].emailAddress\","
            " \"json:delivery.recipients[]\", \"json:mail.destination[]\"],"
            " \"status\": [\"json:eventType\", \"json:notificationType\"],"
            " \"detail\": \"json:bounce.bounceType\","
            " \"time\": [\"json:bounce.timestamp iso\", \"json:complaint.timestamp iso\","
            " \"json:deliveryDelay.timestamp iso\", \"json:delivery.timestamp iso\","
            " \"json:open.timestamp iso\", \"json:click.timestamp iso\","
            " \"json:subscription.timestamp iso\", \"json:mail.timestamp iso\"],"
            " \"words\": {\"Send\": \"sent\", \"DeliveryDelay\": \"deferred\","
            " \"Delivery\": \"delivered\", \"Open\": \"opened\", \"Click\": \"clicked\","
            " \"Bounce\": \"soft_bounced\", \"Bounce/Permanent\": \"bounced\","
            " \"Bounce/Transient\": \"soft_bounced\", \"Reject\": \"failed\","
            " \"Rendering Failure\": \"failed\", \"Complaint\": \"complained\","
            " \"Subscription\": \"unsubscribed\"}}"},
    {"twilio",
     "{\"message_id\": [\"form:MessageSid\", \"form:SmsSid\"], \"address\": \"form:To\","
     " \"status\": [\"form:MessageStatus\", \"form:SmsStatus\"],"
     " \"words\": {\"accepted\": \"queued\", \"scheduled\": \"queued\", \"queued\": \"queued\","
     " \"sending\": \"sent\", \"sent\": \"sent\", \"delivered\": \"delivered\","
     " \"partially_delivered\": \"delivered\", \"read\": \"opened\","
     " \"undelivered\": \"bounced\", \"failed\": \"failed\", \"canceled\": \"failed\"}}"},
};

const char *recipient_preset_find(const char *name)
{
	for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++)
		if (strcmp(presets[i].name, name) == 0)
			return presets[i].text;
	return NULL;
}

const char *recipient_preset_names(void)
{
	return "mailgun, postmark, resend, sendgrid, ses, twilio";
}
