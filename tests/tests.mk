# The tests' part of the Makefile.
UNIT_SRC := $(wildcard tests/unit/test_*.c)
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(B)/tests/unit/%)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_REPLAY := $(FUZZ_SRC:tests/fuzz/%.c=$(B)/tests/replay/%)
FUZZ_LIVE := $(FUZZ_SRC:tests/fuzz/%.c=$(B)/tests/live/%)
TEST_LIBS := $(call lib_of,smtpd) $(call lib_of,imapd) $(call lib_of,pop3d) $(call lib_of,authd) \
	$(call lib_of,dnsd) $(call lib_of,traced) $(call lib_of,admin) $(call lib_of,store) $(call lib_of,common)

# Unit programs may call into every room.
$(B)/tests/unit/%: $(B)/obj/tests/unit/%.o $(ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -o $@ $< -Wl,--start-group $(TEST_LIBS) -Wl,--end-group \
		-lcheck -lsubunit -lm -lrt -lpthread $(LIBS)

# A fuzz target is fuzz_NAME.c with LLVMFuzzerTestOneInput; its corpus is tests/fuzz/corpus/NAME/.
# `make check` replays the corpora with any compiler; `make fuzz` runs libFuzzer.
$(B)/tests/replay/%: $(B)/obj/tests/fuzz/%.o $(B)/obj/tests/fuzz/replay.o $(ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(ALL_LDFLAGS) -o $@ $< $(B)/obj/tests/fuzz/replay.o \
		-Wl,--start-group $(TEST_LIBS) -Wl,--end-group $(LIBS)
.PRECIOUS: $(B)/obj/tests/unit/%.o $(B)/obj/tests/fuzz/%.o

.PHONY: unit fuzz-replay
unit: $(UNIT_BIN)
	@set -e; for t in $(UNIT_BIN); do $$t; done
fuzz-replay: $(FUZZ_REPLAY)
	@set -e; for t in $(FUZZ_REPLAY); do n=$${t##*/fuzz_}; $$t tests/fuzz/corpus/$$n; done
