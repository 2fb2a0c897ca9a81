/*
 * A line ends at LF and must have CR before it; one that does not is refused as a whole, so that
 * after any error reading goes on at the next line. Arguments are separated by exactly one space;
 * white space at the end of a line is forgiven except in a password, which is taken as it is (RFC
 * 1939 7, PASS).
 */
#include "pop3d/pop3_command.h"

#include <assert.h>

enum pop3_frame
pop3_frame_next(
    struct pop3_framer *f, struct slice in, size_t line_max, size_t *used_r, struct slice *line_r)
{
	size_t end = slice_index(in, '\n');

	assert(line_max >= 2);
	*line_r = slice_of(NULL, 0);
	if (end == in.n) {
		/*
		 * One octet over the limit without an end: nothing that comes can make it a
		 * command.
		 */
		if (in.n >= line_max)
			f->dropping = true;
		*used_r = f->dropping ? in.n : 0;
		return POP3_FRAME_MORE;
	}
	*used_r = end + 1;
	if (f->dropping || end + 1 > line_max) {
		f->dropping = false;
		return POP3_FRAME_LONG;
	}
	if (end == 0 || in.p[end - 1] != '\r')
		return POP3_FRAME_BARE;
	struct slice line = slice_sub(in, 0, end - 1);

	if (slice_index(line, '\r') < line.n || slice_index(line, 0) < line.n)
		return POP3_FRAME_BARE;
	*line_r = line;
	return POP3_FRAME_LINE;
}

enum args {
	ARGS_NONE,
	ARGS_WORDS,    /* one or two */
	ARGS_WORD,     /* one or none */
	ARGS_REST,     /* the rest of the line */
	ARGS_ANY,      /* not looked at */
	ARGS_NUMBER,   /* a message */
	ARGS_OPTIONAL, /* a message or nothing */
	ARGS_TOP,      /* a message and a count */
};

static const struct {
	const char *name;
	enum args args;
} verbs[POP3_VERB_COUNT] = {
    [POP3_USER] = {"USER", ARGS_REST},
    [POP3_PASS] = {"PASS", ARGS_REST},
    [POP3_AUTH] = {"AUTH", ARGS_WORDS},
    [POP3_STLS] = {"STLS", ARGS_NONE},
    [POP3_CAPA] = {"CAPA", ARGS_NONE},
    [POP3_QUIT] = {"QUIT", ARGS_NONE},
    [POP3_STAT] = {"STAT", ARGS_NONE},
    [POP3_LIST] = {"LIST", ARGS_OPTIONAL},
    [POP3_RETR] = {"RETR", ARGS_NUMBER},
    [POP3_DELE] = {"DELE", ARGS_NUMBER},
    [POP3_NOOP] = {"NOOP", ARGS_NONE},
    [POP3_RSET] = {"RSET", ARGS_NONE},
    [POP3_UIDL] = {"UIDL", ARGS_OPTIONAL},
    [POP3_TOP] = {"TOP", ARGS_TOP},
    [POP3_APOP] = {"APOP", ARGS_ANY},
    [POP3_UTF8] = {"UTF8", ARGS_NONE},
    [POP3_LANG] = {"LANG", ARGS_WORD},
};

static enum pop3_verb
find_verb(struct slice word)
{
	for (unsigned i = POP3_UNKNOWN + 1; i < POP3_VERB_COUNT; i++) {
		if (slice_eq_nocase(word, slice_str(verbs[i].name)))
			return (enum pop3_verb)i;
	}
	return POP3_UNKNOWN;
}

/* word = 1*%x21-7E; takes one from *rest, which begins behind the space that separates. */
static bool
parse_word(struct slice *rest, struct slice *word_r)
{
	return slice_cut(rest, ' ', word_r) && word_r->n > 0;
}

/* number = 1*DIGIT */
static bool
parse_number(struct slice *rest, uint32_t min, uint32_t *number_r)
{
	struct slice word;
	uint64_t n;

	if (!parse_word(rest, &word) || !slice_u64(word, UINT32_MAX, &n) || n < min)
		return false;
	*number_r = (uint32_t)n;
	return true;
}

/* Without the spaces at the end that some clients send. */
static struct slice
forgive_end(struct slice s)
{
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

static bool
parse_words(struct slice rest, struct pop3_command *c)
{
	while (c->args < 2 && rest.n > 0) {
		if (!parse_word(&rest, &c->arg[c->args]))
			return false;
		c->args++;
	}
	return c->args > 0 && rest.n == 0;
}

static bool
parse_numbers(struct slice rest, struct pop3_command *c)
{
	enum args args = verbs[c->verb].args;

	if (rest.n == 0)
		return args == ARGS_OPTIONAL;
	if (!parse_number(&rest, 1, &c->number[0]))
		return false;
	c->args = 1;
	if (args == ARGS_TOP) {
		if (!parse_number(&rest, 0, &c->number[1]))
			return false;
		c->args = 2;
	}
	return rest.n == 0;
}

bool
pop3_command_parse(struct slice line, struct pop3_command *cmd_r)
{
	size_t space = slice_index(line, ' ');
	bool has_rest = space < line.n;
	struct slice rest = slice_sub(line, space + 1, line.n);

	*cmd_r = (struct pop3_command){.verb = find_verb(slice_sub(line, 0, space))};
	switch (verbs[cmd_r->verb].args) {
	case ARGS_NONE:
		return cmd_r->verb == POP3_UNKNOWN || forgive_end(rest).n == 0;
	case ARGS_WORDS:
		return parse_words(forgive_end(rest), cmd_r);
	case ARGS_WORD:
		rest = forgive_end(rest);
		return rest.n == 0 || (parse_words(rest, cmd_r) && cmd_r->args == 1);
	case ARGS_REST:
		cmd_r->arg[0] = rest;
		cmd_r->args = has_rest;
		return has_rest && rest.n > 0;
	case ARGS_ANY:
		return true;
	case ARGS_NUMBER:
	case ARGS_OPTIONAL:
	case ARGS_TOP:
		return parse_numbers(forgive_end(rest), cmd_r);
	}
	return false;
}
