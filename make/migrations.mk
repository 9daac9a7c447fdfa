# schemas/sql/*.sql as an array in C, so that an installed program needs no files to migrate with.
MIGRATIONS := $(sort $(wildcard schemas/sql/*.sql))
MIGRATIONS_C := $(OUT)/core/migrations_data.c
MIGRATIONS_OBJECTS := $(OUT)/core/migrations_data.o

# A renamed file makes no other newer: the list of names is kept, and touched when it changes.
MIGRATIONS_LIST := $(OUT)/core/migrations.list
.PHONY: migrations-list
migrations-list:
$(MIGRATIONS_LIST): migrations-list
	@mkdir -p $(@D)
	@echo '$(MIGRATIONS)' | cmp -s - $@ || echo '$(MIGRATIONS)' > $@

$(MIGRATIONS_C): $(MIGRATIONS) $(MIGRATIONS_LIST) make/migrations.sh
	@sh make/migrations.sh $(MIGRATIONS) > $@.new && mv $@.new $@

$(MIGRATIONS_OBJECTS): $(MIGRATIONS_C) core/catalog/migrations.h
	@$(CC) $(CFLAGS) -c -o $@ $<
