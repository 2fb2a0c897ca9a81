/*
 * replay_check: checks run again on the DNS answers that were recorded (smtpd/answers.h); those of DKIM and ARC on what was kept of the
 * message, too (struct dkim_evidence, struct arc_evidence). Records and fields of strangers are not read by the command itself, which
 * may be root, but by a confined child of it (admin/confined.h).
 */
#ifndef ADMIN_REPLAY_CHECK_H
#define ADMIN_REPLAY_CHECK_H

#include "admin/confined.h"
#include "admin/replay_input.h"
#include "smtpd/answers.h"
#include "smtpd/dmarc.h"
#include "smtpd/spf.h"
#include "smtpd/verdict.h"

struct replay_check {
	struct confined child;
};

/* Texts are valid until the next call. */
struct replay_spf {
	enum spf_result result;
	struct slice mechanism;
};

struct replay_dmarc {
	enum dmarc_result result;
	enum dmarc_policy policy;
	bool spf_aligned;
	uint32_t dkim_aligned;
	struct slice org, policy_domain, reason;
};

struct replay_dkim {
	enum dkim_result result;
	uint32_t key_bits;
	struct slice domain, reason;
};

struct replay_arc {
	enum arc_result result;
	uint32_t sets, oldest_pass;
	struct slice sealers; /* as in the time line */
	struct slice reason;
};

/* All of them: other than COMMAND_OK it was said why. */
enum command_status replay_check_open(struct replay_check *r);
void replay_check_close(struct replay_check *r);
/* Another message: the answers of the one before are forgotten. */
enum command_status replay_check_begin(struct replay_check *r);
/* In the order in which the check was given them. */
enum command_status replay_check_answer(struct replay_check *r, enum verdict_check c, const struct answers_item *item);
enum command_status replay_check_spf(struct replay_check *r, enum verdict_check c, const struct spf_query *q, struct replay_spf *spf_r);
enum command_status replay_check_dmarc(struct replay_check *r, const struct dmarc_query *q, struct replay_dmarc *dmarc_r);
/* One result for each signature. */
enum command_status replay_check_dkim(struct replay_check *r, const struct replay_input *in,
    struct replay_dkim dkim_r[DKIM_SIGNATURES_MAX]);
enum command_status replay_check_arc(struct replay_check *r, const struct replay_input *in, struct replay_arc *arc_r);

#endif
