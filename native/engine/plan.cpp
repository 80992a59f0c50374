// From records to steps: where wires lie, and in which order of axes.
#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>
#include <stdexcept>

#include "engine.h"
#include "spikes.h"

namespace saccade::engine {
namespace {

std::map<std::string, Build>& builders() {
  static std::map<std::string, Build> known;
  return known;
}

constexpr int FOREVER = std::numeric_limits<int>::max();

}  // namespace

Registered::Registered(const char* kind, Build build) { builders()[kind] = build; }

Build builder(const std::string& kind) {
  const auto found = builders().find(kind);
  return found == builders().end() ? nullptr : found->second;
}

int64_t product(const Sizes& size) {
  return std::accumulate(size.begin(), size.end(), int64_t{1}, std::multiplies<int64_t>());
}

Sizes contiguous(const Sizes& size) {
  Sizes stride(size.size());
  int64_t next = 1;
  for (size_t i = size.size(); i-- > 0;) stride[i] = next, next *= size[i];
  return stride;
}

Sizes repeated(const Sizes& size, const Sizes& stride, const Sizes& shape) {
  Sizes found(shape.size(), 0);
  const size_t missing = shape.size() - size.size();
  for (size_t i = 0; i < size.size(); i++)
    if (size[i] > 1) found[missing + i] = stride[i];
  return found;
}

Numbers numbers(const Array& array, const Sizes& shape, bool levels) {
  Sizes size = array.shape, stride = contiguous(array.shape);
  Numbers found{std::make_shared<std::vector<int64_t>>(array.data), {}, 0};
  if (levels) {
    found.level = stride[0];
    size.erase(size.begin());
    stride.erase(stride.begin());
  }
  while (size.size() > shape.size()) size.erase(size.begin()), stride.erase(stride.begin());
  found.stride = repeated(size, stride, shape);
  return found;
}

Sizes order_like(const View& view, const Sizes& shape) {
  Sizes order(shape.size());
  std::iota(order.begin(), order.end(), 0);
  if (view.size.size() != shape.size()) return order;
  // axes of one place, or repeated, lie outermost: they say nothing
  const auto of = [&](int64_t axis) { return view.size[axis] > 1 && view.stride[axis] ? view.stride[axis] : INT64_MAX; };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return of(a) > of(b); });
  return order;
}

Nest nest(const Sizes& shape, std::vector<Sizes> strides) {
  std::vector<size_t> axes;
  for (size_t i = 0; i < shape.size(); i++)
    if (shape[i] > 1) axes.push_back(i);
  std::stable_sort(axes.begin(), axes.end(), [&](size_t a, size_t b) { return strides[0][a] > strides[0][b]; });
  Nest found;
  Sizes size;
  std::vector<Sizes> merged(strides.size());
  for (size_t axis : axes) {
    bool joins = !size.empty();
    for (size_t k = 0; joins && k < strides.size(); k++) joins = merged[k].back() == strides[k][axis] * shape[axis];
    if (joins)
      size.back() *= shape[axis];
    else
      size.push_back(shape[axis]);
    for (size_t k = 0; k < strides.size(); k++) {
      if (joins) merged[k].pop_back();
      merged[k].push_back(strides[k][axis]);
    }
  }
  if (size.empty()) {
    size.push_back(1);
    for (auto& stride : merged) stride.push_back(1);
  }
  found.inner = size.back();
  size.pop_back();
  found.size = size;
  found.outer = product(size);
  found.strides = std::move(merged);
  found.chunk = std::min(found.inner, CHUNK);
  found.chunks = (found.inner + found.chunk - 1) / found.chunk;
  return found;
}

int Plan::buffer(int64_t bytes, bool kept) {
  const int now = static_cast<int>(steps.size());
  // 16 numbers of 64 bits may be read behind the last one
  buffers.push_back({(bytes + 191) / 64 * 64, now, keep || kept ? FOREVER : now, kept});
  return static_cast<int>(buffers.size()) - 1;
}

int64_t Plan::state(int64_t bytes) {
  const int64_t at = state_bytes;
  state_bytes += (bytes + 63) / 64 * 64;
  return at;
}

void Plan::scratch(int64_t bytes) { scratch_bytes = std::max(scratch_bytes, bytes + 64); }

View Plan::allocate(const Wire& wire, Type type, const Sizes& order) {
  View made;
  made.type = type;
  made.size = wire.shape;
  made.stride.assign(wire.shape.size(), 0);
  int64_t next = 1;
  for (size_t i = wire.shape.size(); i-- > 0;) {
    const size_t axis = order.empty() ? i : order[i];
    made.stride[axis] = next;
    next *= wire.shape[axis];
  }
  made.step = wire.steps > 1 ? next : 0;
  made.buffer = buffer(wire.steps * next * bytes_of(type));
  return made;
}

View Plan::allocate_map(int wire, Type type) {
  const Wire& w = wires[wire];
  const Sizes order{1, 2, 0};
  const int flat = w.readers.size() == 1 && w.shape.size() == 3 ? w.readers[0] : -1;
  const Sizes row{w.shape[0], 1, product(w.shape) / w.shape[0]};
  if (flat < 0 || records[flat].kind != "reshape" || wires[flat].shape != row || wires[flat].readers.size() != 1) return allocate(w, type, order);
  const int join = wires[flat].readers[0];
  const Wire& whole = wires[join];
  const Record& record = records[join];
  if (record.kind != "concat" || record.numbers != std::vector<int64_t>{2, 0} || whole.shape.size() != 3 || whole.steps != w.steps ||
      whole.shape[0] != row[0] || narrowest(whole.low, whole.high) != type)
    return allocate(w, type, order);
  int64_t at = 0, length = 0, times = 0;
  for (int input : record.inputs) {
    if (input == flat) at = length, times++;
    length += wires[input].shape[2];
  }
  if (times != 1 || length != whole.shape[2]) return allocate(w, type, order);
  if (!joined(join)) joined_.push_back({join, allocate(whole, type, order)});
  View made = *joined(join);
  used(made.buffer);
  made.start += at * row[0];
  made.size = w.shape;
  made.stride = {1, w.shape[2] * row[0], row[0]};
  return made;
}

std::optional<View> Plan::joined(int wire) const {
  for (const auto& [join, view] : joined_)
    if (join == wire) return view;
  return {};
}

Step& Plan::add(int wire, std::string how, int64_t units, std::function<void(const Call&, int64_t, int64_t)> run) {
  steps.push_back({wire, std::move(how), units, std::move(run), {}});
  return steps.back();
}

int Plan::only_reader(int wire) const {
  const Wire& w = wires[wire];
  return fuse && !w.answers && w.readers.size() == 1 ? w.readers[0] : -1;
}

const View& Plan::view(int wire) {
  Wire& w = wires[wire];
  if (!w.view) {
    const Bits b = *w.bits;
    const bool map = w.shape.size() == 3 && b.channels == w.shape[0] && b.height * b.width == w.shape[1] * w.shape[2] &&
                     b.height == w.shape[1];
    used(b.buffer);
    View made = allocate(w, Type::u8, map ? Sizes{1, 2, 0} : Sizes{});
    const int64_t places = b.width * b.channels;
    add(wire, "unpack", w.steps * b.height, [this, b, made, places](const Call& c, int64_t first, int64_t last) {
      uint8_t* to = reinterpret_cast<uint8_t*>(at(c, made));
      const uint64_t* from = at<uint64_t>(c, b.buffer) + b.inside();
      for (int64_t u = first; u < last; u++)
        for (int64_t x = 0; x < b.width; x++)
          kernels->unpack(from + u / b.height * b.plane() + u % b.height * b.row() + x * b.words,
                          to + u * places + x * b.channels, b.channels);
    });
    wires[wire].view = made;
  }
  used(wires[wire].view->buffer);
  return *wires[wire].view;
}

const View& Plan::channels_last(int wire, int axis) {
  const View from = view(wire);
  if (from.stride[axis] == 1 || from.size[axis] == 1) return *wires[wire].view;
  for (auto& [key, made] : lasts_)
    if (key == std::make_pair(wire, axis)) return used(made.buffer), made;
  const Wire& w = wires[wire];
  Sizes order;
  for (int i = 0; i < static_cast<int>(w.shape.size()); i++)
    if (i != axis) order.push_back(i);
  order.push_back(axis);
  const View made = allocate(w, from.type, order);
  const Nest loops = nest(w.shape, {made.stride, from.stride});
  const int64_t T = w.steps;
  add(wire, "move", loops.units(), [=, this](const Call& c, int64_t first, int64_t last) {
    int64_t row[CHUNK];
    loops.each(first, last, [&](const int64_t* places, int64_t n) {
      for (int64_t t = 0; t < T; t++) {
        const int64_t b = bytes_of(from.type);
        kernels->widen(at(c, from) + (places[1] + t * from.step) * b, from.type, loops.step(1), n, row);
        kernels->narrow(row, n, at(c, made) + (places[0] + t * made.step) * b, made.type, loops.step(0));
      }
    });
  });
  used(made.buffer);
  lasts_.push_back({{wire, axis}, made});
  return lasts_.back().second;
}

const Bits& Plan::bits(int wire, int64_t border) {
  Wire& w = wires[wire];
  if (!w.bits) {
    const bool map = w.shape.size() == 3;
    const View from = channels_last(wire, map ? 0 : static_cast<int>(w.shape.size()) - 1);
    Bits made;
    made.channels = map ? w.shape[0] : w.shape.back();
    made.height = map ? w.shape[1] : 1;
    made.width = product(w.shape) / made.channels / made.height;
    made.border = border;
    made.words = (made.channels + 63) / 64;
    made.buffer = buffer(w.steps * made.plane() * 8, true);
    Sizes places(from.size.begin() + (map ? 1 : 0), from.size.end() - (map ? 0 : 1));
    Sizes stride(from.stride.begin() + (map ? 1 : 0), from.stride.end() - (map ? 0 : 1));
    const int64_t T = w.steps, in_row = made.width;
    add(wire, "pack", T * made.height, [=, this](const Call& c, int64_t first, int64_t last) {
      for (int64_t u = first; u < last; u++) {
        const int64_t t = u / made.height, y = u % made.height;
        uint64_t* to = at<uint64_t>(c, made.buffer) + t * made.plane() + made.inside() + y * made.row();
        for (int64_t x = 0; x < in_row; x++) {
          int64_t rest = y * in_row + x, offset = t * from.step;
          for (size_t i = places.size(); i-- > 0;) offset += rest % places[i] * stride[i], rest /= places[i];
          kernels->pack(at(c, from) + offset * bytes_of(from.type), from.type, made.channels, to + x * made.words);
        }
      }
    });
    wires[wire].bits = made;
  }
  used(wires[wire].bits->buffer);
  return *wires[wire].bits;
}

Laid Plan::lay(int64_t steps, int64_t height, int64_t width, int64_t channels, int64_t border) {
  Laid made;
  made.border = border;
  made.place = (channels + 3) / 4 * 4;
  made.row = (width + 2 * border) * made.place;
  made.step = (height + 2 * border + (border ? 1 : 0)) * made.row;
  made.start = border * (made.row + made.place);
  made.buffer = buffer(steps * made.step, border > 0);
  return made;
}

const Laid& Plan::laid(int wire) {
  Wire& w = wires[wire];
  if (!w.laid) {
    const bool map = w.shape.size() == 3;
    const View from = view(wire);
    const size_t last = from.size.size() - 1;
    const int64_t channels = map ? from.size[0] : from.size[last], channel = map ? from.stride[0] : from.stride[last];
    const int64_t height = map ? from.size[1] : 1, width = map ? from.size[2] : product(from.size) / channels;
    const int64_t row = map ? from.stride[1] : 0, place = map ? from.stride[2] : last ? from.stride[last - 1] : 0, edge = border(wire);
    if (!edge && channels % 4 == 0 && (channel == 1 || channels == 1) && place % 4 == 0) {
      wires[wire].laid = Laid{from.buffer, from.start, row, place, from.step, 0};
    } else {
      const Laid made = lay(w.steps, height, width, (channels + 3) / 4 * 4, edge);
      add(wire, "lay out", w.steps * height, [=, this](const Call& c, int64_t first, int64_t last_unit) {
        for (int64_t u = first; u < last_unit; u++) {
          const uint8_t* x = reinterpret_cast<const uint8_t*>(at(c, from)) + u / height * from.step + u % height * row;
          uint8_t* to = at<uint8_t>(c, made.buffer) + u / height * made.step + made.start + u % height * made.row;
          if (channel == 1 && place == made.place)
            std::memcpy(to, x, width * place);
          else if (channel == 1)
            for (int64_t k = 0; k < width; k++) std::memcpy(to + k * made.place, x + k * place, channels);
          else if (channels == 3 && place == 1)  // pictures
            for (int64_t k = 0; k < width; k++) {
              const uint32_t word = x[k] | static_cast<uint32_t>(x[k + channel]) << 8 | static_cast<uint32_t>(x[k + 2 * channel]) << 16;
              std::memcpy(to + 4 * k, &word, 4);
            }
          else if (channels == 4 && place == 1)
            for (int64_t k = 0; k < width; k++) {
              const uint32_t word = x[k] | static_cast<uint32_t>(x[k + channel]) << 8 | static_cast<uint32_t>(x[k + 2 * channel]) << 16 |
                                    static_cast<uint32_t>(x[k + 3 * channel]) << 24;
              std::memcpy(to + 4 * k, &word, 4);
            }
          else
            for (int64_t i = 0; i < channels; i++)
              for (int64_t k = 0; k < width; k++) to[k * made.place + i] = x[k * place + i * channel];
        }
      });
      wires[wire].laid = made;
    }
  }
  used(wires[wire].laid->buffer);
  return *wires[wire].laid;
}

int64_t Plan::border(int wire) const {
  int64_t most = 0;
  for (int reader : wires[wire].readers)
    if (records[reader].kind == "synapse" && records[reader].arrays[0].shape.size() == 4)
      most = std::max({most, records[reader].numbers[2], records[reader].numbers[3]});
  return most;
}

void Plan::build() {
  if (fuse) narrow_logic(*this);
  skipped.assign(wires.size(), false);
  for (size_t i = 1; i < wires.size(); i++) {
    if (skipped[i]) continue;
    const Build build = builder(records[i].kind);
    if (!build) throw std::invalid_argument("no form of the operation " + records[i].kind);
    build(*this, static_cast<int>(i));
  }
  for (size_t i = 0; i < wires.size(); i++)
    if (wires[i].answers || (keep && (wires[i].view || wires[i].bits))) view(static_cast<int>(i));
  for (size_t i = 0; i < wires.size(); i++)
    if (wires[i].answers) buffers[wires[i].view->buffer].last = FOREVER;
  // first fit, the largest first, among what is needed at the same time
  std::vector<size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return buffers[a].bytes > buffers[b].bytes; });
  std::vector<size_t> placed;
  for (size_t i : order) {
    Buffer& mine = buffers[i];
    int64_t at = 0;
    bool moved = true;
    while (moved) {
      moved = false;
      for (size_t k : placed) {
        const Buffer& other = buffers[k];
        const bool together = mine.kept || other.kept || (mine.first <= other.last && other.first <= mine.last);
        if (together && at < other.offset + other.bytes && other.offset < at + mine.bytes)
          at = other.offset + other.bytes, moved = true;
      }
    }
    mine.offset = at;
    arena_bytes = std::max(arena_bytes, at + mine.bytes);
    placed.push_back(i);
  }
}

}  // namespace saccade::engine
