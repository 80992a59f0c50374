// A layer of spikes with what follows it: sums, or neurons and a pooling that fire within the same pass. Plain data, that kernels
// of every instruction set read.
#pragma once
#include <cstdint>

namespace saccade::engine {

// V <- ((V + half) >> shift) + (sum << bits) + offset, a spike where V >= threshold, then a reset. Arrays by output channel,
// padded to 64 with channels that never fire. `factor` and `decay` only in 64 bits, where
// V <- ((V * decay + half) >> shift) + factor * sum + offset.
struct Neuron {
  enum Kind : int { SUMS, THRESHOLD, POTENTIAL, POTENTIAL64 };
  enum Reset : int { HARD, SOFT, NONE };
  int kind = SUMS, reset = HARD, shift = 0, bits = 0;
  const int32_t *offset = nullptr, *threshold = nullptr, *amount = nullptr;
  const int64_t *factor64 = nullptr, *decay64 = nullptr, *offset64 = nullptr, *threshold64 = nullptr, *amount64 = nullptr;
};

struct Block {
  int64_t T, out, padded_out, out_height, out_width;  // outputs, and the next multiple of 64
  int64_t kernel_y, kernel_x, stride_y, stride_x, dilation_y, dilation_x;
  // Spikes as bits; x is where the first tap of the first output lies, in words of 64 channels.
  const uint64_t* x;
  int64_t in_height, in_width;  // with the border that the layer pads
  int64_t words, x_row, x_plane;
  // Results: sums [T][places][out], or bits at y + t y_plane + where[place], joined with those of a pooling window.
  int32_t* sums;
  uint64_t* y;
  int64_t y_plane;
  const int32_t* where;
  bool pooled;
  Neuron neuron;
  const void* weights;
  void* prepared;  // by the kernel's own preparation, for all rows
  char* scratch;   // of the thread
  int32_t scale, base;  // what a kernel adds up is brought to the sum: scale * its + base * (what the output sees of the input)
  int64_t* state;  // potentials [places][padded_out] that a stream keeps, or null
  bool rest;       // the first steps: potentials are 0
};

// Layers of bytes (pixels, counts) besides: where they lie, and weights as digits of 8 (or 15) bits, the lowest first.
struct Bytes {
  const uint8_t* x;
  int64_t channel, row, place, step;  // strides
  int64_t channels, height, width, pad_y, pad_x, digits;
  int32_t *seen, *places;  // sums of the bytes that an output sees, of a place; null where weights have no base
  int64_t* sums64;  // instead of sums of 32 bits
  // A picture that stands still: the first step at which an output fires, k steps after its potential began at 0, tells all of
  // them, and its sum tells the first one. drives [class][k][padded_out]: the least sum that fires within k + 1 steps.
  const int64_t* drives;
  const int32_t* narrow_drives;  // instead, where 32 bits hold the sums
  const uint8_t* classes;  // of places, by what the border of the picture adds
  int64_t steps;
};

// A layer of bytes at a step, with what follows: its sums, or neurons without a state, which fire as often as there are thresholds
// that their sum reaches, and maxima of 2 x 2 of them.
struct Dense {
  int64_t out, padded_out, out_height, out_width;  // outputs, and the next multiple of 16
  int64_t kernel_y, kernel_x, stride_y, stride_x, dilation_y, dilation_x;
  // [row][place][channels]: x is where the first tap of the first output lies, channels fill words of four.
  const uint8_t* x;
  int64_t x_row, x_place, words;
  // Weights [digit][16 outputs][ky, kx, word], in 8 or 16 bits; `most`: words whose products with 8 bits may be added in 16.
  const void* weights;
  bool pairs;   // 16 bits
  bool halves;  // of 8 outputs at most: the next digit in the other half of a block
  int64_t digits, most;
  // Levels [row][place][padded_out] by thresholds [levels][padded_out] of the sums without their `dropped` lowest digits; where that
  // does not tell, of all digits.
  uint8_t* y;
  int64_t y_row, y_place, levels, dropped;
  const int32_t* thresholds;
  const int64_t* exact;
  bool pooled;
  const int32_t* signs;  // -1 of outputs whose weights were multiplied by -1, so that fewer digits hold them; else 0. May be null
  int32_t* sums;    // instead: [place][out]
  int64_t* sums64;  // the same where 32 bits do not hold them
  // Minimal filtering: tiles [tile][16][tile_bytes] made of x, to which `shift` is added, and what sums begin with [16][padded_out].
  uint8_t* tiles;
  int64_t tile_bytes;
  uint8_t shift;
  const int32_t* start;
  char* scratch;  // of the thread
};

// Kernels of a layer that take few values.
struct Codebook {
  const int8_t* table;   // [patch][16 or 64] products with codewords
  const uint8_t* index;  // [channel][padded outputs] codewords
  int64_t words, most;   // codewords; patches whose products fit into a byte together
};

}  // namespace saccade::engine
