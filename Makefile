# Dovetail. `make help` lists the targets.
#
# Objects go to build/<mode>/; `make` builds the release mode and links the programs into build/.
# Every core/**/*.c is one static library, every folder with a main.c one program, every
# tests/**/test_*.c one test program.

MODE    ?= release
PREFIX  ?= /usr/local
DESTDIR ?=
VERSION := 0.1.0

CC  ?= cc
CXX ?= c++
OUT := build/$(MODE)

PACKAGES := rdkafka libpq jansson libmicrohttpd gnutls simdjson libzstd zlib libxxhash gmp libcrypto
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)

WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wvla -Wformat=2
ifeq ($(CI),true)
WARNINGS += -Werror
endif
WARNINGS_C := $(WARNINGS) -Wstrict-prototypes -Wmissing-prototypes

probe = $(shell echo 'int main(void){return 0;}' | $(CC) $(1) -x c -o /dev/null - 2>/dev/null && echo $(1))
HARDENING := $(call probe,-fstack-protector-strong) $(call probe,-fstack-clash-protection) \
             $(call probe,-fcf-protection) $(call probe,-Wl,-z,relro,-z,now)

FLAGS_release := -O3 -g -D_FORTIFY_SOURCE=2 $(HARDENING)
FLAGS_asan    := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
FLAGS_fuzz    := $(FLAGS_asan) -fsanitize=fuzzer-no-link
FLAGS_tsan    := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
FLAGS_coverage := -O0 -g --coverage

COMMON   := -D_GNU_SOURCE -DDOVETAIL_VERSION='"$(VERSION)"' -I. -MMD -MP $(FLAGS_$(MODE)) $(PKG_CFLAGS)
CFLAGS   += -std=c17 $(COMMON) $(WARNINGS_C)
CXXFLAGS += -std=c++17 $(COMMON) $(WARNINGS) -fno-exceptions -fno-rtti -DSIMDJSON_EXCEPTIONS=0
LDFLAGS  += $(FLAGS_$(MODE)) -pthread
LDLIBS   := $(PKG_LIBS) -lm

include make/event_parser.mk make/migrations.mk make/stack.mk

CORE_SOURCES := $(wildcard core/*.c core/*/*.c)
CORE_OBJECTS := $(CORE_SOURCES:%.c=$(OUT)/%.o) $(EVENT_PARSER_OBJECTS) $(MIGRATIONS_OBJECTS)
CORE := $(OUT)/libdovetail.a

PROGRAMS := dovetail-speed dovetail-batch dovetail-serving dovetail
FOLDER_dovetail-speed   := speed_layer
FOLDER_dovetail-batch   := batch_layer
FOLDER_dovetail-serving := serving
FOLDER_dovetail         := cli
objects_of = $(patsubst %.c,$(OUT)/%.o,$(wildcard $(1)/*.c))

.PHONY: all
.DEFAULT_GOAL := all
all: $(PROGRAMS:%=build/%) ## build the programs into build/

$(CORE): $(CORE_OBJECTS)
	@rm -f $@
	@$(AR) rcs $@ $^

$(OUT)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(CFLAGS) -c -o $@ $<

define program_rule
$(OUT)/$(1): $(call objects_of,$(FOLDER_$(1))) $(CORE)
	@echo "  LINK    $$@"
	@$(CXX) $(LDFLAGS) -o $$@ $$^ $(LDLIBS)
endef
$(foreach p,$(PROGRAMS),$(eval $(call program_rule,$(p))))

# Under another name first: the one that is replaced may be running, as after `make demo`.
build/%: build/release/%
	@cp $< $@.new
	@mv -f $@.new $@

include make/simulator.mk make/serving.mk make/test.mk make/dashboard.mk make/bench.mk make/fuzz.mk

-include $(shell find build -name '*.d' 2>/dev/null)

.PHONY: install clean help demo stop
install: all ## install programs, definitions and documents below DESTDIR/PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/dovetail/schemas/meta \
	    $(DESTDIR)$(PREFIX)/share/doc/dovetail
	install -m 755 $(PROGRAMS:%=build/%) $(DESTDIR)$(PREFIX)/bin
	install -m 644 schemas/meta/*.json $(DESTDIR)$(PREFIX)/share/dovetail/schemas/meta
	install -m 644 schemas/openapi.json $(DESTDIR)$(PREFIX)/share/dovetail
	install -m 644 README.md docs/*.md $(DESTDIR)$(PREFIX)/share/doc/dovetail

demo: deps ## show the whole pipeline on real flights; it stays up until `make stop`
	@$(MAKE) --no-print-directory -j2 all
	@docker/local/demo.sh

stop: ## stop the demonstration and the local stack
	@docker/local/demo.sh --stop
	@docker/local/stack.sh down

clean: ## remove what was built
	rm -rf build

help: ## this list
	@sed -n 's/^\([a-z][a-z -]*\):.*## \(.*\)/\1|\2/p' Makefile make/*.mk | \
	    awk -F'|' '{printf "  %-12s %s\n", $$1, $$2}'
