/*
 * Writing a message anew: octets that we put before it, then the message without the ranges that verify named, and with the changes
 * to it that verify has planned (smtpd/sevenbit.h).
 * The source is read once, and its SHA-256 over what was read is compared with verify's at the end: a
 * front that changes a file between judging and storing is found out. Work is done in
 * slices, so that a big message does not hold up the others.
 *
 * A submission without Date or Message-ID, or one that leaves and is to be made 7 bits, is written twice: completed first, so that verify
 * and sign see the same message that is stored and its summary is the stored one's.
 */
#include "smtpd/deliver.h"
#include "smtpd/deliver_sign.h"
#include "smtpd/deliver_forward.h"

#include "common/config.h"
#include "common/mem.h"
#include "common/memfd.h"
#include "common/summary.h"
#include "smtpd/received.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCK_BYTES (64 * 1024)
#define MARKS_BYTES_MAX (FORWARD_ADDRESSES_MAX * 64 + ENVELOPE_ADDRESS_BYTES_MAX)
#define SLICE_BYTES (1024 * 1024) /* written before others have their turn */

struct composer {
	struct job *job;
	struct loop_timer *timer;
	struct buf prefix;
	uint64_t prefix_lines;
	uint64_t total; /* octets that come out */
	uint64_t at;	/* in the source */
	struct sevenbit_change *changes;
	unsigned count;
	struct sevenbit_writer writer;
	int fd;
	uint64_t spool_id;
	EVP_MD_CTX *source_hash;
	EVP_MD_CTX *final_hash;
	bool completing;
	bool recoding;
};

static void step(void *arg);

void
deliver_compose_free(struct job *j)
{
	struct composer *c = j->composer;

	if (c == NULL)
		return;
	if (c->fd >= 0)
		(void)close(c->fd);
	loop_timer_free(&c->timer);
	buf_fini(&c->prefix);
	free(c->changes);
	EVP_MD_CTX_free(c->source_hash);
	EVP_MD_CTX_free(c->final_hash);
	MEM_FREE(&j->composer);
}

static void
fail(struct job *j, const char *what, const struct err *e)
{
	log_event(LOG_ERROR, slice_str(j->session), "compose-failed", LOG_CSTR("what", what),
	    LOG_CSTR("error", e ? e->detail : ""), LOG_END);
	deliver_job_reply(j, 451, "4.3.0", "The message could not be written for the moment, try again later");
}

static bool
hash_begin(EVP_MD_CTX **h)
{
	*h = EVP_MD_CTX_new();
	return *h && EVP_DigestInit_ex(*h, EVP_sha256(), NULL) == 1;
}

static void
hash_add(EVP_MD_CTX *h, struct slice s)
{
	int good = EVP_DigestUpdate(h, s.p, s.n);

	assert(good == 1);
}

static void
hash_end(EVP_MD_CTX *h, uint8_t out[32])
{
	unsigned n = 0;
	int good = EVP_DigestFinal_ex(h, out, &n);

	assert(good == 1 && n == 32);
}

/* ---- writing ---- */

static bool
put(struct composer *c, struct slice s, struct err *e)
{
	hash_add(c->final_hash, s);
	return s.n == 0 || memfd_write(c->fd, s, e) == 0;
}

/* Writes what the block that begins at c->at becomes. */
static bool
put_block(struct composer *c, struct slice block, struct err *e)
{
	static struct buf out;

	if (out.max == 0)
		buf_init(&out, SEVENBIT_WRITTEN_MAX(BLOCK_BYTES));
	buf_reset(&out);
	sevenbit_write(&c->writer, block, &out);
	return put(c, buf_slice(&out), e);
}

static bool
finish(struct composer *c, struct source *out_r, struct err *e)
{
	uint8_t hash[32];

	hash_end(c->source_hash, hash);
	if (memcmp(hash, c->job->message.sha256, sizeof(hash)) != 0) {
		err_set(e, ERR_PERM, ERR_CODE_CORRUPT, "message changed", "the message is not the one that was checked");
		return false;
	}
	if (c->spool_id == 0 && memfd_seal(c->fd, e) < 0)
		return false;
	if (memfd_size(c->fd, e) != (int64_t)c->total) {
		err_set(e, ERR_BUG, ERR_CODE_NONE, "internal error", "composed message has another length");
		return false;
	}
	out_r->fd = c->fd;
	out_r->bytes = c->total;
	hash_end(c->final_hash, out_r->sha256);
	c->fd = -1;
	return true;
}

/* The summary learns of the prefix, and is sealed to be stored beside the message. */
static bool
seal_summary(struct job *j, struct slice prefix, uint64_t prefix_lines, struct err *e)
{
	if (!summary_set_prefix(j->summary, j->summary_bytes, prefix.n, prefix_lines, slice_is_ascii(prefix))) {
		err_set(e, ERR_BUG, ERR_CODE_NONE, "internal error", "summary refused its prefix");
		return false;
	}
	j->summary_fd = memfd_of(slice_of(j->summary, j->summary_bytes), e);
	return j->summary_fd >= 0;
}

static void
composed(struct composer *c)
{
	struct job *j = c->job;
	struct source out;
	struct err e = {0};

	if (!finish(c, &out, &e)) {
		fail(j, "finish", &e);
		return;
	}
	if (c->completing) {
		(void)close(j->message.fd);
		j->message = out;
		j->completed = true;
		j->verify_tries = 0;
		if (c->recoding)
			j->envelope.eightbit = j->envelope.binary = false;
		deliver_compose_free(j);
		deliver_verify(j);
		return;
	}
	j->final = out;
	if (!seal_summary(j, buf_slice(&c->prefix), c->prefix_lines, &e)) {
		fail(j, "summary", &e);
		return;
	}
	deliver_compose_free(j);
	deliver_append(j);
}

static void
step(void *arg)
{
	static uint8_t block[BLOCK_BYTES];
	struct composer *c = arg;
	struct job *j = c->job;
	uint64_t until = c->at + SLICE_BYTES;
	struct err e = {0};

	while (c->at < j->message.bytes && c->at < until) {
		uint64_t left = j->message.bytes - c->at;
		size_t want = left < sizeof(block) ? (size_t)left : sizeof(block);
		int64_t n = memfd_read(j->message.fd, c->at, block, want, &e);
		if (n <= 0 || (size_t)n != want) {
			fail(j, "read", &e);
			return;
		}
		hash_add(c->source_hash, slice_of(block, want));
		if (!put_block(c, slice_of(block, want), &e)) {
			fail(j, "write", &e);
			return;
		}
		c->at += want;
	}
	if (c->at < j->message.bytes)
		loop_timer_set(c->timer, 0);
	else
		composed(c);
}

static void
begin(struct composer *c, int fd)
{
	struct err e = {0};

	c->fd = fd;
	if (!put(c, buf_slice(&c->prefix), &e))
		fail(c->job, "write", &e);
	else
		step(c);
}

/* ---- where it is written to ---- */

static void
spool_gone(void *obj, const struct err *e)
{
	struct job *j = obj;

	j->open--;
	fail(j, "spool", e);
}

void
deliver_on_spool(struct edge *e, struct msg_SPOOL_REPLY *m)
{
	struct job *j = ipc_answered(e, m->id);
	int fd = m->fd;

	if (j == NULL) {
		if (fd >= 0)
			IPC_TELL(e, SPOOL_DONE, .id = m->id);
		return;
	}
	j->open--;
	if (m->class != ERR_NONE || fd < 0) {
		deliver_job_reply(j, 452, "4.3.1", "No room for the message, try again later");
		return;
	}
	assert(j->spool_count < 2); /* the completed and the final message */
	m->fd = -1;
	j->spool_ids[j->spool_count++] = m->id;
	j->composer->spool_id = m->id;
	begin(j->composer, fd);
}

static void
open_spool(struct job *j)
{
	struct edge *queue = role_edge(ROLE_QUEUE, 0);
	uint64_t id = queue ? ipc_expect(queue, DELIVER_ASK_MS, spool_gone, j) : 0;

	if (id != 0 && IPC_SEND(queue, SPOOL_OPEN, .id = id, .bytes_max = j->composer->total)) {
		j->open++;
		return;
	}
	if (id != 0)
		ipc_forget(queue, id);
	fail(j, "spool", NULL);
}

static void
open_output(struct job *j)
{
	struct err e = {0};

	if (j->composer->total > DELIVER_MEMFD_BYTES_MAX) {
		open_spool(j);
		return;
	}
	int fd = memfd_new(&e);
	if (fd < 0)
		fail(j, "memory file", &e);
	else
		begin(j->composer, fd);
}

/* ---- the two kinds ---- */

static bool
comes_first(const struct sevenbit_change *a, const struct sevenbit_change *b)
{
	return a->offset < b->offset || (a->offset == b->offset && a->octets == 0);
}

/* Merges the ranges and the changes, both of which ascend. */
static void
gather_changes(struct composer *c)
{
	const struct verdict *v = &c->job->verdict;
	uint16_t change = 0, changes = c->recoding ? v->recoding.count : 0;

	c->changes = mem_new_array((size_t)v->range_count + changes, sizeof *c->changes);
	for (uint16_t range = 0; range < v->range_count; range++) {
		const struct sevenbit_change out = {v->ranges[range].offset, v->ranges[range].octets, 0, SEVENBIT_LEAVE_OUT};

		while (change < changes && comes_first(&v->recoding.changes[change], &out))
			c->changes[c->count++] = v->recoding.changes[change++];
		c->changes[c->count++] = out;
	}
	while (change < changes)
		c->changes[c->count++] = v->recoding.changes[change++];
}

static struct composer *
composer_new(struct job *j)
{
	struct composer *c = MEM_NEW(struct composer);

	c->job = j;
	c->fd = -1;
	c->timer = loop_timer_new(role_loop(), step, c);
	buf_init(&c->prefix, RECEIVED_BYTES_MAX + DELIVER_SIGNATURES_BYTES_MAX + MARKS_BYTES_MAX);
	j->composer = c;
	return c;
}

static struct received_facts
trace_facts(const struct job *j)
{
	return (struct received_facts){
	    .envelope = &j->envelope,
	    .authenticated = j->submission,
	    .hostname = slice_str(config_string(role_config(), OPT_HOSTNAME)),
	    .queue_id = slice_str(j->queue_id),
	    .authres = j->verdict.authres,
	    .now = (int64_t)(clock_wall_us() / 1000000),
	};
}

static void
start(struct job *j, bool prefix_fits)
{
	struct composer *c = j->composer;
	struct slice prefix = buf_slice(&c->prefix);

	gather_changes(c);
	int64_t octets = sevenbit_octets(c->changes, c->count, j->message.bytes);

	if (!prefix_fits || octets < 0 || !hash_begin(&c->source_hash) || !hash_begin(&c->final_hash)) {
		fail(j, "start", NULL);
		return;
	}
	for (size_t i = 0; i < prefix.n; i++)
		c->prefix_lines += prefix.p[i] == '\n';
	sevenbit_write_begin(&c->writer, c->changes, c->count, j->message.bytes);
	c->total = prefix.n + (uint64_t)octets;
	open_output(j);
}

void
deliver_compose(struct job *j)
{
	struct composer *c = composer_new(j);
	struct received_facts facts = trace_facts(j);

	bool fits = received_return_path(&facts, &c->prefix);

	j->return_path_bytes = (uint32_t)c->prefix.n;
	fits = deliver_forward_fields(j, &c->prefix) && fits;
	buf_put_slice(&c->prefix, j->signatures);
	start(j, received_print(&facts, &c->prefix) && fits);
}

void
deliver_complete(struct job *j)
{
	struct composer *c = composer_new(j);
	struct received_facts facts = trace_facts(j);
	const struct verdict_form *form = &j->verdict.form;

	c->completing = true;
	c->recoding = j->outside && j->verdict.recoding.count > 0;
	if (c->recoding)
		deliver_trace(j, "recoded", LOG_NUM("bodies", sevenbit_bodies(&j->verdict.recoding)), LOG_END);
	start(j, received_complete(&facts, form->date_fields == 0, form->message_id_fields == 0, &c->prefix));
}
