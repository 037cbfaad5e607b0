# trafficmon: everything a person does from a checkout. `make help` lists it.

SHELL  := /bin/bash -o pipefail
PYTHON := /usr/bin/python3
VENV   := .venv/bin/python
CLANG  ?= clang
STRIP  ?= llvm-strip
SUDO   := $(if $(filter 0,$(shell id -u)),,sudo)

# The interface `make run` watches: the one with the default route.
IFACE ?= $(shell ip -o route show default 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p;q')

# Debian packages, the same names on 12 and 13: what the daemon runs on, what builds it, what the demo and the tests use.
RUNTIME := python3 python3-bpfcc python3-numpy python3-pyroute2 python3-systemd python3-toml python3-watchdog sqlite-utils libbpf1
BUILDING := clang llvm gcc libc6-dev libbpf-dev linux-libc-dev bpftool
SHOWING := mount util-linux iproute2 ethtool iputils-ping bind9-dnsutils dnsmasq-base curl sqlite3
TESTING := tshark python3-venv netbase jq passwd e2fsprogs clang-format shellcheck procps nftables xdp-tools tmux zstd apprise python3-prometheus-client python3-scapy python3-ipfix libfixbuf-tools openssh-server openssh-client
FUZZING := libclang-rt-dev
TOOLS   := pytest pytest-timeout pytest-xdist hypothesis ruff mypy varlink
# What pyproject.toml asks for with a floor and no ceiling, and the unit tests that have least to do with it.
NEWEST  := numpy pyroute2 watchdog sqlite-utils
ELSEWHERE := world analyze conformance control docs export feeds metrics notifier pip sinks trafficctl

# -mcpu=v3: what every kernel since 5.10 understands and every clang of Debian 12 and later writes.
MULTIARCH = $(shell $(CC) -print-multiarch)
BPF_CFLAGS = -O2 -g -target bpf -mcpu=v3 -Wall -Wextra -Wno-unused-parameter -Ibpf -idirafter /usr/include/$(MULTIARCH) \
	'-ffile-prefix-map=$(CURDIR)=.'
CFLAGS ?= -O2 -g
# The data path, once for each value of flows.look_inside and flows.units.
DATA_PATH := $(addprefix build/trafficmon,.bpf.o -units.bpf.o -inside.bpf.o -inside-units.bpf.o)
HOST_CFLAGS = -O3 -shared -fPIC -Wall -Wextra -Wno-unused-parameter -Ibpf '-ffile-prefix-map=$(CURDIR)=.'

.DEFAULT_GOAL := help
.NOTPARALLEL: # what is installed first is used next
.PHONY: help to-run to-show packages deps build abi docs run demo test test-newest test-clickhouse fleet lint bench accuracy world curves compare fuzz soak soak-idle soak-guessing soak-probation judged test-system test-sharing test-pip test-kernels deb apt-repo clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

to-run: ; @packaging/need $(RUNTIME) $(BUILDING)
to-show: ; @packaging/need $(RUNTIME) $(BUILDING) $(SHOWING)
packages: ; @packaging/need $(RUNTIME) $(BUILDING) $(SHOWING) $(TESTING)

.venv/.tools: Makefile
	@$(PYTHON) -m venv --system-site-packages .venv
	@$(VENV) -m pip install --quiet --disable-pip-version-check $(TOOLS)
	@touch $@

deps: packages .venv/.tools ## install what is missing: Debian packages, then the developer tools in .venv

build: $(DATA_PATH) build/trafficmon-dns.bpf.o build/trafficmon-process.bpf.o build/libtmparse.so ## compile the data path and the host build of its parser

$(filter %-units.bpf.o,$(DATA_PATH)): BPF_CFLAGS += -DTM_OWNERS=1
$(filter build/trafficmon-inside%,$(DATA_PATH)): BPF_CFLAGS += -DTM_LOOK_INSIDE=1

$(DATA_PATH): $(wildcard bpf/*.c bpf/*.h) Makefile
	@mkdir -p build
	$(CLANG) $(BPF_CFLAGS) -c bpf/trafficmon.bpf.c -o $@.tmp
	@$(STRIP) -g $@.tmp && mv $@.tmp $@

# Apart from it: what hands the answers of DNS to the daemon, and what notes processes.
build/trafficmon-dns.bpf.o build/trafficmon-process.bpf.o: build/trafficmon-%.bpf.o: bpf/%.bpf.c bpf/dns.h bpf/ends.h bpf/dialect.h bpf/packet.h bpf/headers.h bpf/abi.h Makefile
	@mkdir -p build
	$(CLANG) $(BPF_CFLAGS) -c $< -o $@.tmp
	@$(STRIP) -g $@.tmp && mv $@.tmp $@

build/libtmparse.so: $(wildcard bpf/*.c bpf/*.h) Makefile
	@mkdir -p build
	$(CC) $(CPPFLAGS) $(CFLAGS) $(HOST_CFLAGS) bpf/host.c $(LDFLAGS) -o $@.tmp && mv $@.tmp $@

# For the kernels of another architecture; the objects for BPF are the same everywhere.
build/arm64/libtmparse.so: $(wildcard bpf/*.c bpf/*.h) Makefile
	@mkdir -p build/arm64
	aarch64-linux-gnu-gcc $(HOST_CFLAGS) bpf/host.c -o $@

# What the live tests and the bench put beside it.
TEST_OBJECTS := $(patsubst %,build/tests/%.o,$(notdir $(basename $(wildcard tests/lab/*.bpf.c tests/bench/*.bpf.c))))

build/tests/%.bpf.o: tests/*/%.bpf.c Makefile
	@mkdir -p build/tests
	$(CLANG) $(BPF_CFLAGS) -c $< -o $@

abi: .venv/.tools ## write trafficmond/abi.py from bpf/abi.h
	@mkdir -p build
	$(PYTHON) packaging/generate/layouts.py "$(CLANG) $(BPF_CFLAGS)" bpf/abi.h | \
	    .venv/bin/ruff format --quiet --stdin-filename trafficmond/abi.py - > build/abi.py
	mv build/abi.py trafficmond/abi.py

docs: ## write what is made from declarations: sample and reference of the settings, detectors, bounds
	$(PYTHON) packaging/generate/pages.py

run: to-run build ## watch a real interface in the foreground: sudo make run IFACE=eth0
	@test -n "$(IFACE)" || { echo "make run: no default route to guess from; say which: make run IFACE=eth0" >&2; exit 2; }
	$(SUDO) $(PYTHON) -m trafficmond -i $(IFACE)

demo: to-show build ## a guided tour in a lab of its own, under a minute; KEEP=1 leaves it up
	@echo "everything is there; the tour begins"
	@$(SUDO) env KEEP=$(KEEP) PYTHONPATH=tests/lab:. $(PYTHON) tests/demo/demo.py

test: deps build $(TEST_OBJECTS) ## all tests: those without root first, then the live ones (skipped with a reason without root)
	$(VENV) -m pytest -q -n 2 -m "not root"
	$(VENV) -m pytest -q -m root

test-newest: packages build $(TEST_OBJECTS) ## the newest numpy, pyroute2, watchdog and sqlite-utils, in build/newest: unit tests, a live start
	@$(PYTHON) -m venv --clear --system-site-packages build/newest
	@build/newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade $(NEWEST) $(filter-out ruff mypy,$(TOOLS))
	@build/newest/bin/python -m pip list --disable-pip-version-check 2>/dev/null | grep -E "^(numpy|pyroute2|watchdog|sqlite-utils) "
	build/newest/bin/python -m pytest -q -n 2 --timeout 240 -p no:cacheprovider -m "not root" $(ELSEWHERE:%=--ignore tests/%)
	$(SUDO) env TRAFFICMON_PYTHON='$(CURDIR)/build/newest/bin/python' build/newest/bin/python -m pytest -q -p no:cacheprovider \
	    -m root tests/lab/test_lab_reach.py tests/lab/test_lab_top.py

build/chdb/.tools: Makefile
	@$(PYTHON) -m venv build/chdb
	@build/chdb/bin/python -m pip install --quiet --disable-pip-version-check chdb
	@touch $@

test-clickhouse: deps build build/chdb/.tools ## the fleet's questions on the newest ClickHouse's engine, 500 MB of it in build/chdb
	TRAFFICMON_CHDB='$(CURDIR)/build/chdb/bin/python' $(VENV) -m pytest -q tests/trafficctl/test_trafficctl_fleet.py \
	    tests/trafficctl/test_trafficctl_fleet_sums.py tests/export/test_export_hourly.py tests/export/test_export_computed.py \
	    tests/export/test_export_dashboard.py tests/export/test_export_threats.py tests/export/test_export_docs.py

fleet: deps build ## a hundred sensors send a week to one ClickHouse that is killed in between; TRAFFICMON_CHDB=PYTHON: the newest
	$(VENV) -m pytest -q -rP tests/export/fleet_storm.py

lint: deps ## ruff, mypy --strict, shellcheck, clang-format
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	shellcheck findings/*.sh .ci/run packaging/need packaging/build-deb packaging/build-apt-repo packaging/debian/tests/administrator \
	    packaging/debian/trafficmon.p* tests/system/container
	clang-format --dry-run --Werror bpf/*.[ch] tests/*/*.[ch]

bench: deps build $(TEST_OBJECTS) ## speed and memory against others; a table here, build/bench.json for programs; COMPARE=REV: and against that revision
	@$(PYTHON) -m compileall -q trafficmond trafficctl # as the package's installation does
	@$(SUDO) env PYTHONPATH=tests/lab:. COMPARE=$(COMPARE) $(PYTHON) tests/bench/bench.py $(BENCH)

judged: deps build $(TEST_OBJECTS) ## a million random packets against 500 random rules, a quarter of them with bcc: as the rules say; JUDGED=N
	$(SUDO) env TRAFFICMON_JUDGED=$(or $(JUDGED),1000000) $(VENV) -m pytest -q --durations=3 tests/lab/test_lab_services.py -k every_packet

accuracy: deps build ## what the detectors find and miss on captures with a known truth
	$(VENV) tests/accuracy/accuracy.py

world: deps build ## simulated weeks of a household without attacks, then with each attack added: make world SEEDS=200
	WORLD_SEEDS=$(or $(SEEDS),20) $(VENV) -m pytest -q tests/world

curves: deps build ## from loud to slow: what each detector finds, and what ordinary weeks bring, into docs/detectors.md
	PYTHONPATH=.:tests/world $(VENV) tests/world/curves.py

compare: deps build ## captures as tshark, logs as a few plain lines read them, and as analyze does; COMPARE="FOLDER..." for others
	$(VENV) tests/compare/compare.py $(COMPARE)

build/fuzz/.tools: Makefile
	@packaging/need $(FUZZING)
	@mkdir -p build/fuzz
	@$(PYTHON) -m venv --system-site-packages build/fuzz/venv
	@build/fuzz/venv/bin/pip install --quiet --disable-pip-version-check atheris
	@touch $@

fuzz: deps build build/fuzz/.tools ## mutated files at every reader: make fuzz MINUTES=20 (in all); what breaks one is kept in build/fuzz/found
	build/fuzz/venv/bin/python tests/fuzz/fuzz.py $(or $(MINUTES),5)

soak: deps build $(TEST_OBJECTS) ## minutes of kills, upgrades, floods, mutated packets and look-ups; what they show is printed
	$(SUDO) env PYTHONPATH=tests/lab:. TRAFFICMON_KILLS=1000 TRAFFICMON_FUZZ=10000000 $(VENV) tests/soak/soak.py
	$(SUDO) env PYTHONPATH=tests/lab:. $(VENV) tests/soak/storm.py
	$(SUDO) env TRAFFICMON_KILLS=1000 TRAFFICMON_FUZZ=10000000 $(VENV) -m pytest -q tests/sinks tests/store tests/lab/test_lab_parser.py
	TRAFFICMON_LOOKUPS=10000000 $(VENV) -m pytest -q -rP --timeout 900 tests/policy/test_policy_table.py -k real_lists

soak-idle: deps build ## idle SSH, IMAP, MQTT, database and UDP sessions for MINUTES=60 with the response on: no threat, no ban
	@packaging/need openssh-server openssh-client
	$(SUDO) env PYTHONPATH=tests/lab:. $(VENV) tests/soak/idle.py --minutes $(or $(MINUTES),60)

soak-guessing: deps build ## hydra with four tasks and one who tries 20 an hour at a real sshd, with the response on: both are banned
	@packaging/need openssh-server openssh-client hydra
	$(SUDO) env PYTHONPATH=tests/lab:. $(VENV) tests/soak/guessing.py

soak-probation: deps build ## changes on probation under traffic: daemon killed, disk read-only, machine reset, locked out over SSH
	@packaging/need openssh-server openssh-client nftables
	$(SUDO) env PYTHONPATH=tests/lab:. $(VENV) tests/soak/probation.py

test-pip: deps build ## build the wheel, install it into a fresh virtual environment, and use it there
	@rm -rf build/lib build/bdist.* build/wheel
	@$(PYTHON) -m venv --clear build/pip
	@build/pip/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	@build/pip/bin/python -m pip install --quiet --disable-pip-version-check build/wheel/*.whl
	$(SUDO) env TRAFFICMON_PIP=1 TRAFFICMON_PYTHON='$(CURDIR)/build/pip/bin/python' $(VENV) -m pytest -q -p no:cacheprovider tests/pip

test-kernels: deps build ## boot Debian's kernels under qemu and run the data path in each; LOADER=bcc compiles it there; ARCH=arm64
	$(SUDO) tests/kernels/run $(if $(LOADER),--loader $(LOADER)) $(if $(ARCH),--arch $(ARCH))

deb: ## build the Debian package into build/deb, twice: the same to the byte, and nothing that lintian would say; ARCH=arm64: once, for that
	packaging/build-deb $(if $(ARCH),--arch $(ARCH),--check)

apt-repo: ## build the package, once, and make a local apt repository of it in build/apt
	packaging/build-deb
	packaging/build-apt-repo

test-system: deb build ## boot fresh Debians with systemd, install the package, use it as an administrator would
	packaging/build-apt-repo
	$(SUDO) tests/system/run

test-sharing: deps build ## Debian 12 and 13 with their kernels under qemu: xdp_share beside xdp-filter, by the package's own units
	@packaging/need qemu-system-x86 mmdebstrap debian-archive-keyring kmod cpio e2fsprogs xz-utils zstd
	packaging/build-deb && packaging/build-apt-repo
	$(SUDO) tests/system/emulated

clean: ## remove what was built and what the tools cached
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
