/*
 * The calendar is computed with the proleptic Gregorian formulas on days
 * since 0000-03-01, in which the leap day is the last of its year; timegm()
 * and strptime() are not used because they obey the locale, accept more than
 * the grammars and normalise 31 February into March.
 */
#include "common/date.h"

#include <stdio.h>

#define DAY_SECONDS 86400
#define YEAR_MAX 9999
#define COMMENT_DEPTH_MAX 50

struct civil {
	int year;
	int month; /* 1..12 */
	int day;
	int hour;
	int minute;
	int second;
};

static const char month_names[12][4] = {
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char day_names[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

static int64_t
floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}

static int64_t
days_of(int year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = floor_div(y, 400);
	int64_t year_of_era = y - era * 400;
	int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

	return era * 146097 + day_of_era - 719468;
}

static struct civil
civil_of(int64_t days)
{
	int64_t z = days + 719468;
	int64_t era = floor_div(z, 146097);
	int64_t doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153;
	int month = (int)(mp < 10 ? mp + 3 : mp - 9);

	return (struct civil){
	    .year = (int)(yoe + era * 400 + (month <= 2)),
	    .month = month,
	    .day = (int)(doy - (153 * mp + 2) / 5 + 1),
	};
}

static int
month_days(int year, int month)
{
	static const int days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return month == 2 && leap ? 29 : days[month - 1];
}

/* Second 60 is a leap second; it counts as the next minute's first. */
static bool
civil_valid(const struct civil *c, int year_min)
{
	return c->year >= year_min && c->year <= YEAR_MAX && c->month >= 1 && c->month <= 12 &&
	    c->day >= 1 && c->day <= month_days(c->year, c->month) && c->hour >= 0 &&
	    c->hour <= 23 && c->minute >= 0 && c->minute <= 59 && c->second >= 0 && c->second <= 60;
}

static int64_t
civil_seconds(const struct civil *c, int zone_minutes)
{
	return days_of(c->year, c->month, c->day) * DAY_SECONDS + c->hour * 3600 +
	    c->minute * 60 + c->second - (int64_t)zone_minutes * 60;
}

/* The local wall clock of a date, clamped to what four-digit years can show. */
static struct civil
civil_local(struct date_time date, int64_t *days_r)
{
	const int64_t first = days_of(1, 1, 1) * DAY_SECONDS;
	const int64_t last = days_of(YEAR_MAX, 12, 31) * DAY_SECONDS + DAY_SECONDS - 1;
	int64_t t = date.seconds;

	if (t > last)
		t = last;
	if (t < first)
		t = first;
	t += (int64_t)date.zone_minutes * 60;
	if (t > last)
		t = last;
	if (t < first)
		t = first;
	int64_t days = floor_div(t, DAY_SECONDS);
	int rest = (int)(t - days * DAY_SECONDS);
	struct civil c = civil_of(days);

	c.hour = rest / 3600;
	c.minute = rest / 60 % 60;
	c.second = rest % 60;
	*days_r = days;
	return c;
}

/* 1..12, or 0. */
static int
month_of(struct slice s)
{
	for (int i = 0; i < 12; i++)
		if (slice_eq_nocase(s, slice_str(month_names[i])))
			return i + 1;
	return 0;
}

static bool
number_of(struct slice s, int *v_r)
{
	uint64_t v;

	if (!slice_u64(s, 99999, &v))
		return false;
	*v_r = (int)v;
	return true;
}

/* zone = ("+" / "-") 4DIGIT, both grammars. */
static bool
zone_digits(struct slice s, struct date_time *date_r)
{
	int hhmm;

	if (s.n != 5 || (s.p[0] != '+' && s.p[0] != '-') ||
	    !number_of(slice_sub(s, 1, 5), &hhmm) || hhmm % 100 > 59)
		return false;
	int minutes = hhmm / 100 * 60 + hhmm % 100;

	date_r->zone_unknown = s.p[0] == '-' && minutes == 0;
	date_r->zone_minutes = (int16_t)(s.p[0] == '-' ? -minutes : minutes);
	return true;
}

/* ---- RFC 5322 ---- */

/* Skips white space and comments, nested ones with a depth (RFC 5322 3.2.2). */
static void
skip_cfws(struct slice *s)
{
	size_t i = 0;
	int depth = 0;

	for (; i < s->n; i++) {
		uint8_t c = s->p[i];

		if (c == '(' && depth < COMMENT_DEPTH_MAX)
			depth++;
		else if (c == ')' && depth > 0)
			depth--;
		else if (c == '\\' && depth > 0)
			i++;
		else if (depth == 0 && c != ' ' && c != '\t' && c != '\r' && c != '\n')
			break;
	}
	*s = slice_sub(*s, i, s->n);
}

/* A run of letters, of digits, or a signed number; one octet otherwise. Empty at the end. */
static struct slice
take_token(struct slice *s)
{
	size_t n = 0;

	skip_cfws(s);
	if (s->n > 0 && ascii_alpha(s->p[0]))
		while (n < s->n && ascii_alpha(s->p[n]))
			n++;
	else if (s->n > 0) {
		n = 1;
		if (ascii_digit(s->p[0]) || s->p[0] == '+' || s->p[0] == '-')
			while (n < s->n && ascii_digit(s->p[n]))
				n++;
	}
	struct slice token = slice_sub(*s, 0, n);

	*s = slice_sub(*s, n, s->n);
	return token;
}

static bool
take_octet(struct slice *s, uint8_t c)
{
	skip_cfws(s);
	if (s->n == 0 || s->p[0] != c)
		return false;
	*s = slice_sub(*s, 1, s->n);
	return true;
}

/* obs-zone = "UT" / "GMT" / "EST" / … / military letters (RFC 5322 4.3) */
static void
zone_name(struct slice s, struct date_time *date_r)
{
	static const struct {
		const char *name;
		int16_t minutes;
	} zones[] = {
	    {"UT", 0},	    {"GMT", 0},	    {"UTC", 0},	    {"Z", 0},
	    {"EST", -300},  {"EDT", -240},  {"CST", -360},  {"CDT", -300},
	    {"MST", -420},  {"MDT", -360},  {"PST", -480},  {"PDT", -420},
	};

	date_r->zone_minutes = 0;
	date_r->zone_unknown = false;
	for (size_t i = 0; i < sizeof zones / sizeof zones[0]; i++) {
		if (!slice_eq_nocase(s, slice_str(zones[i].name)))
			continue;
		date_r->zone_minutes = zones[i].minutes;
		return;
	}
	date_r->zone_unknown = true;
}

/* time-of-day = hour ":" minute [ ":" second ], fractions of a second dropped */
static bool
take_time(struct slice *s, struct civil *c)
{
	if (!number_of(take_token(s), &c->hour) || !take_octet(s, ':') ||
	    !number_of(take_token(s), &c->minute))
		return false;
	if (take_octet(s, ':') && !number_of(take_token(s), &c->second))
		return false;
	if (s->n > 1 && s->p[0] == '.' && ascii_digit(s->p[1])) {
		take_octet(s, '.');
		take_token(s);
	}
	return true;
}

/* obs-year: 00..49 are 20xx, 50..99 and three digits count from 1900 (RFC 5322 4.3). */
static bool
take_year(struct slice *s, int *year_r)
{
	struct slice t = take_token(s);

	if (t.n < 2 || !number_of(t, year_r))
		return false;
	if (t.n == 2)
		*year_r += *year_r < 50 ? 2000 : 1900;
	else if (t.n == 3)
		*year_r += 1900;
	return true;
}

/* date = day month year; the day may also follow the month, as asctime() prints it */
static bool
take_day_month(struct slice *s, struct civil *c)
{
	struct slice first = take_token(s);

	take_octet(s, '-');
	struct slice second = take_token(s);

	take_octet(s, '-');
	if (first.n > 0 && first.n <= 2 && number_of(first, &c->day))
		return (c->month = month_of(slice_sub(second, 0, 3))) != 0;
	return second.n <= 2 && number_of(second, &c->day) && (c->month = month_of(first)) != 0;
}

/* date-time = [ day-of-week "," ] date time [CFWS] */
bool
date_rfc5322_parse(struct slice s, struct date_time *date_r)
{
	struct civil c = {0};
	struct slice ahead = s;
	struct slice word = take_token(&ahead);

	*date_r = (struct date_time){0};
	if (word.n > 0 && ascii_alpha(word.p[0]) && month_of(word) == 0) {
		s = ahead;
		take_octet(&s, ',');
	}
	if (!take_day_month(&s, &c))
		return false;
	/* asctime() order: the time stands before the year. */
	struct slice try = s;

	if (take_time(&try, &c) && take_year(&try, &c.year))
		s = slice_of(NULL, 0);
	else {
		c.hour = c.minute = c.second = 0;
		if (!take_year(&s, &c.year) || !take_time(&s, &c))
			return false;
	}
	if (!civil_valid(&c, 1900))
		return false;
	struct slice zone = take_token(&s);

	if (!zone_digits(zone, date_r))
		zone_name(zone, date_r);
	date_r->seconds = civil_seconds(&c, date_r->zone_minutes);
	return true;
}

static char
zone_sign(struct date_time date)
{
	return date.zone_minutes < 0 || date.zone_unknown ? '-' : '+';
}

static int
zone_hhmm(struct date_time date)
{
	int minutes = date.zone_minutes < 0 ? -date.zone_minutes : date.zone_minutes;

	return minutes / 60 % 100 * 100 + minutes % 60;
}

void
date_rfc5322_print(struct date_time date, char *out)
{
	int64_t days;
	struct civil c = civil_local(date, &days);
	int64_t weekday = days + 4 - floor_div(days + 4, 7) * 7;

	snprintf(out, DATE_RFC5322_SIZE, "%s, %02d %s %04d %02d:%02d:%02d %c%04d",
	    day_names[weekday], c.day, month_names[c.month - 1], c.year, c.hour, c.minute, c.second,
	    zone_sign(date), zone_hhmm(date));
}

/* ---- IMAP (RFC 9051 9) ---- */

/* date-month "-" date-year behind a day of day_n octets; all of s. */
static bool
month_year_parse(struct slice s, struct civil *c)
{
	return s.n == 9 && s.p[0] == '-' && s.p[4] == '-' &&
	    (c->month = month_of(slice_sub(s, 1, 4))) != 0 &&
	    number_of(slice_sub(s, 5, 9), &c->year);
}

/* time = 2DIGIT ":" 2DIGIT ":" 2DIGIT */
static bool
time_fixed_parse(struct slice s, struct civil *c)
{
	return s.n == 8 && s.p[2] == ':' && s.p[5] == ':' &&
	    number_of(slice_sub(s, 0, 2), &c->hour) && number_of(slice_sub(s, 3, 5), &c->minute) &&
	    number_of(slice_sub(s, 6, 8), &c->second);
}

/* date-time = date-day-fixed "-" date-month "-" date-year SP time SP zone */
bool
date_imap_parse(struct slice s, struct date_time *date_r)
{
	struct civil c = {0};

	*date_r = (struct date_time){0};
	if (s.n != 26 || s.p[11] != ' ' || s.p[20] != ' ')
		return false;
	size_t day_from = s.p[0] == ' ' ? 1 : 0;

	if (!number_of(slice_sub(s, day_from, 2), &c.day) ||
	    !month_year_parse(slice_sub(s, 2, 11), &c) ||
	    !time_fixed_parse(slice_sub(s, 12, 20), &c) ||
	    !zone_digits(slice_sub(s, 21, 26), date_r) || !civil_valid(&c, 1))
		return false;
	date_r->seconds = civil_seconds(&c, date_r->zone_minutes);
	return true;
}

void
date_imap_print(struct date_time date, char *out)
{
	int64_t days;
	struct civil c = civil_local(date, &days);

	snprintf(out, DATE_IMAP_SIZE, "%02d-%s-%04d %02d:%02d:%02d %c%04d", c.day,
	    month_names[c.month - 1], c.year, c.hour, c.minute, c.second, zone_sign(date),
	    zone_hhmm(date));
}

/* date-text = date-day "-" date-month "-" date-year */
bool
date_day_parse(struct slice s, int64_t *day_r)
{
	struct civil c = {0};
	size_t dash = slice_index(s, '-');

	if (dash < 1 || dash > 2 || !number_of(slice_sub(s, 0, dash), &c.day) ||
	    !month_year_parse(slice_sub(s, dash, s.n), &c) || !civil_valid(&c, 1))
		return false;
	*day_r = days_of(c.year, c.month, c.day);
	return true;
}

void
date_day_print(int64_t day, char *out)
{
	int64_t first = days_of(1, 1, 1);
	int64_t last = days_of(YEAR_MAX, 12, 31);
	struct civil c = civil_of(day < first ? first : day > last ? last : day);

	snprintf(out, DATE_DAY_SIZE, "%02d-%s-%04d", c.day, month_names[c.month - 1], c.year);
}

int64_t
date_local_day(struct date_time date)
{
	int64_t days;

	civil_local(date, &days);
	return days;
}

void
date_rfc3339_print(int64_t seconds, char *out)
{
	int64_t days;
	struct civil c = civil_local((struct date_time){.seconds = seconds}, &days);

	snprintf(out, DATE_RFC3339_SIZE, "%04d-%02d-%02dT%02d:%02d:%02dZ", c.year, c.month, c.day,
	    c.hour, c.minute, c.second);
}

/* As many digits as are asked for, then (unless it is NUL) the octet after. */
static bool
take_digits(struct slice *s, unsigned digits, uint8_t after, int *value_r)
{
	uint64_t value;

	if (s->n < digits + (after != 0) || !slice_u64(slice_sub(*s, 0, digits), YEAR_MAX, &value))
		return false;
	*value_r = (int)value;
	*s = slice_sub(*s, digits, s->n);
	return after == 0 || take_octet(s, after);
}

bool
date_rfc3339_parse(struct slice s, int64_t *seconds_r)
{
	struct civil c = {0};

	if (!take_digits(&s, 4, '-', &c.year) || !take_digits(&s, 2, '-', &c.month) || !take_digits(&s, 2, 0, &c.day))
		return false;
	if (s.n > 0 && (!take_octet(&s, 'T') || !take_digits(&s, 2, ':', &c.hour) || !take_digits(&s, 2, ':', &c.minute) ||
			   !take_digits(&s, 2, 'Z', &c.second)))
		return false;
	if (s.n > 0 || !civil_valid(&c, 1))
		return false;
	*seconds_r = civil_seconds(&c, 0);
	return true;
}

/* time-secfrac, or nothing. */
static bool
take_fraction(struct slice *s)
{
	size_t n = 1;

	if (s->n == 0 || s->p[0] != '.')
		return true;
	while (n < s->n && ascii_digit(s->p[n]))
		n++;
	*s = slice_sub(*s, n, s->n);
	return n > 1;
}

/* time-offset, in minutes east of UTC. */
static bool
take_offset(struct slice *s, int *minutes_r)
{
	int sign = s->n > 0 && s->p[0] == '-' ? -1 : 1;
	int hours, minutes;

	*minutes_r = 0;
	if (s->n > 0 && ascii_lower(s->p[0]) == 'z') {
		*s = slice_sub(*s, 1, s->n);
		return true;
	}
	if (!take_octet(s, sign < 0 ? '-' : '+') || !take_digits(s, 2, ':', &hours) || !take_digits(s, 2, 0, &minutes) || hours > 23 ||
	    minutes > 59)
		return false;
	*minutes_r = sign * (hours * 60 + minutes);
	return true;
}

bool
date_time_parse(struct slice s, int64_t *seconds_r)
{
	struct civil c = {0};
	int offset;

	if (!take_digits(&s, 4, '-', &c.year) || !take_digits(&s, 2, '-', &c.month) || !take_digits(&s, 2, 0, &c.day) || s.n == 0 ||
	    ascii_lower(s.p[0]) != 't')
		return false;
	s = slice_sub(s, 1, s.n);
	if (!take_digits(&s, 2, ':', &c.hour) || !take_digits(&s, 2, ':', &c.minute) || !take_digits(&s, 2, 0, &c.second) ||
	    !take_fraction(&s) || !take_offset(&s, &offset) || s.n > 0 || !civil_valid(&c, 1))
		return false;
	*seconds_r = civil_seconds(&c, offset);
	return true;
}
