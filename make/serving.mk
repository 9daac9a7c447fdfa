# What dovetail-serving has compiled in: the API's description and the dashboard's files, so that an
# installed program needs none.
$(OUT)/serving/handle_openapi.o: schemas/openapi.json

DASHBOARD_FILES := $(sort $(wildcard serving/dashboard/*.* serving/dashboard/vendor/*))
DASHBOARD_C := $(OUT)/serving/dashboard_data.c
DASHBOARD_OBJECTS := $(OUT)/serving/dashboard_data.o

# A file that is removed changes the folder's time.
$(DASHBOARD_C): $(DASHBOARD_FILES) serving/dashboard serving/dashboard/vendor make/dashboard.sh
	@mkdir -p $(@D)
	@sh make/dashboard.sh serving/dashboard $(DASHBOARD_FILES) > $@.new && mv $@.new $@

$(DASHBOARD_OBJECTS): $(DASHBOARD_C) serving/dashboard.h
	@$(CC) $(CFLAGS) -c -o $@ $<

$(OUT)/dovetail-serving: $(DASHBOARD_OBJECTS)

# Unit tests of serving/ link its handlers, and so what those have compiled in.
$(patsubst %.c,$(OUT)/%,$(wildcard tests/unit/serving/test_*.c)): $(DASHBOARD_OBJECTS)
