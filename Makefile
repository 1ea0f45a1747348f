# Everything the project needs is installed by `make setup`, which every other target calls.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup check format test demo serve doctor bench bench-images images images-test vm-test attack fuzz sanitize sanitize-all sanitized-build compat compat-inside adapters clean lock

PYTHON := /usr/bin/python3.11
PYTHON_INCLUDE := /usr/include/python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check --root-user-action=ignore --no-deps

# Runs and builds the node, then what the tests, the VM lane and the bench add.
PACKAGES := python3.11 python3.11-venv python3.11-dev gcc g++ make cmake ninja-build pkg-config \
	libc6-dev linux-libc-dev libseccomp-dev musl-tools redis-server ca-certificates
PACKAGES += clang-format apparmor bubblewrap iproute2 busybox-static cpio zstd e2fsprogs \
	qemu-system-x86 qemu-system-common
PACKAGES += nftables iptables iperf3
PACKAGES += mmdebstrap umoci skopeo docker-registry runc crun
PACKAGES += python3-ipython python3-matplotlib python3-pip nodejs r-base-core r-cran-irkernel python3-jupyter-client
PACKAGES += clang libclang-rt-14-dev libpython3.11-testsuite python3-numpy python3-pandas git sqlite3
NATIVE := $(wildcard sandboxd/native/*.[ch]) sandboxd/native/cdef.txt sandboxd/native/generate.py \
	CMakeLists.txt pyproject.toml clients/python/pyproject.toml
C_FILES := $(wildcard sandboxd/native/*.[ch] tests/fuzz/*/*.[ch])
# Python keeps what it needs until its end, so that leaks are not looked for. The runtime looks for the
# C++ library when it starts; what loads that later (matplotlib) would end at its first exception.
SANITIZED := LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) libstdc++.so.6" ASAN_OPTIONS=detect_leaks=0 \
	NATIVE_BUILD=$(CURDIR)/build/sanitize PYTHONPATH=$(CURDIR)/tests/sanitize/site

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: .setup/packages .setup/venv .setup/native ## Debian packages, virtual environment, native build

.setup/packages: Makefile
	@mkdir -p .setup
	@missing=$$(for p in $(PACKAGES); do \
		[ "$$(dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null)" = installed ] || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		[ "$$(id -u)" = 0 ] || { echo "as root, install: $$missing" >&2; exit 1; }; \
		echo "installing" $$missing; \
		apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
	@touch $@

.setup/venv: requirements-build.lock requirements.lock requirements-testlib.lock .setup/packages
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes -r requirements-build.lock
	$(PIP) --require-hashes --no-build-isolation --use-pep517 -r requirements.lock
	$(PIP) --require-hashes -r requirements-testlib.lock
	@touch $@

# Editable, so that a change of Python needs nothing and a change of C only this target.
.setup/native: $(NATIVE) .setup/venv
	$(PIP) --no-build-isolation -e clients/python
	$(PIP) --no-build-isolation -e . -C cmake.define.SANDBOXD_TESTING=ON
	@touch $@

check: setup ## format, lint, types, import contract
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	clang-format --dry-run -Werror $(C_FILES)
	for file in sandboxd/native/*.c; do $(CC) -std=gnu11 -D_GNU_SOURCE -O1 -fanalyzer -Wall -Wextra \
		-Wno-missing-field-initializers -Werror -isystem $(PYTHON_INCLUDE) -c $$file -o /dev/null || exit; done

format: setup ## rewrite Python and C in the project's format
	$(BIN)/ruff format -q .
	$(BIN)/ruff check -q --fix .
	clang-format -i $(C_FILES)

test: setup ## every test
	$(BIN)/python -m pytest $(ARGS)

demo: setup ## real programs through the API, each answer checked
	$(BIN)/sandboxd demo

serve: setup ## keep the service running on 127.0.0.1:7070
	exec $(BIN)/sandboxd serve

doctor: setup ## what this host gives, layer by layer
	$(BIN)/sandboxd doctor

OUT ?= build/bench
bench: setup .setup/compat ## this service beside its peers, in one interleaved run; the report in OUT
	mkdir -p $(OUT) && rm -f $(OUT)/*.md $(OUT)/*.svg $(OUT)/*.json
	$(BIN)/python -m loadtest bench --out $(OUT) $(ARGS)
	$(BIN)/python -m loadtest run --scenario loadtest/scenarios/warm.toml --out $(OUT)
	$(BIN)/python -m loadtest network --out $(OUT)
	$(BIN)/python -m loadtest growth --out $(OUT)
	$(BIN)/python -m loadtest report --out $(OUT)

bench-images: setup ## roots of many layers, snapshots, pulls and shared pages, beside their peers
	$(BIN)/python -m loadtest images $(ARGS)

images: setup ## the official images, from Debian packages, into the default store
	$(BIN)/sandboxd image make $(ARGS)

images-test: setup ## the official images that are there, each language's own proof in its image
	$(BIN)/pytest tests/images/official.py

attack: setup ## programs that try to get out, and which layer stops what
	$(BIN)/python -m tests.attack $(ARGS)

vm-test: setup ## AppArmor and cgroup v2 for real, in a small VM
	$(BIN)/python -m tests.vm $(ARGS)

FUZZ_SECONDS ?= 60
fuzz: setup ## each fuzz target and the unpacking of layers for FUZZ_SECONDS, then messages, policies and calls inside
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/pytest -s tests/fuzz --ignore tests/fuzz/test_targets.py --ignore tests/fuzz/test_unpacking.py

sanitized-build:
	cmake -S . -B build/sanitize -G Ninja -DCMAKE_BUILD_TYPE=Release -DSANDBOXD_TESTING=ON \
		-DSANDBOXD_SANITIZE=address,undefined -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python >/dev/null
	cmake --build build/sanitize >/dev/null

sanitize: setup ## the native core under ASan and UBSan: its tests, the drivers', a small service
	$(MAKE) --no-print-directory sanitized-build
	$(SANITIZED) $(BIN)/pytest tests/sanitize/instrumented.py tests/native tests/drivers/test_*.py $(ARGS)
	$(SANITIZED) $(BIN)/pytest tests/matrix -k "python or files" $(ARGS)

sanitize-all: setup ## the native core under ASan and UBSan, through every test; an hour
	$(MAKE) --no-print-directory sanitized-build
	$(SANITIZED) $(BIN)/pytest tests/sanitize/instrumented.py tests clients/python/tests $(ARGS)

adapters: setup ## the client's adapters for agent frameworks, with their real libraries from PyPI
	@[ -x .setup/adapters/bin/python ] || $(PYTHON) -m venv .setup/adapters
	.setup/adapters/bin/python -m pip install -q --disable-pip-version-check \
		-e 'clients/python[smolagents,inspect]'
	$(BIN)/pytest -rs tests/sandboxes/test_adapters.py

compat: setup .setup/compat .setup/compat-oldest .setup/compat-javascript ## other services' unmodified clients, call by call, against this service
	$(BIN)/pytest -rs -o cache_dir=.pytest_cache/compat tests/compat/clients $(ARGS)

.setup/compat .setup/compat-oldest: .setup/%: requirements-%.lock .setup/packages
	$(PYTHON) -m venv --clear $@
	$@/bin/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r $<

# They need Node 20.18 and npm, which are not Debian 12's own: without these, Python's clients are run alone.
.setup/compat-javascript: $(wildcard tests/compat/clients/javascript/*) .setup/packages
	rm -rf $@ && mkdir -p $@ && cp tests/compat/clients/javascript/* $@/
	@(npm --version && node -e 'const [a, b] = process.versions.node.split("."); process.exit(+a > 20 || +a == 20 && +b >= 18 ? 0 : 1)' \
		&& cd $@ && npm ci --silent --ignore-scripts --no-audit --no-fund) >/dev/null 2>&1 \
		|| { rm -rf $@/node_modules; echo "left out: E2B's clients for JavaScript, which need npm and Node 20.18"; }

compat-inside: setup ## honest programs and CPython's own tests, inside and outside compared; a quarter of an hour
	COMPAT=all $(BIN)/pytest tests/compat/inside tests/warm/test_regression.py $(ARGS)

lock: ## write the locks anew: exact versions and hashes
	$(BIN)/python -m pip install -q pip-tools
	for name in requirements-build requirements requirements-compat requirements-compat-oldest; do \
		$(BIN)/python -m piptools compile -q --generate-hashes --allow-unsafe --no-strip-extras \
			--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --no-annotate \
			-o $$name.lock $$name.in || exit; \
	done
	cd tests/compat/clients/javascript && npm install --package-lock-only --omit-lockfile-registry-resolved \
		--no-audit --no-fund --silent

clean: ## remove what make made
	rm -rf .setup $(VENV) build
