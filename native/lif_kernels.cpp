// The leaky integrate-and-fire recurrence, forward and backward, for one chunk of neurons with time outermost: the chunk's state
// stays in the cache while each step's input and output pass through once. Order of operations as in saccade/kernels/reference.py.
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

// What a row does with n elements at i; a whole vector has n == W.
ALWAYS V read(const float* p, int64_t i, int64_t n) { return n == W ? load(p + i) : load_part(p + i, n); }
ALWAYS void write(float* p, int64_t i, int64_t n, V v, bool aligned) {
  if (n < W) store_part(p + i, v, n);
  else if (aligned) stream(p + i, v);
  else store(p + i, v);
}

// Calls body(i, n) for a row: up to the alignment of `out`, in whole vectors, and the rest.
template <class Body> ALWAYS void over(const float* out, int64_t length, Body body) {
  const int64_t head = unaligned(out, length);
  if (head) body(0, head);
  int64_t i = head;
  for (; i + W <= length; i += W) body(i, int64_t{W});
  if (i < length) body(i, length - i);
}

template <Reset R, Mode M, bool Stream>
void forward_row(const Constants& constants, const float* x, const float* ahead, float* v, float* s, float* u_out, int64_t length) {
  const Charge<M> c(constants);
  over(s, length, [&](int64_t i, int64_t n) __attribute__((always_inline)) {
    __builtin_prefetch(ahead + i);
    const V th = c.v_th(i);
    const V u = c(read(v, i, n), read(x, i, n), i);
    write(s, i, n, fires(u, th) ? all(1.f) : V{}, Stream);
    write(v, i, n, after<R>(u, th, c.reset), false);
    if (u_out) write(u_out, i, n, u, false);
  });
}

// The potentials once more, for the way back: from those of the step before, or from the state before the first.
template <Reset R, Mode M, bool First>
void again_row(const Constants& constants, const float* x, const float* ahead, const float* before, float* u_out, int64_t length) {
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

struct Back {
  const float *ahead;
  const float *x, *u, *u_before, *grad_s, *grad_u;  // u_before, x: only where constants have gradients
  float *grad_v, *grad_x;                           // grad_v: gradient of the state after, then before, this step
  const float* v_start;                             // state before the first step, where u_before is null
  float* grad_constants[3];
  float width;
};

template <Reset R, bool Detach, Surrogate S, bool Rows, bool Stream, bool Learn, bool Sum>
void back_row(const Constants& constants, const Back& back, int64_t length) {
  const Charge<Rows ? Mode::rows : Mode::numbers> c(constants);
  const Back b = back;
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

using ForwardRow = decltype(&forward_row<Reset::hard, Mode::rows, false>);
template <Reset R> ForwardRow forward_row_of(Mode mode, bool stream) {
  switch (mode) {
    case Mode::rows: return stream ? forward_row<R, Mode::rows, true> : forward_row<R, Mode::rows, false>;
    case Mode::numbers: return stream ? forward_row<R, Mode::numbers, true> : forward_row<R, Mode::numbers, false>;
    default: return stream ? forward_row<R, Mode::zero_rest, true> : forward_row<R, Mode::zero_rest, false>;
  }
}
ForwardRow forward_row_of(const Neuron& n, bool stream) {
  switch (n.reset) {
    case Reset::hard: return forward_row_of<Reset::hard>(mode_of(n), stream);
    case Reset::soft: return forward_row_of<Reset::soft>(mode_of(n), stream);
    default: return forward_row_of<Reset::none>(mode_of(n), stream);
  }
}

using AgainRow = decltype(&again_row<Reset::hard, Mode::rows, false>);
template <Reset R, bool First> AgainRow again_row_of(Mode mode) {
  switch (mode) {
    case Mode::rows: return again_row<R, Mode::rows, First>;
    case Mode::numbers: return again_row<R, Mode::numbers, First>;
    default: return again_row<R, Mode::zero_rest, First>;
  }
}
template <bool First> AgainRow again_row_of(const Neuron& n) {
  switch (n.reset) {
    case Reset::hard: return again_row_of<Reset::hard, First>(mode_of(n));
    case Reset::soft: return again_row_of<Reset::soft, First>(mode_of(n));
    default: return again_row_of<Reset::none, First>(mode_of(n));
  }
}

// Rare combinations (constants per channel, learnt constants, an input summed over time) share one slower form each.
using BackRow = decltype(&back_row<Reset::hard, true, Surrogate::atan, false, false, false, false>);
template <Reset R, bool Detach, Surrogate S> BackRow back_row_of(bool rows, bool stream, bool learn, bool sum) {
  if (sum) return learn || rows ? nullptr : back_row<R, Detach, S, false, false, false, true>;
  if (learn) return rows ? back_row<R, Detach, S, true, false, true, false> : back_row<R, Detach, S, false, false, true, false>;
  if (rows) return back_row<R, Detach, S, true, false, false, false>;
  return stream ? back_row<R, Detach, S, false, true, false, false> : back_row<R, Detach, S, false, false, false, false>;
}
template <Reset R, bool Detach> BackRow back_row_of(Surrogate s, bool rows, bool stream, bool learn, bool sum) {
  switch (s) {
    case Surrogate::atan: return back_row_of<R, Detach, Surrogate::atan>(rows, stream, learn, sum);
    case Surrogate::sigmoid: return back_row_of<R, Detach, Surrogate::sigmoid>(rows, stream, learn, sum);
    case Surrogate::triangle: return back_row_of<R, Detach, Surrogate::triangle>(rows, stream, learn, sum);
    case Surrogate::rectangle: return back_row_of<R, Detach, Surrogate::rectangle>(rows, stream, learn, sum);
    case Surrogate::gaussian: return back_row_of<R, Detach, Surrogate::gaussian>(rows, stream, learn, sum);
    default: return back_row_of<R, Detach, Surrogate::straight_through>(rows, stream, learn, sum);
  }
}
BackRow back_row_of(const Neuron& n, bool rows, bool stream, bool learn, bool sum) {
  const bool d = n.detach_reset;
  switch (n.reset) {
    case Reset::hard:
      return d ? back_row_of<Reset::hard, true>(n.surrogate, rows, stream, learn, sum)
               : back_row_of<Reset::hard, false>(n.surrogate, rows, stream, learn, sum);
    case Reset::soft:
      return d ? back_row_of<Reset::soft, true>(n.surrogate, rows, stream, learn, sum)
               : back_row_of<Reset::soft, false>(n.surrogate, rows, stream, learn, sum);
    default: return back_row_of<Reset::none, true>(n.surrogate, rows, stream, learn, sum);
  }
}

void forward(const Forward& f, int64_t begin, int64_t end, float* scratch) {
  const auto& q = f.seq;
  const int64_t n = end - begin;
  Rows rows{scratch, padded(n)};
  const Constants c = constants(f.neuron, begin, n, rows);
  float *v = rows.row(), *x_row = rows.row(), *s_row = rows.row();
  start(f.v0, f.neuron.v_rest, begin, n, v);
  const bool floats = q.type == Type::float32;
  const auto step = forward_row_of(f.neuron, q.stream && floats);
  for (int64_t t = 0; t < q.T; ++t) {
    const int64_t at = t * q.M + begin;
    const float* x = q.x_stride || t == 0 || floats ? as_floats(f.x, q.type, t * q.x_stride + begin, n, x_row) : x_row;
    const float* ahead = x;
    if (q.stream && floats) ahead = t + 1 < q.T ? x + q.x_stride : static_cast<const float*>(f.x) + (end < q.M ? end : begin);
    step(c, x, ahead, v, floats ? static_cast<float*>(f.spikes) + at : s_row, f.potentials ? f.potentials + at : nullptr, n);
    if (!floats) from_floats(s_row, f.spikes, q.type, at, n);
  }
  if (f.v_last) std::memcpy(f.v_last + begin, v, n * sizeof(float));
  if (q.stream) fence();
}

void backward(const Backward& b, int64_t begin, int64_t end, float* scratch) {
  const auto& q = b.seq;
  const int64_t n = end - begin;
  Rows rows{scratch, padded(n)};
  const Constants c = constants(b.neuron, begin, n, rows);
  float *v = rows.row(), *x_row = rows.row(), *gs_row = rows.row(), *gx_row = rows.row();
  const bool by_row = has_rows(b.neuron), floats = q.type == Type::float32, once = q.x_stride == 0;

  start(b.v0, b.neuron.v_rest, begin, n, v);
  const auto first = again_row_of<true>(b.neuron), again = again_row_of<false>(b.neuron);
  float* potentials = rows.next;
  for (int64_t t = 0; t < q.T; ++t) {
    const float* x = as_floats(b.x, q.type, t * q.x_stride + begin, n, x_row);
    const float* ahead = x;
    if (floats) ahead = t + 1 < q.T ? x + q.x_stride : static_cast<const float*>(b.grad_spikes) + t * q.M + begin;
    float* u = potentials + t * rows.length;
    (t ? again : first)(c, x, ahead, t ? u - rows.length : v, u, n);
  }

  Back r{};
  r.width = b.neuron.width;
  bool learn = false;
  for (int k = 0; k < 3; ++k)
    if (b.grad_constants[k]) {
      r.grad_constants[k] = b.grad_constants[k] + begin;
      std::memset(r.grad_constants[k], 0, n * sizeof(float));
      learn = true;
    }
  float* start_row = rows.next + q.T * rows.length;
  if (learn) start(b.v0, b.neuron.v_rest, begin, n, start_row);
  r.v_start = start_row;
  r.grad_v = v;  // the state has been used
  if (b.grad_v_last) std::memcpy(v, b.grad_v_last + begin, n * sizeof(float));
  else std::memset(v, 0, n * sizeof(float));

  float* sum = nullptr;
  if (once) {
    sum = floats ? static_cast<float*>(b.grad_x) + begin : gx_row;
    std::memset(sum, 0, n * sizeof(float));
  }
  const bool add = once && !learn && !by_row;  // summed by the row itself
  const auto step = back_row_of(b.neuron, by_row, q.stream && floats && !once, learn, add);
  float* apart = gx_row;
  if (once && !add && !floats) apart = rows.next + (q.T + 1) * rows.length;
  for (int64_t t = q.T - 1; t >= 0; --t) {
    const int64_t at = t * q.M + begin;
    r.u = potentials + t * rows.length;
    r.u_before = t ? r.u - rows.length : nullptr;
    r.grad_s = as_floats(b.grad_spikes, q.type, at, n, gs_row);
    r.grad_u = b.grad_potentials ? b.grad_potentials + at : nullptr;
    if (r.grad_constants[1]) r.x = as_floats(b.x, q.type, t * q.x_stride + begin, n, x_row);
    r.grad_x = add ? sum : !once && floats ? static_cast<float*>(b.grad_x) + at : apart;
    r.ahead = r.grad_s;
    if (floats) r.ahead = t ? r.grad_s - q.M : static_cast<const float*>(b.x) + (end < q.M ? end : begin);
    step(c, r, n);
    if (once && !add)
      for (int64_t i = 0; i < n; ++i) sum[i] += apart[i];
    else if (!once && !floats)
      from_floats(gx_row, b.grad_x, q.type, at, n);
  }
  if (once && !floats) from_floats(sum, b.grad_x, q.type, begin, n);
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
