# make              bin/tsrun (static, stripped; symbols in build/tsrun.debug) and the command line's bundle
# make check-native native tests and a short run of every fuzz target, under ASan and UBSan
# make tsan         native tests under TSan
# make fuzz         every fuzz target for FUZZ_SECONDS (FUZZ=name: one)
# make ENGINE=none  tsrun without the embedded planner: it then runs the planner in Node
#
# All native/*.c and native/*/*.c belong to the program; a file in test/native/ is a test (a main of its own, linked with what it needs of the program
# but main.c), or a fuzz target when its name begins with fuzz_. Nothing has to be listed here.

BUILD ?= build
BIN ?= bin
CLI := build/cli/main.js
ENGINE ?= quickjs
QUICKJS_WASM ?= node_modules/quickjs-wasi/quickjs.wasm
WASM2C ?= wasm2c
CC ?= cc
OBJCOPY ?= objcopy
FUZZ_SECONDS ?= 60

# `make V=1` shows the commands, else only what is made.
$(V).SILENT:

# --- flags ---

WARNINGS := -Wall -Wextra -Wformat=2 -Wvla -Wshadow -Wundef -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wpointer-arith \
	-Wwrite-strings -Wimplicit-fallthrough -Wnull-dereference
ERRORS := implicit-function-declaration implicit-int incompatible-pointer-types int-conversion return-type format=2 format-security vla shadow undef \
	strict-prototypes missing-prototypes old-style-definition implicit-fallthrough uninitialized maybe-uninitialized unused-result unused-variable \
	unused-function unused-parameter sign-compare pointer-arith write-strings switch enum-conversion overflow nonnull address array-bounds
CFLAGS := -std=gnu11 -g -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -ffunction-sections -fdata-sections -fno-omit-frame-pointer -fno-common \
	-ffile-prefix-map=$(CURDIR)=. $(WARNINGS) $(addprefix -Werror=,$(ERRORS)) -isystem $(BUILD)/gen
LDLIBS := -lzstd -llzma -llz4 -lz -lpthread -lm

SANITIZE_ASAN := -fsanitize=address,undefined -fno-sanitize-recover=undefined
FLAGS_release := -O2 -fstack-protector-strong -D_FORTIFY_SOURCE=2
FLAGS_asan := -O1 $(SANITIZE_ASAN)
FLAGS_tsan := -O1 -fsanitize=thread
FLAGS_fuzz := -O1 $(SANITIZE_ASAN) -fsanitize-coverage=trace-pc
FLAVOURS := release asan tsan fuzz start
# What is read and what is run is one mapping: a start pays for each, and for each 64 KiB of them that it touches.
LINK_STATIC := -static -Wl,--gc-sections -Wl,-z,noexecstack -Wl,-z,relro -Wl,-z,noseparate-code -Wl,--build-id=sha1
# No address of the generated code leads out of its memory (PLACE in module.c); its warnings are not ours. What an interpreter's instructions have in common
# is not worth keeping in registers across all of them.
FLAGS_generated := -std=gnu11 -g0 -w -D_GNU_SOURCE -ffunction-sections -fdata-sections -DWASM_RT_MEMCHECK_SIGNAL_HANDLER=0 -DWASM_RT_USE_STACK_DEPTH_COUNT=0 \
	-DNDEBUG -I$(BUILD)/gen \
	-fno-gcse -fno-code-hoisting -fno-tree-pre -fno-tree-loop-im -fno-move-loop-invariants -fira-region=one
# The half that starts runs, with another C library (native/start/README.md).
MUSL_CC ?= musl-gcc
CC_start := $(MUSL_CC)
FLAGS_start := -O2 -fstack-protector-strong -idirafter $(BUILD)/gen/kernel
# Its half of the program lies at a fixed place, linear memory at its end: that is then addressed in one instruction.
FLAGS_generated_start := -fno-pie -DENGINE_LAST
FLAGS_watch := -O0 -DENGINE_WATCH

# --- files ---

ENGINE_SOURCES := $(filter-out native/engine/none.c native/engine/module.c native/engine/image.c native/engine/mksnapshot.c,$(wildcard native/engine/*.c))
OTHER_SOURCES := $(filter-out native/main.c native/role.c native/engine/% native/start/%,$(wildcard native/*.c native/*/*.c))
ifeq ($(ENGINE),none)
SOURCES := $(OTHER_SOURCES) native/engine/none.c
MODULE :=
planner_image =
else
SOURCES := $(OTHER_SOURCES) $(ENGINE_SOURCES)
MODULE := $(BUILD)/gen/module.o
planner_image = $(BUILD)/$(1)/image.o
endif

TESTS := $(patsubst test/native/%.c,%,$(filter-out test/native/fuzz_%,$(wildcard test/native/*.c)))
ifeq ($(ENGINE),none)
TESTS := $(filter-out engine%,$(TESTS))
endif
FUZZERS := $(patsubst test/native/%.c,%,$(filter-out test/native/fuzz_driver.c,$(wildcard test/native/fuzz_*.c)))
objects = $(patsubst %.c,$(BUILD)/obj/$(1)/%.o,$(2))
programs = $(addprefix $(BUILD)/test/$(1)/,$(2))

NODE := $(firstword $(wildcard node_modules/.bin/node) node)
TYPESCRIPT := $(shell find src -name '*.ts' 2>/dev/null)

# --- what people ask for ---

.PHONY: all check-native tsan fuzz clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:

all: $(if $(wildcard native/main.c),$(BIN)/tsrun) $(if $(MODULE),$(BUILD)/engine_run) $(if $(wildcard src/cli/main.ts),$(CLI))

check-native: $(call programs,asan,$(TESTS)) $(call programs,fuzz,$(FUZZERS))
	@test/native/run.sh 5 $^

tsan: $(call programs,tsan,$(TESTS))
	@test/native/run.sh 0 $^

clean:
	rm -rf $(BUILD) $(BIN)/tsrun

# --- the program ---

$(BIN)/tsrun: $(BUILD)/tsrun.full
	@mkdir -p $(@D)
	$(OBJCOPY) --only-keep-debug $< $(BUILD)/tsrun.debug
	$(OBJCOPY) --strip-all --add-gnu-debuglink=$(BUILD)/tsrun.debug $< $@.new && mv $@.new $@

ROLES := native/main.c native/role.c
# Without musl, or without the engine, the program is of one piece.
HALVES := $(and $(MODULE),$(shell command -v $(MUSL_CC) 2>/dev/null))
ifeq ($(HALVES),)
PROGRAM := $(call objects,release,$(ROLES) $(SOURCES)) $(if $(MODULE),$(BUILD)/gen/module-program.o $(call planner_image,planner))
$(BUILD)/tsrun.full: $(PROGRAM) $(BUILD)/program.key native/engine/order.ld
	echo '  link    $@'
	$(CC) $(FLAGS_release) $(LINK_STATIC) $(if $(MODULE),-T native/engine/order.ld) -o $@ $(PROGRAM) $(LDLIBS)
else
PROGRAM := $(call objects,release,$(ROLES) $(OTHER_SOURCES) native/engine/none.c)
$(BUILD)/tsrun.full: $(BUILD)/start.o $(PROGRAM) $(BUILD)/program.key native/start/order.ld native/engine/order.ld
	echo '  link    $@'
	$(CC) $(FLAGS_release) $(LINK_STATIC) -Wl,-e,start_entry -T native/start/order.ld -T native/engine/order.ld -o $@ $(BUILD)/start.o $(PROGRAM) $(LDLIBS)
	scripts/start-order.sh --check $(BUILD)
endif

# --- the half of the program that starts runs ---

START_MAIN := $(call objects,start,native/main.c $(wildcard native/start/*.c) $(ENGINE_SOURCES))
# The linker takes of these what the start needs. The other half's formats and decoders stay there.
START_PARTS := $(call objects,start,$(filter-out native/codec.c native/serving.c native/server.c native/server_%s.c native/server_filter.c \
	native/server_setup.c native/supervisor%.c native/image%.c native/layer%.c native/tree_%.c native/squash/% native/fuse/%,$(OTHER_SOURCES)) native/image_extract.c)
# May stay open: the other half's entry, what only the linker knows, and musl's own hooks for a program that is all its.
START_OPEN := _start|_DYNAMIC|_init|_fini|__(init|fini)_array_(start|end)|__ehdr_start|_GLOBAL_OFFSET_TABLE_|__stack_chk_fail
# Strings that could be merged would lie among those of the other half: they are made like other data.
$(BUILD)/start.o: $(START_MAIN) $(START_PARTS) $(BUILD)/gen/module-program.o $(BUILD)/planner/image.o $(BUILD)/program.key
	echo '  link    $@'
	rm -f $(BUILD)/start.a && $(AR) rcs $(BUILD)/start.a $(START_PARTS)
	$(MUSL_CC) -r -no-pie -static -Wl,--gc-sections,-e,start_entry,-u,start_choose -o $@.whole $(START_MAIN) $(BUILD)/gen/module-program.o \
		$(BUILD)/planner/image.o -Wl,--start-group $(BUILD)/start.a -lc -lgcc -Wl,--end-group
	$(OBJCOPY) --keep-global-symbol=start_entry --set-section-flags '.rodata*=alloc,load,readonly,data' $@.whole $@
	! nm -u $@ | awk '{print $$2}' | grep -vxE '$(START_OPEN)'

# The kernel's headers, and wabt's, beside musl's own.
$(BUILD)/gen/kernel:
	mkdir -p $@
	for name in linux asm asm-generic wasm-rt.h; do \
		for top in /usr/include /usr/include/$$($(CC) -print-multiarch); do test ! -e $$top/$$name || ln -sfn $$top/$$name $@/$$name; done; \
	done

# A key is a file that changes when its text does, so that what depends on it is made anew when flags, tools or lists of files change.
keep = mkdir -p $(@D) && if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
$(BUILD)/program.key: FORCE
	@mkdir -p $(@D); echo '$(PROGRAM) $(LINK_STATIC) $(LDLIBS)' > $@.new; $(keep)

define flavour
$(BUILD)/obj/$(1)/flags.key: FORCE
	@mkdir -p $$(@D); { $(or $(CC_$(1)),$(CC)) --version | head -n 1; echo '$(CC_$(1)) $(CFLAGS) $(FLAGS_$(1))'; } > $$@.new; $$(keep)
$(BUILD)/obj/$(1)/%.o: %.c $(BUILD)/obj/$(1)/flags.key
	@mkdir -p $$(@D)
	echo '  cc      $(1)/$$*'
	$(or $(CC_$(1)),$(CC)) $(CFLAGS) $$(FLAGS_$(1)) -MMD -MP -c $$< -o $$@
$(call objects,$(1),$(ENGINE_SOURCES) native/engine/mksnapshot.c): | $(BUILD)/gen/qjs.c
endef
$(foreach name,$(FLAVOURS),$(eval $(call flavour,$(name))))
$(call objects,start,native/main.c $(SOURCES) $(wildcard native/start/*.c)): | $(BUILD)/gen/kernel
$(BUILD)/obj/start/native/start/entry.o: FLAGS_start += -fno-stack-protector
$(BUILD)/obj/start/native/start/memory.o: FLAGS_start += -fno-builtin

# Everything but main.c, so that a test gets what it needs.
define library
$(BUILD)/obj/$(1)/library.a: $(call objects,$(1),$(SOURCES)) $(BUILD)/program.key
	rm -f $$@ && $(AR) rcs $$@ $(call objects,$(1),$(SOURCES))
endef
$(foreach name,$(FLAVOURS),$(eval $(call library,$(name))))

# --- the engine: quickjs.wasm as C, compiled once for all flavours, again only when its content changes ---

$(BUILD)/gen/qjs.key: FORCE
	@test -r $(QUICKJS_WASM) || { echo '$(QUICKJS_WASM) is missing: run npm install, or make ENGINE=none' >&2; exit 1; }
	@command -v $(WASM2C) >/dev/null || { echo '$(WASM2C) is missing: install wabt, or make ENGINE=none' >&2; exit 1; }
	@mkdir -p $(@D); { sha256sum < $(QUICKJS_WASM); $(WASM2C) --version; cat native/engine/adapt.mjs; } > $@.new; $(keep)
$(BUILD)/gen/qjs.c: $(BUILD)/gen/qjs.key
	echo '  wasm2c  $@'
	$(WASM2C) $(QUICKJS_WASM) -n qjs -o $@
	$(NODE) native/engine/adapt.mjs $@
GENERATED := $(addprefix native/engine/,module.c space.h internal.h heap.h heap_small.h runtime.h engine.h)
$(BUILD)/gen/module.key: FORCE
	@mkdir -p $(@D); { cat $(GENERATED) | sha256sum; $(CC) --version | head -n 1; echo '$(FLAGS_generated) $(FLAGS_watch) $(PROGRAM_CC)'; } > $@.new; $(keep)
MKSNAPSHOT := $(call objects,release,native/engine/mksnapshot.c $(ENGINE_SOURCES) $(wildcard native/host*.c) native/getent.c native/names.c native/util.c)
# For tests.
$(BUILD)/gen/module.o: $(BUILD)/gen/qjs.c $(BUILD)/gen/module.key
	echo '  cc      $@ (takes a minute)'
	$(CC) $(FLAGS_generated) -O2 -c native/engine/module.c -o $@
# For the program: compiled to count what a call runs through, then once more with these counts, by the same compiler. What a call runs through is laid
# out for speed, the rest is put aside. (A bundle that changes does not change that in a build that is there.)
PROGRAM_CC = $(if $(HALVES),$(MUSL_CC) $(FLAGS_generated_start) -idirafter $(BUILD)/gen/kernel,$(CC)) $(FLAGS_generated) -O2 \
	-dumpdir $(BUILD)/gen/ -dumpbase profile.c -dumpbase-ext .c
$(BUILD)/gen/profile.o: $(BUILD)/gen/qjs.c $(BUILD)/gen/module.key | $(BUILD)/gen/kernel
	echo '  cc      $@ (takes a minute)'
	$(PROGRAM_CC) -fprofile-generate -c native/engine/module.c -o $@
$(BUILD)/mkprofile: $(BUILD)/gen/profile.o | $(MKSNAPSHOT)
	$(CC) -static --coverage -Wl,--gc-sections,-u,__gcov_reset,-u,__gcov_dump -o $@ $(MKSNAPSHOT) $< -lm
$(BUILD)/gen/profile.gcda: $(BUILD)/mkprofile | $(BUILD)/planner.js
	echo '  profile $@'
	rm -f $@ && $< $(BUILD)/planner.js $(@D) && test -s $@
$(BUILD)/gen/module-program.o: $(BUILD)/gen/profile.gcda
	echo '  cc      $@ (takes a minute)'
	$(PROGRAM_CC) -fprofile-use -c native/engine/module.c -o $@
	nm $@ | grep -q ' w2c_f[0-9]*\.cold$$'
# The same for mksnapshot, telling what it does.
$(BUILD)/gen/watch.o: $(BUILD)/gen/qjs.c $(BUILD)/gen/module.key
	echo '  cc      $@'
	$(CC) $(FLAGS_generated) $(FLAGS_watch) -c native/engine/module.c -o $@

# --- images: a bundle, loaded and warmed up ---

$(BUILD)/mksnapshot: $(MKSNAPSHOT) $(BUILD)/gen/watch.o
	$(CC) -static -Wl,--gc-sections -o $@ $^ -lm

$(BUILD)/planner.js: scripts/bundle.mjs $(TYPESCRIPT)
	echo '  bundle  $@'
	$(NODE) scripts/bundle.mjs planner $(BUILD)

# Where the native program looks for it, whatever was built how: build/cli.
$(CLI): scripts/bundle.mjs $(TYPESCRIPT)
	echo '  bundle  $@'
	$(NODE) scripts/bundle.mjs cli

define image
$(BUILD)/$(1)/image.h: $(2) $(BUILD)/mksnapshot
	@mkdir -p $$(@D)
	echo '  image   $$@'
	$(BUILD)/mksnapshot $(2) $$(@D)
$(BUILD)/$(1)/image.o: native/engine/image.c $(BUILD)/$(1)/image.h $(wildcard native/*.h native/engine/*.h) $(BUILD)/obj/release/flags.key
	$(CC) $(CFLAGS) $(FLAGS_release) -I$$(@D) -DIMAGE_BIN='"$$(@D)/image.bin"' -c $$< -o $$@
endef
$(eval $(call image,planner,$(BUILD)/planner.js))
$(eval $(call image,fixture,test/native/fixtures/planner.js))

# --- tests and fuzz targets: linked from archives, so that each takes what it needs ---

$(BUILD)/fixture/parts.a: $(MODULE) $(call planner_image,fixture)
	@mkdir -p $(@D)
	rm -f $@ && $(AR) rcs $@ $^

define test_programs
$(BUILD)/test/$(1)/%: $(BUILD)/obj/$(1)/test/native/%.o $(BUILD)/obj/$(1)/library.a $(BUILD)/fixture/parts.a
	@mkdir -p $$(@D)
	echo '  link    $$@'
	$(CC) $(FLAGS_$(1)) -o $$@ -Wl,--start-group $$^ -Wl,--end-group $(LDLIBS)
endef
$(foreach name,asan tsan release,$(eval $(call test_programs,$(name))))

$(BUILD)/obj/fuzz/test/native/fuzz_driver.o: FLAGS_fuzz := -O2
$(BUILD)/test/fuzz/%: $(BUILD)/obj/fuzz/test/native/%.o $(BUILD)/obj/fuzz/test/native/fuzz_driver.o $(BUILD)/obj/fuzz/library.a \
		$(BUILD)/fixture/parts.a
	@mkdir -p $(@D)
	echo '  link    $@'
	$(CC) $(SANITIZE_ASAN) -o $@ -Wl,--start-group $^ -Wl,--end-group $(LDLIBS)

# For test/contract/engine.test.ts: a bundle in the engine, as a program of its own.
$(BUILD)/engine_run: $(BUILD)/obj/release/test/contract/engine_run.o $(filter-out %/mksnapshot.o,$(MKSNAPSHOT)) $(BUILD)/gen/module.o
	echo '  link    $@'
	$(CC) -static -Wl,--gc-sections -o $@ $^ -lm

FUZZ ?= $(FUZZERS)
fuzz: $(call programs,fuzz,$(addprefix fuzz_,$(patsubst fuzz_%,%,$(FUZZ))))
	@test/native/run.sh $(FUZZ_SECONDS) $^

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
