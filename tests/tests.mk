# The tests' part of the Makefile.
UNIT_SRC := $(wildcard tests/unit/test_*.c)
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(B)/tests/unit/%)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_REPLAY := $(FUZZ_SRC:tests/fuzz/%.c=$(B)/tests/replay/%)
# Names of targets, all unless told: FUZZ="store_dump store_salvage".
FUZZ ?= $(FUZZ_SRC:tests/fuzz/fuzz_%.c=%)
FUZZ_LIVE := $(FUZZ:%=$(B)/tests/live/fuzz_%)
# A test links the rooms whose headers it includes (two daemons may use one name), with what those stand on.
rooms_of = $$(sed -n 's,^\#include "\([a-z0-9]*\)/.*,\1,p' $(1) | grep -vxE 'common|store|tests' | sort -u)
room_libs = $$(for r in $(call rooms_of,$(1)); do echo $(B)/lib$$r.a; done) $(call lib_of,store) $(call lib_of,common)

$(B)/tests/unit/%: $(B)/obj/tests/unit/%.o $(ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -o $@ $< $(call room_libs,tests/unit/$*.c) -lcheck -lsubunit -lm -lrt -lpthread $(LIBS)

# This one starts the programs themselves.
$(B)/tests/unit/test_auth_roles: | $(B)/libexec/authd-directory $(B)/libexec/authd-verifier

# A fuzz target is fuzz_NAME.c with LLVMFuzzerTestOneInput; its corpus is tests/fuzz/corpus/NAME/, its words, if any, tests/fuzz/dict/NAME.
# `make check` replays the corpora with any compiler; `make fuzz` runs libFuzzer.
$(B)/tests/replay/%: $(B)/obj/tests/fuzz/%.o $(B)/obj/tests/fuzz/replay.o $(ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -o $@ $< $(B)/obj/tests/fuzz/replay.o $(call room_libs,tests/fuzz/$*.c) $(LIBS)
.PRECIOUS: $(B)/obj/%.o

.PHONY: unit fuzz-replay
unit: $(UNIT_BIN)
	@printf '%s\n' $(UNIT_BIN) | CK_DEFAULT_TIMEOUT=120 xargs -P 3 -I T sh -c 'T || { echo "FAILED: T"; exit 1; }'
fuzz-replay: $(FUZZ_REPLAY)
	@set -e; for t in $(FUZZ_REPLAY); do n=$${t##*/fuzz_}; $$t tests/fuzz/corpus/$$n; done

# libFuzzer, with the corpus as seeds: each target FUZZ_SECONDS, FUZZ_JOBS of them side by side. What is found stays in
# $(B)/found/, with the log of each.
FUZZ_SECONDS ?= 60
FUZZ_JOBS ?= 1
.PHONY: fuzz
fuzz:
	@$(MAKE) --no-print-directory CC="$(FUZZ_CC)" B=$(B)/fuzz SAN=address,undefined,fuzzer-no-link fuzz-live
FUZZ_CC ?= clang
.PHONY: fuzz-live
fuzz-live: $(FUZZ_LIVE)
	@mkdir -p $(FUZZ:%=$(B)/found/%)
	@printf '%s\n' $(FUZZ) | xargs -P $(FUZZ_JOBS) -I N tests/fuzz/run.sh $(B) N $(FUZZ_SECONDS)
$(B)/tests/live/%: $(B)/obj/tests/fuzz/%.o $(ARCHIVES)
	@mkdir -p $(@D)
	@clang $(filter-out -fsanitize=%,$(ALL_LDFLAGS)) -fsanitize=address,undefined,fuzzer -o $@ $< \
		$(call room_libs,tests/fuzz/$*.c) $(LIBS)

# Whole servers, real clients.
.PHONY: instance tidy
instance: programs
	@MAILSTEAD_BUILD="$$(realpath $(B))" $(if $(SAN),MAILSTEAD_INSTRUMENTED=1) /usr/bin/python3 tests/instance/run.py $(INSTANCE)
tidy: programs
	@/usr/bin/python3 tests/tidy/tidy.py

# Everything, as continuous integration runs it: the plain build with all tests, then the same units, corpora and the
# instance tests of SAN_INSTANCE under AddressSanitizer and UndefinedBehaviorSanitizer. Two steps of a part at a time, unless
# -j says otherwise. The instance tests, which wait more than they compute, have those that compute beside them.
SAN_INSTANCE ?= test_smtp test_imap test_pop3 test_proto test_verdicts test_events test_evil test_hostile test_utf8 test_quota.TestAccount \
	test_lmtp.TestDialogue test_store_tools.TestSalvage test_dsn.TestHere test_outbound.TestTls test_outbound.TestDane test_outbound.TestRelays \
	test_dos.TestPlaces test_dos.TestBombs
CHECK_JOBS = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j2)
.PHONY: check-plain check-san
check: deps
	@$(MAKE) --no-print-directory $(CHECK_JOBS) check-plain
	@$(MAKE) --no-print-directory $(CHECK_JOBS) B=$(B)/san SAN=address,undefined CFLAGS="-O1 -g" check-san
	@echo "make check: all passed"
check-plain: programs tidy unit fuzz-replay $(CHECK_EXTRA) instance
check-san: INSTANCE := $(SAN_INSTANCE)
check-san: programs unit fuzz-replay instance

# Side by side with Debian's Postfix + Dovecot, in one run.
.PHONY: bench
bench: programs
	@etc/deps.sh etc/packages-bench etc/packages-test
	@MAILSTEAD_BUILD="$$(realpath $(B))" /usr/bin/python3 tests/bench/bench.py

# Reception with all checks, beside Postfix with opendkim, opendmarc and policyd-spf, and without.
.PHONY: bench-smtp
bench-smtp: programs
	@etc/deps.sh etc/packages-bench etc/packages-test
	@MAILSTEAD_BUILD="$$(realpath $(B))" /usr/bin/python3 tests/bench/bench_smtp.py

# The way out.
.PHONY: bench-queue
bench-queue: programs
	@etc/deps.sh etc/packages-bench etc/packages-test
	@MAILSTEAD_BUILD="$$(realpath $(B))" /usr/bin/python3 tests/bench/bench_queue.py

# The store by itself: each figure beside the limit of the machine, or Dovecot's, of the same run.
STORE_BENCH_BIN := $(B)/tests/bench/store_bench
$(STORE_BENCH_BIN): $(patsubst %,$(B)/obj/tests/bench/%.o,store_bench bench_keeper bench_limits) $(ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(call lib_of,store) $(call lib_of,common) $(LIBS)
.PHONY: bench-store
bench-store: programs $(STORE_BENCH_BIN)
	@etc/deps.sh etc/packages-bench etc/packages-test
	@MAILSTEAD_BUILD="$$(realpath $(B))" /usr/bin/python3 tests/bench/bench_store.py

# Fronts and a sign role that were taken over, for tests/instance/test_evil.py: linked with an ipc.c that lets them send anything.
EVIL_BIN := $(B)/tests/evil/imapd-front $(B)/tests/evil/smtpd-front $(B)/tests/evil/smtpd-sign
$(B)/obj/tests/evil/ipc.o: common/ipc.c Makefile
	@mkdir -p $(@D)
	@$(CC) $(ALL_CFLAGS) -DNDEBUG -Wno-unused -MMD -MP -c -o $@ $<
$(EVIL_BIN): $(B)/obj/tests/evil/ipc.o $(B)/obj/tests/evil/evil.o $(ARCHIVES)
$(B)/tests/evil/imapd-front: $(B)/obj/tests/evil/imap_front_main.o
$(B)/tests/evil/smtpd-front: $(B)/obj/tests/evil/smtp_front_main.o
$(B)/tests/evil/smtpd-sign: $(B)/obj/tests/evil/sign_main.o
$(EVIL_BIN):
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(call lib_of,smtpd) $(call lib_of,store) $(call lib_of,common) $(LIBS)
instance: $(EVIL_BIN)

# Each role tries what it must not do. The plain build only: a sanitizer cannot live under seccomp.
.PHONY: sandbox
$(B)/tests/test_sandbox: $(B)/obj/tests/sandbox/test_sandbox.o $(call lib_of,common)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -o $@ $< $(call lib_of,common) $(LIBS)
sandbox: $(B)/tests/test_sandbox
	@$<
check-plain: sandbox

# Power cuts at seeded moments of many workloads (--states), and at every moment of a few (--whole): a slice in `make check`, all of
# it by `make crash`.
CRASH_BIN := $(B)/tests/crash/store_crash
CRASH_NAMES := store_crash crash_same crash_steps crash_keeper crash_damage crash_mutant crash_fs crash_run
CRASH_OBJ := $(CRASH_NAMES:%=$(B)/obj/tests/crash/%.o)
# The keeper's surroundings: crash_keeper.c stands in for them.
CRASH_WRAP := ipc_send ipc_tell edge_peer edge_arg edge_set_arg loop_timer_new loop_timer_set loop_timer_stop loop_timer_free \
	clock_ms clock_wall_us index_commit index_request_done
$(CRASH_BIN): $(CRASH_OBJ) $(ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) $(CRASH_WRAP:%=-Wl,--wrap=%) -o $@ $(CRASH_OBJ) \
		$(call lib_of,store) $(call lib_of,common) $(LIBS)
# The same over a store with mutants (store/mutants.def).
MUTANT_OBJ := $(patsubst %.c,$(B)/obj/mutants/%.o,$(call LIBSRC,store)) $(CRASH_NAMES:%=$(B)/obj/mutants/tests/crash/%.o)
$(B)/obj/mutants/%.o: %.c Makefile etc/VERSION
	@mkdir -p $(@D)
	@$(CC) $(ALL_CFLAGS) -DMAILSTEAD_TEST_MUTANTS='"store/mutants.def"' -MMD -MP -c -o $@ $<
$(CRASH_BIN)_mutants: $(MUTANT_OBJ) $(call lib_of,common)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) $(CRASH_WRAP:%=-Wl,--wrap=%) -o $@ $(MUTANT_OBJ) $(call lib_of,common) $(LIBS)
QUEUE_CRASH_BIN := $(B)/tests/crash/queue_crash
QUEUE_CRASH_OBJ := $(patsubst %,$(B)/obj/tests/crash/%.o,queue_crash crash_mutant crash_same crash_fs crash_run)
$(QUEUE_CRASH_BIN): $(QUEUE_CRASH_OBJ) $(ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -o $@ $(QUEUE_CRASH_OBJ) \
		$(call lib_of,smtpd) $(call lib_of,store) $(call lib_of,common) $(LIBS)
# The same over a queue with mutants (smtpd/mutants.def).
QUEUE_MUTANT_OBJ := $(patsubst %,$(B)/obj/queue_mutants/%.o,smtpd/queue_files smtpd/queue_table smtpd/queue_record \
	$(patsubst %,tests/crash/%,queue_crash crash_mutant)) $(patsubst %,$(B)/obj/tests/crash/%.o,crash_same crash_fs crash_run)
$(B)/obj/queue_mutants/%.o: %.c Makefile etc/VERSION
	@mkdir -p $(@D)
	@$(CC) $(ALL_CFLAGS) -DMAILSTEAD_TEST_MUTANTS='"smtpd/mutants.def"' -MMD -MP -c -o $@ $<
$(QUEUE_CRASH_BIN)_mutants: $(QUEUE_MUTANT_OBJ) $(ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -o $@ $(QUEUE_MUTANT_OBJ) \
		$(call lib_of,smtpd) $(call lib_of,store) $(call lib_of,common) $(LIBS)
TOOLS_CRASH_BIN := $(B)/tests/crash/tools_crash
TOOLS_CRASH_OBJ := $(patsubst %,$(B)/obj/tests/%.o,crash/tools_crash crash/crash_env crash/crash_mutant crash/crash_fs crash/crash_run \
	fault/store_tools)
$(TOOLS_CRASH_BIN): $(TOOLS_CRASH_OBJ) $(ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -Wl,--wrap=account_hold -Wl,--wrap=clock_wall_us -o $@ $(TOOLS_CRASH_OBJ) \
		$(call lib_of,admin) $(call lib_of,store) $(call lib_of,common) $(LIBS)
# The same over tools and a store with mutants.
TOOLS_MUTANT_OBJ := $(patsubst %.c,$(B)/obj/mutants/%.o,$(call LIBSRC,store) admin/cmd_store_load.c tests/crash/tools_crash.c \
	tests/crash/crash_mutant.c) $(patsubst %,$(B)/obj/tests/%.o,crash/crash_env crash/crash_fs crash/crash_run fault/store_tools)
$(TOOLS_CRASH_BIN)_mutants: $(TOOLS_MUTANT_OBJ) $(ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -Wl,--wrap=account_hold -Wl,--wrap=clock_wall_us -o $@ $(TOOLS_MUTANT_OBJ) \
		$(call lib_of,admin) $(call lib_of,common) $(LIBS)
# Of the mutants a few in the slice, each caught within some tens of states; all of them by `make crash`.
MUTANTS_SLICE := OBJECT_SYNC OBJECT_HASH ENV_FLUSH FORMAT_SUM
QUEUE_MUTANTS_SLICE := QUEUE_PACK_SYNC QUEUE_DONE QUEUE_REBUILD_MARK
TOOLS_MUTANTS_SLICE := DUMP_SUM LOAD_SHARD_SYNC
.PHONY: crash crash-slice
crash-slice: $(CRASH_BIN) $(CRASH_BIN)_mutants $(QUEUE_CRASH_BIN) $(QUEUE_CRASH_BIN)_mutants $(TOOLS_CRASH_BIN) $(TOOLS_CRASH_BIN)_mutants
	@$(CRASH_BIN) --states 600
	@$(QUEUE_CRASH_BIN) --states 200
	@$(TOOLS_CRASH_BIN) --states 60
	@$(CRASH_BIN) --whole 2 --steps 12
	@$(QUEUE_CRASH_BIN) --whole 1
	@set -e; for m in $(MUTANTS_SLICE); do $(CRASH_BIN)_mutants --mutant $$m --states 600; done
	@set -e; for m in $(QUEUE_MUTANTS_SLICE); do $(QUEUE_CRASH_BIN)_mutants --mutant $$m --states 600; done
	@set -e; for m in $(TOOLS_MUTANTS_SLICE); do $(TOOLS_CRASH_BIN)_mutants --mutant $$m --states 40; done
DEATH_ROUNDS ?= 2000
ACCOUNT_CHECK_BIN := $(B)/tests/crash/account_check
# All of it goes on when a part fails, and ends with the figures of each. The whole histories are about 100,000 states, four minutes of two
# processors; nine of tools_crash are every command that works without a keeper.
CRASH_WHOLE ?= 80
crash: programs $(ACCOUNT_CHECK_BIN) $(CRASH_BIN) $(CRASH_BIN)_mutants $(QUEUE_CRASH_BIN) $(QUEUE_CRASH_BIN)_mutants $(TOOLS_CRASH_BIN) \
	$(TOOLS_CRASH_BIN)_mutants
	@MAILSTEAD_BUILD="$$(realpath $(B))" /usr/bin/python3 tests/crash/all.py $(QUEUE_CRASH_BIN) --states 20000 -- \
		$(QUEUE_CRASH_BIN) --whole 40 -- $(TOOLS_CRASH_BIN) --whole 9 -- $(CRASH_BIN) --whole $(CRASH_WHOLE) -- \
		$(QUEUE_CRASH_BIN)_mutants --mutant all --states 20000 -- \
		$(TOOLS_CRASH_BIN) --states 20000 -- $(TOOLS_CRASH_BIN)_mutants --mutant all --states 20000 -- \
		$(CRASH_BIN) --states 100000 -- $(CRASH_BIN)_mutants --mutant all --states 20000 -- \
		/usr/bin/python3 tests/instance/death.py --rounds $(DEATH_ROUNDS) $(DEATH)
check-plain check-san: crash-slice

# Process death under load: a slice among the instance tests, all of it by `make crash`.
$(ACCOUNT_CHECK_BIN): $(B)/obj/tests/crash/account_check.o $(ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -o $@ $< $(call lib_of,store) $(call lib_of,common) $(LIBS)
instance: $(ACCOUNT_CHECK_BIN)
.PHONY: death soak descriptors dos cuts scale tls-scan
# A million recipients in the queue, beside a thousand: memory of each, and time of a step.
scale: $(B)/tests/unit/test_queue_items
	@MAILSTEAD_SCALE=all CK_RUN_CASE=scale $<
descriptors: programs
	@MAILSTEAD_BUILD="$$(realpath $(B))" MAILSTEAD_DESCRIPTORS=all /usr/bin/python3 tests/instance/run.py test_descriptors
dos: programs
	@MAILSTEAD_BUILD="$$(realpath $(B))" MAILSTEAD_DOS=all INSTANCE_JOBS=1 /usr/bin/python3 tests/instance/run.py test_dos
tls-scan: programs
	@MAILSTEAD_BUILD="$$(realpath $(B))" MAILSTEAD_TLS=all INSTANCE_SECONDS=3600 /usr/bin/python3 tests/instance/run.py test_tls_scan
cuts: programs
	@MAILSTEAD_BUILD="$$(realpath $(B))" MAILSTEAD_CUTS=all INSTANCE_SECONDS=3600 /usr/bin/python3 tests/instance/run.py test_cuts
soak: programs $(ACCOUNT_CHECK_BIN)
	@MAILSTEAD_BUILD="$$(realpath $(B))" /usr/bin/python3 tests/instance/soak.py
OUTBOUND_ROUNDS ?= 1000
.PHONY: outbound-death
outbound-death: programs
	@MAILSTEAD_BUILD="$$(realpath $(B))" /usr/bin/python3 tests/instance/outbound_death.py --rounds $(OUTBOUND_ROUNDS)
death: programs $(ACCOUNT_CHECK_BIN)
	@MAILSTEAD_BUILD="$$(realpath $(B))" /usr/bin/python3 tests/instance/death.py --rounds $(DEATH_ROUNDS) $(DEATH)
crash: descriptors

# Every call of the file layer fails in turn, below the index and below the keeper: each, by `make fault`; each N-th in
# `make check`.
FAULT_BIN := $(patsubst %,$(B)/tests/fault/%,store_fault keeper_fault tools_fault)
$(B)/tests/fault/store_fault: $(B)/obj/tests/fault/store_fault.o $(B)/obj/tests/fault/fault_fs.o $(ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(call lib_of,store) $(call lib_of,common) $(LIBS)
$(B)/tests/fault/keeper_fault: $(B)/obj/tests/fault/keeper_fault.o $(B)/obj/tests/fault/fault_fs.o \
	$(B)/obj/tests/crash/crash_steps.o $(B)/obj/tests/crash/crash_keeper.o $(ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) $(CRASH_WRAP:%=-Wl,--wrap=%) -o $@ $(filter %.o,$^) \
		$(call lib_of,store) $(call lib_of,common) $(LIBS)
TOOLS_WRAP := account_hold clock_wall_us write fsync rename
$(B)/tests/fault/tools_fault: $(patsubst %,$(B)/obj/tests/fault/%.o,tools_fault store_tools fault_fs) $(ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) $(TOOLS_WRAP:%=-Wl,--wrap=%) -o $@ $(filter %.o,$^) \
		$(call lib_of,admin) $(call lib_of,store) $(call lib_of,common) $(LIBS)
# A keeper and a queue whose file layer fails when they are told, for tests/instance/test_faults.py.
DAEMON_FAULT_BIN := $(B)/tests/fault/store-keeper $(B)/tests/fault/smtpd-queue
$(B)/tests/fault/store-keeper: $(B)/obj/store/keeper_main.o
$(B)/tests/fault/smtpd-queue: $(B)/obj/smtpd/queue_main.o
$(DAEMON_FAULT_BIN): $(B)/obj/tests/fault/daemon_fault.o $(B)/obj/tests/fault/fault_fs.o $(ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -Wl,--wrap=file_hook_db -o $@ $(filter %.o,$^) \
		$(call lib_of,smtpd) $(call lib_of,store) $(call lib_of,common) $(LIBS)
instance: $(DAEMON_FAULT_BIN)
.PHONY: daemon-fault
daemon-fault: programs $(DAEMON_FAULT_BIN)
	@MAILSTEAD_BUILD="$$(realpath $(B))" MAILSTEAD_FAULTS=all /usr/bin/python3 tests/instance/run.py test_faults
.PHONY: fault fault-slice
fault-slice: $(FAULT_BIN)
	@set -e; for t in $(FAULT_BIN); do $$t --every $(if $(SAN),1501,331); done
# All of it takes long: as many parts of it side by side as there are processors.
FAULT_JOBS ?= $(shell nproc)
FAULT_EVERY ?= 1
fault: $(FAULT_BIN)
	@for t in $(FAULT_BIN); do for k in $$(seq 0 $$(($(FAULT_JOBS) - 1))); do echo $$t --every $(FAULT_EVERY) --share $$k/$(FAULT_JOBS); \
		done; done | xargs -P $(FAULT_JOBS) -I C sh -c C
check-plain check-san: fault-slice

# Our reading of SPF beside libspf2's: 100,000 zones by `make spf-diff`, some thousands in `make check`.
SPF_DIFF_BIN := $(B)/tests/spf/spf_diff
$(SPF_DIFF_BIN): $(B)/obj/tests/spf/spf_diff.o $(ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -o $@ $< $(call lib_of,admin) $(call lib_of,smtpd) $(call lib_of,store) $(call lib_of,common) $(LIBS)
.PHONY: spf-diff spf-diff-slice
spf-diff: $(SPF_DIFF_BIN)
	@$<
spf-diff-slice: $(SPF_DIFF_BIN)
	@$< --count 5000
check-plain: spf-diff-slice
