// SPDX-License-Identifier: Apache-2.0
#include "fs/caller.h"

#include <signal.h>
#include <unistd.h>

#include "tests/lib/test-util.h"

/* As of a kernel 6.18. */
#define STATUS(tracer, thread, process, blocked, ignored, caught)                            \
	"Name:\twriter SigPnd:\nUmask:\t0022\nState:\tS (sleeping)\n"                        \
	"Tgid:\t4711\nPid:\t4712\nTracerPid:\t" tracer "\nGroups:\t0 4 24 \n"                \
	"Threads:\t2\nSigQ:\t1/31000\n"                                                      \
	"SigPnd:\t" thread "\nShdPnd:\t" process "\nSigBlk:\t" blocked "\nSigIgn:\t" ignored \
	"\nSigCgt:\t" caught "\nCapInh:\t0000000000000100\n"

#define NONE "0000000000000000"
#define USR1 "0000000000000200"
#define TERM "0000000000004000"
#define QUIT "0000000000000004"
#define KILL "0000000000000100"
#define ALL  "fffffffffffffeff"
/* SIGINT, SIGUSR1, SIGTERM. */
#define CATCH "0000000000004202"

typedef struct Case {
	const char *name;
	const char *status;
	bool killed;
} Case;

static const Case cases[] = {
	{ "nothing", STATUS("0", NONE, NONE, NONE, NONE, CATCH), false },
	{ "handled, of the thread", STATUS("0", USR1, NONE, NONE, NONE, CATCH), false },
	{ "handled, of the process", STATUS("0", NONE, USR1, NONE, NONE, CATCH), false },
	{ "two that are handled", STATUS("0", USR1, TERM, NONE, NONE, CATCH), false },
	{ "killed, of the thread", STATUS("0", KILL, NONE, NONE, NONE, CATCH), true },
	{ "killed, of the process", STATUS("0", NONE, KILL, NONE, NONE, CATCH), true },
	{ "killed beside a handled one", STATUS("0", "0000000000000300", NONE, NONE, NONE, CATCH),
	  true },
	{ "killed by SIGTERM, as the kernel marks it", STATUS("0", KILL, TERM, NONE, NONE, NONE),
	  true },
	{ "killed for all that is blocked, ignored, caught", STATUS("0", KILL, NONE, ALL, ALL, ALL),
	  true },
	{ "killed under a debugger", STATUS("99", KILL, NONE, NONE, NONE, NONE), true },
	{ "with a core, of the thread", STATUS("0", QUIT, NONE, NONE, NONE, NONE), true },
	{ "with a core, of the process", STATUS("0", NONE, QUIT, NONE, NONE, CATCH), true },
	{ "SIGQUIT that is blocked", STATUS("0", QUIT, NONE, QUIT, NONE, NONE), false },
	{ "SIGQUIT that is ignored", STATUS("0", QUIT, NONE, NONE, QUIT, NONE), false },
	{ "SIGQUIT that is handled", STATUS("0", NONE, QUIT, NONE, NONE, QUIT), false },
	{ "SIGQUIT under a debugger", STATUS("99", QUIT, NONE, NONE, NONE, NONE), false },
	{ "all handled", STATUS("0", ALL, ALL, NONE, NONE, ALL), false },
	{ "no text", "", false },
	{ "no number", "SigPnd:", false },
	{ "no such lines", "Name:\twriter\nShdPn", false },
	{ "not at the beginning of a line", "Name:\tSigPnd:\t0000000000000100\n", false },
	{ "no end of the line", "SigPnd:\t0000000000000100", true },
};

static void test_status(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
		if (caller_status_says_killed(cases[i].status) != cases[i].killed)
			g_error("%s: not %s", cases[i].name, cases[i].killed ? "killed" : "alive");
}

static void test_unknown(void)
{
	g_assert_false(caller_is_killed(0));
	g_assert_false(caller_is_killed(-1));
	g_assert_false(caller_is_killed(G_MAXINT));
}

static void test_alive(void)
{
	sigset_t usr1, old;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	g_assert_false(caller_is_killed(getpid()));
	sigprocmask(SIG_BLOCK, &usr1, &old);
	raise(SIGUSR1);
	g_assert_false(caller_is_killed(getpid()));
	sigwaitinfo(&usr1, NULL);
	sigprocmask(SIG_SETMASK, &old, NULL);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	test_add("/caller/status", test_status);
	test_add("/caller/unknown", test_unknown);
	test_add("/caller/alive", test_alive);
	return g_test_run();
}
