// The instructions of the dense kernels in a loop of twelve chains without anything else: what the machine can do at most.
#include "neuron.h"
#include "isa.h"

namespace saccade::engine::SACCADE_ISA {
namespace {

#if defined(__AVX512VPOPCNTDQ__) && defined(__AVX512VBMI__) && defined(__AVX512VNNI__)

// Twelve registers by name: an array of them would lie in memory, and its stores be all that is timed.
#define EACH(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11)
#define DECLARE(k) __m512i acc##k = _mm512_setzero_si512();

// Products of a weight and a spike that one pass of each loop stands for.
int64_t counts(int64_t times) {
  alignas(64) static const uint32_t data[64] = {};
  const __m512i w = _mm512_set1_epi32(static_cast<int32_t>(times));
  EACH(DECLARE)
  for (int64_t i = 0; i < times; i++) {
#define COUNT(k)                                                                                         \
  asm volatile("vpandd %2%{1to16%}, %1, %%zmm31\n\tvpopcntd %%zmm31, %%zmm31\n\tvpaddd %%zmm31, %0, %0" \
               : "+v"(acc##k) : "v"(w), "m"(data[k]) : "zmm31");
    EACH(COUNT)
  }
  return times * 12 * 512;
}
int64_t tables(int64_t times) {
  const __m512i w = _mm512_set1_epi8(1);
  EACH(DECLARE)
  for (int64_t i = 0; i < times; i++) {
#define LOOK_UP(k) asm volatile("vpermb %1, %1, %%zmm31\n\tvpdpbusd %%zmm31, %1, %0" : "+v"(acc##k) : "v"(w) : "zmm31");
    EACH(LOOK_UP)
  }
  return times * 12 * 256;
}
// Rows of bytes added to sums of 16 bits: 32 products with a spike each.
int64_t events(int64_t times) {
  alignas(64) static const int8_t data[12 * 32] = {};
  EACH(DECLARE)
  for (int64_t i = 0; i < times; i++) {
#define ADD_ROW(k)                                                                         \
  asm volatile("vpmovsxbw %1, %%zmm31\n\tvpaddw %%zmm31, %0, %0"                           \
               : "+v"(acc##k) : "m"(*reinterpret_cast<const char(*)[32]>(data + 32 * k)) : "zmm31");
    EACH(ADD_ROW)
  }
  return times * 12 * 32;
}
// Products of bytes, of which four are added to a sum of 32 bits.
int64_t products(int64_t times) {
  const __m512i w = _mm512_set1_epi8(1);
  EACH(DECLARE)
  for (int64_t i = 0; i < times; i++) {
#define MULTIPLY(k) asm volatile("vpdpbusd %1, %1, %0" : "+v"(acc##k) : "v"(w));
    EACH(MULTIPLY)
  }
  return times * 12 * 64;
}

#endif

}  // namespace

extern const Ceilings ceilings;
#if defined(__AVX512VPOPCNTDQ__) && defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
const Ceilings ceilings{counts, tables, events, products};
#else
const Ceilings ceilings{nullptr, nullptr, nullptr, nullptr};
#endif

}  // namespace saccade::engine::SACCADE_ISA
