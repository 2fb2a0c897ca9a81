/*
 * The two talk in turn: the child asks ('?', u16 type, name) and is told (u8 status of the resolver, the DNS message), until it
 * says ('=') the number of questions, the result and the library's complaint, each of which is judged here like any text from outside.
 */
#include "admin/lab_spf2.h"

#include "admin/command.h"
#include "admin/confined.h"
#include "common/cursor.h"
#include "common/mem.h"

#include <unistd.h>

#define QUESTION '?'
#define OUTCOME '='
#define ANSWER_ARENA_BYTES (1u << 20)
#define NAME_BYTES_MAX 255u

/* ---- in the child ---- */

struct child {
	const struct spf2_query *query;
	int fd;
	struct arena *arena;
};

static void
lookup(void *arg, const char *name, uint16_t type, struct dns_answer *answer_r)
{
	struct child *c = arg;
	struct msg_fds fds;
	struct slice packet;
	struct buf b;

	*answer_r = (struct dns_answer){.status = DNS_TEMP};
	buf_init(&b, CONFINED_PACKET_BYTES_MAX);
	put_u8(&b, QUESTION);
	put_u16(&b, type);
	buf_put_str(&b, name);
	confined_give(c->fd, buf_slice(&b));
	buf_fini(&b);
	if (!confined_take(c->fd, &packet, &fds) || packet.n < 1)
		_exit(0);
	answer_r->status = (enum dns_status)packet.p[0];
	if (answer_r->status != DNS_OK)
		return;
	arena_free(&c->arena);
	c->arena = arena_new(ANSWER_ARENA_BYTES);
	if (!dns_answer_parse(slice_sub(packet, 1, packet.n), slice_str(name), type, c->arena, answer_r))
		answer_r->status = DNS_TEMP;
}

static void
work(int fd, void *arg)
{
	struct child c = {.query = arg, .fd = fd};
	struct spf2_outcome o;
	struct buf b;

	spf2_check(c.query, lookup, &c, &o);
	buf_init(&b, CONFINED_PACKET_BYTES_MAX);
	put_u8(&b, OUTCOME);
	put_u32(&b, o.questions);
	put_slice(&b, slice_str(o.result));
	put_slice(&b, slice_str(o.reason));
	confined_give(fd, buf_slice(&b));
	buf_fini(&b);
	arena_free(&c.arena);
}

/* ---- in the command ---- */

static enum command_status
answer(struct confined *c, struct command_link *resolver, uint32_t timeout_ms, struct cursor *question)
{
	static struct msg reply;
	const struct msg_DNS_ANSWER *a = &reply.u.DNS_ANSWER;
	uint16_t type = cursor_u16(question);
	struct slice name = cursor_take(question, cursor_left(question));
	enum command_status status;
	struct buf b;

	if (question->bad || name.n == 0 || name.n > NAME_BYTES_MAX)
		return confined_nonsense();
	status = COMMAND_SEND(resolver, DNS_QUERY, .id = command_id(), .name = name, .type = type, .timeout_ms = timeout_ms);
	if (status == COMMAND_OK)
		status = command_receive(resolver, MSG_DNS_ANSWER, &reply);
	if (status != COMMAND_OK)
		return status;
	buf_init(&b, CONFINED_PACKET_BYTES_MAX);
	put_u8(&b, a->packet.n < CONFINED_PACKET_BYTES_MAX ? a->status : DNS_TEMP);
	buf_put_slice(&b, a->packet.n < CONFINED_PACKET_BYTES_MAX ? a->packet : slice_of(NULL, 0));
	status = confined_ask(c, buf_slice(&b), NULL, 0);
	buf_fini(&b);
	return status;
}

static enum command_status
take_outcome(struct cursor *from, struct lab_spf2 *read_r)
{
	read_r->questions = cursor_u32(from);
	struct slice result = cursor_slice(from, sizeof read_r->result - 1);
	struct slice reason = cursor_slice(from, sizeof read_r->reason - 1);

	if (from->bad || !slice_cstr(result, read_r->result, sizeof read_r->result) ||
	    !slice_cstr(reason, read_r->reason, sizeof read_r->reason))
		return confined_nonsense();
	return COMMAND_OK;
}

static enum command_status
talk(struct confined *c, struct command_link *resolver, uint32_t timeout_ms, struct lab_spf2 *read_r)
{
	enum command_status status = COMMAND_OK;
	struct slice packet;

	for (unsigned i = 0; i <= SPF2_QUESTIONS_MAX && status == COMMAND_OK; i++) {
		status = confined_answer(c, &packet);
		if (status != COMMAND_OK)
			break;
		struct cursor from = cursor_of(packet);
		uint8_t kind = cursor_u8(&from);

		if (kind == OUTCOME)
			return take_outcome(&from, read_r);
		status = kind == QUESTION ? answer(c, resolver, timeout_ms, &from) : confined_nonsense();
	}
	return status == COMMAND_OK ? confined_nonsense() : status;
}

bool
lab_spf2_read(const struct config *config, const struct spf2_query *q, struct lab_spf2 *read_r)
{
	struct command_link *resolver = command_connect(config, ROLE_RESOLVER);
	struct confined c = {.fd = -1};
	enum command_status status = COMMAND_UNREACHABLE;

	*read_r = (struct lab_spf2){.questions = 0};
	if (resolver != NULL)
		status = confined_begin(&c, work, (void *)(uintptr_t)q);
	if (status == COMMAND_OK)
		status = talk(&c, resolver, (uint32_t)config_number(config, OPT_DNS_TIMEOUT), read_r);
	confined_end(&c);
	command_disconnect(&resolver);
	return status == COMMAND_OK;
}
