# Fuzzing. tests/fuzz/fuzz_*.c are one target each, linked twice: with libFuzzer under clang
# (make fuzz), and with tests/fuzz/driver.c under gcc's sanitizers (make fuzz-short, part of
# `make test`, which so does without clang). tests/fuzz/fuzz.h says what a target is.
FUZZ_SOURCES := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_NAMES := $(FUZZ_SOURCES:tests/fuzz/fuzz_%.c=%)
FUZZ_PROGRAMS := $(FUZZ_NAMES:%=$(OUT)/tests/fuzz/fuzz_%)
FUZZ_SUPPORT := $(OUT)/tests/fuzz/support.o $(OUT)/tests/fuzz/state.o
# Which to run, and for how many seconds each.
FUZZ ?= $(FUZZ_NAMES)
SECONDS ?= 60
FUZZ_JOBS ?= $(shell nproc)

FUZZ_CC ?= clang
FUZZ_CXX ?= clang++

# What a target needs besides the library.
FUZZ_OBJECTS_ingest_body := $(OUT)/serving/ingest_body.o
FUZZ_OBJECTS_csv := $(OUT)/batch_layer/csv.o $(OUT)/batch_layer/csv_layout.o

ifeq ($(MODE),fuzz)
FUZZ_MAIN :=
FUZZ_LINK := $(CXX) -fsanitize=fuzzer
else
FUZZ_MAIN := $(OUT)/tests/fuzz/driver.o
FUZZ_LINK := $(CXX)
endif

define fuzz_rule
$(OUT)/tests/fuzz/fuzz_$(1): $(OUT)/tests/fuzz/fuzz_$(1).o $(FUZZ_MAIN) $(FUZZ_SUPPORT) $(FUZZ_OBJECTS_$(1)) $(CORE)
	@echo "  LINK    $$@"
	@$(FUZZ_LINK) $(LDFLAGS) -o $$@ $$^ -lcmocka $(LDLIBS)
endef
$(foreach f,$(FUZZ_NAMES),$(eval $(call fuzz_rule,$(f))))

.PHONY: fuzz fuzz-short fuzz-programs
fuzz-programs: $(FUZZ_PROGRAMS)

fuzz: deps ## fuzz with libFuzzer, SECONDS=60 for each target; FUZZ="text cron" chooses; needs clang
	@docker/local/deps.sh fuzz
	@$(MAKE) --no-print-directory -j2 MODE=fuzz CC=$(FUZZ_CC) CXX=$(FUZZ_CXX) \
	    $(FUZZ:%=build/fuzz/tests/fuzz/fuzz_%)
	@tests/fuzz/run.sh $(SECONDS) $(FUZZ_JOBS) $(FUZZ)

fuzz-short: ## replay the fuzz targets' corpora, and mutations, under gcc's sanitizers
	@$(MAKE) --no-print-directory -j2 MODE=asan $(FUZZ:%=build/asan/tests/fuzz/fuzz_%)
	@tests/run.sh --jobs $(TEST_JOBS) $(FUZZ:%=build/asan/tests/fuzz/fuzz_%)
