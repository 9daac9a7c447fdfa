# The local stack (Kafka and PostgreSQL without Docker) and the packages everything needs.
.PHONY: deps stack-up stack-down stack-clean

deps: ## install the Debian packages that are missing
	@docker/local/deps.sh

stack-up: deps ## start Kafka and PostgreSQL on loopback
	@docker/local/stack.sh up

stack-down: ## stop them; their data stays
	@docker/local/stack.sh down

stack-clean: ## stop them and remove their data
	@docker/local/stack.sh clean
