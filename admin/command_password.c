/*
 * Passwords come from a terminal without echo or from stdin, never from the command line, which
 * every user of the machine can read.
 */
#include "admin/command.h"

#include "common/mem.h"

#include <stdio.h>
#include <termios.h>
#include <unistd.h>

/* One line without its line end, read octet by octet so that no buffer keeps a copy. False at the
 * end of input or when too long. */
static bool
read_line(char *dst, size_t size)
{
	size_t n = 0;
	char c;
	ssize_t got;

	while ((got = read(STDIN_FILENO, &c, 1)) == 1 && c != '\n') {
		if (n + 1 >= size)
			return false;
		dst[n++] = c;
	}
	if (n > 0 && dst[n - 1] == '\r')
		n--;
	dst[n] = '\0';
	return got == 1 || n > 0;
}

static bool
ask(const char *prompt, char *dst)
{
	struct termios normal, quiet;

	if (tcgetattr(STDIN_FILENO, &normal) < 0)
		return false;
	quiet = normal;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	/* Echo is off before anything is asked: a quick typist must be neither seen nor flushed away. */
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet) < 0)
		return false;
	fputs(prompt, stderr);
	bool ok = read_line(dst, COMMAND_PASSWORD_SIZE);

	fputc('\n', stderr);
	return tcsetattr(STDIN_FILENO, TCSAFLUSH, &normal) == 0 && ok;
}

static bool
ask_twice(const char *prompt, char *dst)
{
	char again[COMMAND_PASSWORD_SIZE];
	bool ok = ask(prompt, dst) && ask("once more: ", again);
	bool same = ok && strcmp(dst, again) == 0;

	mem_wipe(again, sizeof again);
	if (ok && !same)
		command_error("the two are not the same");
	return same;
}

bool
command_password(const char *prompt, char dst[COMMAND_PASSWORD_SIZE])
{
	if (isatty(STDIN_FILENO))
		return ask_twice(prompt, dst) && dst[0] != '\0';
	if (read_line(dst, COMMAND_PASSWORD_SIZE) && dst[0] != '\0')
		return true;
	command_error(
	    "no password on stdin (one line of at most %d octets)", COMMAND_PASSWORD_SIZE - 1);
	return false;
}
