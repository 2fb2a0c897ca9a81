/*
 * Servers agree little on their status codes: 5.7.1 is said of spam, of a bad reputation, of a missing signature and of an
 * address that does not exist. So the rows for words in a reply stand before those for the bare code that is used for everything,
 * and behind those for codes that have one meaning.
 */
#include "smtpd/dsn_words.h"

#include <assert.h>

/* Rows of the first table point to these by name. */
enum kind {
	UNKNOWN_ADDRESS,
	MOVED,
	NO_DOMAIN,
	NO_MAIL,
	DISABLED,
	FULL,
	TOO_BIG,
	SPAM,
	REPUTATION,
	NOT_PROVEN,
	SENDER,
	RELAY,
	TLS,
	LETTERS,
	FORM,
	LOOP,
	TOO_MANY,
	LATER,
	NO_ROUTE,
	NO_ANSWER,
	FAULT,
	POLICY,
	GIVEN_UP,
	OTHER,
	KIND_COUNT
};

static const struct dsn_words kinds[KIND_COUNT] = {
    [UNKNOWN_ADDRESS] = {"unknown-address", "there is no mailbox with this address",
	"Look at the address for a typing mistake and send the message again, or ask the person for the right one.", false},
    [MOVED] = {"moved", "the mailbox has moved away from this address", "Ask the person for the new one.", false},
    [NO_DOMAIN] = {"no-domain", "the domain, which is the part behind the @, does not exist",
	"Look at the address for a typing mistake and send the message again, or ask the person for the right one.", false},
    [NO_MAIL] = {"no-mail", "the domain, which is the part behind the @, takes no mail at all",
	"Ask the person for another address. Sending the message again does not help.", false},
    [DISABLED] = {"disabled", "the mailbox exists but takes no messages",
	"Reach the person in another way. Sending the message again helps only once the mailbox has been opened.", false},
    [FULL] = {"full", "the mailbox is full",
	"Reach the person in another way, so that room can be made, and send the message again after that.", false},
    [TOO_BIG] = {"too-big", "the message is too big for the receiving server",
	"Send it again with fewer or smaller attachments, or send a link to them instead.", false},
    [SPAM] = {"spam", "the receiving server takes the message for spam, or for harmful",
	"Leave out links and attachments, or say it in other words, and send it again; or reach the person in another way and ask that "
	"your messages are let through.", false},
    [REPUTATION] = {"reputation", "the receiving server takes no mail from this one, because of what is known about its network address",
	"This is not about you or your message, and sending it again does not help now.", true},
    [NOT_PROVEN] = {"not-proven", "the receiving server could not make sure that the message comes from your domain",
	"This has to do with how your domain is set up (SPF, DKIM or DMARC). Sending the message again does not help before that is "
	"put right.", true},
    [SENDER] = {"sender", "the receiving server does not take your own address as that of a sender",
	"Look whether your mail program has the right address for you.", true},
    [RELAY] = {"relay", "the server that stands for this domain says that it has nothing to do with it",
	"Look at the address for a typing mistake. If it is right, the fault lies with the domain of the person you write to: reach "
	"the person in another way.", false},
    [TLS] = {"tls", "the message may only travel over a protected connection, and the receiving server offers none that is good enough",
	"Reach the person in another way. Sending the message again helps only once the receiving side has changed this.", false},
    [LETTERS] = {"letters", "an address or the header of the message has letters that the receiving server cannot take",
	"Ask the person for an address in plain letters (a to z, without accents), or write the sender, the recipients and the "
	"subject without others.", false},
    [FORM] = {"form", "the receiving server cannot take the message in the form that it has",
	"Send it again as plain text, or with its attachments in another format.", false},
    [LOOP] = {"loop", "the message would go round in circles between mail servers",
	"Sending it again does not help. Reach the person in another way.", true},
    [TOO_MANY] = {"too-many", "the receiving server takes only so many messages or recipients at a time",
	"Send the message again later, to fewer people at a time.", false},
    [LATER] = {"later", "the receiving server asked us each time to come again later",
	"Send the message again later, or reach the person in another way.", false},
    [NO_ROUTE] = {"no-route", "it could not be found out which server takes mail for this domain",
	"Look at the address for a typing mistake. If it is right, send the message again later, or reach the person in another way.",
	false},
    [NO_ANSWER] = {"no-answer", "the receiving server could not be reached",
	"Look at the address for a typing mistake. If it is right, send the message again later, or reach the person in another way.",
	false},
    [FAULT] = {"fault", "the receiving server has a fault of its own",
	"Send the message again later, or reach the person in another way.", false},
    [POLICY] = {"policy", "the receiving server refuses the message by its rules",
	"What it said may tell you why. If it does not, reach the person in another way.", false},
    [GIVEN_UP] = {"given-up", "whoever looks after this mail server has taken the message out",
	"Sending it again without knowing why does not help.", true},
    [OTHER] = {"other", "the receiving server refuses the message",
	"What it said may tell you why. If it does not, reach the person in another way.", false},
};

/*
 * status: all of it as "4.1.1", its last two numbers as "1.1", "7" for all of a subject, NULL: any. words: separated by
 * "|", of which one begins at the beginning of a word in the reply, whatever its letters' case; NULL: any.
 */
struct row {
	const char *status;
	const char *words;
	enum kind kind;
};

#define WORDS_NOT_PROVEN \
	"spf|dkim|dmarc|unauthenticated|authentication-results|not authenticated|authentication check|" \
	"sender verif"
#define WORDS_REPUTATION \
	"spamhaus|blocklist|block list|blocked using|blacklist|black list|denylist|dnsbl|rbl|" \
	"spamcop|barracuda|reputation|listed at|listed in|listed by|is listed|your ip|your network|" \
	"ip address|reverse dns|ptr record|no ptr|banned"
#define WORDS_SPAM \
	"spam|unsolicited|bulk mail|virus|malware|phish|infected|prohibited content|message content|" \
	"content reject|junk"
#define WORDS_UNKNOWN \
	"user unknown|unknown user|unknown recipient|recipient unknown|no such user|no such recipient|" \
	"no such address|no such mailbox|no such person|user not found|recipient not found|mailbox not found|" \
	"address not found|does not exist|doesn't exist|not exist|invalid recipient|invalid mailbox|unknown mailbox|" \
	"mailbox unknown|unknown local|unknown address|address unknown|no mailbox|not a valid mailbox|" \
	"unrouteable address|not a known user|mailbox unavailable|recipient address rejected: access denied"
#define WORDS_FULL \
	"mailbox full|mailbox is full|quota|over limit|inbox full|storage limit|storage exceeded|" \
	"out of storage|insufficient storage"
#define WORDS_BIG \
	"message too big|message too large|too large|too big|size limit|message size|exceeds size|" \
	"exceeds the size|maximum size|size exceeds"
#define WORDS_DISABLED \
	"mailbox disabled|mailbox is disabled|account disabled|account is disabled|account has been disabled|" \
	"inactive|suspended|deactivated"
#define WORDS_RELAY "relay|not our domain|domain not hosted|not local"
#define WORDS_MANY "too many|rate limit|rate-limit|ratelimit|throttl|limit exceeded|rate that"
#define WORDS_LATER "greylist|graylist|grey listed|try again|try later|come back later|temporarily"
#define WORDS_TLS "starttls|tls|encryption"

static const struct row rows[] = {
    /* Codes with one meaning, and what is said with them. */
    {"1.10", WORDS_UNKNOWN, UNKNOWN_ADDRESS}, /* Exchange's; RFC 7505's is the next one */
    {"1.10", NULL, NO_MAIL},
    {"1.6", NULL, MOVED},
    {"1.2", NULL, NO_DOMAIN},
    {"1.7", NULL, SENDER},
    {"1.8", NULL, SENDER},
    {"2.2", NULL, FULL},
    {"2.3", NULL, TOO_BIG},
    {"3.4", NULL, TOO_BIG},
    {"4.6", NULL, LOOP},
    {"4.3", NULL, NO_ROUTE},
    {"4.4", NULL, NO_ROUTE},
    {"4.5", NULL, TOO_MANY},
    {"5.3", NULL, TOO_MANY},
    {"7.28", NULL, TOO_MANY},
    {"6.7", NULL, LETTERS},
    {"6.8", NULL, LETTERS},
    {"6.9", NULL, LETTERS},
    {"6.10", NULL, LETTERS},
    {"7.20", NULL, NOT_PROVEN},
    {"7.21", NULL, NOT_PROVEN},
    {"7.22", NULL, NOT_PROVEN},
    {"7.23", NULL, NOT_PROVEN},
    {"7.24", NULL, NOT_PROVEN},
    {"7.26", NULL, NOT_PROVEN},
    {"7.27", NULL, SENDER},
    {"7.29", NULL, NOT_PROVEN},
    {"7.25", NULL, REPUTATION},
    {"7.10", NULL, TLS},
    {"7.11", NULL, TLS},
    {"7.30", NULL, TLS},
    /* Our own words (smtpd/queue_admin.c). */
    {"7.1", "The postmaster of this server has taken it out", GIVEN_UP},
    /* Codes that are said of this and that. */
    {"7", WORDS_NOT_PROVEN, NOT_PROVEN},
    {"7", WORDS_REPUTATION, REPUTATION},
    {"7", WORDS_SPAM, SPAM},
    {"7", WORDS_LATER, LATER},
    {"7", WORDS_MANY, TOO_MANY},
    {"7", WORDS_UNKNOWN, UNKNOWN_ADDRESS},
    {"7", WORDS_RELAY, RELAY},
    {"7", WORDS_TLS, TLS},
    {"7", NULL, POLICY},
    {"1.0", WORDS_REPUTATION, REPUTATION},
    {"1.0", WORDS_LATER, LATER},
    {"1", WORDS_RELAY, RELAY},
    {"1", WORDS_FULL, FULL},
    {"4.1.1", WORDS_LATER, LATER},
    {"1", NULL, UNKNOWN_ADDRESS},
    {"2.1", WORDS_FULL, FULL},
    {"2.1", WORDS_UNKNOWN, UNKNOWN_ADDRESS},
    {"2.1", WORDS_MANY, TOO_MANY},
    {"2.1", NULL, DISABLED},
    {"6", NULL, FORM},
    /* What says little by its code. */
    {NULL, WORDS_NOT_PROVEN, NOT_PROVEN},
    {NULL, WORDS_REPUTATION, REPUTATION},
    {NULL, WORDS_SPAM, SPAM},
    {NULL, WORDS_FULL, FULL},
    {NULL, WORDS_BIG, TOO_BIG},
    {NULL, WORDS_DISABLED, DISABLED},
    {NULL, WORDS_UNKNOWN, UNKNOWN_ADDRESS},
    {NULL, WORDS_RELAY, RELAY},
    {NULL, WORDS_MANY, TOO_MANY},
    {"4", NULL, NO_ANSWER},
    {NULL, WORDS_LATER, LATER},
    {"3", NULL, FAULT},
    {NULL, NULL, OTHER},
};

/* Whether one of words, in the form of struct row, stands in reply. */
static bool
has_words(struct slice reply, const char *words)
{
	struct slice rest = slice_str(words);
	struct slice word;

	while (slice_cut(&rest, '|', &word))
		for (size_t i = 0; i + word.n <= reply.n; i++) {
			if (ascii_lower(reply.p[i]) != ascii_lower(word.p[0]))
				continue;
			bool begins = i == 0 || !(ascii_alpha(reply.p[i - 1]) || ascii_digit(reply.p[i - 1]));
			if (begins && slice_eq_nocase(slice_sub(reply, i, i + word.n), word))
				return true;
		}
	return false;
}

bool
dsn_status_valid(struct slice status)
{
	struct slice part;

	if (status.n < 5 || status.p[1] != '.' || (status.p[0] != '2' && status.p[0] != '4' && status.p[0] != '5'))
		return false;
	for (unsigned i = 0; i < 3; i++) {
		uint64_t number;
		if (!slice_cut(&status, '.', &part) || part.n > 3 || !slice_u64(part, 999, &number) || (part.n > 1 && part.p[0] == '0'))
			return false;
	}
	return status.p == NULL;
}

/* status is one of RFC 3463, or empty. */
static bool
has_status(struct slice status, const char *want)
{
	struct slice last = slice_sub(status, 2, status.n);
	struct slice s = slice_str(want);
	size_t dot = slice_index(s, '.');

	if (dot == s.n)
		return slice_eq(slice_sub(last, 0, slice_index(last, '.')), s);
	return slice_eq(dot == slice_rindex(s, '.') ? last : status, s);
}

const struct dsn_words *
dsn_words_of(struct slice status, struct slice reply)
{
	struct slice known = dsn_status_valid(status) ? status : slice_of(NULL, 0);

	reply = slice_sub(reply, 0, DSN_WORDS_REPLY_BYTES_MAX);
	for (size_t i = 0;; i++) {
		const struct row *r = &rows[i];
		assert(i < sizeof(rows) / sizeof(*rows)); /* the last one holds always */
		if ((r->status == NULL || has_status(known, r->status)) && (r->words == NULL || has_words(reply, r->words)))
			return &kinds[r->kind];
	}
}

bool
dsn_words_reputation(struct slice status, struct slice reply)
{
	return dsn_words_of(status, reply) == &kinds[REPUTATION];
}

const struct dsn_words *
dsn_words_at(unsigned i)
{
	return i < KIND_COUNT ? &kinds[i] : NULL;
}
