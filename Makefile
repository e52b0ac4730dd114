# make            build the static release binary, target/tincan
# make demo       install what is missing, build, and let two wired containers ping one another
# make test       install what the tests need, and run them all
# make test-churn 200 containers that come to networks and leave them at random, for a minute
# make test-e2e   real clients: containerd, Docker, podman and buildah, with tincan as their runtime (CLIENTS=podman: one; ONLY=NAME: the steps with that in their names; RUNTIME=runc: without tincan)
# make test-e2e-vm  podman, as root and as a user, with systemd and cgroup v2, in virtual machines (RUNTIME=crun: without tincan)
# make test-vm    the same tests under other kernels, with systemd and cgroup v2, as root and as a user, in virtual machines
# make fuzz       feed the readers of what comes from outside with what nobody wrote, FUZZ_SECONDS for each of them
# make check      format and lints, warnings denied
# make order      see which functions commands take, and write link/order, by which the release binary is laid out
# make bench      measure beside crun, runc and others; writes benches/RESULTS.md (make bench QUICK=1: a minute, writes nothing)
# make rootfs     make all example root file systems, in target/rootfs
# make install    put it under PREFIX (/usr/local)
# make clean      remove what was built

# All Debian packages this project asks for, by what needs them.
BUILD_PACKAGES := gcc libc6-dev libseccomp-dev
DEMO_PACKAGES := busybox-static
TEST_PACKAGES := busybox-static containernetworking-plugins iproute2 iptables iputils-ping netbase nftables podman procps runc uidmap passt
E2E_PACKAGES := aardvark-dns buildah busybox-static catatonit containerd containernetworking-plugins docker.io iproute2 iptables netavark podman procps runc
VM_PACKAGES := busybox-static binutils cpio debian-archive-keyring debootstrap e2fsprogs gdb kmod qemu-system-x86 xz-utils
# In the virtual machines.
GUEST_PACKAGES := apparmor busybox-static criu dbus iproute2 iputils-ping kmod libpam-systemd netbase nftables passt procps runc secilc systemd-sysv uidmap wireguard-tools
# In those of test-e2e-vm; crun and runc are to compare with, and libcriu2 is how crun calls CRIU.
E2E_GUEST_PACKAGES := aardvark-dns busybox-static catatonit criu crun dbus dbus-user-session iproute2 kmod libcriu2 libpam-systemd netavark netbase nftables passt podman procps runc systemd-sysv uidmap
BENCH_PACKAGES := busybox-static iproute2 iputils-ping iperf3 crun runc bubblewrap containernetworking-plugins podman netavark iptables nftables uidmap
ROOTFS_PACKAGES := busybox-static debootstrap
FUZZ_PACKAGES := g++

# A command whose output is also kept fails when it fails, not when keeping does.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

# Of which commit the binary is, for `tincan --version`.
COMMIT := $(shell git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null)

PREFIX ?= /usr/local

# The suites of Debian that `make test-vm` boots, each with its own kernel (linux-image-cloud-amd64) and systemd.
KERNELS ?= bookworm trixie
# Their images, made once for all checkouts.
VM_IMAGES ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tincan/vm
# Whose tests `make test-e2e` runs, each a script in tests/e2e.
CLIENTS ?= containerd docker podman buildah
# The suite of Debian that `make test-e2e-vm` boots: its podman is the one that is tried.
E2E_SUITE ?= trixie
# How long `make fuzz` feeds each target.
FUZZ_SECONDS ?= 900
DESTDIR ?=

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
TINCAN := $(TARGET_DIR)/tincan
ROOTFS := $(TARGET_DIR)/rootfs
VM := $(TARGET_DIR)/vm

# Linked statically: a dynamic start costs 0.25 ms more before main (docs of the release profile: Cargo.toml). Without an
# explicit target the flags would reach proc-macros too, which must be dynamic.
TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p')
# On x86-64 rustc links with an lld of its own, which can fold functions of the same code into one, a quarter of a megabyte less in
# memory, and lay out those that a run takes side by side, two megabytes less.
comma := ,
LAYOUT := $(if $(filter x86_64-unknown-linux-gnu,$(TRIPLE)),-C link-arg=-Wl$(comma)--icf=all -C linker=$(CURDIR)/link/cc.sh)
STATIC := LIBSECCOMP_LINK_TYPE=static LIBSECCOMP_LIB_PATH="$$(dirname "$$(gcc -print-file-name=libseccomp.a)")" RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static $(LAYOUT)"
RELEASE := --locked --target $(TRIPLE)

.PHONY: build demo test test-churn test-packages test-e2e test-e2e-vm test-vm vm-packages fuzz check order bench rootfs install clean
.DELETE_ON_ERROR:

# Installs those of $(1) that are missing. None of them is to start a service of its own (policy-rc.d: invoke-rc.d(8)).
define install_packages
	@missing=$$(for package in $(1); do \
	    dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	if [ -n "$$missing" ]; then \
	    echo "installing:" $$missing; \
	    [ "$$(id -u)" = 0 ] || { echo "installing them needs root: apt-get install" $$missing >&2; exit 1; }; \
	    export DEBIAN_FRONTEND=noninteractive; \
	    apt-get update -q </dev/null || echo "apt-get update failed; trying with the lists that are there" >&2; \
	    policy=/usr/sbin/policy-rc.d; \
	    [ -e $$policy ] || { trap "rm -f $$policy" EXIT; printf '#!/bin/sh\nexit 101\n' >$$policy; chmod 755 $$policy; }; \
	    apt-get install -q -y --no-install-recommends $$missing </dev/null; \
	fi
endef

define need_root
	@[ "$$(id -u)" = 0 ] || { echo "make $(1) needs root: it makes namespaces and links" >&2; exit 1; }
endef

build:
	$(call install_packages,$(BUILD_PACKAGES))
	$(STATIC) TINCAN_COMMIT="$(COMMIT)" cargo build --release $(RELEASE)
	@install -m 755 $(TARGET_DIR)/$(TRIPLE)/release/tincan $(TINCAN)

demo: build
	$(call need_root,demo)
	$(call install_packages,$(DEMO_PACKAGES))
	rootfs-examples/busybox/make.sh $(ROOTFS)/busybox
	$(TINCAN) pair --rootfs $(ROOTFS)/busybox ns1=172.16.0.1/16 ns2=172.16.0.2/16 -- ping -c1 172.16.0.2

test: test-packages
	$(call need_root,test)
	@mkdir -p $(TARGET_DIR)
	cargo test --locked --features faults 2>&1 | tee $(TARGET_DIR)/test.log

test-churn: test-packages
	$(call need_root,test-churn)
	TINCAN_TEST_CHURN=60 cargo test --locked --features faults --test it churn -- --nocapture

test-packages:
	$(call install_packages,$(BUILD_PACKAGES) $(TEST_PACKAGES))

# All of them, also when one fails.
test-e2e: build
	$(call need_root,test-e2e)
	$(call install_packages,$(E2E_PACKAGES))
	@failed=; \
	for client in $(CLIENTS); do \
	    TINCAN=$(TINCAN) tests/e2e/$$client.sh || failed="$$failed $$client"; \
	done; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

test-e2e-vm: build vm-packages
	$(call need_root,test-e2e-vm)
	@mkdir -p $(VM) $(VM_IMAGES)/e2e
	flock $(VM_IMAGES)/e2e tests/vm/image.sh $(VM_IMAGES)/e2e $(E2E_SUITE) "$(E2E_GUEST_PACKAGES)"
	tests/e2e/vm.sh $(VM_IMAGES)/e2e $(VM)/e2e $(TINCAN) $(E2E_SUITE)

test-vm: vm-packages
	$(call need_root,test-vm)
	@mkdir -p $(VM) $(VM_IMAGES)
	for suite in $(KERNELS); do \
	    flock $(VM_IMAGES) tests/vm/image.sh $(VM_IMAGES) $$suite "$(GUEST_PACKAGES)" || exit 1; \
	done
	$(STATIC) cargo test --release $(RELEASE) --features faults --test it --no-run >$(VM)/build.log 2>&1 || { cat $(VM)/build.log; exit 1; }
	TEST_LOG=$(TARGET_DIR)/test.log tests/vm/run.sh $(VM_IMAGES) $(VM)/out \
	    $(abspath $(TARGET_DIR))/$$(sed -n 's,.*(.*\($(TRIPLE)/release/deps/it-[0-9a-f]*\)).*,\1,p' $(VM)/build.log) \
	    $(abspath $(TARGET_DIR))/$(TRIPLE)/release/tincan $(KERNELS)

vm-packages:
	$(call install_packages,$(BUILD_PACKAGES) $(VM_PACKAGES))

# Without a sanitizer: those take a compiler that is not the stable one, and there is no unsafe code in what is read. What is new of the
# inputs is not kept, but for what ends a target, in fuzz/artifacts.
fuzz:
	$(call install_packages,$(BUILD_PACKAGES) $(FUZZ_PACKAGES))
	command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	for target in config net process state; do \
	    mkdir -p $(TARGET_DIR)/fuzz/$$target && \
	    cargo fuzz run --sanitizer none $$target $(abspath $(TARGET_DIR))/fuzz/$$target fuzz/corpus/$$target -- \
	        -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 || exit 1; \
	done

# The commands are named: a macro declares them, where cargo does not look for files.
check:
	$(call install_packages,$(BUILD_PACKAGES))
	cargo fmt --check -- $(wildcard src/cmd/*.rs)
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --features faults -- -D warnings

order: build
	$(call need_root,order)
	$(call install_packages,$(DEMO_PACKAGES))
	$(STATIC) cargo bench $(RELEASE) --bench order
	@touch src/main.rs # cargo does not know of link/order: the next build is to link anew

bench: build
	$(call need_root,bench)
	$(call install_packages,$(BENCH_PACKAGES))
	$(STATIC) cargo bench $(RELEASE) --bench ratios -- $(if $(QUICK),--quick)

rootfs:
	$(call need_root,rootfs)
	$(call install_packages,$(BUILD_PACKAGES) $(ROOTFS_PACKAGES))
	rootfs-examples/busybox/make.sh $(ROOTFS)/busybox
	rootfs-examples/static/make.sh $(ROOTFS)/static
	rootfs-examples/debian/make.sh $(ROOTFS)/debian

install: build
	install -D -m 755 $(TINCAN) $(DESTDIR)$(PREFIX)/bin/tincan

clean:
	cargo clean
