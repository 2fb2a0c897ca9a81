/*
 * A small account, damaged as the input says (tests/unit/salvage_damage.h), and salvaged: every message whose file is
 * intact is there afterwards, the account is sound, and a second run, which some inputs ask for, finds nothing to do and
 * changes nothing. First octet: which account, and AGAIN.
 */
#include "tests/unit/salvage_damage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define MESSAGES 54u
#define AGAIN 8u

static struct damage_account accounts[DAMAGE_ACCOUNTS];

static void
make_accounts(void)
{
	log_init("fuzz", LOG_BUG);
	file_hook_db();
	damage_use_fast_files();
	for (unsigned i = 0; i < DAMAGE_ACCOUNTS; i++)
		damage_prepare(&accounts[i], i, MESSAGES);
}

static void
look(const char *root, bool again)
{
	struct salvage_result r;
	char *first = salvage_and_look(root, NULL, &r);

	if (again) {
		char *second = salvage_and_look(root, NULL, &r);

		assert(r.sound && r.recovered + r.filled + r.lost == 0);
		assert(strcmp(salvage_body(first), salvage_body(second)) == 0);
		free(second);
	}
	free(first);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char root[64];

	if (n < 1)
		return 0;
	if (accounts[0].n == 0)
		make_accounts();
	fixture_dir(root);
	damage_make(&accounts[data[0] % DAMAGE_ACCOUNTS], slice_of(data + 1, n - 1), root);
	look(root, (data[0] & AGAIN) != 0);
	(void)tree_remove(root);
	return 0;
}
