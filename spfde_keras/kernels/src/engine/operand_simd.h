// Loads vectors of an Operand, its prologue applied.
//
// Compiled for one instruction set (SPFDE_ISA). May assume that there are L channels from the one
// that is asked for.
#ifndef SPFDE_ENGINE_OPERAND_SIMD_H_
#define SPFDE_ENGINE_OPERAND_SIMD_H_

#include "engine/operand.h"
#include "engine/simd.h"

namespace SPFDE_ISA {

using spfde::Operand;
using spfde::Prologue;

// NaN stays NaN.
template <class V>
inline V positive(V v) {
  return v < V{} ? V{} : v;
}

// Reads channels c, ... c + L - 1 of the pixels whose first channel is at data[i].
template <int L, Prologue P>
struct OperandReader;

template <int L>
struct OperandReader<L, Prologue::kNone> {
  typedef typename Lanes<L>::V V;
  const float* data;
  OperandReader() = default;
  OperandReader(const Operand& from, int c) : data(from.data + c) {}
  V operator()(ptrdiff_t i) const { return load_any<L>(data + i); }
};

template <int L>
struct OperandReader<L, Prologue::kBatchNormRelu> {
  typedef typename Lanes<L>::V V;
  const float* data;
  V scale, shift;
  OperandReader() = default;
  OperandReader(const Operand& from, int c)
      : data(from.data + c), scale(load_any<L>(from.scale + c)),
        shift(load_any<L>(from.shift + c)) {}
  V operator()(ptrdiff_t i) const { return positive(load_any<L>(data + i) * scale + shift); }
};

template <int L>
struct OperandReader<L, Prologue::kBatchNormGrad> {
  typedef typename Lanes<L>::V V;
  const float *data, *src;
  V mean, diff_scale, deviation_scale, diff_mean;
  OperandReader() = default;
  OperandReader(const Operand& from, int c)
      : data(from.data + c), src(from.src + c), mean(load_any<L>(from.mean + c)),
        diff_scale(load_any<L>(from.diff_scale + c)),
        deviation_scale(load_any<L>(from.deviation_scale + c)),
        diff_mean(load_any<L>(from.diff_mean + c)) {}
  V operator()(ptrdiff_t i) const { return apply(load_any<L>(data + i), load_any<L>(src + i)); }
  V apply(V gradient, V x) const {
    return (gradient - diff_mean) * diff_scale + (x - mean) * deviation_scale;
  }
};

template <int L>
struct OperandReader<L, Prologue::kBatchNormReluGrad> {
  typedef typename Lanes<L>::V V;
  OperandReader<L, Prologue::kBatchNormGrad> all;
  V scale, shift;
  OperandReader() = default;
  OperandReader(const Operand& from, int c)
      : all(from, c), scale(load_any<L>(from.scale + c)), shift(load_any<L>(from.shift + c)) {}
  V operator()(ptrdiff_t i) const {
    const V x = load_any<L>(all.src + i), gradient = load_any<L>(all.data + i);
    return all.apply(x * scale + shift > V{} ? gradient : V{}, x);
  }
};

}  // namespace SPFDE_ISA

#endif  // SPFDE_ENGINE_OPERAND_SIMD_H_
