// Vectors of float of the width of the instruction set, in the compiler's portable form. Included by kernels only: everything
// is in an unnamed namespace, so that no function compiled for one instruction set is linked into another.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float V __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
typedef uint32_t U __attribute__((vector_size(4 * W)));
typedef uint16_t H __attribute__((vector_size(2 * W)));

#define ALWAYS static inline __attribute__((always_inline))
#define ALWAYS_MEMBER inline __attribute__((always_inline))

ALWAYS V all(float a) { return a - V{}; }  // minus: keeps the sign of a zero
ALWAYS V load(const float* p) { V v; std::memcpy(&v, p, sizeof v); return v; }
ALWAYS void store(float* p, V v) { std::memcpy(p, &v, sizeof v); }
ALWAYS V load_part(const float* p, int64_t n) { V v{}; std::memcpy(&v, p, n * sizeof(float)); return v; }
ALWAYS void store_part(float* p, V v, int64_t n) { std::memcpy(p, &v, n * sizeof(float)); }

// a * b + c, rounded once where the machine can: for gradients only, never for potentials.
ALWAYS V multiply_add(V a, V b, V c) {
#if defined(__AVX512F__)
  return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

// A store past the cache; p is aligned to the vector.
ALWAYS void stream(float* p, V v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX2__)
  _mm256_stream_ps(p, (__m256)v);
#elif defined(__x86_64__)
  _mm_stream_ps(p, (__m128)v);
#else
  store(p, v);
#endif
}

// The same for half as many bytes.
ALWAYS void stream(uint16_t* p, H h) {
#if defined(__AVX512F__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)h);
#elif defined(__AVX2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)h);
#else
  std::memcpy(p, &h, sizeof h);
#endif
}

ALWAYS void fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Elements before p is aligned to a vector of them, at most n.
template <class E> ALWAYS int64_t unaligned(const E* p, int64_t n) {
  int64_t head = (-(reinterpret_cast<intptr_t>(p) / static_cast<intptr_t>(sizeof(E)))) & (W - 1);
  return head < n ? head : n;
}

// 1/y for y > 1e-6 to about 1e-7 relative: the estimate of the machine and a Newton step. NaN stays NaN.
ALWAYS V reciprocal(V y) {
#if defined(__x86_64__)
  // an infinite y would turn the Newton step into NaN; the minimum with NaN as second operand is NaN
#if defined(__AVX512F__)
  y = (V)_mm512_min_ps((__m512)all(1e30f), (__m512)y);
  const V r = (V)_mm512_rcp14_ps((__m512)y);
#elif defined(__AVX2__)
  y = (V)_mm256_min_ps((__m256)all(1e30f), (__m256)y);
  const V r = (V)_mm256_rcp_ps((__m256)y);
#else
  y = (V)_mm_min_ps((__m128)all(1e30f), (__m128)y);
  const V r = (V)_mm_rcp_ps((__m128)y);
#endif
  return r * multiply_add(-y, r, all(2.f));
#else
  return 1.f / y;
#endif
}

// e^x to about 1e-7 relative, x clamped to [-87, 87]; NaN stays NaN. Range reduction to |r| <= ln2/2, then the Taylor
// polynomial of degree 7.
ALWAYS V exponential(V x) {
  x = x > 87.f ? all(87.f) : x;
  x = x < -87.f ? all(-87.f) : x;
  const V shifted = x * 1.44269504f + 12582912.f;  // 1.5 * 2^23: rounds to the nearest integer
  const V n = shifted - 12582912.f;
  const V r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  V p = all(1.f / 5040);
  p = p * r + 1.f / 720;
  p = p * r + 1.f / 120;
  p = p * r + 1.f / 24;
  p = p * r + 1.f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.f;
  p = p * r + 1.f;
  const I exponent = (((I)shifted) << 23);  // the integer sits in the low bits of the shifted number
  return (V)((I)p + exponent);
}

ALWAYS V from_bfloat16(H h) { return (V)(__builtin_convertvector(h, U) << 16); }

ALWAYS H to_bfloat16(V v) {
  const U bits = (U)v;
  const U rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;  // to nearest, ties to even
  const U nan = (bits >> 16) | 0x40u;
  return __builtin_convertvector((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded, H);
}

#if defined(__F16C__)
ALWAYS V from_float16(H h) {
#if defined(__AVX512F__)
  return (V)_mm512_cvtph_ps((__m256i)h);
#else
  return (V)_mm256_cvtph_ps((__m128i)h);
#endif
}
ALWAYS H to_float16(V v) {
#if defined(__AVX512F__)
  return (H)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT);
#else
  return (H)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT);
#endif
}
#else
// By arithmetic: a half is a float whose exponent is 112 too small, subnormals included.
ALWAYS V from_float16(H h) {
  const U bits = __builtin_convertvector(h, U);
  const U sign = (bits & 0x8000u) << 16;
  const U body = (bits & 0x7fffu) << 13;
  const V scaled = (V)body * 0x1p112f;
  const U special = body | 0x7f800000u;  // infinities and NaN
  return (V)(((bits & 0x7c00u) == 0x7c00u ? special : (U)scaled) | sign);
}
ALWAYS H to_float16(V v) {
  const U bits = (U)v;
  const U sign = (bits >> 16) & 0x8000u;
  const U magnitude = bits & 0x7fffffffu;
  const U normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const U subnormal = (U)((V)magnitude + 0.5f) - 0x3f000000u;  // adding one half rounds to units of 2^-24
  U half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x477ff000u ? U{} + 0x7c00u : half;
  half = magnitude > 0x7f800000u ? (magnitude >> 13 & 0x3ffu) | 0x7e00u : half;
  return __builtin_convertvector(half | sign, H);
}
#endif

// Numbers that rows read and write themselves beside floats; those of float16 pass through rows of floats.
struct Bfloat16 {
  uint16_t bits;
};

// n elements at i; a whole vector has n == W. aligned: p + i is, so that it can be written past the cache.
ALWAYS V read(const float* p, int64_t i, int64_t n) { return n == W ? load(p + i) : load_part(p + i, n); }
ALWAYS V read(const Bfloat16* p, int64_t i, int64_t n) {
  H h{};
  if (n == W) std::memcpy(&h, p + i, sizeof h);
  else std::memcpy(&h, p + i, n * sizeof *p);
  return from_bfloat16(h);
}
ALWAYS void write(float* p, int64_t i, int64_t n, V v, bool aligned = false) {
  if (n < W) store_part(p + i, v, n);
  else if (aligned) stream(p + i, v);
  else store(p + i, v);
}
ALWAYS void write_bits(Bfloat16* p, int64_t i, int64_t n, H h, bool aligned) {
  if (n < W) std::memcpy(p + i, &h, n * sizeof *p);
  else if (aligned) stream(&p[i].bits, h);
  else std::memcpy(p + i, &h, sizeof h);
}
ALWAYS void write(Bfloat16* p, int64_t i, int64_t n, V v, bool aligned = false) { write_bits(p, i, n, to_bfloat16(v), aligned); }

}  // namespace
