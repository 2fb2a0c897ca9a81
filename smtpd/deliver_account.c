#include "smtpd/deliver_account.h"

#include "smtpd/account_rate_file.h"
#include "smtpd/deliver.h"
#include "smtpd/deliver_notice.h"

#include "common/config.h"

static struct account_rates *rates;
static struct account_rate_file *file;
static struct loop_timer *keeping; /* set when something is not kept yet */
static bool changed;
static bool unkept; /* it could not be kept, and that was told */

static void
keep(void)
{
	struct err e;

	if (!changed)
		return;
	loop_timer_stop(keeping);
	changed = account_rate_file_keep(file, rates, &e) != 0;
	if (changed) {
		if (!unkept)
			log_event(LOG_WARN, NO_SESSION, "counts-unkept", LOG_ERR(&e), LOG_END);
		loop_timer_set(keeping, DELIVER_ACCOUNT_KEEP_MS);
	} else if (unkept) {
		log_event(LOG_INFO, NO_SESSION, "counts-kept", LOG_END);
	}
	unkept = changed;
}

static void
on_time(void *arg)
{
	(void)arg;
	keep();
}

void
deliver_account_init(void)
{
	char dir[4096];

	(void)snprintf(dir, sizeof dir, "%s/deliver", role_state_dir());
	keeping = loop_timer_new(role_loop(), on_time, NULL);
	file = account_rate_file_open(dir, &rates);
}

void
deliver_account_fini(void)
{
	keep();
}

/* What was counted is kept: a held account at once. */
static void
keep_soon(bool now)
{
	if (!changed)
		loop_timer_set(keeping, DELIVER_ACCOUNT_KEEP_MS);
	changed = true;
	if (now)
		keep();
}

static struct account_limits
limits(void)
{
	const struct config *c = role_config();

	return (struct account_limits){
	    .messages = (uint32_t)config_number(c, OPT_SUBMISSION_DAY_MESSAGES),
	    .recipients = (uint32_t)config_number(c, OPT_SUBMISSION_DAY_RECIPIENTS),
	    .addresses = (uint32_t)config_number(c, OPT_SUBMISSION_DAY_ADDRESSES),
	};
}

/* Recipients on other servers that the user named himself. */
static bool
outside_of(struct job *j, struct account_message *m)
{
	struct slice *to = arena_array(j->arena, j->target_count, sizeof(*to));

	if (to == NULL)
		return false;
	*m = (struct account_message){.account = j->account, .to = to};
	for (uint32_t i = 0; i < j->target_count; i++)
		if (j->targets[i].account == 0 && !j->targets[i].forwarded)
			to[m->count++] = j->targets[i].address;
	return m->count > 0;
}

enum account_spent
deliver_account_count(struct job *j)
{
	const struct account_limits most = limits();
	struct account_message m;
	bool first;

	if (j->counted > 0)
		return (enum account_spent)(j->counted - 1);
	if (!j->submission || !j->outside || !outside_of(j, &m))
		return ACCOUNT_SPENT_NOTHING;
	enum account_spent spent = account_rate_count(rates, &most, &m, clock_wall_us() / 1000, &first);

	j->counted = (uint8_t)(1 + spent);
	if (first) {
		log_event(LOG_WARN, slice_str(j->session), "account-held", LOG_STR("login", j->login), LOG_NUM("account", j->account),
		    LOG_NUM("addresses", most.addresses), LOG_END);
		deliver_notice_held(j, most.addresses);
	}
	keep_soon(first);
	return spent;
}
