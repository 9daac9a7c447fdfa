# Tests of the dashboard in a real browser. They are not part of `make test`, because Chromium and node
# are several hundred megabytes that nothing else needs.
BROWSER_STACK := DOVETAIL_RUN_DIR=.run/browser DOVETAIL_KAFKA_PORT=37192 \
                 DOVETAIL_KAFKA_CONTROLLER_PORT=37193 DOVETAIL_POSTGRES_PORT=37432

.PHONY: deps-browser browser
deps-browser: deps
	@docker/local/deps.sh browser

browser: deps-browser ## test the dashboard in Chromium; installs it, node and an npm module where missing
	@$(MAKE) --no-print-directory -j2 $(PROGRAMS:%=$(OUT)/%)
	@$(BROWSER_STACK) docker/local/stack.sh up
	@DOVETAIL_BUILD=$(OUT) tests/browser/run.sh --env .run/browser/env; status=$$?; \
	  $(BROWSER_STACK) docker/local/stack.sh clean; exit $$status
