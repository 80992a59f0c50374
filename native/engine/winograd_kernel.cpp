// Minimal filtering of 3 x 3 taps (Winograd, 1980; Lavin and Gray, 2016, F(2 x 2, 3 x 3)): 16 products where four outputs have 36.
// Its halves are kept out of the weights, so that all numbers are whole and sums are four times themselves; counts of a few levels
// and weights of a few bits still fit into bytes.
#include "isa.h"
#include "products.h"

namespace saccade::engine::SACCADE_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int WIDTH = 64;
#elif defined(__AVX2__)
constexpr int WIDTH = 32;
#else
constexpr int WIDTH = 16;
#endif
typedef uint8_t Channels __attribute__((vector_size(WIDTH)));

// Columns, or rows: differences and a sum of four numbers, in bytes modulo 256.
ALWAYS void differ(const Channels* from, int step, Channels* to) {
  to[0] = from[0] - from[2 * step];
  to[1] = from[step] + from[2 * step];
  to[2] = from[2 * step] - from[step];
  to[3] = from[step] - from[3 * step];
}

void prepare(const Dense& l, int64_t first, int64_t last) {
  const int64_t across = (l.out_width + 1) / 2, channels = 4 * l.words;
  const Channels shift = Channels{} + l.shift;
  for (int64_t ty = first; ty < last; ty++)
    for (int64_t tx = 0; tx < across; tx++) {
      const uint8_t* x = l.x + 2 * ty * l.x_row + 2 * tx * l.x_place;
      uint8_t* to = l.tiles + (ty * across + tx) * 16 * l.tile_bytes;
      for (int64_t c = 0; c < channels; c += WIDTH) {
        Channels rows[16], made[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
          Channels column[4];
          for (int i = 0; i < 4; i++) column[i] = load_as<Channels>(x + i * l.x_row + k * l.x_place + c);
          differ(column, 1, made);
          for (int i = 0; i < 4; i++) rows[4 * i + k] = made[i];
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
          differ(rows + 4 * i, 1, made);
          for (int k = 0; k < 4; k++) {
            // sums of counts alone are not negative
            const Channels shifted = i == 1 && k == 1 ? made[k] : made[k] + shift;
            std::memcpy(to + (4 * i + k) * l.tile_bytes + c, &shifted, sizeof shifted);
          }
        }
      }
    }
}

// Sums of four to two.
ALWAYS void join(const Lanes& a, const Lanes& b, const Lanes& c, const Lanes& d, Lanes& one, Lanes& two) {
  one = a + b + c;
  two = b - c - d;
}

template <class F> constexpr int tiles_of() { return F::PLACES > 2 ? 4 : F::PLACES; }

// Products of P tiles and 16 NB outputs, number by number of the 16, to where they lie [16][P][NB].
template <class F, int P, int NB> ALWAYS void multiply(const Dense& l, const uint8_t* const (&x)[P], int64_t c, Lanes* products) {
  const int64_t stride = l.words * F::SIZE;
  const char* w = static_cast<const char*>(l.weights) + c / 16 * stride;
  for (int k = 0; k < 16; k++, w += l.padded_out / 16 * stride) {
    const int32_t* start = l.start + k * l.padded_out + c;
    Lanes* to = products + k * P * NB;
    typename F::Sums acc[P][NB];
#if defined(__AVX512VNNI__)
    for (auto& tile : acc)
      for (int b = 0; b < NB; b++) tile[b] = _mm512_loadu_si512(start + 16 * b);
    add_words<F>(acc, x, k * l.tile_bytes, l.words, w, stride);
#pragma GCC unroll 4
    for (int p = 0; p < P; p++)
#pragma GCC unroll 4
      for (int b = 0; b < NB; b++) _mm512_store_si512(to + p * NB + b, acc[p][b]);
#else
    for (int p = 0; p < P; p++)
      for (int b = 0; b < NB; b++) to[p * NB + b] = load_lanes(start + 16 * b);
    for (int64_t i = 0; i < l.words; i += l.most) {
      for (auto& tile : acc)
        for (auto& block : tile) block = F::zero();
      add_words<F>(acc, x, k * l.tile_bytes + 4 * i, l.words - i < l.most ? l.words - i : l.most, w + i * F::SIZE, stride);
      for (int p = 0; p < P; p++)
        for (int b = 0; b < NB; b++) to[p * NB + b] = to[p * NB + b] + F::lanes(acc[p][b]);
    }
#endif
  }
}

template <class F, int NB> void run_blocks(const Dense& l, int64_t first, int64_t last, int64_t c) {
  constexpr int P = tiles_of<F>();
  const int64_t across = (l.out_width + 1) / 2, end = last * across;
  Lanes* products = reinterpret_cast<Lanes*>(l.scratch);
  for (int64_t tile = first * across; tile < end; tile += P) {
    const int64_t tiles = end - tile < P ? end - tile : P;
    const uint8_t* x[P];
    for (int64_t p = 0; p < P; p++) x[p] = l.tiles + (tile + (p < tiles ? p : tiles - 1)) * 16 * l.tile_bytes;
    multiply<F, P, NB>(l, x, c, products);
    for (int64_t p = 0; p < tiles; p++) {
      const int64_t oy = (tile + p) / across * 2, ox = (tile + p) % across * 2;
      for (int b = 0; b < NB; b++) {
        const Lanes* m = products + p * NB + b;
        Lanes rows[2][4], sums[2][2];
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
          join(m[k * P * NB], m[(4 + k) * P * NB], m[(8 + k) * P * NB], m[(12 + k) * P * NB], rows[0][k], rows[1][k]);
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) join(rows[i][0], rows[i][1], rows[i][2], rows[i][3], sums[i][0], sums[i][1]);
        const int64_t at = c + 16 * b;
        if (l.pooled) {
          const Lanes top = most_of(most_of(sums[0][0], sums[0][1]), most_of(sums[1][0], sums[1][1]));
          put_counts(level_of(top, l.thresholds + at, l.padded_out, l.levels), l.y + oy / 2 * l.y_row + ox / 2 * l.y_place + at);
          continue;
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
          const int64_t y = oy + i / 2, xx = ox + i % 2;
          if (y >= l.out_height || xx >= l.out_width) continue;
          const Lanes& sum = sums[i / 2][i % 2];
          if (l.sums)
            put_sums(sum >> 2, l.sums + (y * l.out_width + xx) * l.out, at, l.out);
          else
            put_counts(level_of(sum, l.thresholds + at, l.padded_out, l.levels), l.y + y * l.y_row + xx * l.y_place + at);
        }
      }
    }
  }
}

template <class F> void run_form(const Dense& l, int64_t first, int64_t last) {
  for (int64_t c = 0; c < l.padded_out;) {
    const int64_t blocks = blocks_of(F::BLOCKS, (l.padded_out - c) / 16);
    if (blocks == 4) run_blocks<F, F::BLOCKS < 4 ? 1 : 4>(l, first, last, c);
    else if (blocks == 3) run_blocks<F, F::BLOCKS < 3 ? 1 : 3>(l, first, last, c);
    else if (blocks == 2) run_blocks<F, F::BLOCKS < 2 ? 1 : 2>(l, first, last, c);
    else run_blocks<F, 1>(l, first, last, c);
    c += 16 * blocks;
  }
}

void run(const Dense& l, int64_t first, int64_t last) { l.pairs ? run_form<Pairs>(l, first, last) : run_form<Quads>(l, first, last); }

int64_t scratch(const Dense&) { return 16 * 4 * 4 * static_cast<int64_t>(sizeof(Lanes)); }

}  // namespace

extern const WinogradKernel winograd_kernel;
const WinogradKernel winograd_kernel{scratch, prepare, run};

}  // namespace saccade::engine::SACCADE_ISA
