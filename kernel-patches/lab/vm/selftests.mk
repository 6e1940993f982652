# The kernel's own selftests for struct_ops and tcp congestion control, from the
# tree under test, as one static test_progs, and those of HID-BPF. The tree's
# Makefiles build all selftests or none; this takes the files that the chosen
# ones need.

# make knows how to link a vmlinux, and must not
MAKEFLAGS += --no-builtin-rules

MAKEFILE  := $(firstword $(MAKEFILE_LIST))
SELFTESTS := $(TREE)/tools/testing/selftests/bpf
NAMES	  := bpf_cookie bpf_tcp_ca bad_struct_ops struct_ops_autocreate test_struct_ops_maybe_null \
	     test_struct_ops_module test_struct_ops_multi_pages test_struct_ops_cookie \
	     test_struct_ops_assoc
TESTS	  := $(wildcard $(NAMES:%=$(SELFTESTS)/prog_tests/%.c))
HID	  := $(TREE)/tools/testing/selftests/hid
HELPERS	  := test_progs cgroup_helpers trace_helpers network_helpers testing_helpers btf_helpers \
	     cap_helpers unpriv_helpers netlink_helpers jit_disasm_helpers test_loader disasm \
	     disasm_helpers json_writer
SKELETONS := $(sort $(shell sed -n 's/^\#include "\(.*\.skel\.h\)"/\1/p' $(TESTS)))
OBJECTS	  := $(patsubst $(SELFTESTS)/prog_tests/%.c,%.test.o,$(TESTS)) $(HELPERS:%=%.helper.o) \
	     standins.o

CFLAGS	  := -g -O1 -w -D_GNU_SOURCE -I. -I$(SELFTESTS) -I$(TREE)/tools/testing/selftests \
	     -I$(LIBBPF)/include -I$(TREE)/include/generated -I$(TREE)/tools/lib \
	     -I$(TREE)/tools/include -I$(TREE)/tools/arch/x86/include -I$(UAPI)
BPFFLAGS  := -g -O2 -w --target=bpf -mcpu=v3 -std=gnu11 -fno-strict-aliasing -D__TARGET_ARCH_x86 \
	     -DENABLE_ATOMICS_TESTS -I. -I$(SELFTESTS) -I$(SELFTESTS)/progs -I$(LIBBPF)/include \
	     -I$(UAPI) -idirafter $(shell $(CLANG) -print-resource-dir)/include \
	     -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include

all: test_progs hid_bpf

test_progs: $(OBJECTS)
	$(CC) -static -o $@ $^ $(LIBBPF)/libbpf.a -lelf -lz -lrt -lpthread
	strip -g $@

prog_tests/tests.h: $(TESTS)
	mkdir -p prog_tests
	sed -n -E 's/^void (serial_)?test_([a-zA-Z0-9_]+)\((void)?\).*/DEFINE_TEST(\2)/p' $^ > $@

%.selftest.bpf.o: $(SELFTESTS)/progs/%.c vmlinux.h $(MAKEFILE)
	$(CLANG) $(BPFFLAGS) -c $< -o $@

hid.selftest.bpf.o: $(HID)/progs/hid.c vmlinux.h $(MAKEFILE)
	$(CLANG) $(BPFFLAGS) -DBPF_NO_KFUNC_PROTOTYPES -I$(HID)/progs -c $< -o $@

hid_bpf: $(HID)/hid_bpf.c hid.skel.h $(MAKEFILE)
	$(CC) $(CFLAGS) -I$(HID) -static -o $@ $< $(LIBBPF)/libbpf.a -lelf -lz -lpthread
	strip $@

%.skel.h: %.selftest.bpf.o
	$(BPFTOOL) gen skeleton $< name $* > $@.new
	mv $@.new $@

# the lab's kernels have no IPv6, and it does not matter to what is tested
%.test.o: $(SELFTESTS)/prog_tests/%.c $(SKELETONS) $(MAKEFILE)
	sed 's/AF_INET6/AF_INET/; s/"::1"/"127.0.0.1"/' $< > $*.test.c
	$(CC) $(CFLAGS) -I$(SELFTESTS)/prog_tests -c $*.test.c -o $@

# nor have they keys, which the tests that load signed programs want
verification_cert.h:
	echo 'unsigned char test_progs_verification_cert[1];' > $@
	echo 'unsigned int test_progs_verification_cert_len;' >> $@

test_progs.helper.o: $(SELFTESTS)/test_progs.c prog_tests/tests.h verification_cert.h $(MAKEFILE)
	sed 's/= register_session_key(/= 0 \& register_session_key(/' $< > test_progs.helper.c
	$(CC) $(CFLAGS) -c test_progs.helper.c -o $@

standins.o: $(dir $(MAKEFILE))selftests.c $(MAKEFILE)
	$(CC) $(CFLAGS) -c $< -o $@

%.helper.o: $(SELFTESTS)/%.c prog_tests/tests.h $(MAKEFILE)
	$(CC) $(CFLAGS) -c $< -o $@

.SECONDARY:
.DELETE_ON_ERROR:
