/* SASL exchanges: the first octet chooses mechanism and initial response, the rest are responses, one a line. */
#include "authd/address.h"
#include "authd/sasl.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
check_address(struct slice in)
{
	const struct address_rules rules = {.separators = "+-", .fold_letters = true, .dots_ignored = true};
	struct address_name name, again, base;
	char text[ADDRESS_BYTES_MAX + 1];
	const char *detail;
	struct err e;

	if (address_admin_parse(in, true, &name, &e) == 0) {
		/* A normal form is its own normal form. */
		address_print(&name, text);
		assert(address_admin_parse(slice_str(text), true, &again, &e) == 0);
		assert(strcmp(name.local, again.local) == 0 && strcmp(name.domain, again.domain) == 0);
	}
	if (!address_parse(in, &name))
		return;
	for (base = name; address_split_detail(&base, &name, rules.separators, &detail);)
		assert(base.local[0] != '\0' && strlen(base.local) + 1 + strlen(detail) == strlen(name.local));
	/* What is folded stays as it is. */
	if (address_fold(name.local, &rules, again.local) && address_fold(again.local, &rules, base.local))
		assert(strcmp(again.local, base.local) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct slice rest = slice_of(data, n), line = slice_of(data, 0);
	enum sasl_outcome outcome;
	struct sasl s;

	if (n == 0)
		return 0;
	check_address(slice_sub(rest, 1, n));
	rest = slice_sub(rest, 1, n);
	sasl_init(&s);
	if ((data[0] & 1) != 0)
		(void)slice_cut(&rest, '\n', &line);
	outcome = sasl_start(&s, (data[0] & 2) != 0 ? SLICE("LOGIN") : SLICE("PLAIN"), data[0] & 1, line);
	while (outcome == SASL_CHALLENGE && slice_cut(&rest, '\n', &line))
		outcome = sasl_step(&s, line);
	if (outcome == SASL_CREDENTIAL) {
		assert(sasl_login(&s).n > 0 && sasl_password(&s).n > 0);
		assert(slice_index(sasl_login(&s), '\0') == s.login_bytes);
		assert(slice_index(sasl_password(&s), '\0') == s.password_bytes);
		check_address(sasl_login(&s));
	}
	assert(outcome == SASL_CHALLENGE || s.state == SASL_IDLE);
	sasl_reset(&s);
	return 0;
}
