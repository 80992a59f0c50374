// Operations place by place: sums with factors, products, thresholds, potentials, mixings over time.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "engine.h"
#include "neurons.h"
#include "spikes.h"

namespace saccade::engine {
namespace {

struct Reader {  // a wire as a tensor of nests
  View view;
  Sizes stride;
};

Reader reader(Plan& plan, int wire, const Sizes& shape) {
  const View& v = plan.view(wire);
  return {v, repeated(v.size, v.stride, shape)};
}

// Widens n places of a tensor at a step.
void read(const Plan& plan, const Call& c, const View& v, int64_t place, int64_t step, int64_t t, int64_t n, int64_t* to) {
  plan.kernels->widen(plan.at(c, v) + (place + t * v.step) * bytes_of(v.type), v.type, step, n, to);
}
void write(const Plan& plan, const Call& c, const View& v, int64_t place, int64_t step, int64_t t, int64_t n,
           const int64_t* from) {
  plan.kernels->narrow(from, n, plan.at(c, v) + (place + t * v.step) * bytes_of(v.type), v.type, step);
}

View result(Plan& plan, int wire, const std::vector<Reader>& inputs) {
  const Wire& w = plan.wires[wire];
  Sizes order;
  for (const Reader& r : inputs)
    if (product(r.view.size) == product(w.shape)) {
      order = order_like(r.view, w.shape);
      break;
    }
  const View made = plan.allocate(w, narrowest(w.low, w.high), order);
  plan.wires[wire].view = made;
  return made;
}

// Where the channels of all numbers lie innermost and all places one behind the other: loops over whole pieces of places, and
// constants of the channels as often as a piece has places. A loop over a few channels would be short.
bool repeated_channels(const Sizes& shape, const View& made, const std::vector<Reader>& inputs, const Numbers& offset,
                       const std::vector<Numbers>& factors, Nest& loops, std::vector<std::shared_ptr<std::vector<int64_t>>>& constants) {
  size_t axis = shape.size();
  for (size_t i = 0; i < shape.size(); i++)
    if (made.stride[i] == 1 && shape[i] > 1) axis = i;
  if (axis == shape.size() || shape[axis] > CHUNK / 2) return false;
  std::vector<const Numbers*> all{&offset};
  for (const Numbers& factor : factors) all.push_back(&factor);
  for (const Numbers* each : all)
    for (size_t i = 0; i < shape.size(); i++)
      if (i != axis && shape[i] > 1 && each->stride[i]) return false;
  std::vector<Sizes> strides{made.stride, made.stride};
  for (const Reader& r : inputs) strides.push_back(r.stride), strides.push_back(r.stride);
  Nest flat = nest(shape, strides);
  for (int k = 0; k < static_cast<int>(strides.size()); k++)
    if (flat.outer != 1 || flat.step(k) != 1) return false;
  flat.chunk = CHUNK / shape[axis] * shape[axis];
  flat.chunks = (flat.inner + flat.chunk - 1) / flat.chunk;
  for (size_t k = 0; k < all.size(); k++) {
    auto made_of = std::make_shared<std::vector<int64_t>>(flat.chunk);
    for (int64_t i = 0; i < flat.chunk; i++) (*made_of)[i] = (*all[k]->data)[i % shape[axis] * all[k]->stride[axis]];
    constants[k] = std::move(made_of);
  }
  loops = flat;
  return true;
}

// Numbers: before of each input, after. Arrays: offset, then a factor of each input.
void combine(Plan& plan, int wire) {
  if (plan.fuse && spikes_logic(plan, wire)) return;
  const Record record = plan.records[wire];
  const Sizes shape = plan.wires[wire].shape;
  std::vector<Reader> inputs;
  for (int i : record.inputs) inputs.push_back(reader(plan, i, shape));
  const View made = result(plan, wire, inputs);
  std::vector<Sizes> strides{made.stride};
  const Numbers offset = numbers(record.arrays[0], shape);
  strides.push_back(offset.stride);
  std::vector<Numbers> factors;
  for (size_t k = 0; k < inputs.size(); k++) {
    strides.push_back(inputs[k].stride);
    factors.push_back(numbers(record.arrays[k + 1], shape));
    strides.push_back(factors.back().stride);
  }
  if (strides.size() > Nest::MOST) throw std::invalid_argument("the engine adds up to 63 branches at once");
  Nest loops = nest(shape, strides);
  std::vector<std::shared_ptr<std::vector<int64_t>>> constants{offset.data};
  for (const Numbers& factor : factors) constants.push_back(factor.data);
  const bool repeat = repeated_channels(shape, made, inputs, offset, factors, loops, constants);
  const int64_t T = plan.wires[wire].steps, after = record.numbers.back();
  const std::vector<int64_t> before = record.numbers;
  plan.add(wire, "sums", loops.units(), [=, &plan](const Call& c, int64_t first, int64_t last) {
    int64_t total[CHUNK], x[CHUNK];
    loops.each(first, last, [&](const int64_t* at, int64_t n) {
      // constants begin with each piece, or where its places say
      const auto place = [&](size_t k) { return repeat ? 0 : at[k]; };
      const auto step = [&](size_t k) { return repeat ? 1 : loops.step(static_cast<int>(k)); };
      for (int64_t t = 0; t < T; t++) {
        plan.kernels->widen(constants[0]->data() + place(1), Type::i64, step(1), n, total);
        for (size_t k = 0; k < inputs.size(); k++) {
          read(plan, c, inputs[k].view, at[2 + 2 * k], loops.step(2 + 2 * k), t, n, x);
          plan.kernels->gather(total, x, constants[k + 1]->data() + place(3 + 2 * k), step(3 + 2 * k), before[k], n);
        }
        if (after) plan.kernels->drop(total, after, n);
        write(plan, c, made, at[0], loops.step(0), t, n, total);
      }
    });
  });
}

void multiply(Plan& plan, int wire) {
  if (plan.fuse && spikes_logic(plan, wire)) return;
  const Record record = plan.records[wire];
  const Sizes shape = plan.wires[wire].shape;
  const std::vector<Reader> inputs{reader(plan, record.inputs[0], shape), reader(plan, record.inputs[1], shape)};
  const View made = result(plan, wire, inputs);
  const Nest loops = nest(shape, {made.stride, inputs[0].stride, inputs[1].stride});
  const int64_t T = plan.wires[wire].steps;
  plan.add(wire, "products", loops.units(), [=, &plan](const Call& c, int64_t first, int64_t last) {
    int64_t y[CHUNK], x[CHUNK];
    loops.each(first, last, [&](const int64_t* at, int64_t n) {
      for (int64_t t = 0; t < T; t++) {
        read(plan, c, inputs[0].view, at[1], loops.step(1), t, n, y);
        read(plan, c, inputs[1].view, at[2], loops.step(2), t, n, x);
        plan.kernels->multiply(y, x, n);
        write(plan, c, made, at[0], loops.step(0), t, n, y);
      }
    });
  });
}

// Arrays: sign, thresholds [D, ...].
void thresholds(Plan& plan, int wire) {
  if (levels_in_place(plan, wire)) return;
  const Record record = plan.records[wire];
  const Sizes shape = plan.wires[wire].shape;
  const Reader in = reader(plan, record.inputs[0], shape);
  const View made = result(plan, wire, {in});
  const Numbers sign = numbers(record.arrays[0], shape), theta = numbers(record.arrays[1], shape, true);
  const Nest loops = nest(shape, {made.stride, in.stride, sign.stride, theta.stride});
  const int64_t T = plan.wires[wire].steps, levels = record.arrays[1].shape[0];
  plan.add(wire, "thresholds", loops.units(), [=, &plan](const Call& c, int64_t first, int64_t last) {
    int64_t x[CHUNK], level[CHUNK];
    loops.each(first, last, [&](const int64_t* at, int64_t n) {
      for (int64_t t = 0; t < T; t++) {
        read(plan, c, in.view, at[1], loops.step(1), t, n, x);
        plan.kernels->reach(level, x, sign.data->data() + at[2], loops.step(2), theta.data->data() + at[3], loops.step(3),
                            theta.level, levels, n);
        write(plan, c, made, at[0], loops.step(0), t, n, level);
      }
    });
  });
}

// Numbers: shift, reset. Arrays: factor, offset, decay, thresholds [D, ...], amount; and, of potentials that are stored in a few
// bits, edges [K - 1, ...] and what is stored [K, ...].
void membrane(Plan& plan, int wire) {
  const Record record = plan.records[wire];
  const Sizes shape = plan.wires[wire].shape;
  const Reader in = reader(plan, record.inputs[0], shape);
  const View made = result(plan, wire, {in});
  const Numbers factor = numbers(record.arrays[0], shape), offset = numbers(record.arrays[1], shape),
                decay = numbers(record.arrays[2], shape), theta = numbers(record.arrays[3], shape, true),
                amount = numbers(record.arrays[4], shape);
  std::vector<Sizes> strides{made.stride, in.stride, factor.stride, offset.stride, decay.stride, theta.stride, amount.stride};
  const bool few = record.arrays.size() > 5;
  Numbers edges, stored;
  if (few) {
    edges = numbers(record.arrays[5], shape, true), stored = numbers(record.arrays[6], shape, true);
    strides.push_back(edges.stride), strides.push_back(stored.stride);
  }
  const int64_t count = few ? record.arrays[5].shape[0] : 0;
  const Nest loops = nest(shape, strides);
  const int64_t T = plan.wires[wire].steps, levels = record.arrays[3].shape[0];
  const int64_t shift = record.numbers[0], kept = plan.streams ? plan.state(8 * product(shape)) : -1;
  const int reset = static_cast<int>(record.numbers[1]);
  plan.add(wire, "potentials", loops.units(), [=, &plan](const Call& c, int64_t first, int64_t last) {
    int64_t x[CHUNK], v[CHUNK], level[CHUNK];
    loops.each(first, last, [&](const int64_t* at, int64_t n) {
      const MembraneChunk constants{factor.data->data() + at[2], offset.data->data() + at[3], decay.data->data() + at[4],
                                    amount.data->data() + at[6], theta.data->data() + at[5], loops.step(2), loops.step(3),
                                    loops.step(4), loops.step(6), loops.step(5), theta.level, levels, shift, reset};
      int64_t* state = kept < 0 ? nullptr : reinterpret_cast<int64_t*>(c.state + kept) + at[0];
      if (state && c.done)
        plan.kernels->widen(state, Type::i64, loops.step(0), n, v);
      else
        std::memset(v, 0, sizeof v);
      for (int64_t t = 0; t < T; t++) {
        read(plan, c, in.view, at[1], loops.step(1), t, n, x);
        plan.kernels->membrane(constants, x, v, level, n);
        if (few)
          plan.kernels->store({edges.data->data() + at[7], stored.data->data() + at[8], loops.step(7), loops.step(8), edges.level,
                               stored.level, count}, v, n);
        write(plan, c, made, at[0], loops.step(0), t, n, level);
      }
      if (state) plan.kernels->narrow(v, n, state, Type::i64, loops.step(0));
    });
  });
}

// Arrays: sign, taps [S, S], thresholds [S, ...].
void mix(Plan& plan, int wire) {
  const Record record = plan.records[wire];
  const Sizes shape = plan.wires[wire].shape;
  const Reader in = reader(plan, record.inputs[0], shape);
  const View made = result(plan, wire, {in});
  const Numbers sign = numbers(record.arrays[0], shape), theta = numbers(record.arrays[2], shape, true);
  const Nest loops = nest(shape, {made.stride, in.stride, sign.stride, theta.stride});
  const auto taps = std::make_shared<std::vector<int64_t>>(record.arrays[1].data);
  const int64_t T = plan.wires[wire].steps, S = record.arrays[1].shape[0], size = product(shape);
  const int64_t history = plan.streams ? plan.state(8 * S * size) : -1;
  if (T > S) throw std::invalid_argument("a mixing over " + std::to_string(S) + " steps is given " + std::to_string(T));
  Step& step = plan.add(wire, "mixing", loops.units(), [=, &plan](const Call& c, int64_t first, int64_t last) {
    int64_t x[CHUNK], total[CHUNK], level[CHUNK];
    loops.each(first, last, [&](const int64_t* at, int64_t n) {
      for (int64_t t = 0; t < T; t++) {
        std::memset(total, 0, sizeof total);
        const int64_t now = c.done + t;
        if (history >= 0) {
          read(plan, c, in.view, at[1], loops.step(1), t, n, x);
          plan.kernels->narrow(x, n, reinterpret_cast<int64_t*>(c.state + history) + now * size + at[0], Type::i64,
                               loops.step(0));
        }
        for (int64_t s = 0; s <= now; s++) {
          if (history >= 0)
            plan.kernels->widen(reinterpret_cast<int64_t*>(c.state + history) + s * size + at[0], Type::i64,
                                loops.step(0), n, x);
          else
            read(plan, c, in.view, at[1], loops.step(1), s, n, x);
          plan.kernels->gather(total, x, taps->data() + now * S + s, 0, 0, n);
        }
        plan.kernels->reach(level, total, sign.data->data() + at[2], loops.step(2),
                            theta.data->data() + now * theta.level + at[3], loops.step(3), 0, 1, n);
        write(plan, c, made, at[0], loops.step(0), t, n, level);
      }
    });
  });
  step.before = [=](const Call& c) {
    if (c.done + T > S)
      throw std::invalid_argument("a mixing over " + std::to_string(S) + " steps is given " + std::to_string(c.done + T));
  };
}

const Registered known[] = {{"combine", combine}, {"multiply", multiply}, {"thresholds", thresholds},
                            {"membrane", membrane}, {"stored_membrane", membrane}, {"mix", mix}};

}  // namespace
}  // namespace saccade::engine
