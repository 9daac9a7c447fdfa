# schemas/sql/*.sql as an array in C, so that an installed program needs no files to migrate with.
MIGRATIONS := $(sort $(wildcard schemas/sql/*.sql))
MIGRATIONS_C := $(OUT)/core/migrations_data.c
MIGRATIONS_OBJECTS := $(OUT)/core/migrations_data.o

$(MIGRATIONS_C): $(MIGRATIONS) make/migrations.sh
	@mkdir -p $(@D)
	@sh make/migrations.sh $(MIGRATIONS) > $@.new && mv $@.new $@

$(MIGRATIONS_OBJECTS): $(MIGRATIONS_C) core/catalog/migrations.h
	@$(CC) $(CFLAGS) -c -o $@ $<
