// What moves numbers: other shapes, orders and parts of axes are views; what cannot be one is copied.
#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>

#include "engine.h"

namespace saccade::engine {
namespace {

void copy(Plan& plan, int wire, const View from, const View to, const Sizes& shape, const char* how) {
  const Nest loops = nest(shape, {to.stride, repeated(from.size, from.stride, shape)});
  const int64_t T = plan.wires[wire].steps;
  const bool same = from.type == to.type && loops.step(0) == 1 && loops.step(1) == 1;
  plan.add(wire, how, loops.units(), [=, &plan](const Call& c, int64_t first, int64_t last) {
    int64_t row[CHUNK];
    loops.each(first, last, [&](const int64_t* at, int64_t n) {
      for (int64_t t = 0; t < T; t++) {
        const char* x = plan.at(c, from) + (at[1] + t * from.step) * bytes_of(from.type);
        char* y = plan.at(c, to) + (at[0] + t * to.step) * bytes_of(to.type);
        if (same) {
          std::memcpy(y, x, n * bytes_of(from.type));
          continue;
        }
        plan.kernels->widen(x, from.type, loops.step(1), n, row);
        plan.kernels->narrow(row, n, y, to.type, loops.step(0));
      }
    });
  });
}

// A view of another shape, if its places, row by row, lie so that there is one.
bool reshaped(const View& from, const Sizes& shape, View& to) {
  Sizes size, stride;  // axes of more than one place, joined where they lie together
  for (size_t i = 0; i < from.size.size(); i++) {
    if (from.size[i] == 1) continue;
    if (!size.empty() && stride.back() == from.stride[i] * from.size[i])
      size.back() *= from.size[i], stride.back() = from.stride[i];
    else
      size.push_back(from.size[i]), stride.push_back(from.stride[i]);
  }
  to = from;
  to.size = shape;
  to.stride.assign(shape.size(), 0);
  size_t at = size.size();
  int64_t left = 1, next = 0;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] == 1) continue;
    if (left == 1) {
      if (at == 0) return false;
      at--;
      left = size[at], next = stride[at];
    }
    if (left % shape[i]) return false;
    to.stride[i] = next;
    next *= shape[i];
    left /= shape[i];
  }
  return left == 1 && at == 0;
}

void reshape(Plan& plan, int wire) {
  const int source = plan.records[wire].inputs[0];
  const View from = plan.view(source);
  View to;
  if (reshaped(from, plan.wires[wire].shape, to)) {
    plan.wires[wire].view = to;
    return;
  }
  Wire flat = plan.wires[wire];
  flat.shape = from.size;
  View made = plan.allocate(flat, from.type);
  copy(plan, wire, from, made, from.size, "move");
  made.size = plan.wires[wire].shape;
  made.stride = contiguous(made.size);
  plan.wires[wire].view = made;
}

void transpose(Plan& plan, int wire) {
  const Record& record = plan.records[wire];
  const View from = plan.view(record.inputs[0]);
  View to = from;
  for (size_t i = 0; i < record.numbers.size(); i++) {
    to.size[i] = from.size[record.numbers[i]];
    to.stride[i] = from.stride[record.numbers[i]];
  }
  plan.wires[wire].view = to;
}

void expand(Plan& plan, int wire) {
  View to = plan.view(plan.records[wire].inputs[0]);
  to.stride = repeated(to.size, to.stride, plan.wires[wire].shape);
  to.size = plan.wires[wire].shape;
  plan.wires[wire].view = to;
}

// Numbers: axis, start, stop, stride.
void part(Plan& plan, int wire) {
  const std::vector<int64_t>& n = plan.records[wire].numbers;
  View to = plan.view(plan.records[wire].inputs[0]);
  to.start += n[1] * to.stride[n[0]];
  to.stride[n[0]] *= n[3];
  to.size = plan.wires[wire].shape;
  plan.wires[wire].view = to;
}

void hold(Plan& plan, int wire) { plan.wires[wire].view = plan.view(plan.records[wire].inputs[0]); }

// Numbers: places on each side of the last two axes.
void pad(Plan& plan, int wire) {
  const int64_t p = plan.records[wire].numbers[0];
  const View from = plan.view(plan.records[wire].inputs[0]);
  const Wire& w = plan.wires[wire];
  const View made = plan.allocate(w, from.type, order_like(from, w.shape));
  plan.buffers[made.buffer].kept = true;  // zeros around it are written once
  View inner = made;
  const size_t dims = made.size.size();
  inner.start += p * (made.stride[dims - 1] + made.stride[dims - 2]);
  inner.size = from.size;
  copy(plan, wire, from, inner, from.size, "border");
  plan.wires[wire].view = made;
}

// Numbers: what the channel that is added holds.
void mark(Plan& plan, int wire) {
  const int64_t number = plan.records[wire].numbers[0];
  const View from = plan.view(plan.records[wire].inputs[0]);
  const Wire w = plan.wires[wire];
  const View made = plan.allocate(w, narrowest(w.low, w.high));
  View inner = made;
  inner.size = from.size;
  copy(plan, wire, from, inner, from.size, "move");
  const int64_t channels = from.size[0], row = from.size[2];
  plan.add(wire, "mark", w.steps * from.size[1], [=, &plan](const Call& c, int64_t first, int64_t last) {
    int64_t values[CHUNK];
    for (int64_t& value : values) value = number;
    for (int64_t u = first; u < last; u++)
      for (int64_t x = 0; x < row; x += CHUNK) {
        const int64_t t = u / made.size[1], y = u % made.size[1];
        const int64_t place = t * made.step + channels * made.stride[0] + y * made.stride[1] + x * made.stride[2];
        plan.kernels->narrow(values, std::min(CHUNK, row - x), plan.at(c, made) + place * bytes_of(made.type), made.type, 1);
      }
  });
  plan.wires[wire].view = made;
}

// Numbers: axis, zeros before. Its inputs lie one behind the other; what they leave free stays 0.
void concat(Plan& plan, int wire) {
  const Record& record = plan.records[wire];
  const Wire w = plan.wires[wire];
  const int64_t axis = record.numbers[0];
  const std::optional<View> place = plan.joined(wire);
  const View made = place ? *place : plan.allocate(w, narrowest(w.low, w.high), order_like(plan.view(record.inputs[0]), w.shape));
  if (place)
    plan.used(made.buffer);
  else
    plan.buffers[made.buffer].kept = true;  // zeros are written once
  int64_t at = record.numbers[1];
  for (int input : record.inputs) {
    const View from = plan.view(input);
    View to = made;
    to.start += at * made.stride[axis];
    to.size = from.size;
    at += from.size[axis];
    if (from.buffer != made.buffer) copy(plan, wire, from, to, from.size, "join");
  }
  plan.wires[wire].view = made;
}

// Row (t mod height) of frame t: [C, H, W] -> [C * W].
void rows(Plan& plan, int wire) {
  const View from = plan.view(plan.records[wire].inputs[0]);
  const Wire& w = plan.wires[wire];
  const View made = plan.allocate(w, from.type);
  const int64_t T = w.steps, C = from.size[0], H = from.size[1], W = from.size[2], bytes = bytes_of(from.type);
  plan.add(wire, "rows", T, [=, &plan](const Call& c, int64_t first, int64_t last) {
    int64_t row[CHUNK];
    for (int64_t t = first; t < last; t++)
      for (int64_t channel = 0; channel < C; channel++)
        for (int64_t x = 0; x < W; x += CHUNK) {
          const int64_t n = std::min(CHUNK, W - x), y = (c.done + t) % H;
          const int64_t place = channel * from.stride[0] + y * from.stride[1] + x * from.stride[2] + t * from.step;
          plan.kernels->widen(plan.at(c, from) + place * bytes, from.type, from.stride[2], n, row);
          plan.kernels->narrow(row, n, plan.at(c, made) + (channel * W + x + t * made.step) * bytes, made.type, 1);
        }
  });
  plan.wires[wire].view = made;
}

const Registered known[] = {{"reshape", reshape}, {"transpose", transpose}, {"expand", expand}, {"part", part},
                            {"hold", hold},       {"pad", pad},             {"rows", rows},
                            {"mark", mark},       {"concat", concat}};

}  // namespace
}  // namespace saccade::engine
