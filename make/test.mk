# Tests. tests/<kind>/**/test_*.c are one program each, linked with the library, the helpers in
# tests/support/ and, below tests/unit/<folder>/, with that folder's objects.
#
#   unit, property   pure; no servers; and so is the simulator (make/simulator.mk)
#   integration      a real Kafka and a real PostgreSQL of their own (not the ones of stack-up)

TEST_SOURCES := $(sort $(shell find tests -name 'test_*.c'))
TEST_PROGRAMS := $(TEST_SOURCES:%.c=$(OUT)/%)
SUPPORT_OBJECTS := $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/support/*.c))
FAST_TESTS := $(filter $(OUT)/tests/unit/% $(OUT)/tests/property/%,$(TEST_PROGRAMS)) $(SIMULATOR)
STACK_TESTS := $(filter $(OUT)/tests/integration/% $(OUT)/tests/faults/%,$(TEST_PROGRAMS))

# Programs at a time: they mostly wait for servers, and do not meet (tests/run.sh).
TEST_JOBS ?= 2

# Kafka, its controller, PostgreSQL: another checkout on the same machine takes other ports.
TEST_PORTS ?= 29192 29193 25432
TEST_STACK := DOVETAIL_RUN_DIR=.run/test DOVETAIL_KAFKA_PORT=$(word 1,$(TEST_PORTS)) \
              DOVETAIL_KAFKA_CONTROLLER_PORT=$(word 2,$(TEST_PORTS)) \
              DOVETAIL_POSTGRES_PORT=$(word 3,$(TEST_PORTS))

test_folder = $(word 3,$(subst /, ,$(1)))
test_objects = $(if $(filter tests/unit/%,$(1)),$(filter-out %/main.o,$(call objects_of,$(call test_folder,$(1)))))

define test_rule
$(OUT)/$(basename $(1)): $(OUT)/$(1:.c=.o) $(SUPPORT_OBJECTS) $(if $(filter-out core,$(call test_folder,$(1))),$(call test_objects,$(1))) $(CORE)
	@echo "  LINK    $$@"
	@$(CXX) $(LDFLAGS) -o $$@ $$^ -lcmocka -lcurl $(LDLIBS)
endef
$(foreach t,$(TEST_SOURCES),$(eval $(call test_rule,$(t))))

# Preloaded into programs under test; never with a sanitizer of its own.
STEPS_SHIM := $(OUT)/tests/faults/steps_shim.so
$(STEPS_SHIM): tests/faults/steps_shim.c
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) -std=c17 -D_GNU_SOURCE -O1 -g $(PKG_CFLAGS) $(WARNINGS_C) -shared -fPIC -o $@ $< -ldl -pthread

include make/faults.mk

.PHONY: tests test check unit integration
tests: all $(TEST_PROGRAMS) $(FAULT_TOOLS) $(SIMULATOR)

unit: $(FAST_TESTS) ## run the tests that need no servers
	@tests/run.sh --jobs $(TEST_JOBS) $(FAST_TESTS)

integration: $(PROGRAMS:%=$(OUT)/%) $(STACK_TESTS) $(FAULT_TOOLS) ## run the tests on a real Kafka and PostgreSQL
	@$(TEST_STACK) docker/local/stack.sh up
	@tools=$$(tests/promtool.sh); PATH=$${tools:+$$tools:}$$PATH DOVETAIL_BUILD=$(OUT) tests/run.sh --env .run/test/env --jobs $(TEST_JOBS) $(STACK_TESTS); status=$$?; \
	  $(TEST_STACK) docker/local/stack.sh down; exit $$status

# One kind after the other: the fast tests fail first.
test: deps ## install what is missing, build, run all tests
	@$(MAKE) --no-print-directory -j2 tests
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory fuzz-short
	@$(MAKE) --no-print-directory integration

.PHONY: asan tsan
asan tsan: ## run the unit tests under AddressSanitizer and UBSan, or ThreadSanitizer
	@$(MAKE) --no-print-directory MODE=$@ unit

# Sources whose style and faults are checked.
CHECKED := $(shell git ls-files '*.c' '*.h' '*.cc' 2>/dev/null)

.PHONY: format check lint
format: ## bring all sources into the house style
	@clang-format -i $(CHECKED)

lint: ## clang-format and cppcheck, without changing anything
	@command -v clang-format >/dev/null && command -v cppcheck >/dev/null || \
	    { echo "lint: needs the Debian packages clang-format and cppcheck" >&2; exit 1; }
	@clang-format --dry-run -Werror $(CHECKED)
	@cppcheck --quiet --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 \
	    --suppress=missingIncludeSystem -I. $(filter %.c,$(filter-out tests/% bench/%,$(CHECKED)))

check: lint tests unit ## format, lint, tests without servers
