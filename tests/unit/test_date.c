/* RFC 5322 3.3 and 4.3, RFC 9051 9: dates parsed, printed and refused. */
#include "common/date.h"

#include <check.h>

struct row {
	const char *in;
	bool ok;
	int64_t seconds;
	int zone;
};

START_TEST(test_rfc5322)
{
	static const struct row rows[] = {
	    /* RFC 5322 Appendix A.1 to A.5 */
	    {"Fri, 21 Nov 1997 09:55:06 -0600", true, 880127706, -360},
	    {"Tue, 1 Jul 2003 10:52:37 +0200", true, 1057049557, 120},
	    {"Thu, 13 Feb 1969 23:32:54 -0330", true, -27723426, -210},
	    {"21 Nov 97 09:55:06 GMT", true, 880106106, 0},
	    {"Thu,\r\n      13\r\n        Feb\r\n          1969\r\n      23:32\r\n"
	     "               -0330 (Newfoundland Time)",
		true, -27723480, -210},
	    {"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", true, 880127706, -360},
	    {" Fri ,21 Nov 1997 09:55 EST", true, 880124100, -300},
	    {"Mon, 1 Jan 49 00:00:00 Z", true, 2493072000, 0},
	    {"1 Jan 50 00:00:00 Z", true, -631152000, 0},
	    {"1 Jan 103 00:00:00 UT", true, 1041379200, 0},
	    {"Sun Jan  6 07:00:00 2002", true, 1010300400, 0},
	    {"1 Jan 2000 00:00:00 +0000", true, 946684800, 0},
	    {"1 Jan 2000 00:00:00 -0000", true, 946684800, 0},
	    {"1 Jan 2000 00:00:00 QQQ", true, 946684800, 0},
	    {"1 Jan 2000 00:00:00", true, 946684800, 0},
	    {"1 Jan 2000 00:00:00.75 +0100", true, 946681200, 60},
	    {"1 Jan 2000 00:00:00 +0160", true, 946684800, 0},
	    {"29 Feb 2000 00:00:00 +0000", true, 951782400, 0},
	    {"31 Dec 1998 23:59:60 +0000", true, 915148800, 0},
	    {"1 January 2000 00:00:00 +0000", true, 946684800, 0},
	    {"29 Feb 1900 00:00:00 +0000", false, 0, 0},
	    {"31 Feb 2000 00:00:00 +0000", false, 0, 0},
	    {"0 Jan 2000 00:00:00 +0000", false, 0, 0},
	    {"1 Foo 2000 00:00:00 +0000", false, 0, 0},
	    {"1 Jan 1899 00:00:00 +0000", false, 0, 0},
	    {"1 Jan 10000 00:00:00 +0000", false, 0, 0},
	    {"1 Jan 2000 24:00:00 +0000", false, 0, 0},
	    {"1 Jan 2000 00:60:00 +0000", false, 0, 0},
	    {"1 Jan 2000 00:00:61 +0000", false, 0, 0},
	    {"1 Jan 2000 00", false, 0, 0},
	    {"1 Jan 2000", false, 0, 0},
	    {"99999999999999999999 Jan 2000 00:00:00 +0000", false, 0, 0},
	    {"(((((", false, 0, 0},
	    {"", false, 0, 0},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct date_time d;
		bool ok = date_rfc5322_parse(slice_str(rows[i].in), &d);

		ck_assert_msg(ok == rows[i].ok, "%s: %d", rows[i].in, ok);
		if (!ok)
			continue;
		ck_assert_msg(d.seconds == rows[i].seconds, "%s: %lld, want %lld", rows[i].in,
		    (long long)d.seconds, (long long)rows[i].seconds);
		ck_assert_msg(d.zone_minutes == rows[i].zone, "%s: zone %d", rows[i].in,
		    d.zone_minutes);
	}
}
END_TEST

START_TEST(test_zone_unknown)
{
	struct date_time d;
	char out[DATE_RFC5322_SIZE];

	ck_assert(date_rfc5322_parse(SLICE("1 Jan 2000 00:00:00 -0000"), &d));
	ck_assert(d.zone_unknown);
	date_rfc5322_print(d, out);
	ck_assert_str_eq(out, "Sat, 01 Jan 2000 00:00:00 -0000");
	ck_assert(date_rfc5322_parse(SLICE("1 Jan 2000 00:00:00 +0000"), &d));
	ck_assert(!d.zone_unknown);
}
END_TEST

START_TEST(test_imap)
{
	static const struct row rows[] = {
	    {"17-Jul-1996 02:44:25 -0700", true, 837596665, -420},
	    {" 7-Jul-1996 02:44:25 -0700", true, 836732665, -420},
	    {"07-jul-1996 02:44:25 +0000", true, 836707465, 0},
	    {"31-Feb-2026 00:00:00 +0000", false, 0, 0},
	    {"7-Jul-1996 02:44:25 -0700", false, 0, 0},
	    {"17-Jul-1996 02:44:25 -07000", false, 0, 0},
	    {"17-Jul-1996 02:44:25 -070", false, 0, 0},
	    {"17-Jul-1996  2:44:25 -0700", false, 0, 0},
	    {"17-Jul-1996 02:44:25 0700+", false, 0, 0},
	    {"17 Jul-1996 02:44:25 -0700", false, 0, 0},
	    {"17-Jul-1996 24:44:25 -0700", false, 0, 0},
	    {"17-Jul-0000 02:44:25 -0700", false, 0, 0},
	    {"17-Jul-1996 02:44:25 -0760", false, 0, 0},
	    {"", false, 0, 0},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct date_time d;
		char out[DATE_IMAP_SIZE];
		bool ok = date_imap_parse(slice_str(rows[i].in), &d);

		ck_assert_msg(ok == rows[i].ok, "%s: %d", rows[i].in, ok);
		if (!ok)
			continue;
		ck_assert_msg(d.seconds == rows[i].seconds && d.zone_minutes == rows[i].zone,
		    "%s: %lld", rows[i].in, (long long)d.seconds);
		date_imap_print(d, out);
		ck_assert_int_eq(strcasecmp(out + 1, rows[i].in + 1), 0);
	}
}
END_TEST

START_TEST(test_day)
{
	static const struct {
		const char *in;
		bool ok;
		int64_t day;
	} rows[] = {
	    {"1-Feb-1994", true, 8797},	   {"01-Feb-1994", true, 8797},
	    {"1-Jan-1970", true, 0},	   {"31-Dec-1969", true, -1},
	    {"29-Feb-2023", false, 0},	   {"001-Feb-1994", false, 0},
	    {"1-Feb-94", false, 0},	   {"1-Feb-1994 ", false, 0},
	    {"-Feb-1994", false, 0},	   {"1-February-1994", false, 0},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		int64_t day;
		char out[DATE_DAY_SIZE];
		bool ok = date_day_parse(slice_str(rows[i].in), &day);

		ck_assert_msg(ok == rows[i].ok, "%s: %d", rows[i].in, ok);
		if (!ok)
			continue;
		ck_assert_msg(day == rows[i].day, "%s: %lld", rows[i].in, (long long)day);
		date_day_print(day, out);
		int64_t again;
		ck_assert(date_day_parse(slice_str(out), &again) && again == day);
	}
}
END_TEST

/* SENTON compares the day as written, whatever the zone (RFC 9051 6.4.4). */
START_TEST(test_local_day)
{
	struct date_time d;
	int64_t day;

	ck_assert(date_rfc5322_parse(SLICE("1 Feb 1994 23:30:00 -0500"), &d));
	ck_assert(date_day_parse(SLICE("1-Feb-1994"), &day));
	ck_assert_int_eq(date_local_day(d), day);
	ck_assert(date_rfc5322_parse(SLICE("1 Feb 1994 00:30:00 +0500"), &d));
	ck_assert_int_eq(date_local_day(d), day);
}
END_TEST

/* Every day of 400 years, and the ends of what can be printed. */
START_TEST(test_round_trip)
{
	char out[DATE_RFC5322_SIZE];
	struct date_time d, again;

	for (int64_t day = -25567; day < -25567 + 146097; day++) {
		d = (struct date_time){.seconds = day * 86400 + 3661, .zone_minutes = -210};
		date_rfc5322_print(d, out);
		if (!date_rfc5322_parse(slice_str(out), &again))
			/* 1900-01-01 in the west is still in 1899, which is no valid year. */
			ck_assert_msg(day == -25567, "%s", out);
		else
			ck_assert_msg(again.seconds == d.seconds, "%s", out);
	}
	date_rfc5322_print((struct date_time){.seconds = INT64_MAX, .zone_minutes = 840}, out);
	ck_assert_str_eq(out, "Fri, 31 Dec 9999 23:59:59 +1400");
	date_rfc5322_print((struct date_time){.seconds = INT64_MIN, .zone_minutes = -840}, out);
	ck_assert_str_eq(out, "Mon, 01 Jan 0001 00:00:00 -1400");
	date_rfc3339_print(837596665, out);
	ck_assert_str_eq(out, "1996-07-17T09:44:25Z");
}
END_TEST

START_TEST(test_rfc3339_parse)
{
	static const struct {
		const char *text;
		bool good;
		int64_t seconds;
	} rows[] = {
	    {"1996-07-17T09:44:25Z", true, 837596665},
	    {"1996-07-17", true, 837561600},
	    {"1970-01-01T00:00:00Z", true, 0},
	    {"2000-02-29", true, 951782400},
	    {"1900-02-29", false, 0},
	    {"1996-13-17", false, 0},
	    {"1996-07-17T09:44:25", false, 0},
	    {"1996-07-17T24:44:25Z", false, 0},
	    {"1996-07-17T09:44:25Zx", false, 0},
	    {"1996-7-17", false, 0},
	    {"1996-07-17 ", false, 0},
	    {"-996-07-17", false, 0},
	    {"", false, 0},
	};
	char out[DATE_RFC3339_SIZE];

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		int64_t seconds = 0;
		bool good = date_rfc3339_parse(slice_str(rows[i].text), &seconds);

		ck_assert_msg(good == rows[i].good && seconds == rows[i].seconds, "%s: %d %lld", rows[i].text, good,
		    (long long)seconds);
		if (good) {
			date_rfc3339_print(seconds, out);
			ck_assert_int_eq(strncmp(out, rows[i].text, strlen(rows[i].text)), 0);
		}
	}
}
END_TEST

START_TEST(test_date_time)
{
	static const struct {
		const char *text;
		bool good;
		int64_t seconds;
	} rows[] = {
	    {"1996-07-17T09:44:25Z", true, 837596665},
	    {"1996-07-17t09:44:25z", true, 837596665},
	    {"1996-07-17T09:44:25.123456789Z", true, 837596665},
	    {"1996-07-17T11:44:25+02:00", true, 837596665},
	    {"1996-07-17T04:14:25-05:30", true, 837596665},
	    {"1996-07-17T09:44:25-00:00", true, 837596665},
	    {"1996-07-17", false, 0},
	    {"1996-07-17T09:44:25", false, 0},
	    {"1996-07-17T09:44Z", false, 0},
	    {"1996-07-17T09:44:25.Z", false, 0},
	    {"1996-07-17T09:44:25+0200", false, 0},
	    {"1996-07-17T09:44:25+24:00", false, 0},
	    {"1996-07-17T09:44:25+02:60", false, 0},
	    {"1996-07-17 09:44:25Z", false, 0},
	    {"1996-07-17T09:44:25Zx", false, 0},
	    {"1996-02-30T09:44:25Z", false, 0},
	    {"", false, 0},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		int64_t seconds = 0;
		bool good = date_time_parse(slice_str(rows[i].text), &seconds);

		ck_assert_msg(good == rows[i].good && seconds == rows[i].seconds, "%s: %d %lld", rows[i].text, good, (long long)seconds);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("date");
	TCase *t = tcase_create("date");

	tcase_add_test(t, test_rfc5322);
	tcase_add_test(t, test_rfc3339_parse);
	tcase_add_test(t, test_date_time);
	tcase_add_test(t, test_zone_unknown);
	tcase_add_test(t, test_imap);
	tcase_add_test(t, test_day);
	tcase_add_test(t, test_local_day);
	tcase_add_test(t, test_round_trip);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed != 0;
}
