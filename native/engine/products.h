// Products of bytes with the weights of 16 outputs, four channels at a time, as each instruction set has them. In an unnamed
// namespace, so that no function compiled for one instruction set is linked into another.
#pragma once
#include <type_traits>

#include "block.h"
#include "vectors.h"

namespace saccade::engine {
namespace {

ALWAYS uint32_t word_at(const uint8_t* x) { return load_as<uint32_t>(x); }

#if defined(__AVX512VNNI__)

// Products of bytes that are added to 32 bits at once.
struct Quads {
  static constexpr bool WIDENS = false;
  static constexpr int PLACES = 6, BLOCKS = 4;  // whose sums stay in registers
  static constexpr int64_t SIZE = 64, HIGH = 255;  // bytes of the weights of a word; the largest number of the input
  typedef __m512i Sums;
  typedef __m512i Input;
  static ALWAYS_MEMBER Sums zero() { return _mm512_setzero_si512(); }
  static ALWAYS_MEMBER Input spread(uint32_t word) { return _mm512_set1_epi32(static_cast<int32_t>(word)); }
  static ALWAYS_MEMBER void multiply(Sums& acc, Input x, const char* w) {
    acc = _mm512_dpbusd_epi32(acc, x, _mm512_loadu_si512(w));
  }
  static ALWAYS_MEMBER Lanes lanes(Sums acc) { return {{(Part)acc}}; }
};
typedef Quads Pairs;  // nothing is gained by products of 16 bits

#elif defined(__AVX2__)

// Products of bytes, of which two and then all are added in 16 bits: as many words as are proven to fit there.
struct Quads {
  static constexpr bool WIDENS = true;
  static constexpr int PLACES = 2, BLOCKS = 2;
  static constexpr int64_t SIZE = 64, HIGH = 255;
  struct Sums {
    __m256i low, high;
  };
  typedef __m256i Input;
  static ALWAYS_MEMBER Sums zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static ALWAYS_MEMBER Input spread(uint32_t word) { return _mm256_set1_epi32(static_cast<int32_t>(word)); }
  static ALWAYS_MEMBER void multiply(Sums& acc, Input x, const char* w) {
    acc.low = _mm256_add_epi16(acc.low, _mm256_maddubs_epi16(x, load_as<__m256i>(w)));
    acc.high = _mm256_add_epi16(acc.high, _mm256_maddubs_epi16(x, load_as<__m256i>(w + 32)));
  }
  static ALWAYS_MEMBER Lanes lanes(const Sums& acc) {
    const __m256i one = _mm256_set1_epi16(1);
    return {{(Part)_mm256_madd_epi16(acc.low, one), (Part)_mm256_madd_epi16(acc.high, one)}};
  }
};

// Products of 16 bits, of which two are added in 32.
struct Pairs {
  static constexpr bool WIDENS = false;
  static constexpr int PLACES = 2, BLOCKS = 2;
  static constexpr int64_t SIZE = 128, HIGH = 255;
  typedef Quads::Sums Sums;
  struct Input {
    __m256i one, two;
  };
  static ALWAYS_MEMBER Sums zero() { return Quads::zero(); }
  static ALWAYS_MEMBER Input spread(uint32_t word) {
    const __m256i x = _mm256_set1_epi32(static_cast<int32_t>(word));
    const auto pair =
        [](int a) { return _mm256_set1_epi32(static_cast<int32_t>(0x80008000u | static_cast<uint32_t>(a << 16 | (a - 1)))); };
    return {_mm256_shuffle_epi8(x, pair(1)), _mm256_shuffle_epi8(x, pair(3))};
  }
  static ALWAYS_MEMBER void multiply(Sums& acc, const Input& x, const char* w) {
    acc.low = _mm256_add_epi32(acc.low, _mm256_madd_epi16(x.one, load_as<__m256i>(w)));
    acc.high = _mm256_add_epi32(acc.high, _mm256_madd_epi16(x.one, load_as<__m256i>(w + 32)));
    acc.low = _mm256_add_epi32(acc.low, _mm256_madd_epi16(x.two, load_as<__m256i>(w + 64)));
    acc.high = _mm256_add_epi32(acc.high, _mm256_madd_epi16(x.two, load_as<__m256i>(w + 96)));
  }
  static ALWAYS_MEMBER Lanes lanes(const Sums& acc) { return {{(Part)acc.low, (Part)acc.high}}; }
};

#elif defined(SACCADE_NEON)

#if defined(__ARM_FEATURE_DOTPROD)

struct Quads {
  static constexpr bool WIDENS = false;
  static constexpr int PLACES = 6, BLOCKS = 1;
  static constexpr int64_t SIZE = 64, HIGH = 127;  // both numbers of a product have a sign
  typedef Lanes Sums;
  typedef int8x16_t Input;
  static ALWAYS_MEMBER Sums zero() { return {}; }
  static ALWAYS_MEMBER Input spread(uint32_t word) { return vreinterpretq_s8_u32(vdupq_n_u32(word)); }
  static ALWAYS_MEMBER void multiply(Sums& acc, Input x, const char* w) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) acc.at[k] = vdotq_s32(acc.at[k], load_as<int8x16_t>(w + 16 * k), x);
  }
  static ALWAYS_MEMBER Lanes lanes(const Sums& acc) { return acc; }
};

#else

// Products of bytes, each channel's added in 16 bits of its own: as many words as are proven to fit there.
struct Quads {
  static constexpr bool WIDENS = true;
  static constexpr int PLACES = 2, BLOCKS = 1;
  static constexpr int64_t SIZE = 64, HIGH = 127;
  struct Sums {
    int16x8_t at[8];
  };
  typedef int8x16_t Input;
  static ALWAYS_MEMBER Sums zero() { return {}; }
  static ALWAYS_MEMBER Input spread(uint32_t word) { return vreinterpretq_s8_u32(vdupq_n_u32(word)); }
  static ALWAYS_MEMBER void multiply(Sums& acc, Input x, const char* w) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
      const int8x16_t by = load_as<int8x16_t>(w + 16 * k);
      acc.at[2 * k] = vmlal_s8(acc.at[2 * k], vget_low_s8(by), vget_low_s8(x));
      acc.at[2 * k + 1] = vmlal_high_s8(acc.at[2 * k + 1], by, x);
    }
  }
  static ALWAYS_MEMBER Lanes lanes(const Sums& acc) {
    return each_part([&](int k) { return vpaddq_s32(vpaddlq_s16(acc.at[2 * k]), vpaddlq_s16(acc.at[2 * k + 1])); });
  }
};

#endif

// Products of 16 bits, each channel's of a pair added in 32 bits of its own.
struct Pairs {
  static constexpr bool WIDENS = false;
  static constexpr int PLACES = 2, BLOCKS = 1;
  static constexpr int64_t SIZE = 128, HIGH = 255;
  struct Sums {
    int32x4_t at[8];
  };
  struct Input {
    int16x8_t one, two;
  };
  static ALWAYS_MEMBER Sums zero() { return {}; }
  static ALWAYS_MEMBER Input spread(uint32_t word) {
    const int32x4_t x = vreinterpretq_s32_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(word))));
    return {vreinterpretq_s16_s32(vdupq_laneq_s32(x, 0)), vreinterpretq_s16_s32(vdupq_laneq_s32(x, 1))};
  }
  static ALWAYS_MEMBER void add(Sums& acc, int16x8_t x, const char* w) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
      const int16x8_t by = load_as<int16x8_t>(w + 16 * k);
      acc.at[2 * k] = vmlal_s16(acc.at[2 * k], vget_low_s16(by), vget_low_s16(x));
      acc.at[2 * k + 1] = vmlal_high_s16(acc.at[2 * k + 1], by, x);
    }
  }
  static ALWAYS_MEMBER void multiply(Sums& acc, const Input& x, const char* w) { add(acc, x.one, w), add(acc, x.two, w + 64); }
  static ALWAYS_MEMBER Lanes lanes(const Sums& acc) {
    return each_part([&](int k) { return vpaddq_s32(acc.at[2 * k], acc.at[2 * k + 1]); });
  }
};

#else

struct Pairs {
  static constexpr bool WIDENS = false;
  static constexpr int PLACES = 1, BLOCKS = 1;
  static constexpr int64_t SIZE = 128, HIGH = 255;
  struct Sums {
    int32_t at[16];
  };
  typedef uint32_t Input;
  static ALWAYS_MEMBER Sums zero() { return {}; }
  static ALWAYS_MEMBER Input spread(uint32_t word) { return word; }
  static ALWAYS_MEMBER void multiply(Sums& acc, uint32_t x, const char* w) {
    int16_t by[64];
    std::memcpy(by, w, sizeof by);
    const int32_t a = x & 255, b = x >> 8 & 255, c = x >> 16 & 255, d = x >> 24;
    for (int i = 0; i < 16; i++) acc.at[i] += a * by[2 * i] + b * by[2 * i + 1];
    for (int i = 0; i < 16; i++) acc.at[i] += c * by[32 + 2 * i] + d * by[33 + 2 * i];
  }
  static ALWAYS_MEMBER Lanes lanes(const Sums& acc) { return load_lanes(acc.at); }
};
typedef Pairs Quads;

#endif

template <class F> constexpr int digit_of() { return F::SIZE == 64 ? 8 : 15; }  // bits of a digit of a weight

// acc += products of n words of each place with the weights of its blocks, which lie `stride` bytes apart.
template <class F, int P, int NB>
ALWAYS void add_words(typename F::Sums (&acc)[P][NB], const uint8_t* const (&x)[P], int64_t at, int64_t n, const char* w,
                      int64_t stride) {
  for (int64_t g = 0; g < n; g++, w += F::SIZE)
#pragma GCC unroll 8
    for (int p = 0; p < P; p++) {
      const typename F::Input by = F::spread(word_at(x[p] + at + 4 * g));
#pragma GCC unroll 4
      for (int b = 0; b < NB; b++) F::multiply(acc[p][b], by, w + b * stride);
    }
}

// How many blocks of 16 outputs go together, if `most` may and `left` are left.
ALWAYS int64_t blocks_of(int64_t most, int64_t left) {
  if (left % most && left % (most - 1 ? most - 1 : 1) == 0 && left > most) return most - 1;
  return left < most ? left : most;
}

// Calls f with the products that a layer takes, and how many digits its weights have, as types.
template <class F> ALWAYS void with_form(const Dense& l, const F& f) {
  const auto form = [&](auto products) {
    if (l.digits == 1) return f(products, std::integral_constant<int, 1>{});
    if (l.digits == 2) return f(products, std::integral_constant<int, 2>{});
    if (l.digits == 3) return f(products, std::integral_constant<int, 3>{});
    f(products, std::integral_constant<int, 4>{});
  };
  l.pairs ? form(Pairs{}) : form(Quads{});
}

// Calls run with how many blocks of 16 outputs go together, as a type, and the first output of each such run. ALONE: one.
template <class F, bool ALONE, class Run> ALWAYS void each_blocks(const Dense& l, const Run& run) {
  constexpr int MOST = ALONE ? 1 : F::BLOCKS;
  for (int64_t c = 0; c < l.padded_out;) {
    const int64_t blocks = blocks_of(MOST, (l.padded_out - c) / 16);
    if (blocks == 4) run(std::integral_constant<int, MOST < 4 ? 1 : 4>{}, c);
    else if (blocks == 3) run(std::integral_constant<int, MOST < 3 ? 1 : 3>{}, c);
    else if (blocks == 2) run(std::integral_constant<int, MOST < 2 ? 1 : 2>{}, c);
    else run(std::integral_constant<int, 1>{}, c);
    c += 16 * blocks;
  }
}

ALWAYS void put_sums(const Lanes& sums, int32_t* to, int64_t c, int64_t out) {
  if (c < out) std::memcpy(to + c, &sums, out - c < 16 ? 4 * (out - c) : sizeof sums);
}

// How many of the thresholds [levels][padded] the sums reach.
ALWAYS Lanes level_of(const Lanes& sums, const int32_t* thresholds, int64_t padded, int64_t levels) {
#if defined(__AVX512F__)
  const __m512i x = (__m512i)sums.at[0], one = _mm512_set1_epi32(1);
  __m512i level = _mm512_setzero_si512();
  for (int64_t d = 0; d < levels; d++)
    level = _mm512_mask_add_epi32(level, _mm512_cmpge_epi32_mask(x, _mm512_loadu_si512(thresholds + d * padded)), level, one);
  return {{(Part)level}};
#else
  Lanes level = {};
  for (int64_t d = 0; d < levels; d++, thresholds += padded)
    level = each_part([&](int i) { return level.at[i] - (sums.at[i] >= load_as<Part>(thresholds + WIDTH / 4 * i)); });
  return level;
#endif
}

ALWAYS void put_counts(const Lanes& level, uint8_t* to) {
#if defined(__AVX512F__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8((__m512i)level.at[0]));
#elif defined(__AVX2__)
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)level.at[0], (__m256i)level.at[1]), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
#elif defined(SACCADE_NEON)
  const auto pair = [&](int i) { return vcombine_s16(vmovn_s32(level.at[i]), vmovn_s32(level.at[i + 1])); };
  vst1q_s8(reinterpret_cast<int8_t*>(to), vcombine_s8(vmovn_s16(pair(0)), vmovn_s16(pair(2))));
#else
#pragma GCC unroll 4
  for (int i = 0; i < Lanes::PARTS; i++) {
    const Counts bytes = __builtin_convertvector(level.at[i], Counts);
    std::memcpy(to + WIDTH / 4 * i, &bytes, sizeof bytes);
  }
#endif
}

// Is a sum without its lowest digits right below a threshold?
ALWAYS bool near(const Lanes& sums, const int32_t* thresholds, int64_t padded, int64_t levels) {
#if defined(__AVX512F__)
  __mmask16 hit = 0;
  const __m512i next = _mm512_add_epi32((__m512i)sums.at[0], _mm512_set1_epi32(1));
  for (int64_t d = 0; d < levels; d++) hit |= _mm512_cmpeq_epi32_mask(next, _mm512_loadu_si512(thresholds + d * padded));
  return hit != 0;
#else
  Part hit = {};
  for (int64_t d = 0; d < levels; d++, thresholds += padded)
#pragma GCC unroll 4
    for (int i = 0; i < Lanes::PARTS; i++) hit |= sums.at[i] == load_as<Part>(thresholds + WIDTH / 4 * i) - 1;
  uint64_t words[WIDTH / 8], any = 0;
  std::memcpy(words, &hit, sizeof words);
  for (uint64_t word : words) any |= word;
  return any != 0;
#endif
}

// Levels of n sums of 64 bits; rare, and not inlined.
template <class F>
__attribute__((noinline)) void exact_levels(int n, const F& sum_of, const int64_t* thresholds, int64_t padded, int64_t levels,
                                            uint8_t* to) {
  for (int i = 0; i < n; i++) {
    const int64_t sum = sum_of(i);
    to[i] = 0;
    for (int64_t d = 0; d < levels; d++) to[i] = static_cast<uint8_t>(to[i] + (sum >= thresholds[d * padded + i]));
  }
}

}  // namespace
}  // namespace saccade::engine
