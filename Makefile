# weir: one Makefile. `make help` lists the targets. Objects lie in build/$(MODE)/.
MODE    ?= release
PREFIX  ?= /usr/local
DESTDIR ?=
VERSION := 0.1.0
Q       := $(if $(V),,@)# V=1 shows the commands
PYTHON  := /usr/bin/python3
B       := build/$(MODE)
PKGS    := libevent libevent_openssl jansson hiredis libpq libcurl openssl zlib

CFLAGS_WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wswitch-enum -Wformat=2 -Wvla
HARDEN := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection -fcf-protection -fPIE
CFLAGS_release := -O2 -g $(HARDEN)
LDFLAGS_release := -pie -Wl,-z,relro,-z,now
MALLOC_release := -ljemalloc# a sixth less CPU time
CFLAGS_debug := -O0 -g
SAN := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CFLAGS_asan := -O1 -g $(SAN) -DWEIR_TEST
LDFLAGS_asan := $(SAN)
CFLAGS_cover := -O0 -g --coverage -DWEIR_TEST
LDFLAGS_cover := --coverage
CFLAGS_fuzz := -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -DWEIR_TEST
LDFLAGS_fuzz := -fsanitize=fuzzer,address,undefined
ifeq ($(MODE),fuzz)
CC := clang
endif

# Third-party headers come by -isystem; pkg-config may be missing until deb-deps has run.
PKG_CFLAGS = $(patsubst -I%,-isystem %,$(shell pkg-config --cflags $(PKGS) 2>/dev/null)) \
	-isystem $(shell pg_config --includedir 2>/dev/null || echo /usr/include/postgresql)
LIBS = -levhtp $(shell pkg-config --libs $(PKGS) 2>/dev/null) -levent_extra -lm
# Intrusive containers look at one object through several types.
ALL_CFLAGS = -std=c11 -fno-strict-aliasing -D_GNU_SOURCE -DWEIR_VERSION='"$(VERSION)"' -Iinclude $(CFLAGS_WARN) $(CFLAGS_$(MODE)) \
	$(CFLAGS) -MMD -MP

SRC   := $(sort $(shell find src -name '*.c'))
OBJ   := $(SRC:%.c=$(B)/%.o) $(B)/migrations.o $(B)/providers.o
LIB   := $(B)/libweir.a
UNITS := $(patsubst test/unit/%.c,$(B)/unit/%,$(sort $(wildcard test/unit/test_*.c)))
FUZZ  := $(patsubst test/fuzz/%.c,%,$(sort $(wildcard test/fuzz/fuzz_*.c)))
TOOLS := $(patsubst test/bench/%.c,$(B)/bench/%,$(sort $(wildcard test/bench/*.c)))

all: weir ## release build, leaves ./weir
weir: $(B)/weir
	@cp -f $< $@.new && mv -f $@.new $@

$(B)/weir: $(B)/src/cli/main.o $(LIB)
	@echo "  LD $@"
	$(Q)$(CC) $(LDFLAGS_$(MODE)) $(LDFLAGS) -o $@ $^ $(MALLOC_$(MODE)) $(LIBS)
$(LIB): $(filter-out %/cli/main.o,$(OBJ))
	@rm -f $@
	$(Q)ar rcs $@ $^
$(B)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC $<"
	$(Q)$(CC) $(ALL_CFLAGS) $(PKG_CFLAGS) -c -o $@ $<
$(B)/migrations.c: $(sort $(wildcard migrations/*.sql)) scripts/embed-migrations
	@mkdir -p $(@D)
	@scripts/embed-migrations migrations > $@
$(B)/providers.c: $(sort $(wildcard deploy/providers/*.json)) scripts/embed-providers
	@mkdir -p $(@D)
	@scripts/embed-providers deploy/providers > $@
$(B)/src/app/openapi.o: deploy/openapi.json
$(B)/migrations.o $(B)/providers.o: $(B)/%.o: $(B)/%.c
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<
$(B)/unit/%: test/unit/%.c $(LIB)
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(ALL_CFLAGS) $(PKG_CFLAGS) -Itest/unit $(LDFLAGS_$(MODE)) -o $@ $< $(LIB) -lcmocka $(LIBS)
$(B)/bench/%: test/bench/%.c $(LIB)
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(ALL_CFLAGS) $(PKG_CFLAGS) $(LDFLAGS_$(MODE)) -o $@ $< $(LIB) $(LIBS)
# Fuzz targets: with libFuzzer under MODE=fuzz, else with a main that replays files.
$(B)/fuzz/%: test/fuzz/%.c test/fuzz/replay.c $(LIB)
	@mkdir -p $(@D)
	@echo "  LD $@"
	$(Q)$(CC) $(ALL_CFLAGS) $(PKG_CFLAGS) $(LDFLAGS_$(MODE)) -o $@ \
		$(if $(filter fuzz,$(MODE)),,test/fuzz/replay.c) $< $(LIB) $(LIBS)

lib: $(LIB) ## compile everything but main
run: deb-deps weir ## build and run the main job on private servers (weir dev)
	@scripts/run-dev ./weir
test: deb-deps ## everything: gates, both compilers, units, torture, fuzz corpora, integration, faults
	@scripts/run-tests all
unit: ## unit tests under ASan and UBSan, and the run in which each allocation fails in turn
	@scripts/run-tests unit
integration: ## the real binary with real servers
	@scripts/run-tests integration
fault: ## kill, stop and restart things under load
	@scripts/run-tests fault
soak: weir ## a bad network and kills on all legs under load, for MINUTES (30)
	@WEIR_BINARY=$(CURDIR)/weir WEIR_SOAK_MINUTES=$(or $(MINUTES),30) $(PYTHON) -m pytest -q -s \
		test/fault/test_chaos.py -k weather
fuzz: ## libFuzzer, FUZZ_SECONDS (600) for each target
	@scripts/run-fuzz $(FUZZ)
bench: weir ## measure; prints a table and writes bench.json (BENCH="--quick", ... see test/bench/run --help)
	@$(MAKE) -s MODE=release bench-tools
	@test/bench/run $(BENCH)
bench-tools: $(TOOLS)
units: $(UNITS)
fuzz-targets: $(FUZZ:%=$(B)/fuzz/%)
cover: ## line coverage of the unit and integration tests
	@scripts/run-tests cover
lint: ## clang-tidy and cppcheck, advisory
	@scripts/lint
format: ## format the sources in place
	clang-format -i $(SRC) $$(find include test -name '*.[ch]')
pages: ## write deploy/doc/providers from deploy/providers
	@$(PYTHON) scripts/provider-pages
gates: ## floors, headers, sizes, banned calls, formatting, current pages
	@$(PYTHON) scripts/gates
deb-deps: ## install what is missing (Debian 12 packages)
	@scripts/deb-deps
DOC := $(DESTDIR)$(PREFIX)/share/doc/weir
install: $(B)/weir ## the program, its manual, pages and presets; honours DESTDIR and PREFIX
	install -D -m 755 $< "$(DESTDIR)$(PREFIX)/bin/weir"
	install -d "$(DOC)/providers" "$(DESTDIR)$(PREFIX)/share/weir/providers"
	sed 's|(deploy/doc/|(|g' README.md > "$(DOC)/README.md"
	install -m 644 deploy/doc/providers/*.md "$(DOC)/providers"
	install -d "$(DESTDIR)$(PREFIX)/share/man/man1"
	$< config --man > "$(DESTDIR)$(PREFIX)/share/man/man1/weir.1"
	install -m 644 deploy/openapi.json "$(DESTDIR)$(PREFIX)/share/weir"
	install -m 644 deploy/providers/*.json "$(DESTDIR)$(PREFIX)/share/weir/providers"
	chmod 644 "$(DOC)/README.md" "$(DESTDIR)$(PREFIX)/share/man/man1/weir.1"
clean: ## remove what was built
	rm -rf build weir
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | sort | awk -F'\t' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: all lib run test unit integration fault soak fuzz bench bench-tools units fuzz-targets cover lint \
	format pages gates deb-deps install clean help
.SECONDARY:
-include $(OBJ:.o=.d) $(UNITS:=.d) $(TOOLS:=.d) $(FUZZ:%=$(B)/fuzz/%.d)
