// Neurons at the end of a kernel: 16 outputs of a place at a step. In an unnamed namespace, so that no function compiled for
// one instruction set is linked into another.
#pragma once
#include "block.h"
#include "vectors.h"

namespace saccade::engine {
namespace {

// Spikes of 16 outputs from channel c on, whose sums are given; v: their potentials. 64-bit neurons keep potentials in v64.
ALWAYS uint32_t fire64(const Neuron& n, const int32_t* sums, int64_t c, int64_t* v64) {
  uint32_t spikes = 0;
  const int64_t half = (int64_t{1} << n.shift) >> 1;
  for (int64_t i = 0; i < 16; i++) {
    int64_t v = ((v64[c + i] * n.decay64[c + i] + half) >> n.shift) + n.factor64[c + i] * sums[i] + n.offset64[c + i];
    const bool fires = v >= n.threshold64[c + i];
    spikes |= static_cast<uint32_t>(fires) << i;
    if (n.reset == Neuron::HARD)
      v = fires ? n.amount64[c + i] : v;
    else if (n.reset == Neuron::SOFT)
      v -= fires ? n.amount64[c + i] : 0;
    v64[c + i] = v;
  }
  return spikes;
}

#if defined(__AVX512F__)

typedef __m512i Sixteen;
ALWAYS Sixteen sixteen_of(const Lanes& x) { return (__m512i)x.at[0]; }
ALWAYS Sixteen load16(const int32_t* p) { return _mm512_loadu_si512(p); }
ALWAYS void store16(int32_t* p, Sixteen x) { _mm512_storeu_si512(p, x); }
ALWAYS void store16(int32_t* p, Sixteen x, int64_t n) {
  _mm512_mask_storeu_epi32(p, n >= 16 ? __mmask16(-1) : __mmask16((1u << n) - 1), x);
}

ALWAYS uint32_t fire(const Neuron& n, Sixteen sum, int64_t c, int32_t* v, int64_t* v64) {
  if (n.kind == Neuron::THRESHOLD) return _mm512_cmpge_epi32_mask(sum, load16(n.threshold + c));
  if (n.kind == Neuron::POTENTIAL64) {
    // eight at a time
    uint32_t spikes = 0;
    const __m512i half = _mm512_set1_epi64((int64_t{1} << n.shift) >> 1);
    const __m128i shift = _mm_cvtsi32_si128(n.shift);
    for (int k = 0; k < 2; k++) {
      const int64_t at = c + 8 * k;
      const __m512i x = _mm512_cvtepi32_epi64(k ? _mm512_extracti64x4_epi64(sum, 1) : _mm512_castsi512_si256(sum));
      __m512i u = _mm512_mullo_epi64(_mm512_loadu_si512(v64 + at), _mm512_loadu_si512(n.decay64 + at));
      u = _mm512_sra_epi64(_mm512_add_epi64(u, half), shift);
      u = _mm512_add_epi64(u, _mm512_mullo_epi64(x, _mm512_loadu_si512(n.factor64 + at)));
      u = _mm512_add_epi64(u, _mm512_loadu_si512(n.offset64 + at));
      const __mmask8 fires = _mm512_cmpge_epi64_mask(u, _mm512_loadu_si512(n.threshold64 + at));
      if (n.reset == Neuron::HARD)
        u = _mm512_mask_loadu_epi64(u, fires, n.amount64 + at);
      else if (n.reset == Neuron::SOFT)
        u = _mm512_mask_sub_epi64(u, fires, u, _mm512_loadu_si512(n.amount64 + at));
      _mm512_storeu_si512(v64 + at, u);
      spikes |= static_cast<uint32_t>(fires) << (8 * k);
    }
    return spikes;
  }
  const __m512i half = _mm512_set1_epi32((1 << n.shift) >> 1);
  __m512i u = _mm512_sra_epi32(_mm512_add_epi32(load16(v + c), half), _mm_cvtsi32_si128(n.shift));
  u = _mm512_add_epi32(u, _mm512_sll_epi32(sum, _mm_cvtsi32_si128(n.bits)));
  u = _mm512_add_epi32(u, load16(n.offset + c));
  const __mmask16 fires = _mm512_cmpge_epi32_mask(u, load16(n.threshold + c));
  if (n.reset == Neuron::HARD)
    u = _mm512_mask_loadu_epi32(u, fires, n.amount + c);
  else if (n.reset == Neuron::SOFT)
    u = _mm512_mask_sub_epi32(u, fires, u, load16(n.amount + c));
  store16(v + c, u);
  return fires;
}

#else

struct Sixteen {
  int32_t at[16];
};
ALWAYS Sixteen load16(const int32_t* p) { Sixteen x; std::memcpy(&x, p, sizeof x); return x; }
ALWAYS void store16(int32_t* p, const Sixteen& x) { std::memcpy(p, &x, sizeof x); }
ALWAYS void store16(int32_t* p, const Sixteen& x, int64_t n) { std::memcpy(p, &x, 4 * (n < 16 ? n : 16)); }

ALWAYS Sixteen sixteen_of(const Lanes& x) { return load16(reinterpret_cast<const int32_t*>(&x)); }

ALWAYS uint32_t fire(const Neuron& n, const Sixteen& sum, int64_t c, int32_t* v, int64_t* v64) {
  if (n.kind == Neuron::POTENTIAL64) return fire64(n, sum.at, c, v64);
  const Lanes x = load_lanes(sum.at), threshold = load_lanes(n.threshold + c);
  if (n.kind == Neuron::THRESHOLD) return bits_of(reaches(x, threshold));
  const Lanes old = load_lanes(v + c) + all_lanes((1 << n.shift) >> 1);
  Lanes u = (old >> n.shift) + (x << n.bits) + load_lanes(n.offset + c);
  const Lanes fires = reaches(u, threshold);
  if (n.reset == Neuron::HARD) u = choose(fires, load_lanes(n.amount + c), u);
  if (n.reset == Neuron::SOFT) u = u - (fires & load_lanes(n.amount + c));
  std::memcpy(v + c, &u, sizeof u);
  return bits_of(fires);
}
#endif

// Potentials of a place: room for `padded_out` of 32 or 64 bits at the beginning of the scratch.
ALWAYS void rest(const Block& b, int32_t* v, int64_t place) {
  if (b.neuron.kind == Neuron::POTENTIAL) std::memset(v, 0, 4 * b.padded_out);
  if (b.neuron.kind == Neuron::POTENTIAL64) {
    if (b.state && !b.rest)
      std::memcpy(v, b.state + place * b.padded_out, 8 * b.padded_out);
    else
      std::memset(v, 0, 8 * b.padded_out);
  }
}
ALWAYS void keep(const Block& b, const int32_t* v, int64_t place) {
  if (b.state) std::memcpy(b.state + place * b.padded_out, v, 8 * b.padded_out);
}

// What the sums of 64 outputs of a place at a step become. Made once for a piece of work, so that what it reads stays in
// registers. FAST: potentials of 32 bits with a hard reset, without the questions.
template <bool FAST> struct Giver {
  const Block& b;
  const Neuron n;
  uint64_t* const y;
  const int64_t plane;
  const int32_t* const where;
  const bool pooled;
  const int32_t scale, base;

  explicit ALWAYS_MEMBER Giver(const Block& block)
      : b(block), n(block.neuron), y(block.y), plane(block.y_plane), where(block.where), pooled(block.pooled),
        scale(block.scale), base(block.base) {}

  ALWAYS_MEMBER Sixteen brought(Sixteen sum, int64_t ones) const {
    const int32_t more = static_cast<int32_t>(base * ones);
#if defined(__AVX512F__)
    return _mm512_add_epi32(_mm512_mullo_epi32(sum, _mm512_set1_epi32(scale)), _mm512_set1_epi32(more));
#else
    if (scale == 1 && base == 0) return sum;
    for (int i = 0; i < 16; i++) sum.at[i] = sum.at[i] * scale + more;
    return sum;
#endif
  }

  // ones: spikes that the outputs see.
  ALWAYS_MEMBER void operator()(const Sixteen* sums, int64_t ones, int64_t t, int64_t place, int64_t c, int32_t* v) const {
    uint64_t spikes = 0;
#if defined(__AVX512F__)
    if (FAST) {
      const __m512i half = _mm512_set1_epi32((1 << n.shift) >> 1);
      const __m128i shift = _mm_cvtsi32_si128(n.shift), bits = _mm_cvtsi32_si128(n.bits);
#pragma GCC unroll 4
      for (int k = 0; k < 4; k++) {
        const int64_t at = c + 16 * k;
        __m512i u = _mm512_sra_epi32(_mm512_add_epi32(load16(v + at), half), shift);
        u = _mm512_add_epi32(u, _mm512_sll_epi32(brought(sums[k], ones), bits));
        u = _mm512_add_epi32(u, load16(n.offset + at));
        const __mmask16 fires = _mm512_cmpge_epi32_mask(u, load16(n.threshold + at));
        store16(v + at, _mm512_mask_mov_epi32(u, fires, load16(n.amount + at)));
        spikes |= static_cast<uint64_t>(fires) << (16 * k);
      }
      put(spikes, t, place, c);
      return;
    }
#endif
    for (int k = 0; k < 4; k++) {
      const int64_t at = c + 16 * k;
      if (n.kind == Neuron::SUMS) {
        if (at < b.out)
          store16(b.sums + (t * b.out_height * b.out_width + place) * b.out + at, brought(sums[k], ones), b.out - at);
        continue;
      }
      spikes |= static_cast<uint64_t>(fire(n, brought(sums[k], ones), at, v, reinterpret_cast<int64_t*>(v))) << (16 * k);
    }
    if (n.kind != Neuron::SUMS) put(spikes, t, place, c);
  }

  ALWAYS_MEMBER void put(uint64_t spikes, int64_t t, int64_t place, int64_t c) const {
    uint64_t* to = y + t * plane + where[place] + c / 64;
    *to = pooled ? *to | spikes : spikes;
  }
};

// Calls f with the giver that fits.
template <class F> ALWAYS void with_giver(const Block& b, F&& f) {
#if defined(__AVX512F__)
  if (b.neuron.kind == Neuron::POTENTIAL && b.neuron.reset == Neuron::HARD) return f(Giver<true>(b));
#endif
  f(Giver<false>(b));
}

}  // namespace
}  // namespace saccade::engine
