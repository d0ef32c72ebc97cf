// Reads a Source for one instruction set (SPFDE_ISA).
#ifndef SPFDE_READER_H_
#define SPFDE_READER_H_

#include "simd.h"
#include "source.h"

namespace SPFDE_ISA {

using spfde::Reading;
using spfde::Source;

// Not a number stays what it is.
template <class V>
inline V positive(V v) {
  return v < V{} ? V{} : v;
}

// Reads channels c, ... c + L - 1 of the pixels whose first channel is at data[i].
template <int L, Reading R>
struct Reader;

template <int L>
struct Reader<L, Reading::kPlain> {
  typedef typename Lanes<L>::V V;
  const float* data;
  Reader() = default;
  Reader(const Source& source, int c) : data(source.data + c) {}
  V operator()(ptrdiff_t i) const { return load_any<L>(data + i); }
};

template <int L>
struct Reader<L, Reading::kNormalized> {
  typedef typename Lanes<L>::V V;
  const float* data;
  V scale, shift;
  Reader() = default;
  Reader(const Source& source, int c)
      : data(source.data + c), scale(load_any<L>(source.scale + c)),
        shift(load_any<L>(source.shift + c)) {}
  V operator()(ptrdiff_t i) const { return positive(load_any<L>(data + i) * scale + shift); }
};

template <int L>
struct Reader<L, Reading::kGradient> {
  typedef typename Lanes<L>::V V;
  const float *data, *x;
  V mean, slope, curve, average;
  Reader() = default;
  Reader(const Source& source, int c)
      : data(source.data + c), x(source.x + c), mean(load_any<L>(source.mean + c)),
        slope(load_any<L>(source.slope + c)), curve(load_any<L>(source.curve + c)),
        average(load_any<L>(source.average + c)) {}
  V operator()(ptrdiff_t i) const { return derive(load_any<L>(data + i), load_any<L>(x + i)); }
  V derive(V gradient, V x) const { return (gradient - average) * slope + (x - mean) * curve; }
};

template <int L>
struct Reader<L, Reading::kPassingGradient> {
  typedef typename Lanes<L>::V V;
  Reader<L, Reading::kGradient> all;
  V scale, shift;
  Reader() = default;
  Reader(const Source& source, int c)
      : all(source, c), scale(load_any<L>(source.scale + c)),
        shift(load_any<L>(source.shift + c)) {}
  V operator()(ptrdiff_t i) const {
    const V x = load_any<L>(all.x + i), gradient = load_any<L>(all.data + i);
    return all.derive(x * scale + shift > V{} ? gradient : V{}, x);
  }
};

}  // namespace SPFDE_ISA

#endif  // SPFDE_READER_H_
