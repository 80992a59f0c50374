// Vectors of the width of the instruction set, in the compiler's portable form, and the few operations that this form has no
// name for: with bytes that are shuffled (AVX2, NEON) kernels are written once over them. In an unnamed namespace, so that no
// function compiled for one instruction set is linked into another.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(SACCADE_NEON)
#include <arm_neon.h>
#endif

#ifndef SACCADE_ISA
#define SACCADE_ISA baseline
#endif

#define ALWAYS static inline __attribute__((always_inline))
#define ALWAYS_MEMBER inline __attribute__((always_inline))

#if (defined(__AVX2__) && !defined(__AVX512F__)) || defined(SACCADE_NEON)
#define SACCADE_SHUFFLES  // of bytes among 16; registers too narrow for what AVX-512 does at once
#endif

namespace saccade::engine {
namespace {

#if defined(__AVX512F__)
constexpr int WIDTH = 64;
#elif defined(__AVX2__)
constexpr int WIDTH = 32;
#else
constexpr int WIDTH = 16;
#endif
typedef int32_t Part __attribute__((vector_size(WIDTH)));
typedef int16_t Words __attribute__((vector_size(WIDTH)));
typedef int8_t Bytes8 __attribute__((vector_size(WIDTH)));
typedef uint8_t Counts __attribute__((vector_size(WIDTH / 4)));  // as many as a part has numbers

template <class V> ALWAYS V load_as(const void* from) { V x; std::memcpy(&x, from, sizeof x); return x; }

// Numbers of 16 outputs, or places, in as many registers as that takes.
struct alignas(64) Lanes {
  static constexpr int PARTS = 64 / WIDTH;
  Part at[PARTS];
};
template <class F> ALWAYS Lanes each_part(const F& f) {
  Lanes made;
#pragma GCC unroll 4
  for (int i = 0; i < Lanes::PARTS; i++) made.at[i] = f(i);
  return made;
}
ALWAYS Lanes load_lanes(const int32_t* from) { return each_part([&](int i) { return load_as<Part>(from + WIDTH / 4 * i); }); }
ALWAYS Lanes all_lanes(int32_t x) { return each_part([&](int) { return x - Part{}; }); }
ALWAYS Lanes operator+(const Lanes& a, const Lanes& b) { return each_part([&](int i) { return a.at[i] + b.at[i]; }); }
ALWAYS Lanes operator-(const Lanes& a, const Lanes& b) { return each_part([&](int i) { return a.at[i] - b.at[i]; }); }
ALWAYS Lanes operator*(const Lanes& a, const Lanes& b) { return each_part([&](int i) { return a.at[i] * b.at[i]; }); }
ALWAYS Lanes operator>>(const Lanes& a, int bits) { return each_part([&](int i) { return a.at[i] >> bits; }); }
ALWAYS Lanes operator<<(const Lanes& a, int bits) { return each_part([&](int i) { return a.at[i] << bits; }); }
ALWAYS Lanes most_of(const Lanes& a, const Lanes& b) {
  return each_part([&](int i) { return a.at[i] > b.at[i] ? a.at[i] : b.at[i]; });
}

// Comparisons are -1 where they hold.
ALWAYS Lanes reaches(const Lanes& a, const Lanes& b) { return each_part([&](int i) { return a.at[i] >= b.at[i]; }); }
ALWAYS Lanes choose(const Lanes& where, const Lanes& a, const Lanes& b) {
  return each_part([&](int i) { return (where.at[i] & a.at[i]) | (~where.at[i] & b.at[i]); });
}
ALWAYS Lanes operator&(const Lanes& a, const Lanes& b) { return each_part([&](int i) { return a.at[i] & b.at[i]; }); }

ALWAYS uint32_t bits_of(const Lanes& where) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask((__m512i)where.at[0]);
#elif defined(__AVX2__)
  const auto bits = [&](int i) { return static_cast<uint32_t>(_mm256_movemask_ps((__m256)where.at[i])); };
  return bits(0) | bits(1) << 8;
#elif defined(SACCADE_NEON)
  const auto pair = [&](int i) { return vuzp1q_u16((uint16x8_t)where.at[i], (uint16x8_t)where.at[i + 1]); };
  static const uint8_t numbers[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  const uint8x16_t bits = vandq_u8(vuzp1q_u8((uint8x16_t)pair(0), (uint8x16_t)pair(2)), vld1q_u8(numbers));
  return vaddv_u8(vget_low_u8(bits)) | static_cast<uint32_t>(vaddv_u8(vget_high_u8(bits))) << 8;
#else
  uint32_t bits = 0;
  for (int i = 0; i < Lanes::PARTS; i++)
    for (int k = 0; k < WIDTH / 4; k++) bits |= static_cast<uint32_t>(where.at[i][k] & 1) << (WIDTH / 4 * i + k);
  return bits;
#endif
}

#if defined(__AVX512F__)

ALWAYS void add_wide(Words* to, Bytes8 x) {
  to[0] += (Words)_mm512_cvtepi8_epi16(_mm512_castsi512_si256((__m512i)x));
  to[1] += (Words)_mm512_cvtepi8_epi16(_mm512_extracti64x4_epi64((__m512i)x, 1));
}
ALWAYS Lanes lanes_of(const Words* x, int k) {
  const __m512i words = (__m512i)x[k / 2];
  return {{(Part)_mm512_cvtepi16_epi32(k % 2 ? _mm512_extracti64x4_epi64(words, 1) : _mm512_castsi512_si256(words))}};
}

#elif defined(__AVX2__)

// Two registers of 16 bits += the bytes of one, in order.
ALWAYS void add_wide(Words* to, Bytes8 x) {
  to[0] += (Words)_mm256_cvtepi8_epi16(_mm256_castsi256_si128((__m256i)x));
  to[1] += (Words)_mm256_cvtepi8_epi16(_mm256_extracti128_si256((__m256i)x, 1));
}
// Numbers of 16 bits += 16 bytes that lie somewhere.
ALWAYS void add_sixteen(Words* to, const int8_t* from) { *to += (Words)_mm256_cvtepi8_epi16(load_as<__m128i>(from)); }
// The k-th 16 of numbers of 16 bits.
ALWAYS Lanes lanes_of(const Words* x, int k) {
  const __m256i words = (__m256i)x[k];
  return {{(Part)_mm256_cvtepi16_epi32(_mm256_castsi256_si128(words)),
      (Part)_mm256_cvtepi16_epi32(_mm256_extracti128_si256(words, 1))}};
}
// The entries of a table of 16, or 64, by their numbers.
ALWAYS Bytes8 look_up16(const void* table, Bytes8 numbers) {
  return (Bytes8)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(load_as<__m128i>(table)), (__m256i)numbers);
}
ALWAYS Bytes8 look_up64(const void* table, Bytes8 numbers) {
  Bytes8 found = {};
#pragma GCC unroll 4
  for (int q = 0; q < 4; q++)  // numbers outside give 0
    found |= look_up16(static_cast<const char*>(table) + 16 * q,
                       (Bytes8)_mm256_adds_epu8((__m256i)(numbers ^ static_cast<int8_t>(16 * q)), _mm256_set1_epi8(0x70)));
  return found;
}
// Bits of each byte that are set.
ALWAYS Bytes8 bits_set(Bytes8 x) {
  alignas(16) static const int8_t ones[16] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};
  const Bytes8 low = x & 15, high = (Bytes8)_mm256_srli_epi16((__m256i)x, 4) & 15;
  return look_up16(ones, low) + look_up16(ones, high);
}
// Numbers of 32 bits += the four bytes of each, none of which is negative.
ALWAYS Part add_fours(Part to, Bytes8 x) {
  const __m256i one = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
  return to + (Part)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)x, one), ones);
}

#elif defined(SACCADE_NEON)

ALWAYS void add_wide(Words* to, Bytes8 x) {
  to[0] = vaddw_s8(to[0], vget_low_s8(x));
  to[1] = vaddw_high_s8(to[1], x);
}
ALWAYS void add_sixteen(Words* to, const int8_t* from) { add_wide(to, load_as<Bytes8>(from)); }
ALWAYS Lanes lanes_of(const Words* x, int k) {
  return {{vmovl_s16(vget_low_s16(x[2 * k])), vmovl_high_s16(x[2 * k]), vmovl_s16(vget_low_s16(x[2 * k + 1])),
           vmovl_high_s16(x[2 * k + 1])}};
}
ALWAYS Bytes8 look_up16(const void* table, Bytes8 numbers) {
  return vqtbl1q_s8(load_as<int8x16_t>(table), (uint8x16_t)numbers);
}
ALWAYS Bytes8 look_up64(const void* table, Bytes8 numbers) {
  return vqtbl4q_s8(vld1q_s8_x4(static_cast<const int8_t*>(table)), (uint8x16_t)numbers);
}
ALWAYS Bytes8 bits_set(Bytes8 x) { return vcntq_s8(x); }
ALWAYS Part add_fours(Part to, Bytes8 x) {
  return (Part)vpadalq_u16((uint32x4_t)to, vpaddlq_u8((uint8x16_t)x));
}

#endif

}  // namespace
}  // namespace saccade::engine
