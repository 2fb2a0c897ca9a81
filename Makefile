# Mailstead. `make help` lists the targets.
VERSION := $(shell cat etc/VERSION)
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
B ?= build
PREFIX ?= /usr

# A sanitizer cannot share a process with FORTIFY; the roles' sandbox table has a column for it.
SAN ?=
COV ?=
WARN := -Wall -Wextra -Wformat=2 -Wconversion -Wshadow -Wvla -Wstrict-prototypes \
	-Wmissing-prototypes -Wundef -Wwrite-strings -Werror
HARDEN := -fPIE -fstack-protector-strong -fcf-protection=full -fno-plt
ifneq ($(SAN),)
HARDEN += -fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer -DMAILSTEAD_INSTRUMENTED=1
else
HARDEN += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3
endif
ifneq ($(COV),)
HARDEN += --coverage -DMAILSTEAD_INSTRUMENTED=1
LINK_COV := --coverage
endif
CFLAGS ?= -O2 -g
ALL_CFLAGS := -std=c17 -D_GNU_SOURCE $(CFLAGS) $(WARN) $(HARDEN) -I. -include common/banned.h \
	-DMAILSTEAD_VERSION='"$(VERSION)"'
ALL_LDFLAGS := $(LDFLAGS) -pie -Wl,-z,relro,-z,now -Wl,--as-needed -Wl,-z,noexecstack \
	$(if $(SAN),-fsanitize=$(SAN)) $(LINK_COV)
LIBS := -levent_core -lssl -lcrypto -ldb-5.3 -lunbound -lopendkim -lspf2 -ljansson -lconfuse \
	-lcurl -lseccomp -lidn2 -lutf8proc -lcrypt -lz

DAEMONS := common store authd dnsd smtpd imapd pop3d traced admin

# A role is a file NAME_main.c: dir/NAME_main.c becomes the program dir-NAME. All other .c files of
# a room are archived, so that a role links just the objects it calls.
MAINS := $(foreach d,$(DAEMONS),$(wildcard $(d)/*_main.c))
LIBSRC = $(filter-out $(MAINS),$(wildcard $(1)/*.c))
lib_of = $(B)/lib$(1).a
ROLE_BIN := $(foreach m,$(filter-out admin/%,$(MAINS)),$(B)/libexec/$(subst /,-,$(m:_main.c=)))
ADMIN_BIN := $(B)/bin/mailstead
SENDMAIL_BIN := $(B)/bin/mailstead-sendmail
ARCHIVES := $(foreach d,$(DAEMONS),$(call lib_of,$(d)))
OBJ = $(1:%.c=$(B)/obj/%.o)

.DEFAULT_GOAL := all
.PHONY: all deps deps-build demo check install uninstall clean help
all: deps-build
	@$(MAKE) --no-print-directory programs
.PHONY: programs
programs: $(ROLE_BIN) $(ADMIN_BIN) $(SENDMAIL_BIN)
	@:

# Installs the Debian packages that are missing; says what to type when it may not.
deps:
	@etc/deps.sh etc/packages-build etc/packages-test
	@etc/unpack.sh $(B)/packages etc/packages-unpacked
deps-build:
	@etc/deps.sh etc/packages-build

# A whole server as an ordinary user on high ports of 127.0.0.1; DEMO is its directory.
DEMO ?= $(B)/demo
demo: all
	$(ADMIN_BIN) run --demo $(DEMO)

help:
	@echo 'make              build everything into $(B)/ (installs missing Debian packages first)'
	@echo 'make demo         build, then run a demo server on 127.0.0.1 (Ctrl-C ends it)'
	@echo 'make check        build and run all tests, plain and with sanitizers'
	@echo 'make fuzz         libFuzzer over every target, or those in FUZZ, FUZZ_SECONDS each (default 60), FUZZ_JOBS at a time'
	@echo 'make crash        explore crash states of the store at length'
	@echo 'make cuts         end connections to other servers after every octet of the dialogue'
	@echo 'make scale        a million recipients in the queue: memory of each, time of a step'
	@echo 'make outbound-death  kill processes on the way out under load, OUTBOUND_ROUNDS times (default 1000)'
	@echo 'make death        kill processes under load, DEATH_ROUNDS times (default 2000); part of make crash'
	@echo 'make descriptors  processes without free descriptors, every case; part of make crash'
	@echo 'make daemon-fault file calls fail in real keepers and queues, every case'
	@echo 'make soak         64 clients at work for SOAK_SECONDS (default 600)'
	@echo 'make dos          attacks on a running server while honest clients are served, with figures'
	@echo 'make tls-scan     testssl.sh and sslscan of every service, in all that they look for'
	@echo 'make fault        let every file call of the store fail in turn'
	@echo 'make bench        compare with Postfix and Dovecot of Debian'
	@echo 'make bench-smtp   reception, with SPF, DKIM and DMARC and without, beside Postfix and Dovecot'
	@echo 'make bench-queue  the way out beside Postfix: 100,000 messages to 1,000 destinations, 20 % of them dead'
	@echo 'make bench-store  each figure of the store beside the machine and Dovecot'
	@echo 'make install      install below $$(DESTDIR)$(PREFIX) and /etc; make uninstall removes it'
	@echo 'make deps         install the Debian packages for build and tests'
	@echo 'make clean        remove $(B)/'
	@echo 'Variables: CC=clang  SAN=address,undefined  COV=1  B=directory  DEMO=directory  PREFIX=/usr'

define archive_rule
$(call lib_of,$(1)): $(call OBJ,$(call LIBSRC,$(1)))
	@rm -f $$@
	@ar rcsD $$@ $$^
endef
$(foreach d,$(DAEMONS),$(eval $(call archive_rule,$(d))))

$(B)/obj/%.o: %.c Makefile etc/VERSION
	@mkdir -p $(@D)
	@echo "  CC $<"
	@$(CC) $(ALL_CFLAGS) $(CFLAGS_$(subst /,_,$*)) -MMD -MP -c -o $@ $<

# dir-NAME links its main, its own room, then store, then common.
define role_rule
$(B)/libexec/$(subst /,-,$(1:_main.c=)): $(call OBJ,$(1)) $(ARCHIVES)
	@mkdir -p $$(@D)
	@echo "  LD $$@"
	@$(CC) $(ALL_LDFLAGS) -o $$@ $(call OBJ,$(1)) $(call lib_of,$(patsubst %/,%,$(dir $(1)))) \
		$(call lib_of,store) $(call lib_of,common) $(LIBS)
endef
$(foreach m,$(filter-out admin/%,$(MAINS)),$(eval $(call role_rule,$(m))))

$(ADMIN_BIN): $(call OBJ,admin/mailstead_main.c) $(call lib_of,admin) $(ARCHIVES)
	@mkdir -p $(@D)
	@echo "  LD $@"
	@$(CC) $(ALL_LDFLAGS) -o $@ $< $(call lib_of,admin) $(call lib_of,smtpd) $(call lib_of,store) $(call lib_of,common) $(LIBS)

$(SENDMAIL_BIN): $(call OBJ,admin/sendmail_main.c) $(call lib_of,admin) $(call lib_of,common)
	@mkdir -p $(@D)
	@echo "  LD $@"
	@$(CC) $(ALL_LDFLAGS) -o $@ $< $(call lib_of,admin) $(call lib_of,common) $(LIBS)

include etc/install.mk
include tests/tests.mk

clean:
	rm -rf $(B)

-include $(shell find $(B) -type f -name '*.d' 2>/dev/null)

