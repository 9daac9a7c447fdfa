# The simulator of the seam's protocol: one program, without arguments a test of `make unit`.
SIMULATOR := $(OUT)/tests/simulator/simulate
SIMULATOR_OBJECTS := $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/simulator/*.c)) \
                     $(filter-out %/main.o,$(call objects_of,speed_layer))
# What to do: for how long, from which seed on, with which planted bug; HISTORIES=1 prints one history.
SEED ?=
BUG ?= none
HISTORIES ?= 0

$(SIMULATOR): $(SIMULATOR_OBJECTS) $(CORE)
	@echo "  LINK    $@"
	@$(CXX) $(LDFLAGS) -o $@ $^ -lcmocka $(LDLIBS)

.PHONY: simulate
simulate: $(SIMULATOR) ## simulate histories of the seam's protocol for SECONDS=60, from SEED on
	@$(SIMULATOR) --seconds $(SECONDS) --histories $(HISTORIES) --bug $(BUG) $(SEED:%=--seed %)
