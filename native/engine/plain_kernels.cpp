// What rare operations need: pieces of rows in whole numbers of 64 bits, and products with weights of any width.
#include "isa.h"
#include "vectors.h"

namespace saccade::engine::SACCADE_ISA {

extern const EventKernel events_kernel;
extern const BytesKernel bytes_kernel;
extern const DenseKernel dense_kernel;
extern const WinogradKernel winograd_kernel;
extern const LevelsKernel levels_kernel;
extern const CountsKernel counts_kernel;
extern const CodebookKernel codebook_kernel;
extern const TablesKernel tables_kernel;
extern const Ceilings ceilings;
using Rows = void (*)(const RowsJob&, int64_t first, int64_t last);
extern const Rows depthwise_kernel;

namespace {

template <class T> void widen_from(const T* from, int64_t step, int64_t n, int64_t* to) {
  if (step == 1)
    for (int64_t i = 0; i < n; i++) to[i] = from[i];
  else
    for (int64_t i = 0; i < n; i++) to[i] = from[i * step];
}

void widen(const void* from, Type type, int64_t step, int64_t n, int64_t* to) {
  switch (type) {
    case Type::u8: return widen_from(static_cast<const uint8_t*>(from), step, n, to);
    case Type::i16: return widen_from(static_cast<const int16_t*>(from), step, n, to);
    case Type::i32: return widen_from(static_cast<const int32_t*>(from), step, n, to);
    default: return widen_from(static_cast<const int64_t*>(from), step, n, to);
  }
}

template <class T> void narrow_to(const int64_t* from, int64_t n, T* to, int64_t step) {
  if (step == 1)
    for (int64_t i = 0; i < n; i++) to[i] = static_cast<T>(from[i]);
  else
    for (int64_t i = 0; i < n; i++) to[i * step] = static_cast<T>(from[i]);
}

void narrow(const int64_t* from, int64_t n, void* to, Type type, int64_t step) {
  switch (type) {
    case Type::u8: return narrow_to(from, n, static_cast<uint8_t*>(to), step);
    case Type::i16: return narrow_to(from, n, static_cast<int16_t*>(to), step);
    case Type::i32: return narrow_to(from, n, static_cast<int32_t*>(to), step);
    default: return narrow_to(from, n, static_cast<int64_t*>(to), step);
  }
}

void gather(int64_t* y, const int64_t* x, const int64_t* factor, int64_t step, int64_t before, int64_t n) {
  const int64_t half = (int64_t{1} << before) >> 1;
  if (step == 1)
    for (int64_t i = 0; i < n; i++) y[i] += factor[i] * ((x[i] + half) >> before);
  else
    for (int64_t i = 0; i < n; i++) y[i] += factor[i * step] * ((x[i] + half) >> before);
}

void drop(int64_t* y, int64_t bits, int64_t n) {
  const int64_t half = (int64_t{1} << bits) >> 1;
  for (int64_t i = 0; i < n; i++) y[i] = (y[i] + half) >> bits;
}

void multiply(int64_t* y, const int64_t* x, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] *= x[i];
}

void reach(int64_t* level, const int64_t* x, const int64_t* sign, int64_t sign_step, const int64_t* thresholds,
           int64_t threshold_step, int64_t level_step, int64_t levels, int64_t n) {
  for (int64_t i = 0; i < n; i++) level[i] = 0;
  for (int64_t d = 0; d < levels; d++) {
    const int64_t* theta = thresholds + d * level_step;
    for (int64_t i = 0; i < n; i++) level[i] += sign[i * sign_step] * x[i] >= theta[i * threshold_step];
  }
}

void membrane(const MembraneChunk& c, const int64_t* x, int64_t* v, int64_t* level, int64_t n) {
  const int64_t half = (int64_t{1} << c.shift) >> 1;
  for (int64_t i = 0; i < n; i++) {
    v[i] = ((v[i] * c.decay[i * c.decay_step] + half) >> c.shift) + c.factor[i * c.factor_step] * x[i] +
           c.offset[i * c.offset_step];
    level[i] = 0;
  }
  for (int64_t d = 0; d < c.levels; d++) {
    const int64_t* theta = c.thresholds + d * c.level;
    for (int64_t i = 0; i < n; i++) level[i] += v[i] >= theta[i * c.threshold_step];
  }
  if (c.reset == 0)
    for (int64_t i = 0; i < n; i++) v[i] = level[i] > 0 ? c.amount[i * c.amount_step] : v[i];
  else if (c.reset == 1)
    for (int64_t i = 0; i < n; i++) v[i] -= level[i] * c.amount[i * c.amount_step];
}

void store(const StoredChunk& c, int64_t* v, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    int64_t found = c.stored[i * c.stored_step];
    for (int64_t k = 0; k < c.count; k++)
      if (v[i] >= c.edges[k * c.edge_level + i * c.edge_step]) found = c.stored[(k + 1) * c.stored_level + i * c.stored_step];
    v[i] = found;
  }
}

template <class X, class A> void rows_of(const RowsJob& j, int64_t first, int64_t last) {
  const X* x = static_cast<const X*>(j.x);
  const A* weights = static_cast<const A*>(j.weights);
  const int64_t taps = j.kernel_y * j.kernel_x, channels = j.groups * j.out;
  for (int64_t p = first; p < last; p++) {
    A* y = static_cast<A*>(j.y) + p * channels;
    for (int64_t o = 0; o < channels; o++) y[o] = 0;
    for (int64_t tap = 0; tap < taps; tap++) {
      const int64_t top = p / j.out_width * j.stride_y - j.pad_y + tap / j.kernel_x * j.dilation_y;
      const int64_t left = p % j.out_width * j.stride_x - j.pad_x + tap % j.kernel_x * j.dilation_x;
      if (top < 0 || top >= j.height || left < 0 || left >= j.width) continue;
      const X* from = x + top * j.row + left * j.place;
      for (int64_t g = 0; g < j.groups; g++) {
        const A* w = weights + (g * taps + tap) * j.in * j.out;
        A* to = y + g * j.out;
        for (int64_t c = 0; c < j.in; c++) {
          const A value = static_cast<A>(from[g * j.in + c]);
          if (value)
            for (int64_t o = 0; o < j.out; o++) to[o] += value * w[c * j.out + o];
        }
      }
    }
  }
}

template <class A> void rows_into(const RowsJob& j, int64_t first, int64_t last) {
  switch (j.type) {
    case Type::u8: return rows_of<uint8_t, A>(j, first, last);
    case Type::i16: return rows_of<int16_t, A>(j, first, last);
    case Type::i32: return rows_of<int32_t, A>(j, first, last);
    default: return rows_of<int64_t, A>(j, first, last);
  }
}

void rows(const RowsJob& j, int64_t first, int64_t last) {
  return j.wide ? rows_into<int64_t>(j, first, last) : rows_into<int32_t>(j, first, last);
}

template <class T> void pack_from(const T* from, int64_t n, uint64_t* to) {
  for (int64_t i = 0; i < n; i += 64, to++) {
    uint64_t word = 0;
    const int64_t m = n - i < 64 ? n - i : 64;
    for (int64_t k = 0; k < m; k++) word |= static_cast<uint64_t>(from[i + k] != 0) << k;
    *to = word;
  }
}

void pack(const void* from, Type type, int64_t n, uint64_t* to) {
  switch (type) {
    case Type::u8: return pack_from(static_cast<const uint8_t*>(from), n, to);
    case Type::i16: return pack_from(static_cast<const int16_t*>(from), n, to);
    case Type::i32: return pack_from(static_cast<const int32_t*>(from), n, to);
    default: return pack_from(static_cast<const int64_t*>(from), n, to);
  }
}

void unpack(const uint64_t* from, uint8_t* to, int64_t n) {
  for (int64_t i = 0; i < n; i++) to[i] = from[i / 64] >> (i % 64) & 1;
}

void count(const uint64_t* from, int64_t height, int64_t width, int64_t row, int64_t place, int64_t* to) {
  uint8_t sums[64] = {};
  int64_t added = 0;
  const auto flush = [&] {
    for (int i = 0; i < 64; i++) to[i] += sums[i], sums[i] = 0;
    added = 0;
  };
  for (int64_t y = 0; y < height; y++)
    for (int64_t x = 0; x < width; x++) {
      const uint64_t word = from[y * row + x * place];
#if defined(__AVX512BW__)
      const __m512i old = _mm512_loadu_si512(sums);
      _mm512_storeu_si512(sums, _mm512_mask_sub_epi8(old, word, old, _mm512_set1_epi8(-1)));
#else
      for (int i = 0; i < 64; i++) sums[i] = static_cast<uint8_t>(sums[i] + (word >> i & 1));
#endif
      if (++added == 255) flush();
    }
  flush();
}

int64_t ones(const uint64_t* from, int64_t rows, int64_t words, int64_t row) {
  int64_t total = 0;
  for (int64_t y = 0; y < rows; y++)
    for (int64_t i = 0; i < words; i++) total += __builtin_popcountll(from[y * row + i]);
  return total;
}

void matmul(const int64_t* a, const int64_t* b, int64_t* y, int64_t inner, int64_t columns) {
  for (int64_t j = 0; j < columns; j++) y[j] = 0;
  for (int64_t k = 0; k < inner; k++)
    if (a[k])
      for (int64_t j = 0; j < columns; j++) y[j] += a[k] * b[k * columns + j];
}

}  // namespace

#define NAME_OF(isa) #isa
#define NAME(isa) NAME_OF(isa)
const Kernels kernels{NAME(SACCADE_ISA), widen, narrow, gather, drop, multiply, reach, membrane, store, rows, depthwise_kernel,
                      pack, unpack, count, ones, matmul, events_kernel, bytes_kernel, dense_kernel, winograd_kernel,
                      levels_kernel, counts_kernel, codebook_kernel, tables_kernel, ceilings};

}  // namespace saccade::engine::SACCADE_ISA
