// Kernels of the engine: a table of functions for each instruction set.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "block.h"

namespace saccade::engine {

enum class Type : uint8_t { u8, i16, i32, i64 };
constexpr int64_t bytes_of(Type t) { return t == Type::u8 ? 1 : t == Type::i16 ? 2 : t == Type::i32 ? 4 : 8; }
inline Type narrowest(int64_t low, int64_t high) {
  if (low >= 0 && high <= 255) return Type::u8;
  if (low >= INT16_MIN && high <= INT16_MAX) return Type::i16;
  return low >= INT32_MIN && high <= INT32_MAX ? Type::i32 : Type::i64;
}

constexpr int MAX_LEVELS = 64;

struct MembraneChunk {  // constants of n places, strides 0 or 1 (or any)
  const int64_t *factor, *offset, *decay, *amount, *thresholds;
  int64_t factor_step, offset_step, decay_step, amount_step, threshold_step, level;
  int64_t levels, shift;
  int reset;  // 0 hard, 1 soft, 2 none
};

// Potentials that are stored in a few bits: the k-th of `stored` where V reaches k of the edges, which grow.
struct StoredChunk {
  const int64_t *edges, *stored;
  int64_t edge_step, stored_step, edge_level, stored_level, count;  // edges
};

// A convolution, or a matrix product (kernel 1x1 over places), of rows of channels that lie together.
struct RowsJob {
  const void* x;  // [height][width][channels], with strides in elements
  Type type;
  int64_t row, place;  // strides of x
  int64_t height, width, out_width;
  int64_t kernel_y, kernel_x, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x;
  int64_t groups, in, out;  // channels of a group
  const void* weights;      // [group][tap][in][out], int32 or int64
  void* y;                  // [places][groups * out], of the type of the weights
  bool wide;                // int64
};

// Levels of the sums of some places, channels innermost and together.
struct LevelsJob {
  const void* x;
  Type type;
  int64_t place, channels, padded;  // stride of x; channels, and the next multiple of 16
  const void *thresholds, *signs;  // [levels][padded] and [padded], of 64 bits for sums of 64, else of 32; signs may be null
  int64_t levels;
  uint8_t* y;
  int64_t y_place;
};

// Each kernel: bytes that its preparation fills, the preparation (rows of the input at all steps), bytes of scratch, the layer
// (rows of the output, in whole pooling windows).
struct EventKernel {
  int64_t (*room)(const Block&);
  void (*prepare)(const Block&, int64_t first, int64_t last);
  int64_t (*scratch)(const Block&);
  void (*run)(const Block&, int bytes, bool small, int64_t most, int64_t first, int64_t last);
};

struct BytesKernel {
  int digit;  // bits of a digit of weights
  int64_t (*room)(const Block&, const Bytes&);
  void (*prepare)(const Block&, const Bytes&, int64_t first, int64_t last);
  int64_t (*weights_room)(const Block&, const Bytes&);
  void (*set_weight)(const Block&, const Bytes&, void* weights, int64_t o, int64_t c, int64_t tap, int64_t w);
  int64_t (*scratch)(const Block&);
  void (*run)(const Block&, const Bytes&, int64_t first, int64_t last);
};

struct DenseKernel {
  // words of input to `high` whose products with bytes to `size` may be added; 0: none
  int64_t (*most)(int64_t high, int64_t size);
  void (*run)(const Dense&, int64_t first, int64_t last);  // rows of what it makes
};

struct WinogradKernel {
  int64_t (*scratch)(const Dense&);
  void (*prepare)(const Dense&, int64_t first, int64_t last);  // rows of tiles
  void (*run)(const Dense&, int64_t first, int64_t last);
};

struct LevelsKernel {
  void (*run)(const LevelsJob& job, int64_t first, int64_t last);
};

struct CountsKernel {
  int64_t (*room)(const Block&);
  void (*prepare)(const Block&, int64_t first, int64_t last);
  int64_t (*weights_room)(const Block&);
  void (*set_weight)(const Block&, void* weights, int64_t o, int64_t c, int64_t tap);  // sets a bit
  int64_t (*scratch)(const Block&);
  void (*run)(const Block&, int64_t first, int64_t last);
};

struct CodebookKernel {
  int64_t (*scratch)(const Block&);
  void (*run)(const Block&, const Codebook&, int64_t first, int64_t last);
};

struct TablesKernel {  // without functions where bytes cannot be shuffled
  int tables, bits;  // tables at most; bits that sums have to fit into
  // groups of 16 channels whose entries up to `size` are added before they get more bits; 0: none
  int64_t (*most)(int64_t size);
  int64_t (*room)(const Block&);
  void (*prepare)(const Block&, int64_t first, int64_t last);
  int64_t (*scratch)(const Block&);
  void (*run)(const Block&, int tables, int64_t most, int64_t first, int64_t last);
};

// Loops of nothing but a kernel's instructions: products with spikes, or of bytes, in so many passes. Null where there is no
// such kernel.
struct Ceilings {
  int64_t (*counts)(int64_t times);
  int64_t (*tables)(int64_t times);
  int64_t (*events)(int64_t times);
  int64_t (*products)(int64_t times);  // of bytes
};

struct Kernels {
  const char* name;
  void (*widen)(const void* from, Type type, int64_t step, int64_t n, int64_t* to);
  void (*narrow)(const int64_t* from, int64_t n, void* to, Type type, int64_t step);
  // y += factor * (x >> before, rounded)
  void (*gather)(int64_t* y, const int64_t* x, const int64_t* factor, int64_t factor_step, int64_t before, int64_t n);
  void (*drop)(int64_t* y, int64_t bits, int64_t n);
  void (*multiply)(int64_t* y, const int64_t* x, int64_t n);
  void (*reach)(int64_t* level, const int64_t* x, const int64_t* sign, int64_t sign_step, const int64_t* thresholds,
                int64_t threshold_step, int64_t level_step, int64_t levels, int64_t n);
  void (*membrane)(const MembraneChunk& constants, const int64_t* x, int64_t* v, int64_t* level, int64_t n);
  void (*store)(const StoredChunk& constants, int64_t* v, int64_t n);
  void (*rows)(const RowsJob& job, int64_t first, int64_t last);
  void (*depthwise)(const RowsJob& job, int64_t first, int64_t last);  // groups of one channel, weights [tap][channel]
  void (*pack)(const void* from, Type type, int64_t n, uint64_t* to);  // n numbers of 0 and 1, to whole words
  void (*unpack)(const uint64_t* from, uint8_t* to, int64_t n);
  // Of 64 channels, how often each bit is set in a map of words.
  void (*count)(const uint64_t* from, int64_t height, int64_t width, int64_t row, int64_t place, int64_t* to);
  int64_t (*ones)(const uint64_t* from, int64_t rows, int64_t words, int64_t row);  // bits that are set
  void (*matmul)(const int64_t* a, const int64_t* b, int64_t* y, int64_t inner, int64_t columns);  // a row of a
  EventKernel events;
  BytesKernel bytes;
  DenseKernel dense;
  WinogradKernel winograd;
  LevelsKernel levels;
  CountsKernel counts;
  CodebookKernel codebook;
  TablesKernel tables;
  Ceilings ceilings;
};

namespace baseline { extern const Kernels kernels; }
namespace avx2 { extern const Kernels kernels; }
namespace avx512 { extern const Kernels kernels; }
namespace neon { extern const Kernels kernels; }
namespace neon_dot { extern const Kernels kernels; }  // with products of bytes

std::vector<const Kernels*> available();   // on this machine, the widest last
std::string name_of(const Kernels* kernels);  // "portable" for those of any machine
// By name, or SACCADE_ISA, or else the widest. Throws std::invalid_argument for one that is not there.
const Kernels* chosen(std::string name);

}  // namespace saccade::engine
