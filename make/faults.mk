# Fault injection: what the tests of tests/faults need besides themselves.

# Programs of the "next" release, which computes otherwise: another ENGINE_VERSION, keys of integers
# that differ, and, for `dovetail`, one migration more. Everything else is what is tested.
NEXT := $(OUT)/tests/faults/next
NEXT_PROGRAMS := $(PROGRAMS:%=$(NEXT)/%)
NEXT_OBJECTS := $(NEXT)/definition_view.o $(NEXT)/catalog_engine.o $(NEXT)/next_engine.o
NEXT_SCHEMA := $(NEXT)/schema/dovetail

$(NEXT)/definition_view.o: core/definitions/definition_view.c
$(NEXT)/catalog_engine.o: core/catalog/catalog_engine.c
$(NEXT)/next_engine.o: tests/faults/next_engine.c
$(NEXT_OBJECTS):
	@mkdir -p $(@D)
	@echo "  CC      $< (next)"
	@$(CC) $(CFLAGS) -DDOVETAIL_ENGINE_VERSION=1000 -c -o $@ $<

define next_rule
$(NEXT)/$(1): $(NEXT_OBJECTS) $(OUT)/$(1)
	@echo "  LINK    $$@"
	@$(CXX) $(LDFLAGS) -Wl,--wrap=expression_evaluate -o $$@ $(call objects_of,$(FOLDER_$(1))) \
	    $(if $(filter dovetail-serving,$(1)),$(DASHBOARD_OBJECTS)) $(NEXT_OBJECTS) $(CORE) $(LDLIBS)
endef
$(foreach p,$(PROGRAMS),$(eval $(call next_rule,$(p))))

$(NEXT_SCHEMA): $(OUT)/dovetail tests/faults/next_schema/999_next.sql
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@sh make/migrations.sh $(MIGRATIONS) tests/faults/next_schema/999_next.sql > $(@D)/migrations.c
	@$(CC) $(CFLAGS) -c -o $(@D)/migrations.o $(@D)/migrations.c
	@$(CXX) $(LDFLAGS) -o $@ $(call objects_of,cli) $(@D)/migrations.o $(CORE) $(LDLIBS)

# Preloaded, as the shim of steps is.
ALLOC_SHIM := $(OUT)/tests/faults/alloc_shim.so
CLOCK_SHIM := $(OUT)/tests/faults/clock_shim.so
$(ALLOC_SHIM) $(CLOCK_SHIM): $(OUT)/%.so: %.c
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	@$(CC) -std=c17 -D_GNU_SOURCE -O1 -g $(WARNINGS_C) -shared -fPIC -o $@ $< -ldl -pthread

# Sanitizers bring a malloc of their own, so there is none for the shim to stand in for.
ifneq ($(filter asan tsan,$(MODE)),)
STACK_TESTS := $(filter-out %/tests/faults/test_memory,$(STACK_TESTS))
endif

FAULT_TOOLS := $(STEPS_SHIM) $(ALLOC_SHIM) $(CLOCK_SHIM) $(NEXT_PROGRAMS) $(NEXT_SCHEMA)

# ThreadSanitizer over the serving process on real servers. It alone: the other programs have a Kafka
# client, whose C11 threads gcc's ThreadSanitizer does not follow (docs/ARCHITECTURE.md, Dependencies).
TSAN_SERVING := build/tsan/serving
TSAN_TESTS := $(patsubst %,build/release/tests/integration/test_%,serving serving_rows serving_life \
    query_api query_media query_memory bad_requests cache cache_traffic live live_traffic slow_clients)
.PHONY: tsan-serving
tsan-serving: deps ## run the tests of serving on real servers, with the serving process under ThreadSanitizer
	@$(MAKE) --no-print-directory -j2 MODE=release $(PROGRAMS:%=build/release/%) $(TSAN_TESTS)
	@$(MAKE) --no-print-directory -j2 MODE=tsan build/tsan/dovetail-serving
	@rm -rf $(TSAN_SERVING) && mkdir -p $(TSAN_SERVING)
	@ln -s $(PROGRAMS:%=../../release/%) $(TSAN_SERVING)/
	@ln -sf ../dovetail-serving $(TSAN_SERVING)/dovetail-serving
	@$(TEST_STACK) docker/local/stack.sh up
	@TSAN_OPTIONS="log_path=$(CURDIR)/$(TSAN_SERVING)/report" DOVETAIL_BUILD=$(TSAN_SERVING) \
	  tests/run.sh --env .run/test/env $(TSAN_TESTS); status=$$?; \
	  $(TEST_STACK) docker/local/stack.sh down; cat $(TSAN_SERVING)/report* 2>/dev/null && exit 1; exit $$status

# All of tests/faults, in full: each message, allocation and earlier schema, not some of them.
FAULT_TESTS := $(filter $(OUT)/tests/faults/%,$(STACK_TESTS))
.PHONY: faults
faults: deps ## run the fault tests in full, on a real Kafka and PostgreSQL; takes long
	@$(MAKE) --no-print-directory -j2 $(PROGRAMS:%=$(OUT)/%) $(FAULT_TESTS) $(FAULT_TOOLS)
	@$(TEST_STACK) docker/local/stack.sh up
	@DOVETAIL_FAULTS=all DOVETAIL_BUILD=$(OUT) tests/run.sh --env .run/test/env $(FAULT_TESTS); status=$$?; \
	  $(TEST_STACK) docker/local/stack.sh down; exit $$status

# The whole pipeline under random faults.
SOAK := $(OUT)/tests/faults/soak
SOAK_MINUTES ?= 60

$(SOAK): $(OUT)/tests/faults/soak.o $(SUPPORT_OBJECTS) $(CORE)
	@echo "  LINK    $@"
	@$(CXX) $(LDFLAGS) -o $@ $^ -lcmocka -lcurl $(LDLIBS)

tests: $(SOAK)

.PHONY: soak
soak: deps ## random faults everywhere, for SOAK_MINUTES=60, from SEED on, on a real Kafka and PostgreSQL
	@$(MAKE) --no-print-directory -j2 $(PROGRAMS:%=$(OUT)/%) $(SOAK)
	@$(TEST_STACK) docker/local/stack.sh up
	@SOAK_MINUTES=$(SOAK_MINUTES) $(SEED:%=DOVETAIL_SEED=%) DOVETAIL_BUILD=$(OUT) \
	  tests/run.sh --env .run/test/env $(SOAK); status=$$?; \
	  $(TEST_STACK) docker/local/stack.sh down; exit $$status
