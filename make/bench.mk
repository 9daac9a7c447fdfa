# Benchmarks: ratios measured side by side. docs/BENCHMARKS.md says what each one means.
#
# Besides `make deps` they want the package wrk for HTTP, and node with npm for DuckDB; without them
# those benchmarks are left out, with a message.
BENCH_NAMES := consume event_parser fold freshness generate hello measures recompute select steady timed watch
BENCH_PROGRAMS := $(BENCH_NAMES:%=$(OUT)/bench/%)
BENCH_SUPPORT := $(OUT)/bench/support.o

BENCH_KAFKA_PORT ?= 49192
BENCH_KAFKA_CONTROLLER_PORT ?= 49193
BENCH_POSTGRES_PORT ?= 45432
BENCH_STACK := DOVETAIL_RUN_DIR=.run/bench DOVETAIL_KAFKA_PORT=$(BENCH_KAFKA_PORT) \
               DOVETAIL_KAFKA_CONTROLLER_PORT=$(BENCH_KAFKA_CONTROLLER_PORT) \
               DOVETAIL_POSTGRES_PORT=$(BENCH_POSTGRES_PORT)
# The programs to measure: those of this build, wherever OUT is.
BENCH_DOVETAIL := $(PROGRAMS:%=$(OUT)/%)

# Folds with the batch layer's own code.
$(OUT)/bench/recompute: $(filter-out %/main.o,$(call objects_of,batch_layer))

$(BENCH_PROGRAMS): $(OUT)/bench/%: $(OUT)/bench/%.o $(BENCH_SUPPORT) $(CORE)
	@echo "  LINK    $@"
	@$(CXX) $(LDFLAGS) -o $@ $(filter %.o,$^) $(CORE) -lcurl $(LDLIBS)

.PHONY: bench bench-quick bench-programs
bench-programs: $(BENCH_PROGRAMS)

bench: deps ## run the benchmarks: ratios
	@$(MAKE) --no-print-directory -j2 bench-programs $(BENCH_DOVETAIL)
	@$(BENCH_STACK) DOVETAIL_BUILD=$(OUT) bench/run.sh

bench-quick: deps ## the same with a tenth of the records
	@$(MAKE) --no-print-directory -j2 bench-programs $(BENCH_DOVETAIL)
	@$(BENCH_STACK) DOVETAIL_BUILD=$(OUT) BENCH_RECORDS=300000 BENCH_GROUPS=1000000 BENCH_MEMORY=64 BENCH_RUNS=3 BENCH_SAMPLES=100 \
	  BENCH_SECONDS=2 bench/run.sh
