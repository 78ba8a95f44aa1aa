# `make run` builds claudemesh and shows two sessions talking; `make test` runs everything that checks it.
#
#   BUNDLED=1   build libsodium and SQLite from the sources that their crates carry, even where the system has them
#   PREFIX      where `make install` puts things (/usr/local)
#   DESTDIR     a staging directory in front of PREFIX, for packages
#   CARGOFLAGS  more options for cargo, e.g. --offline

CARGO   ?= cargo
INSTALL ?= install
PREFIX  ?= /usr/local
DESTDIR ?=

bindir  = $(PREFIX)/bin
mandir  = $(PREFIX)/share/man
docdir  = $(PREFIX)/share/doc/claudemesh
unitdir = $(PREFIX)/lib/systemd/user
sysdir  = $(PREFIX)/lib/systemd/system

target  = $(or $(CARGO_TARGET_DIR),target)
binary  = $(target)/release/claudemesh
version = $(shell sed -n 's/^version = "\(.*\)"/\1/p;/^version/q' Cargo.toml)

# The system's libraries where pkg-config finds both, in versions that are new enough.
ifndef BUNDLED
system := $(shell pkg-config --exists 'libsodium >= 1.0.18' 'sqlite3 >= 3.35' 2>/dev/null && echo yes)
endif
features = $(if $(system),--no-default-features)
cargo    = $(CARGO) $(1) --locked $(features) $(CARGOFLAGS)

.PHONY: run build test bench layout check fmt clippy man completions docs install uninstall dist test-deps clean

run: build
	$(binary) demo

build:
	$(call cargo,build) --release

# What is left out without the client is said last, where it is seen.
claude = $(or $(CLAUDEMESH_TEST_CLAUDE),target/claude-code/node_modules/.bin/claude)

test:
	$(call cargo,test)
	@test -f "$(claude)" || echo "There is no claude at $(claude): the tests of the real client were left out (make test-deps)."

# The table of promises. `make bench BENCH="--quick 7 9"` runs some of its rows with fewer rounds.
bench:
	$(call cargo,bench) --bench promises -- $(BENCH)

# Which functions a resident process runs: written anew from time to time, as new ones are left out until then. Needs valgrind.
layout:
	CARGO="$(CARGO)" contrib/link/trace $(features) $(CARGOFLAGS) > $(target)/resident.ld
	mv $(target)/resident.ld contrib/link/resident.ld

check: fmt clippy test

fmt:
	$(CARGO) fmt --check

clippy:
	$(call cargo,clippy) --all-targets -- -D warnings

# The program describes itself; these only store what it says.
man: build
	mkdir -p $(target)/man
	$(binary) generate man > $(target)/man/claudemesh.1

completions: build
	mkdir -p $(target)/completions
	$(binary) generate completion bash > $(target)/completions/claudemesh.bash
	$(binary) generate completion zsh > $(target)/completions/_claudemesh
	$(binary) generate completion fish > $(target)/completions/claudemesh.fish

docs: build
	mkdir -p docs
	$(binary) generate docs > docs/cli.md

install: build man completions
	$(INSTALL) -Dm755 $(binary) $(DESTDIR)$(bindir)/claudemesh
	$(INSTALL) -Dm644 $(target)/man/claudemesh.1 $(DESTDIR)$(mandir)/man1/claudemesh.1
	$(INSTALL) -Dm644 $(target)/completions/claudemesh.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/claudemesh
	$(INSTALL) -Dm644 $(target)/completions/_claudemesh $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_claudemesh
	$(INSTALL) -Dm644 $(target)/completions/claudemesh.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/claudemesh.fish
	$(INSTALL) -d $(DESTDIR)$(unitdir) $(DESTDIR)$(sysdir)
	sed 's,/usr/bin/claudemesh,$(bindir)/claudemesh,' contrib/systemd/claudemesh-daemon.service > $(DESTDIR)$(unitdir)/claudemesh-daemon.service
	sed 's,/usr/bin/claudemesh,$(bindir)/claudemesh,' contrib/systemd/claudemesh-broker.service > $(DESTDIR)$(sysdir)/claudemesh-broker.service
	chmod 644 $(DESTDIR)$(unitdir)/claudemesh-daemon.service $(DESTDIR)$(sysdir)/claudemesh-broker.service
	$(INSTALL) -Dm644 README.md $(DESTDIR)$(docdir)/README.md
	$(INSTALL) -Dm644 ARCHITECTURE.md $(DESTDIR)$(docdir)/ARCHITECTURE.md
	$(INSTALL) -Dm644 SECURITY.md $(DESTDIR)$(docdir)/SECURITY.md

uninstall:
	rm -f $(DESTDIR)$(bindir)/claudemesh $(DESTDIR)$(mandir)/man1/claudemesh.1
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/claudemesh
	rm -f $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_claudemesh
	rm -f $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/claudemesh.fish
	rm -f $(DESTDIR)$(unitdir)/claudemesh-daemon.service $(DESTDIR)$(sysdir)/claudemesh-broker.service
	rm -rf $(DESTDIR)$(docdir)

# The sources, and beside them every dependency for a build without a network.
dist:
	mkdir -p $(target)/dist
	git archive --format=tar.gz --prefix=claudemesh-$(version)/ -o $(target)/dist/claudemesh-$(version).tar.gz HEAD
	rm -rf $(target)/dist/vendor
	$(CARGO) vendor --locked $(CARGOFLAGS) $(target)/dist/vendor > $(target)/dist/vendor-config.toml
	tar -C $(target)/dist -czf $(target)/dist/claudemesh-$(version)-vendor.tar.gz vendor
	rm -rf $(target)/dist/vendor

# What a Debian or Ubuntu machine needs besides a Rust toolchain, and the client whose hooks are tested.
test-deps:
	@need=; for package in build-essential pkg-config libsodium-dev libsqlite3-dev tmux $$(python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv); do \
	    dpkg -s $$package >/dev/null 2>&1 || need="$$need $$package"; done; \
	if [ -n "$$need" ]; then \
	    if [ "$$(id -u)" = 0 ]; then as=; else as=sudo; fi; \
	    $$as apt-get update -q && DEBIAN_FRONTEND=noninteractive $$as apt-get install -yq --no-install-recommends $$need; \
	fi
	@if command -v npm >/dev/null; then npm install --no-audit --no-fund --prefix target/claude-code @anthropic-ai/claude-code; \
	else echo "without npm there is no claude to test with: tests of the real client will be left out"; fi

	@$(MAKE) --no-print-directory mcp-clients

# Public clients of the Model Context Protocol that drive `claudemesh mcp` in the tests; nothing is done where they are there.
mcp_sdk       = 1.32.2
mcp_inspector = 1.0.3
mcp_python    = 2.3.0
.PHONY: mcp-clients
mcp-clients:
	@if ! command -v npm >/dev/null; then echo "without npm the MCP clients for node are left out"; \
	elif ! grep -qs '"$(mcp_sdk) $(mcp_inspector)"' target/mcp-js/versions; then \
	    npm install --no-audit --no-fund --prefix target/mcp-js @modelcontextprotocol/sdk@$(mcp_sdk) \
	        @modelcontextprotocol/inspector@$(mcp_inspector) && echo '"$(mcp_sdk) $(mcp_inspector)"' > target/mcp-js/versions; \
	fi
	@if ! command -v python3 >/dev/null; then echo "without python3 the MCP client for Python is left out"; \
	elif ! grep -qs '"$(mcp_python)"' target/mcp-py/versions; then \
	    python3 -m venv target/mcp-py && target/mcp-py/bin/pip install -q --disable-pip-version-check mcp==$(mcp_python) && \
	    echo '"$(mcp_python)"' > target/mcp-py/versions; \
	fi

clean:
	$(CARGO) clean
