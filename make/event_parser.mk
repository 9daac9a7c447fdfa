# The one C++ file. It needs no flags for an instruction set: simdjson's library chooses one when
# the process starts (core/records/json_index.cc says why).

EVENT_PARSER_OBJECTS := $(OUT)/core/records/json_index.o

$(EVENT_PARSER_OBJECTS): $(OUT)/%.o: %.cc
	@mkdir -p $(@D)
	@echo "  CXX     $<"
	@$(CXX) $(CXXFLAGS) -c -o $@ $<
