// Levels of numbers that lie in memory: neurons without a state behind a sum of branches, or behind parts that were joined.
#include <algorithm>
#include <limits>

#include "neurons.h"

namespace saccade::engine {

bool numbers_by_channel(const Array& a, int64_t channels, bool first, bool levels, int64_t padded, std::vector<int64_t>& to) {
  Sizes shape = a.shape;
  const int64_t count = levels ? shape[0] : 1;
  if (levels) shape.erase(shape.begin());
  const size_t from_end = first ? 3 : 1;
  for (size_t i = 0; i < shape.size(); i++)
    if (shape[i] > 1 && shape.size() - i != from_end) return false;
  const bool one = product(shape) == 1;
  to.assign(count * padded, std::numeric_limits<int64_t>::max());
  for (int64_t d = 0; d < count; d++)
    for (int64_t c = 0; c < channels; c++) to[d * padded + c] = a.data[one ? d : d * channels + c];
  return true;
}

bool levels_in_place(Plan& plan, int wire) {
  const Record& record = plan.records[wire];
  const Wire w = plan.wires[wire];
  const bool map = w.shape.size() == 3;
  const int64_t levels = record.arrays[1].shape[0];
  const Wire& source = plan.wires[record.inputs[0]];
  if (w.shape.empty() || w.shape.size() > 3 || levels > 255 || source.shape != w.shape || source.steps != w.steps) return false;
  const size_t last = w.shape.size() - 1;
  const int64_t channels = map ? w.shape[0] : w.shape[last], padded = (channels + 15) / 16 * 16;
  const int64_t height = map ? w.shape[1] : 1, width = product(w.shape) / channels / height;
  std::vector<int64_t> signs, thresholds;
  if (!numbers_by_channel(record.arrays[0], channels, map, false, padded, signs)) return false;
  if (!numbers_by_channel(record.arrays[1], channels, map, true, padded, thresholds)) return false;
  const View from = plan.view(record.inputs[0]);
  const int64_t channel = map ? from.stride[0] : from.stride[last], row = map ? from.stride[1] : 0,
                place = map ? from.stride[2] : last ? from.stride[last - 1] : 0;
  if ((channel != 1 && channels > 1) || (channels < 4 && width > 4)) return false;
  // the ends of 32 bits are left to thresholds that none or all reach
  if (from.type != Type::i64 && (source.low <= INT32_MIN || source.high >= INT32_MAX)) return false;
  bool turned = false;
  for (int64_t c = 0; c < channels; c++) {
    if (signs[c] != 1 && signs[c] != -1) return false;
    turned = turned || signs[c] < 0;
  }
  for (int64_t c = 0; c < padded; c++) signs[c] = c < channels && signs[c] < 0 ? -1 : 0;
  struct Constants {
    std::vector<int64_t> thresholds, signs;
    std::vector<int32_t> thresholds32, signs32;
  };
  auto constants = std::make_shared<Constants>();
  for (int64_t theta : thresholds) constants->thresholds32.push_back(static_cast<int32_t>(std::clamp<int64_t>(theta, -INT32_MAX, INT32_MAX)));
  constants->signs32.assign(signs.begin(), signs.end());
  constants->thresholds = std::move(thresholds), constants->signs = std::move(signs);
  const Laid made = plan.lay(w.steps, height, width, padded, plan.border(wire));
  View v;
  v.type = Type::u8, v.buffer = made.buffer, v.start = made.start, v.size = w.shape, v.step = w.steps > 1 ? made.step : 0;
  v.stride = map ? Sizes{1, made.row, made.place} : w.shape.size() == 2 ? Sizes{made.place, 1} : Sizes{1};
  plan.wires[wire].view = v;
  plan.wires[wire].laid = made;
  constexpr int64_t PIECE = 64;  // places that a thread takes at least, if there are as many
  const int64_t pieces = (width + PIECE - 1) / PIECE, rows = w.steps * height;
  plan.add(wire, "levels", rows * pieces, [=, &plan](const Call& c, int64_t first, int64_t last_unit) {
    LevelsJob job{};
    const bool wide = from.type == Type::i64;
    job.type = from.type, job.place = place, job.channels = channels, job.padded = padded, job.levels = levels, job.y_place = made.place;
    job.thresholds = wide ? static_cast<const void*>(constants->thresholds.data()) : constants->thresholds32.data();
    if (turned) job.signs = wide ? static_cast<const void*>(constants->signs.data()) : constants->signs32.data();
    for (int64_t u = first; u < last_unit; u++) {
      const int64_t t = u / pieces / height, y = u / pieces % height, begin = u % pieces * PIECE;
      job.x = plan.at(c, from) + (t * from.step + y * row) * bytes_of(from.type);
      job.y = plan.at<uint8_t>(c, made.buffer) + t * made.step + made.start + y * made.row;
      plan.kernels->levels.run(job, begin, std::min(width, begin + PIECE));
    }
  });
  return true;
}

}  // namespace saccade::engine
