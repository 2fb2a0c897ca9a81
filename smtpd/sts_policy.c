#include "smtpd/sts_policy.h"

#include "common/charset.h"
#include "smtpd/smtp_grammar.h"

const char *
sts_mode_name(enum sts_mode m)
{
	static const char *const names[] = {[STS_NONE] = "none", [STS_TESTING] = "testing", [STS_ENFORCE] = "enforce"};

	return (unsigned)m <= STS_MODE_LAST ? names[m] : "unknown";
}

static bool
is_alnum(uint8_t c)
{
	return ascii_alpha(c) || ascii_digit(c);
}

/* ---- the record ---- */

static bool
id_valid(struct slice id)
{
	for (size_t i = 0; i < id.n; i++)
		if (!is_alnum(id.p[i]))
			return false;
	return id.n > 0 && id.n <= STS_ID_CHARS_MAX;
}

/* sts-ext-name, which "id" is one of. */
static bool
name_valid(struct slice name)
{
	for (size_t i = 0; i < name.n; i++)
		if (!is_alnum(name.p[i]) && (i == 0 || (name.p[i] != '_' && name.p[i] != '-' && name.p[i] != '.')))
			return false;
	return name.n > 0 && name.n <= 32;
}

static bool
value_valid(struct slice value)
{
	for (size_t i = 0; i < value.n; i++)
		if (value.p[i] < 0x21 || value.p[i] > 0x7e || value.p[i] == ';' || value.p[i] == '=')
			return false;
	return value.n > 0;
}

/* One "name=value"; an empty one may stand at the end alone. */
static bool
take_field(struct slice field, bool last, struct slice *id)
{
	size_t at = slice_index(field, '=');
	struct slice name = slice_sub(field, 0, at);
	struct slice value = slice_sub(field, at + 1, field.n);

	if (field.n == 0)
		return last;
	if (at == field.n || !name_valid(name) || !value_valid(value))
		return false;
	if (slice_eq(name, SLICE("id")) && id->n == 0)
		*id = value;
	return true;
}

static bool
record_parse(struct slice text, struct slice *id_r)
{
	struct slice field;
	bool good = true;

	*id_r = slice_of(NULL, 0);
	(void)slice_cut(&text, ';', &field);
	while (good && slice_cut(&text, ';', &field))
		good = take_field(slice_trim(field), text.n == 0, id_r);
	return good && id_valid(*id_r);
}

bool
sts_record_id(const struct dns_answer *txt, struct slice *id_r)
{
	const struct dns_record *found = NULL;

	for (unsigned i = 0; i < txt->count; i++) {
		struct slice text = txt->records[i].data, version = text;
		(void)slice_cut(&text, ';', &version);
		/* "v=STSv1", white space, ";" */
		if (!slice_eq(slice_trim(version), SLICE("v=STSv1")) || version.n == txt->records[i].data.n || version.p[0] != 'v')
			continue;
		if (found != NULL)
			return false;
		found = &txt->records[i];
	}
	return found != NULL && record_parse(found->data, id_r);
}

/* ---- the policy ---- */

static bool
pattern_valid(struct slice mx)
{
	if (slice_starts(mx, SLICE("*.")))
		mx = slice_sub(mx, 2, mx.n);
	return smtp_domain_valid(mx, false);
}

enum { HAS_VERSION = 1, HAS_MODE = 2, HAS_MAX_AGE = 4, HAS_ALL = 7 };

static bool
take_mode(struct slice value, struct sts_policy *p)
{
	for (unsigned m = 0; m <= STS_MODE_LAST; m++)
		if (slice_eq(value, slice_str(sts_mode_name((enum sts_mode)m)))) {
			p->mode = (enum sts_mode)m;
			return true;
		}
	return false;
}

static bool
take_age(struct slice value, struct sts_policy *p)
{
	uint64_t age;

	if (value.n == 0 || value.n > 10 || !slice_u64(value, UINT64_MAX, &age))
		return false;
	p->max_age = age > STS_AGE_SECONDS_MAX ? STS_AGE_SECONDS_MAX : (uint32_t)age;
	return true;
}

static bool
take_mx(struct slice value, struct sts_policy *p)
{
	if (!pattern_valid(value))
		return false;
	if (p->mx_count < STS_PATTERNS_MAX)
		p->mx[p->mx_count++] = value;
	return true;
}

/* False when the line makes it no policy. has: what was there already, whose later lines are ignored. */
static bool
take_line(struct slice line, struct sts_policy *p, unsigned *has)
{
	size_t at = slice_index(line, ':');
	struct slice name = slice_sub(line, 0, at);
	struct slice value = slice_trim(slice_sub(line, at + 1, line.n));
	unsigned before = *has;

	if (at == line.n || !name_valid(name))
		return false;
	if (slice_eq(name, SLICE("mx")))
		return take_mx(value, p);
	if (slice_eq(name, SLICE("version"))) {
		*has |= HAS_VERSION;
		return (before & HAS_VERSION) || slice_eq(value, SLICE("STSv1"));
	}
	if (slice_eq(name, SLICE("mode"))) {
		*has |= HAS_MODE;
		return (before & HAS_MODE) || take_mode(value, p);
	}
	if (slice_eq(name, SLICE("max_age"))) {
		*has |= HAS_MAX_AGE;
		return (before & HAS_MAX_AGE) || take_age(value, p);
	}
	return true;
}

static bool
octets_valid(struct slice in)
{
	for (size_t i = 0; i < in.n; i++) {
		uint8_t c = in.p[i];
		if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f)
			return false;
		if (c == '\r' && (i + 1 == in.n || in.p[i + 1] != '\n'))
			return false;
	}
	return true;
}

bool
sts_policy_parse(struct slice in, struct sts_policy *policy_r)
{
	unsigned has = 0;
	struct slice line;

	*policy_r = (struct sts_policy){0};
	if (in.n > STS_POLICY_BYTES_MAX || !octets_valid(in) || !utf8_valid(in))
		return false;
	while (slice_cut(&in, '\n', &line)) {
		if (line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		if (line.n == 0 && in.n == 0)
			break;
		if (!take_line(line, policy_r, &has))
			return false;
	}
	return has == HAS_ALL && (policy_r->mode == STS_NONE || policy_r->mx_count > 0);
}

bool
sts_policy_allows(const struct sts_policy *policy, struct slice host)
{
	size_t dot = slice_index(host, '.');

	for (unsigned i = 0; i < policy->mx_count; i++) {
		struct slice mx = policy->mx[i];
		if (slice_eq_nocase(mx, host))
			return true;
		if (mx.p[0] == '*' && dot > 0 && dot < host.n && slice_eq_nocase(slice_sub(mx, 1, mx.n), slice_sub(host, dot, host.n)))
			return true;
	}
	return false;
}
