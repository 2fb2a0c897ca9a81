/*
 * Every field is looked at once, in order, so that the ranges come out ascending.
 * A range covers whole fields with their line ends, and neighbours are joined: what is left is
 * a header block again. More ranges than the verdict can hold are not cut off silently, since
 * what follows them would then stay in: ranges_overflow says so, and deliver refuses.
 */
#include "smtpd/verify_form.h"

#include "common/charset.h"
#include "common/rfc5322.h"
#include "smtpd/authres.h"

#include <assert.h>

/* Addresses of one field, or of all From fields; freed with the arena after each. No octet of them is copied more than three times, so
 * that no header is so large that the author could not be told from it. */
#define FIELD_ARENA_BYTES (4u * VERIFY_HEADER_BYTES_MAX)

static void
leave_out(struct verdict *v, uint64_t offset, uint64_t octets)
{
	struct verdict_range *last = v->range_count > 0 ? &v->ranges[v->range_count - 1] : NULL;

	if (last != NULL && last->offset + last->octets == offset) {
		last->octets += octets;
	} else if (v->range_count == VERDICT_RANGES_MAX) {
		v->form.ranges_overflow = true;
	} else {
		v->ranges[v->range_count++] = (struct verdict_range){offset, octets};
	}
}

static bool
must_go(const struct header_field *field, const struct facts *f)
{
	static const char *const submitted[] = {"Bcc", "Resent-Bcc", "Return-Path"};

	for (size_t i = 0; f->submission && i < sizeof submitted / sizeof submitted[0]; i++)
		if (slice_eq_nocase(field->name, slice_str(submitted[i])))
			return true;
	return f->authserv_id.n > 0 && authres_claims(field->name, field->value, f->authserv_id);
}

/* Some mailbox of the list has no domain. "<>" is none. */
static bool
has_unqualified(struct slice value, struct arena *scratch)
{
	struct address_list list;

	arena_reset(scratch);
	address_list_parse(value, ADDRESSES_MAX, scratch, &list);
	for (size_t i = 0; i < list.n; i++)
		if (list.v[i].kind == ADDRESS_MAILBOX && list.v[i].local.n > 0 && list.v[i].domain.n == 0)
			return true;
	return false;
}

static void
count_field(const struct header_field *field, const struct facts *f, struct arena *scratch, struct verdict *v)
{
	static const char *const addresses[] = {"From", "Sender", "To", "Cc", "Reply-To"};
	static const char *const recipients[] = {"To", "Cc", "Bcc"};
	struct verdict_form *form = &v->form;

	if (slice_eq_nocase(field->name, SLICE("Received")))
		form->received_fields++;
	else if (slice_eq_nocase(field->name, SLICE("Date")))
		form->date_fields++;
	else if (slice_eq_nocase(field->name, SLICE("Message-ID")))
		form->message_id_fields++;
	else if (slice_eq_nocase(field->name, SLICE("Delivered-To")))
		form->looped |= forward_mark_found(f->marks, field->value);
	for (size_t i = 0; i < sizeof recipients / sizeof recipients[0]; i++)
		form->recipient_fields += slice_eq_nocase(field->name, slice_str(recipients[i]));
	for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++)
		if (slice_eq_nocase(field->name, slice_str(addresses[i])))
			form->unqualified |= has_unqualified(field->value, scratch);
}

/* dot-atom text (RFC 5322 3.2.3, 6532), which needs no quotes. */
static bool
is_dot_atom(struct slice s)
{
	if (s.n == 0 || s.p[0] == '.' || s.p[s.n - 1] == '.')
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= 0x20 || s.p[i] == 0x7f || strchr("()<>[]:;@\\,\"", s.p[i]) != NULL ||
		    (s.p[i] == '.' && s.p[i - 1] == '.'))
			return false;
	return true;
}

/* local@domain, the local part quoted when it has to be. Empty at the cap. */
static struct slice
addr_spec(struct slice local, struct slice domain, struct arena *a)
{
	struct slice copy = {NULL, 0};
	struct buf b;

	buf_init(&b, VERDICT_TEXT_BYTES_MAX);
	if (is_dot_atom(local)) {
		buf_put_slice(&b, local);
	} else {
		buf_put_u8(&b, '"');
		for (size_t i = 0; i < local.n; i++) {
			if (local.p[i] == '"' || local.p[i] == '\\')
				buf_put_u8(&b, '\\');
			buf_put_u8(&b, local.p[i]);
		}
		buf_put_u8(&b, '"');
	}
	buf_put_u8(&b, '@');
	buf_put_slice(&b, domain);
	if (b.failed || !arena_copy(a, buf_slice(&b), &copy))
		copy = slice_of(NULL, 0);
	buf_fini(&b);
	return copy;
}

static void
examine_author(struct slice block, struct arena *a, struct arena *scratch, struct verdict_form *form)
{
	struct from_info info;

	arena_reset(scratch);
	from_examine(block, scratch, &info);
	form->from_fields = (uint32_t)info.fields;
	form->from_mailboxes = (uint32_t)info.list.mailboxes;
	form->from_domains_differ = info.domains_differ;
	/* A domain that does not fit is none. */
	if (info.domain.n > VERDICT_TEXT_BYTES_MAX || !arena_copy(a, info.domain, &form->from_domain))
		form->from_domain = slice_of(NULL, 0);
	for (size_t i = 0; i < info.list.n; i++)
		if (info.list.v[i].kind == ADDRESS_MAILBOX) {
			if (info.list.v[i].domain.n > 0)
				form->from_address = addr_spec(info.list.v[i].local, info.list.v[i].domain, a);
			break;
		}
}

/* requiretls-field; one that stands there twice says nothing (RFC 8689 3). */
static bool
says_tls_optional(struct slice block)
{
	struct header_field f;

	return header_count(block, SLICE("TLS-Required")) == 1 && header_find(block, SLICE("TLS-Required"), &f) &&
	    slice_eq_nocase(slice_trim(f.value), SLICE("No"));
}

void
verify_form_header(struct slice block, const struct facts *f, struct arena *a, struct verdict *v)
{
	struct arena *scratch = arena_new(FIELD_ARENA_BYTES);
	struct header_field field;
	struct header_iter it;
	uint64_t at = 0;

	v->form.header_sane = true;
	for (size_t i = 0; i < block.n && !v->form.header_8bit; i++)
		v->form.header_8bit = block.p[i] >= 0x80;
	v->form.header_utf8 = !v->form.header_8bit || utf8_valid(block);
	header_iter_init(&it, block);
	while (header_next(&it, &field)) {
		v->form.header_fields++;
		at = (uint64_t)(field.raw.p - block.p);
		if (field.name.n == 0)
			v->form.header_sane = false;
		if (must_go(&field, f))
			leave_out(v, at, field.raw.n);
		else
			count_field(&field, f, scratch, v);
	}
	if (v->form.header_fields == HEADER_FIELDS_MAX) {
		v->form.header_sane = false;
		v->form.ranges_overflow = true;
	}
	v->form.tls_optional = says_tls_optional(block);
	examine_author(block, a, scratch, &v->form);
	arena_free(&scratch);
}

/* ---- all octets ---- */

static void
tell(struct verify_scan *s, struct verdict_form *f)
{
	f->has_nul |= s->octets.nul;
	f->has_bare_cr |= s->octets.bare_cr;
	f->has_bare_lf |= s->octets.bare_lf;
	f->line_too_long |= s->octets.line_too_long;
	f->body_8bit |= s->octets.eightbit && !s->in_header;
	s->octets.eightbit = false;
}

void
verify_scan_feed(struct verify_scan *s, struct slice chunk, struct verdict_form *f)
{
	octets_look(&s->octets, chunk);
	tell(s, f);
}

void
verify_scan_end(struct verify_scan *s, struct verdict_form *f)
{
	octets_end(&s->octets);
	tell(s, f);
}
