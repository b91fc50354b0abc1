# The static programs: C++20 against musl, without libstdc++ (spawn to exit 0.13 ms; static glibc takes 0.5 ms).
#   make -f native/static.mk OUT=build/Release [DEBUG=1]
#   make -f native/static.mk OUT=build/Release witness     what the differential tests run in a container: not installed
# musl has no C++ headers of its own: those of the host's libstdc++ are used for their header-only parts, and the link
# goes through musl-gcc without libstdc++, so that any symbol of it is an error.

OUT ?= build/Release
CXX ?= g++
MUSL_CC ?= musl-gcc
$(shell native/build-id)

GXX_VERSION := $(shell $(CXX) -dumpversion | cut -d. -f1)
MACHINE := $(shell $(CXX) -dumpmachine)
MUSL_INCLUDE := $(firstword $(wildcard /usr/include/$(subst -gnu,-musl,$(MACHINE)) /usr/lib/musl/include))
OBJ := $(OUT)/static

OPT := $(if $(DEBUG),-Og -g,-Os)
CXXFLAGS := -std=c++20 $(OPT) -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-asynchronous-unwind-tables \
  -ffunction-sections -fdata-sections -fno-pie -fno-stack-protector -fmerge-all-constants \
  -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Werror \
  -nostdinc -nostdinc++ -isystem $(MUSL_INCLUDE) \
  -isystem /usr/include/c++/$(GXX_VERSION) -isystem /usr/include/$(MACHINE)/c++/$(GXX_VERSION) \
  -isystem $(shell $(CXX) -print-file-name=include) \
  '-D__GLIBC_PREREQ(a,b)=0' -D_GNU_SOURCE -Inative
LDFLAGS := -static -s -Wl,--gc-sections -Wl,-z,noexecstack -Wl,-z,relro -no-pie

objects_of = $(patsubst native/%.cc,$(OBJ)/%.o,$(shell native/sources $(1)))

programs := $(if $(shell native/sources monitor),$(OUT)/caisson-monitor) $(if $(shell native/sources oci),$(OUT)/caisson-oci) \
  $(if $(shell native/sources probe),$(OUT)/caisson-probe)

all: $(programs)

# native/musl: in the place of what musl has
libc := $(call objects_of,musl)
$(OUT)/caisson-monitor: $(call objects_of,monitor) $(libc) $(OBJ)/core.a
$(OUT)/caisson-oci: $(call objects_of,oci) $(libc) $(OBJ)/core.a
$(OUT)/caisson-probe: $(call objects_of,probe) $(libc) $(OBJ)/core.a
$(OUT)/caisson-witness: $(call objects_of,test/witness) $(OBJ)/core.a
$(programs) $(OUT)/caisson-witness:
	@echo "  LINK  $@"
	@$(MUSL_CC) $(LDFLAGS) -o $@ $^ -lgcc

# an archive: a program takes only the parts of core that it uses
$(OBJ)/core.a: $(call objects_of,core)
	@rm -f $@ && ar rcs $@ $^

$(OBJ)/%.o: native/%.cc
	@mkdir -p $(@D)
	@echo "  C++   $<"
	@$(CXX) $(CXXFLAGS) -MMD -MP -c -o $@ $<

$(OBJ)/core/build_id.o: native/core/build_id.inc

witness: $(OUT)/caisson-witness

.PHONY: all witness
-include $(shell find $(OBJ) -name '*.d' 2>/dev/null)
