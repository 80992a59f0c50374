// Which kernels this machine can run, and which of them are taken.
#include "isa.h"

#include <cstdlib>
#include <stdexcept>
#if defined(SACCADE_NEON_DOT) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace saccade::engine {

std::vector<const Kernels*> available() {
  std::vector<const Kernels*> found{&baseline::kernels};
#if defined(SACCADE_AVX2)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt"))
    found.push_back(&avx2::kernels);
#endif
#if defined(SACCADE_AVX512)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vpopcntdq"))
    found.push_back(&avx512::kernels);
#endif
#if defined(SACCADE_NEON)
  found.push_back(&neon::kernels);
#endif
#if defined(SACCADE_NEON_DOT) && defined(__linux__)
  if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) found.push_back(&neon_dot::kernels);
#elif defined(SACCADE_NEON_DOT) && defined(__APPLE__)
  found.push_back(&neon_dot::kernels);  // every one has them
#endif
  return found;
}

std::string name_of(const Kernels* kernels) { return kernels == &baseline::kernels ? "portable" : kernels->name; }

const Kernels* chosen(std::string name) {
  if (name.empty())
    if (const char* given = std::getenv("SACCADE_ISA")) name = given;
  if (name.empty()) return available().back();
  std::string known;
  for (const Kernels* k : available()) {
    const std::string its = name_of(k);
    if (name == its || (name == "baseline" && its == "portable")) return k;
    known += (known.empty() ? "" : ", ") + its;
  }
  throw std::invalid_argument("SACCADE_ISA: no engine for " + name + " on this machine; there are " + known);
}

}  // namespace saccade::engine
