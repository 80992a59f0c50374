// The instructions of the dense kernels in a loop of twelve chains without anything else: what the machine can do at most.
#include "neuron.h"
#include "isa.h"

namespace saccade::engine::SACCADE_ISA {
namespace {

#if defined(__AVX512VPOPCNTDQ__) && defined(__AVX512VBMI__) && defined(__AVX512VNNI__)

// Products of a weight and a spike that one pass of each loop stands for.
int64_t counts(int64_t times) {
  alignas(64) static const uint32_t data[64] = {};
  __m512i acc[12], w = _mm512_set1_epi32(static_cast<int32_t>(times));
  for (auto& a : acc) a = _mm512_setzero_si512();
  for (int64_t i = 0; i < times; i++)
#pragma GCC unroll 12
    for (int k = 0; k < 12; k++)
      asm volatile("vpandd %2%{1to16%}, %1, %%zmm31\n\tvpopcntd %%zmm31, %%zmm31\n\tvpaddd %%zmm31, %0, %0"
                   : "+v"(acc[k]) : "v"(w), "m"(data[k]) : "zmm31");
  return times * 12 * 512;
}
int64_t tables(int64_t times) {
  __m512i acc[12], w = _mm512_set1_epi8(1);
  for (auto& a : acc) a = _mm512_setzero_si512();
  for (int64_t i = 0; i < times; i++)
#pragma GCC unroll 12
    for (int k = 0; k < 12; k++)
      asm volatile("vpermb %1, %1, %%zmm31\n\tvpdpbusd %%zmm31, %1, %0" : "+v"(acc[k]) : "v"(w) : "zmm31");
  return times * 12 * 256;
}
// Rows of bytes added to sums of 16 bits: 32 products with a spike each.
int64_t events(int64_t times) {
  alignas(64) static const int8_t data[12 * 32] = {};
  __m512i acc[12];
  for (auto& a : acc) a = _mm512_setzero_si512();
  for (int64_t i = 0; i < times; i++)
#pragma GCC unroll 12
    for (int k = 0; k < 12; k++)
      asm volatile("vpmovsxbw %1, %%zmm31\n\tvpaddw %%zmm31, %0, %0"
                   : "+v"(acc[k]) : "m"(*reinterpret_cast<const char(*)[32]>(data + 32 * k)) : "zmm31");
  return times * 12 * 32;
}

#endif

}  // namespace

extern const Ceilings ceilings;
#if defined(__AVX512VPOPCNTDQ__) && defined(__AVX512VBMI__) && defined(__AVX512VNNI__)
const Ceilings ceilings{counts, tables, events};
#else
const Ceilings ceilings{nullptr, nullptr, nullptr};
#endif

}  // namespace saccade::engine::SACCADE_ISA
