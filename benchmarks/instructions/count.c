/* A plugin of qemu-user: how many instructions of the guest ran, by function of its symbol table, printed at the end.
 *
 * Its interface is declared here as far as it is used (version 1), since the header is not installed with the emulator.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*translated)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*ended)(qemu_plugin_id_t, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int add, void *to, uint64_t number);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, ended, void *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

struct function {
  const char *name;
  uint64_t count;
  struct function *next;
};
static struct function *functions;

static void on_block(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
  const char *name = qemu_plugin_insn_symbol(qemu_plugin_tb_get_insn(block, 0));
  struct function *f = functions;
  if (!name) name = "?";
  while (f && strcmp(f->name, name)) f = f->next;
  if (!f) {
    f = calloc(1, sizeof *f);
    f->name = strdup(name), f->next = functions, functions = f;
  }
  qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &f->count, qemu_plugin_tb_n_insns(block));
}

static void on_end(qemu_plugin_id_t id, void *data) {
  for (struct function *f = functions; f; f = f->next) fprintf(stderr, "%" PRIu64 " %s\n", f->count, f->name);
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int count, char **given) {
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
  qemu_plugin_register_atexit_cb(id, on_end, NULL);
  return 0;
}
