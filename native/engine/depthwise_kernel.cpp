// Convolutions in which each channel has a filter of its own: some channels at once, and some places, whose inputs are read
// once for all taps. Nothing is laid out before: places whose filter reaches beyond the map leave out what lies there.
#include "isa.h"
#include "vectors.h"

namespace saccade::engine::SACCADE_ISA {
namespace {

constexpr int64_t PLACES = 4;

template <class T, int N> struct Vector {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};

// N numbers in a wider type. Compilers widen bytes one by one where the instructions are not named.
template <class X, class A, int N> ALWAYS typename Vector<A, N>::type read(const X* from) {
  typedef typename Vector<A, N>::type V;
#if defined(SACCADE_NEON)
  if constexpr (N == 4 && sizeof(X) == 1 && sizeof(A) == 4)
    return (V)vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(load_as<uint32_t>(from))))));
#endif
  typename Vector<X, N>::type x;
  std::memcpy(&x, from, sizeof x);
#if defined(__AVX512F__)
  if constexpr (N == 16 && sizeof(X) == 1) return (V)_mm512_cvtepu8_epi32((__m128i)x);
  else if constexpr (N == 16 && sizeof(X) == 2) return (V)_mm512_cvtepi16_epi32((__m256i)x);
  else if constexpr (N == 8 && sizeof(X) == 4 && sizeof(A) == 8) return (V)_mm512_cvtepi32_epi64((__m256i)x);
  else if constexpr (N == 8 && sizeof(X) == 2 && sizeof(A) == 8) return (V)_mm512_cvtepi16_epi64((__m128i)x);
  else if constexpr (N == 8 && sizeof(X) == 1 && sizeof(A) == 8)
    return (V)_mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  else
#endif
#if defined(__AVX2__)
  if constexpr (N == 8 && sizeof(X) == 1 && sizeof(A) == 4)
    return (V)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  else if constexpr (N == 8 && sizeof(X) == 2 && sizeof(A) == 4) return (V)_mm256_cvtepi16_epi32((__m128i)x);
  else if constexpr (N == 4 && sizeof(X) == 4 && sizeof(A) == 8) return (V)_mm256_cvtepi32_epi64((__m128i)x);
  else
#endif
    return __builtin_convertvector(x, V);
}

// The part of a filter's row or column that lies on a map of n places, if its first tap lies at `first`.
struct Taps {
  int64_t begin, end;
};
ALWAYS Taps inside(int64_t first, int64_t taps, int64_t dilation, int64_t n) {
  const int64_t begin = first < 0 ? (-first + dilation - 1) / dilation : 0;
  const int64_t end = first >= n ? 0 : (n - 1 - first) / dilation + 1;
  return {begin, end < taps ? end : taps};
}

// N channels of a place; taps of any number.
template <class X, class A, int N>
ALWAYS void place_of(const RowsJob& j, const X* x, const A* weights, A* y, int64_t top, int64_t left, Taps down) {
  typedef typename Vector<A, N>::type V;
  const int64_t channels = j.groups;
  const Taps across = inside(left, j.kernel_x, j.dilation_x, j.width);
  V sum = {};
  for (int64_t ky = down.begin; ky < down.end; ky++) {
    const X* row = x + (top + ky * j.dilation_y) * j.row + left * j.place;
    const A* w = weights + ky * j.kernel_x * channels;
    for (int64_t kx = across.begin; kx < across.end; kx++)
      sum += read<A, A, N>(w + kx * channels) * read<X, A, N>(row + kx * j.dilation_x * j.place);
  }
  std::memcpy(y, &sum, sizeof sum);
}

// N channels of PLACES places, all of whose columns of K taps lie on the map.
template <class X, class A, int N, int K, int S>
ALWAYS void places_of(const RowsJob& j, const X* x, const A* weights, A* y, int64_t top, int64_t left, Taps down) {
  typedef typename Vector<A, N>::type V;
  const int64_t channels = j.groups;
  V sums[PLACES] = {};
  for (int64_t ky = down.begin; ky < down.end; ky++) {
    const X* row = x + (top + ky * j.dilation_y) * j.row + left * j.place;
    V w[K];
#pragma GCC unroll 8
    for (int k = 0; k < K; k++) w[k] = read<A, A, N>(weights + (ky * K + k) * channels);
#pragma GCC unroll 16
    for (int i = 0; i < (PLACES - 1) * S + K; i++) {
      const V value = read<X, A, N>(row + i * j.place);
#pragma GCC unroll 4
      for (int p = 0; p < PLACES; p++)
        if (i - p * S >= 0 && i - p * S < K) sums[p] += w[i - p * S] * value;
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < PLACES; p++) std::memcpy(y + p * channels, &sums[p], sizeof(V));
}

// N channels of some places of a row. K 0: taps of any number.
template <class X, class A, int N, int K, int S>
ALWAYS void row_of(const RowsJob& j, const X* x, const A* weights, A* y, int64_t oy, int64_t begin, int64_t end) {
  const int64_t top = oy * j.stride_y - j.pad_y;
  const Taps down = inside(top, j.kernel_y, j.dilation_y, j.height);
  const auto left = [&](int64_t ox) { return ox * j.stride_x - j.pad_x; };
  int64_t ox = begin;
  const auto one = [&] {
    place_of<X, A, N>(j, x, weights, y + (oy * j.out_width + ox) * j.groups, top, left(ox), down);
    ox++;
  };
  if constexpr (K > 0) {
    while (ox < end && left(ox) < 0) one();
    int64_t whole = ox;  // the first place whose columns are not all on the map
    while (whole < end && left(whole) + K <= j.width) whole++;
    if (whole - ox >= PLACES)
      for (int64_t from = ox; ox < whole; from += PLACES, ox += PLACES) {
        if (from > whole - PLACES) from = whole - PLACES;  // some of them once more
        places_of<X, A, N, K, S>(j, x, weights, y + (oy * j.out_width + from) * j.groups, top, left(from), down);
      }
    if (ox > whole) ox = whole;
  }
  while (ox < end) one();
}

// Channels from `c` on that whole vectors hold; the last vector may begin again within the one before.
template <class X, class A, int N, int K, int S> void channels_of(const RowsJob& j, int64_t first, int64_t last) {
  for (int64_t at = first; at < last;) {
    const int64_t oy = at / j.out_width, begin = at % j.out_width;
    const int64_t end = begin + last - at < j.out_width ? begin + last - at : j.out_width;
    for (int64_t c = 0; c < j.groups; c += N) {
      if (c > j.groups - N) c = j.groups - N;
      row_of<X, A, N, K, S>(j, static_cast<const X*>(j.x) + c, static_cast<const A*>(j.weights) + c, static_cast<A*>(j.y) + c,
                            oy, begin, end);
    }
    at += end - begin;
  }
}

template <class X, class A> void any(const RowsJob& j, int64_t first, int64_t last) {
  constexpr int MOST = WIDTH / static_cast<int>(sizeof(A));
  if (j.groups >= MOST) return channels_of<X, A, MOST, 0, 1>(j, first, last);
  if (j.groups >= 8 && MOST > 8) return channels_of<X, A, MOST < 8 ? 1 : 8, 0, 1>(j, first, last);
  if (j.groups >= 4 && MOST > 4) return channels_of<X, A, MOST < 4 ? 1 : 4, 0, 1>(j, first, last);
  channels_of<X, A, 1, 0, 1>(j, first, last);
}

template <class X> void narrow(const RowsJob& j, int64_t first, int64_t last) {
  constexpr int N = WIDTH / 4;
  const bool square = j.groups >= N && j.dilation_x == 1 && (j.stride_x == 1 || j.stride_x == 2);
  const int64_t known = square ? 10 * j.kernel_x + j.stride_x : 0;
  switch (known) {
    case 31: return channels_of<X, int32_t, N, 3, 1>(j, first, last);
    case 32: return channels_of<X, int32_t, N, 3, 2>(j, first, last);
    case 51: return channels_of<X, int32_t, N, 5, 1>(j, first, last);
    case 52: return channels_of<X, int32_t, N, 5, 2>(j, first, last);
    case 71: return channels_of<X, int32_t, N, 7, 1>(j, first, last);
    case 72: return channels_of<X, int32_t, N, 7, 2>(j, first, last);
    default: return any<X, int32_t>(j, first, last);
  }
}

void run(const RowsJob& j, int64_t first, int64_t last) {
  switch (j.type) {
    case Type::u8: return j.wide ? any<uint8_t, int64_t>(j, first, last) : narrow<uint8_t>(j, first, last);
    case Type::i16: return j.wide ? any<int16_t, int64_t>(j, first, last) : narrow<int16_t>(j, first, last);
    case Type::i32: return j.wide ? any<int32_t, int64_t>(j, first, last) : narrow<int32_t>(j, first, last);
    default: return j.wide ? any<int64_t, int64_t>(j, first, last) : any<int64_t, int32_t>(j, first, last);
  }
}

}  // namespace

using Rows = void (*)(const RowsJob&, int64_t first, int64_t last);
extern const Rows depthwise_kernel;
const Rows depthwise_kernel = run;

}  // namespace saccade::engine::SACCADE_ISA
