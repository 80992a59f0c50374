// The leaky integrate-and-fire recurrence, forward and backward, for one chunk of neurons with time outermost: the chunk's state
// stays in the cache while each step's input and output pass through once. Order of operations as in saccade/kernels/reference.py.
#include <algorithm>
#include <type_traits>

#include "kernels.h"
#include "simd.h"

namespace saccade {
namespace SACCADE_ISA {
namespace {

// The constants of one chunk: single numbers, or rows of the chunk's length.
struct Constants {
  const float *decay, *gain, *v_th;
  float v_rest, v_reset;
};

// How a row is charged: with constants of the chunk's length; with numbers; with numbers and a rest potential of zero, whose
// addition changes nothing but the sign of a zero.
enum class Mode { rows, numbers, zero_rest };

// The constants inside a row's loop: numbers are in registers.
template <Mode mode> struct Charge {
  static constexpr bool Rows = mode == Mode::rows;
  const float *decays, *gains, *thresholds;
  V one_decay, one_gain, one_threshold, rest, reset;
  explicit Charge(const Constants& c)
      : decays(c.decay), gains(c.gain), thresholds(c.v_th), one_decay(all(*c.decay)), one_gain(all(*c.gain)),
        one_threshold(all(*c.v_th)), rest(all(c.v_rest)), reset(all(c.v_reset)) {}
  ALWAYS_MEMBER V decay(int64_t i) const { return Rows ? load(decays + i) : one_decay; }
  ALWAYS_MEMBER V gain(int64_t i) const { return Rows ? load(gains + i) : one_gain; }
  ALWAYS_MEMBER V v_th(int64_t i) const { return Rows ? load(thresholds + i) : one_threshold; }
  ALWAYS_MEMBER V operator()(V v, V x, int64_t i) const {
    if constexpr (mode == Mode::zero_rest) return decay(i) * v + gain(i) * x;
    return (rest + decay(i) * (v - rest)) + gain(i) * x;
  }
};

// A potential that is not finite never fires: it stays and shows.
ALWAYS I fires(V u, V v_th) { return (u >= v_th) & (u <= __FLT_MAX__); }

template <Reset R> ALWAYS V after(V u, V v_th, V v_reset) {
  if constexpr (R == Reset::hard) return fires(u, v_th) ? v_reset : u;
  if constexpr (R == Reset::soft) return fires(u, v_th) ? u - v_th : u;
  return u;
}

// Ones and zeros.
ALWAYS void write_spikes(float* p, int64_t i, int64_t n, I fired, bool aligned) {
  write(p, i, n, fired ? all(1.f) : V{}, aligned);
}
ALWAYS void write_spikes(Bfloat16* p, int64_t i, int64_t n, I fired, bool aligned) {
  write_bits(p, i, n, __builtin_convertvector(fired & 0x3f80, H), aligned);
}

// Calls body(i, n) for a row: up to the alignment of `out`, in whole vectors, and the rest.
template <class E, class Body> ALWAYS void over(const E* out, int64_t length, Body body) {
  const int64_t head = unaligned(out, length);
  if (head) body(0, head);
  int64_t i = head;
  for (; i + W <= length; i += W) body(i, int64_t{W});
  if (i < length) body(i, length - i);
}

template <class E, Reset R, Mode M, bool Stream>
void forward_row(const Constants& constants, const E* x, const E* ahead, float* v, E* s, float* u_out, int64_t length) {
  const Charge<M> c(constants);
  over(s, length, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    __builtin_prefetch(ahead + i);
    const V th = c.v_th(i);
    const V u = c(read(v, i, n), read(x, i, n), i);
    write_spikes(s, i, n, fires(u, th), Stream);
    write(v, i, n, after<R>(u, th, c.reset), false);
    if (u_out) write(u_out, i, n, u, false);
  });
}

// The potentials once more, for the way back: from those of the step before, or from the state before the first.
template <class E, Reset R, Mode M, bool First>
void again_row(const Constants& constants, const E* x, const E* ahead, const float* before, float* u_out, int64_t length) {
  const Charge<M> c(constants);
  over(u_out, length, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    __builtin_prefetch(ahead + i);
    const V from = read(before, i, n);
    write(u_out, i, n, c(First ? from : after<R>(from, c.v_th(i), c.reset), read(x, i, n), i), false);
  });
}

template <Surrogate S> ALWAYS V derivative(V d, float w) {
  const V zero{};
  const V size = d < 0.f ? -d : d;
  if constexpr (S == Surrogate::atan) {
    // (w/2) / (1 + (pi/2 w d)^2), the factor taken into the sum
    return reciprocal(multiply_add(all(4.93480220054467931f * w), d * d, all(2 / w)));
  }
  if constexpr (S == Surrogate::sigmoid) {
    const V y = reciprocal(1.f + exponential(-w * d));
    return w * y * (1.f - y);
  }
  if constexpr (S == Surrogate::triangle) {
    const V rise = w - size;
    return (rise < 0.f ? zero : rise) / (w * w);
  }
  if constexpr (S == Surrogate::rectangle) return size < w ? all(1.f / (2 * w)) : zero;
  if constexpr (S == Surrogate::gaussian) {
    const V z = d / w;
    return exponential(z * z / -2.f) / (w * 2.50662827463100050f);
  }
  return all(1.f);
}

template <class E> struct Back {
  const E *ahead, *grad_s;
  E* grad_x;
  const float *x, *u, *u_before, *grad_u;  // u_before, x: only where constants have gradients
  float* grad_v;                           // gradient of the state after, then before, this step
  const float* v_start;                    // state before the first step, where u_before is null
  float* grad_constants[3];
  float width;
};

template <class E, Reset R, bool Detach, Surrogate S, bool Rows, bool Stream, bool Learn, bool Sum>
void back_row(const Constants& constants, const Back<E>& back, int64_t length) {
  const Charge<Rows ? Mode::rows : Mode::numbers> c(constants);
  const Back<E> b = back;
  over(b.grad_x, length, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    __builtin_prefetch(b.ahead + i);
    const V u = read(b.u, i, n), th = c.v_th(i), gv = read(b.grad_v, i, n);
    const V slope = derivative<S>(u - th, b.width);
    const I fired = fires(u, th);
    V gs = read(b.grad_s, i, n);
    V gu = gv;
    if constexpr (R == Reset::hard) {
      gu = fired ? V{} : gv;
      if constexpr (!Detach) gs += gv * (c.reset - u);
    }
    if constexpr (R == Reset::soft && !Detach) gs -= gv * th;
    const V into = gs * slope;  // not kept unless constants are learnt
    gu = multiply_add(gs, slope, gu);
    if (b.grad_u) gu += read(b.grad_u, i, n);
    V gx = c.gain(i) * gu;
    if constexpr (Sum) gx += read(b.grad_x, i, n);
    write(b.grad_x, i, n, gx, Stream);
    write(b.grad_v, i, n, c.decay(i) * gu, false);
    if constexpr (Learn) {
      auto add = [&](int k, V g) __attribute__((always_inline)) {
        if (float* p = b.grad_constants[k]) write(p, i, n, read(p, i, n) + g, false);
      };
      if (b.grad_constants[0]) {
        const V before = b.u_before ? after<R>(read(b.u_before, i, n), th, c.reset) : read(b.v_start, i, n);
        add(0, gu * (before - c.rest));
      }
      if (b.grad_constants[1]) add(1, gu * read(b.x, i, n));
      V gth = -into;
      if constexpr (R == Reset::soft) gth -= fired ? gv : V{};
      add(2, gth);
    }
  });
}

const float* as_floats(const void* p, Type type, int64_t at, int64_t n, float* row) {
  if (type == Type::float32) return static_cast<const float*>(p) + at;
  const uint16_t* h = static_cast<const uint16_t*>(p) + at;
  for (int64_t i = 0; i < n; i += W) {
    H part{};
    std::memcpy(&part, h + i, (n - i < W ? n - i : W) * sizeof(uint16_t));
    store(row + i, type == Type::bfloat16 ? from_bfloat16(part) : from_float16(part));
  }
  return row;
}

void from_floats(const float* row, void* p, Type type, int64_t at, int64_t n) {
  uint16_t* h = static_cast<uint16_t*>(p) + at;
  for (int64_t i = 0; i < n; i += W) {
    const V v = load(row + i);
    const H part = type == Type::bfloat16 ? to_bfloat16(v) : to_float16(v);
    std::memcpy(h + i, &part, (n - i < W ? n - i : W) * sizeof(uint16_t));
  }
}

// Scratch rows have room for a whole vector at their end; see *_scratch in kernels.h.
int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

struct Rows {
  float* next;
  int64_t length;
  float* row() { float* p = next; next += length; return p; }
};

const float* constant_row(const Constant& c, bool rows, int64_t begin, int64_t n, float* row) {
  if (!rows) {
    *row = c.values ? *c.values : c.number;
    return row;
  }
  for (int64_t i = 0; i < n; ++i) row[i] = c.at(begin + i);
  return row;
}

bool has_rows(const Neuron& n) { return n.decay.size > 1 || n.gain.size > 1 || n.v_th.size > 1; }

Constants constants(const Neuron& n, int64_t begin, int64_t length, Rows& scratch) {
  const bool rows = has_rows(n);
  const float* decay = constant_row(n.decay, rows, begin, length, scratch.row());
  const float* gain = constant_row(n.gain, rows, begin, length, scratch.row());
  const float* v_th = constant_row(n.v_th, rows, begin, length, scratch.row());
  return {decay, gain, v_th, n.v_rest, n.v_reset};
}

void start(const float* v0, float v_rest, int64_t begin, int64_t n, float* v) {
  if (v0) std::memcpy(v, v0 + begin, n * sizeof(float));
  else for (int64_t i = 0; i < n; ++i) v[i] = v_rest;
}

Mode mode_of(const Neuron& n) {
  if (has_rows(n)) return Mode::rows;
  return n.v_rest == 0 ? Mode::zero_rest : Mode::numbers;
}

template <class E> using ForwardRow = decltype(&forward_row<E, Reset::hard, Mode::rows, false>);
template <class E, Reset R> ForwardRow<E> forward_row_of(Mode mode, bool stream) {
  switch (mode) {
    case Mode::rows: return stream ? forward_row<E, R, Mode::rows, true> : forward_row<E, R, Mode::rows, false>;
    case Mode::numbers: return stream ? forward_row<E, R, Mode::numbers, true> : forward_row<E, R, Mode::numbers, false>;
    default: return stream ? forward_row<E, R, Mode::zero_rest, true> : forward_row<E, R, Mode::zero_rest, false>;
  }
}
template <class E> ForwardRow<E> forward_row_of(const Neuron& n, bool stream) {
  switch (n.reset) {
    case Reset::hard: return forward_row_of<E, Reset::hard>(mode_of(n), stream);
    case Reset::soft: return forward_row_of<E, Reset::soft>(mode_of(n), stream);
    default: return forward_row_of<E, Reset::none>(mode_of(n), stream);
  }
}

template <class E> using AgainRow = decltype(&again_row<E, Reset::hard, Mode::rows, false>);
template <class E, Reset R, bool First> AgainRow<E> again_row_of(Mode mode) {
  switch (mode) {
    case Mode::rows: return again_row<E, R, Mode::rows, First>;
    case Mode::numbers: return again_row<E, R, Mode::numbers, First>;
    default: return again_row<E, R, Mode::zero_rest, First>;
  }
}
template <class E, bool First> AgainRow<E> again_row_of(const Neuron& n) {
  switch (n.reset) {
    case Reset::hard: return again_row_of<E, Reset::hard, First>(mode_of(n));
    case Reset::soft: return again_row_of<E, Reset::soft, First>(mode_of(n));
    default: return again_row_of<E, Reset::none, First>(mode_of(n));
  }
}

// How a row goes back. Rare combinations (constants per channel, learnt constants, an input summed over time) share one slower
// form each, which has floats alone.
struct Way {
  bool rows, stream, learn, sum;
};
template <class E> using BackRow = decltype(&back_row<E, Reset::hard, true, Surrogate::atan, false, false, false, false>);
template <class E, Reset R, bool Detach, Surrogate S> BackRow<E> back_row_of(Way w) {
  if constexpr (std::is_same_v<E, float>) {
    if (w.sum) return w.learn || w.rows ? nullptr : back_row<E, R, Detach, S, false, false, false, true>;
    if (w.learn)
      return w.rows ? back_row<E, R, Detach, S, true, false, true, false> : back_row<E, R, Detach, S, false, false, true, false>;
    if (w.rows) return back_row<E, R, Detach, S, true, false, false, false>;
  }
  return w.stream ? back_row<E, R, Detach, S, false, true, false, false> : back_row<E, R, Detach, S, false, false, false, false>;
}
template <class E, Reset R, bool Detach> BackRow<E> back_row_of(Surrogate s, Way w) {
  switch (s) {
    case Surrogate::atan: return back_row_of<E, R, Detach, Surrogate::atan>(w);
    case Surrogate::sigmoid: return back_row_of<E, R, Detach, Surrogate::sigmoid>(w);
    case Surrogate::triangle: return back_row_of<E, R, Detach, Surrogate::triangle>(w);
    case Surrogate::rectangle: return back_row_of<E, R, Detach, Surrogate::rectangle>(w);
    case Surrogate::gaussian: return back_row_of<E, R, Detach, Surrogate::gaussian>(w);
    default: return back_row_of<E, R, Detach, Surrogate::straight_through>(w);
  }
}
template <class E> BackRow<E> back_row_of(const Neuron& n, Way w) {
  const Surrogate s = n.surrogate;
  switch (n.reset) {
    case Reset::hard: return n.detach_reset ? back_row_of<E, Reset::hard, true>(s, w) : back_row_of<E, Reset::hard, false>(s, w);
    case Reset::soft: return n.detach_reset ? back_row_of<E, Reset::soft, true>(s, w) : back_row_of<E, Reset::soft, false>(s, w);
    default: return back_row_of<E, Reset::none, true>(s, w);
  }
}

// A step's input where it lies, if it is kept in E; else as floats in a row.
template <class E> const E* step_of(const void* p, Type type, int64_t at, int64_t n, float* row) {
  if constexpr (std::is_same_v<E, float>) return as_floats(p, type, at, n, row);
  else return static_cast<const E*>(p) + at;
}

template <class E> void forward_in(const Forward& f, int64_t begin, int64_t end, float* scratch) {
  const auto& q = f.seq;
  const int64_t n = end - begin;
  Rows rows{scratch, padded(n)};
  const Constants c = constants(f.neuron, begin, n, rows);
  float *v = rows.row(), *x_row = rows.row(), *s_row = rows.row();
  start(f.v0, f.neuron.v_rest, begin, n, v);
  const bool direct = q.type != Type::float16;
  const auto step = forward_row_of<E>(f.neuron, q.stream && direct);
  const E* x = nullptr;
  for (int64_t t = 0; t < q.T; ++t) {
    const int64_t at = t * q.M + begin;
    if (q.x_stride || t == 0) x = step_of<E>(f.x, q.type, t * q.x_stride + begin, n, x_row);
    const E* ahead = x;
    if (q.stream && direct) ahead = t + 1 < q.T ? x + q.x_stride : static_cast<const E*>(f.x) + (end < q.M ? end : begin);
    float* potentials = f.potentials ? f.potentials + at : nullptr;
    if constexpr (std::is_same_v<E, float>) {
      step(c, x, ahead, v, direct ? static_cast<float*>(f.spikes) + at : s_row, potentials, n);
      if (!direct) from_floats(s_row, f.spikes, q.type, at, n);
    } else {
      step(c, x, ahead, v, static_cast<E*>(f.spikes) + at, potentials, n);
    }
  }
  if (f.v_last) std::memcpy(f.v_last + begin, v, n * sizeof(float));
  if (q.stream) fence();
}

void forward(const Forward& f, int64_t begin, int64_t end, float* scratch) {
  (f.seq.type == Type::bfloat16 ? forward_in<Bfloat16> : forward_in<float>)(f, begin, end, scratch);
}

// The potentials of all steps, a row each.
template <class E>
void potentials_again(const Backward& b, const Constants& c, int64_t begin, int64_t n, const float* v, float* x_row, Rows to) {
  const auto& q = b.seq;
  const auto first = again_row_of<E, true>(b.neuron), again = again_row_of<E, false>(b.neuron);
  for (int64_t t = 0; t < q.T; ++t) {
    const E* x = step_of<E>(b.x, q.type, t * q.x_stride + begin, n, x_row);
    const E* ahead = x;
    if (q.type != Type::float16)
      ahead = t + 1 < q.T ? x + q.x_stride : static_cast<const E*>(b.grad_spikes) + t * q.M + begin;
    float* u = to.row();
    (t ? again : first)(c, x, ahead, t ? u - to.length : v, u, n);
  }
}

// What one chunk goes back with.
struct Work {
  Constants constants;
  int64_t begin, n, end;
  const float* potentials;  // of step t at t * length
  int64_t length;
  float *x_row, *gs_row, *gx_row, *sum;  // sum: the gradient of an input that is shown T times
  float* apart;                          // and that of a step, where a row does not add it itself
  Way way;
};

// From gradients of the spikes in E to gradients of the input in E, where they lie.
template <class E> void back_in_place(const Backward& b, Back<E> r, const Work& w) {
  const auto& q = b.seq;
  const auto step = back_row_of<E>(b.neuron, w.way);
  for (int64_t t = q.T - 1; t >= 0; --t) {
    const int64_t at = t * q.M + w.begin;
    r.u = w.potentials + t * w.length;
    r.u_before = t ? r.u - w.length : nullptr;
    r.grad_s = static_cast<const E*>(b.grad_spikes) + at;
    r.grad_u = b.grad_potentials ? b.grad_potentials + at : nullptr;
    if (r.grad_constants[1]) r.x = as_floats(b.x, q.type, at, w.n, w.x_row);
    r.grad_x = static_cast<E*>(b.grad_x) + at;
    r.ahead = t ? r.grad_s - q.M : static_cast<const E*>(b.x) + (w.end < q.M ? w.end : w.begin);
    step(w.constants, r, w.n);
  }
}

// The same by way of rows of floats, and for an input that is shown T times.
void back_by_rows(const Backward& b, Back<float> r, const Work& w) {
  const auto& q = b.seq;
  const bool once = q.x_stride == 0, floats = q.type == Type::float32;
  const auto step = back_row_of<float>(b.neuron, w.way);
  if (once) std::memset(w.sum, 0, w.n * sizeof(float));
  for (int64_t t = q.T - 1; t >= 0; --t) {
    const int64_t at = t * q.M + w.begin;
    r.u = w.potentials + t * w.length;
    r.u_before = t ? r.u - w.length : nullptr;
    r.grad_s = as_floats(b.grad_spikes, q.type, at, w.n, w.gs_row);
    r.grad_u = b.grad_potentials ? b.grad_potentials + at : nullptr;
    if (r.grad_constants[1]) r.x = as_floats(b.x, q.type, t * q.x_stride + w.begin, w.n, w.x_row);
    r.grad_x = w.way.sum ? w.sum : w.apart;
    r.ahead = r.grad_s;
    if (floats) r.ahead = t ? r.grad_s - q.M : static_cast<const float*>(b.x) + (w.end < q.M ? w.end : w.begin);
    step(w.constants, r, w.n);
    if (once && !w.way.sum)
      for (int64_t i = 0; i < w.n; ++i) w.sum[i] += w.apart[i];
    else if (!once)
      from_floats(w.apart, b.grad_x, q.type, at, w.n);
  }
  if (once && !floats) from_floats(w.sum, b.grad_x, q.type, w.begin, w.n);
}

void backward(const Backward& b, int64_t begin, int64_t end, float* scratch) {
  const auto& q = b.seq;
  const int64_t n = end - begin;
  Rows rows{scratch, padded(n)};
  const Constants c = constants(b.neuron, begin, n, rows);
  float *v = rows.row(), *x_row = rows.row(), *gs_row = rows.row(), *gx_row = rows.row();
  const bool by_row = has_rows(b.neuron), floats = q.type == Type::float32, once = q.x_stride == 0;

  start(b.v0, b.neuron.v_rest, begin, n, v);
  (q.type == Type::bfloat16 ? potentials_again<Bfloat16> : potentials_again<float>)(b, c, begin, n, v, x_row, rows);
  const float* potentials = rows.next;
  float* start_row = rows.next + q.T * rows.length;
  float* grad_constants[3] = {};
  bool learn = false;
  for (int k = 0; k < 3; ++k)
    if (b.grad_constants[k]) {
      grad_constants[k] = b.grad_constants[k] + begin;
      std::memset(grad_constants[k], 0, n * sizeof(float));
      learn = true;
    }
  if (learn) start(b.v0, b.neuron.v_rest, begin, n, start_row);
  // the state has been used: its row is that of its gradient
  if (b.grad_v_last) std::memcpy(v, b.grad_v_last + begin, n * sizeof(float));
  else std::memset(v, 0, n * sizeof(float));

  const bool halves = q.type == Type::bfloat16 && !once && !learn && !by_row, in_place = halves || (floats && !once);
  const bool add = once && !learn && !by_row;  // summed by the row itself
  float* apart = once && !add && !floats ? start_row + rows.length : gx_row;
  float* sum = once && floats ? static_cast<float*>(b.grad_x) + begin : gx_row;
  const Work w{c, begin, n, end, potentials, rows.length, x_row, gs_row, gx_row, sum, apart, {by_row, q.stream && in_place, learn, add}};
  const auto with = [&](auto back) {
    back.grad_v = v, back.v_start = start_row, back.width = b.neuron.width;
    std::copy(grad_constants, grad_constants + 3, back.grad_constants);
    return back;
  };
  if (halves) back_in_place(b, with(Back<Bfloat16>{}), w);
  else if (in_place) back_in_place(b, with(Back<float>{}), w);
  else back_by_rows(b, with(Back<float>{}), w);
  if (b.grad_v0) std::memcpy(b.grad_v0 + begin, v, n * sizeof(float));
  if (q.stream) fence();
}

}  // namespace

bool pack(const void*, Type, Grid, uint8_t*, int64_t, int64_t, int64_t);
void unpack(const uint8_t*, int64_t, Grid, void*, Type, int64_t, int64_t);
void pool(const Pool&, int64_t, int64_t);
void integer_forward(const Integer&, int64_t, int64_t, float*);
void integer_backward(const Integer&, int64_t, int64_t, float*);
void dendritic_forward(const Dendritic&, int64_t, int64_t);
void dendritic_backward(const Dendritic&, int64_t, int64_t, float*);

extern const DehazeKernels dehaze;
extern const EventKernels events;
extern const FrameKernels frames;
extern const Kernels kernels;
#define NAME(x) NAME_(x)
#define NAME_(x) #x
const Kernels kernels = {NAME(SACCADE_ISA), forward, backward,        pack,             unpack,            pool,
                         &dehaze,           &events, &frames,         integer_forward,  integer_backward,  dendritic_forward,
                         dendritic_backward, W};

}  // namespace SACCADE_ISA
}  // namespace saccade
