/*
 * DMARC records (RFC 9989 4.7, 4.8). Only "v=DMARC1" at the very front makes a
 * text a record; everything after it is read leniently: a tag that is unknown, malformed or repeated
 * counts as absent, as 4.8 demands and as receivers of RFC 7489 have always done.
 */
#include "smtpd/dmarc.h"

#include <assert.h>

const char *
dmarc_result_name(enum dmarc_result r)
{
	static const char *const names[DMARC_RESULT_COUNT] = {"none", "pass", "fail", "temperror",
	    "permerror"};

	assert(r < DMARC_RESULT_COUNT);
	return names[r];
}

const char *
dmarc_policy_name(enum dmarc_policy p)
{
	static const char *const names[DMARC_POLICY_COUNT] = {"none", "quarantine", "reject"};

	assert(p < DMARC_POLICY_COUNT);
	return names[p];
}

/* dmarc-version = "v" *WSP "=" *WSP %s"DMARC1" */
static bool
version_valid(struct slice tag)
{
	size_t equals = slice_index(tag, '=');

	if (tag.n == 0 || ascii_lower(tag.p[0]) != 'v' || equals == tag.n)
		return false;
	return slice_trim(slice_sub(tag, 1, equals)).n == 0 &&
	    slice_eq(slice_trim(slice_sub(tag, equals + 1, tag.n)), SLICE("DMARC1"));
}

/* dmarc-request = "none" / "quarantine" / "reject" */
static bool
policy_read(struct slice value, enum dmarc_policy *policy_r)
{
	for (unsigned p = 0; p < DMARC_POLICY_COUNT; p++)
		if (slice_eq_nocase(value, slice_str(dmarc_policy_name(p)))) {
			*policy_r = p;
			return true;
		}
	return false;
}

/* scheme ":" something; a size ("!10m") at the end is obsolete and ignored. */
static bool
uri_valid(struct slice uri)
{
	size_t colon = slice_index(uri, ':');
	struct slice rest = slice_sub(uri, colon + 1, slice_index(uri, '!'));

	if (colon == 0 || colon == uri.n || !ascii_alpha(uri.p[0]) || rest.n == 0)
		return false;
	for (size_t i = 0; i < colon; i++)
		if (!ascii_alpha(uri.p[i]) && !ascii_digit(uri.p[i]) && strchr("+-.", uri.p[i] ? uri.p[i] : 'x') == NULL)
			return false;
	for (size_t i = 0; i < rest.n; i++)
		if (rest.p[i] <= 0x20 || rest.p[i] >= 0x7f)
			return false;
	if (slice_starts_nocase(uri, SLICE("mailto:")))
		return slice_index(rest, '@') > 0 && slice_index(rest, '@') + 1 < rest.n;
	return true;
}

static bool
any_uri_valid(struct slice list)
{
	struct slice uri;

	while (slice_cut(&list, ',', &uri))
		if (uri_valid(slice_trim(uri)))
			return true;
	return false;
}

/* What the tags say, before it is put together. */
struct tags {
	struct slice p, sp, np, adkim, aspf, t, psd, rua, ruf;
};

static void
take_tag(struct slice spec, struct tags *tags)
{
	const struct {
		const char *name;
		struct slice *at;
	} known[] = {{"p", &tags->p}, {"sp", &tags->sp}, {"np", &tags->np}, {"adkim", &tags->adkim},
	    {"aspf", &tags->aspf}, {"t", &tags->t}, {"psd", &tags->psd}, {"rua", &tags->rua}, {"ruf", &tags->ruf}};
	size_t equals = slice_index(spec, '=');
	struct slice name = slice_trim(slice_sub(spec, 0, equals));

	if (equals == spec.n)
		return;
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (slice_eq_nocase(name, slice_str(known[i].name)) && known[i].at->p == NULL) {
			*known[i].at = slice_trim(slice_sub(spec, equals + 1, spec.n));
			if (known[i].at->p == NULL)
				known[i].at->p = spec.p;
		}
}

bool
dmarc_record_parse(struct slice text, struct dmarc_record *record_r)
{
	struct slice rest = text, spec;
	struct tags tags = {.p = {NULL, 0}};

	*record_r = (struct dmarc_record){.psd = DMARC_PSD_U};
	if (!slice_cut(&rest, ';', &spec) || !version_valid(spec))
		return false;
	while (slice_cut(&rest, ';', &spec))
		take_tag(spec, &tags);
	record_r->has_p = policy_read(tags.p, &record_r->p);
	record_r->has_sp = policy_read(tags.sp, &record_r->sp);
	record_r->has_np = policy_read(tags.np, &record_r->np);
	record_r->bad_policy = !record_r->has_p || (tags.sp.p != NULL && !record_r->has_sp) ||
	    (tags.np.p != NULL && !record_r->has_np);
	record_r->strict_dkim = slice_eq_nocase(tags.adkim, SLICE("s"));
	record_r->strict_spf = slice_eq_nocase(tags.aspf, SLICE("s"));
	record_r->testing = slice_eq_nocase(tags.t, SLICE("y"));
	if (slice_eq_nocase(tags.psd, SLICE("y")))
		record_r->psd = DMARC_PSD_Y;
	else if (slice_eq_nocase(tags.psd, SLICE("n")))
		record_r->psd = DMARC_PSD_N;
	record_r->rua = tags.rua;
	record_r->ruf = tags.ruf;
	record_r->rua_usable = any_uri_valid(tags.rua);
	/* 4.7: without p the record counts as p=none; 4.10.1: one that is not valid asks for reports at most. */
	record_r->p_missing = tags.p.p == NULL;
	return true;
}
