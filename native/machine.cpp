// What the machine can do, and how its memory is kept: the instruction set of the kernels, the allocator.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "bindings.h"

namespace saccade {

namespace {

std::vector<const Kernels*> available() {
  std::vector<const Kernels*> found{&baseline::kernels};
#if defined(SACCADE_AVX2)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
    found.push_back(&avx2::kernels);
#endif
#if defined(SACCADE_AVX512)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
    found.push_back(&avx512::kernels);
#endif
  return found;
}

const Kernels* chosen = available().back();  // the widest

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* k : available()) names.push_back(k->name);
  return names;
}

void use_instruction_set(const std::string& name) {
  for (const Kernels* k : available())
    if (name == k->name) {
      chosen = k;
      return;
    }
  std::string known;
  for (const Kernels* k : available()) known += std::string(known.empty() ? "" : ", ") + k->name;
  throw std::invalid_argument("no kernels for " + name + " on this machine; there are " + known);
}

// Large tensors stay in the heap instead of going back to the system at every free, to be faulted in again page by page.
bool keep_memory() {
#if defined(__GLIBC__)
  return mallopt(M_MMAP_MAX, 0) && mallopt(M_TRIM_THRESHOLD, -1) && mallopt(M_TOP_PAD, 256 * MEGABYTE);
#else
  return false;
#endif
}

}  // namespace

const Kernels& chosen_kernels() { return *chosen; }

void bind_machine(nb::module_& m) {
  const char* given = std::getenv("SACCADE_ISA");
  std::string name = given ? given : "";
  // what only the engine tells apart
  if (name == "portable") name = "baseline";
#if defined(__aarch64__)
  if (name == "neon" || name == "neon_dot") name = "baseline";
#endif
  if (!name.empty()) use_instruction_set(name);
  m.def("keep_memory", &keep_memory);
  m.def("instruction_sets", &instruction_sets);
  m.def("instruction_set", [] { return std::string(chosen->name); });
  m.def("use_instruction_set", &use_instruction_set);
}

}  // namespace saccade
