// Dehazing by depth order: what the passes over a picture share. Source: saccade/dehaze/method.py, which defines the results.
#pragma once
#include <cstdint>

namespace saccade {

constexpr int64_t LEVELS = 256;
// Theta / max theta in bins of equal width within an octave: 2048 an octave from 1 to 1024.
constexpr int64_t BIN_SHIFT = 12, BINS_AN_OCTAVE = int64_t{1} << (23 - BIN_SHIFT), THETA_BINS = 10 * BINS_AN_OCTAVE;
constexpr int64_t TILES = 8, TILE_TABLE = TILES * 3 * LEVELS;

// A picture taken apart: planes of H rows, `stride` elements from row to row.
struct Frame {
  int64_t H = 0, W = 0, stride = 0;
  const uint8_t* in = nullptr;  // [H, W, 3]
  uint8_t* out = nullptr;       // [H, W, 3], may be `in`
  uint8_t* colour[3] = {};      // uint8 [H, stride] each
  uint8_t* dark = nullptr;
  float *order = nullptr, *grey = nullptr, *slope = nullptr, *offset = nullptr;
  float A[3] = {};
};

// theta(x) -> t0, and how it is refined.
struct Map {
  float farthest = 0, nearest = 0, theta = 0, eps = 0, least = 0;
  float low = 0, high = 1;  // the colour cube that bounds Theta
  int64_t radius = 0;
};

// One axis of the tiles of CLAHE: pixel i of the image is pixel i + before of the padded one.
struct Axis {
  int64_t size = 0, side = 0, before = 0;
};

struct DehazeKernels {
  // Rows [first, last): colour planes, and for window > 0 the least channel's minimum along the row.
  void (*split)(const Frame&, int64_t window, int64_t first, int64_t last, float* scratch);
  // Columns [first, last): minimum of `dark` down the columns, and its histogram.
  void (*darkest)(const Frame&, int64_t window, int64_t first, int64_t last, float* scratch, uint32_t* counts);
  // Rows: histograms [3, 256] of the colours where dark >= threshold.
  void (*brightest)(const Frame&, int threshold, int64_t first, int64_t last, uint32_t* counts);
  // Rows: |I - A|^2 and its maximum along the row, into order.
  void (*distance)(const Frame&, int64_t window, int64_t first, int64_t last, float* scratch);
  // Columns: maximum down the columns and its root; extremes[2] are lowered and raised.
  void (*farthest)(const Frame&, int64_t window, int64_t first, int64_t last, float* scratch, float* extremes);
  // Rows: histogram of U / max theta; counts[THETA_BINS] are those beyond, counts[THETA_BINS + 1] those below 1.
  void (*bounds)(const Frame&, const Map&, int64_t first, int64_t last, float* scratch, uint32_t* counts);
  // Rows: the values of two of its bins, one after the other into `to`.
  void (*collect)(const Frame&, const Map&, int64_t first, int64_t last, float* scratch, uint32_t bin, uint32_t next, float* to);
  // Rows: grey, and order -> t0.
  void (*prepare)(const Frame&, const Map&, int64_t first, int64_t last);
  // Columns: the lines of the guided filter, into slope and offset.
  void (*fit)(const Frame&, const Map&, int64_t first, int64_t last, float* scratch);
  // Columns: t (kept in order if `keep`) and the recovered picture; returns the pixels that left the colour cube.
  int64_t (*recover)(const Frame&, const Map&, int64_t first, int64_t last, float* scratch, bool keep);
  // The same with lines fitted on a smaller picture of `by` x `by` means. Rows of it: grey and t0 (in order).
  void (*shrink)(const Frame&, const Frame& small, int64_t by, int64_t first, int64_t last, float* scratch);
  // Its columns: box means of slope and offset, into its grey and order.
  void (*smooth)(const Frame& small, const Map&, int64_t first, int64_t last, float* scratch);
  // Rows of the picture: as recover, from the means grown linearly.
  int64_t (*regrow)(const Frame&, const Frame& small, const Map&, int64_t by, int64_t first, int64_t last, float* scratch,
                    bool keep);
  // One row of tiles: histograms [8, 3, 256].
  void (*tile_counts)(const uint8_t* image, Axis rows, Axis columns, int64_t tile_row, uint32_t* counts);
  // One row of pixels, in place, from maps [8, 8, 3, 256] into [0, 255].
  void (*equalise)(uint8_t* image, Axis rows, Axis columns, const float* maps, int64_t row, float* table);
};

// Floats of scratch for a strip of `width` columns, or for rows.
inline int64_t row_scratch(int64_t W, int64_t window) { return 6 * (W + window + 64); }
inline int64_t column_scratch(int64_t width, int64_t window) { return (window + 2) * (width + 16); }
inline int64_t box_scratch(int64_t width, int64_t radius) { return 12 * (width + 2 * radius + 64); }

namespace baseline { extern const DehazeKernels dehaze; }
namespace avx2 { extern const DehazeKernels dehaze; }
namespace avx512 { extern const DehazeKernels dehaze; }

}  // namespace saccade
