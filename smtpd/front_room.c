/*
 * All places are taken and another client waits: whose session ends. Without that some hundreds of silent connections, each
 * within its rights (RFC 5321 4.5.3.2 lets a client be silent for minutes), would keep everybody else out.
 *
 * What a session costs is how long it has been waited for, times how many its network has. Waiting for our own processes is not
 * the client's; octets make up for waiting, so that a large message over a slow line is not old, and one octet a second is. The
 * sessions are looked through each time: there are at most 20,000, and it happens once a wake-up.
 */
#include "smtpd/front_room.h"

#include "smtpd/front.h"

static bool
may_be_ended(const struct front *f)
{
	return f->port->group == smtpd_service.group && f->wait == FRONT_WAIT_NONE && f->account == 0 && !f->uncounted && !f->stepping;
}

bool
smtpd_make_room(void)
{
	struct front *worst = NULL;
	uint64_t worst_burden = 0;
	uint64_t now = clock_ms();

	for (struct front *f = smtpd_service.sessions; f != NULL; f = f->next) {
		if (!may_be_ended(f))
			continue;
		uint64_t burden = listener_burden(smtpd_service.group, &f->client, now - f->waited_since_ms);
		if (burden > 0 && burden >= worst_burden) {
			worst = f;
			worst_burden = burden;
		}
	}
	if (worst == NULL)
		return false;
	smtpd_end_now(worst, "4.3.2", "Too many connections, and this one has waited longest; try again");
	return true;
}
