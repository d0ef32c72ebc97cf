// Activations, a vector at a time.
//
// Compiled for one instruction set (SPFDE_ISA) and any number of lanes. Owns nothing.
#ifndef SPFDE_ENGINE_ACTIVATION_SIMD_H_
#define SPFDE_ENGINE_ACTIVATION_SIMD_H_

#include "engine/activation_kernels.h"
#include "engine/simd.h"

namespace SPFDE_ISA {

using spfde::ActivationKernels;

// The standard normal distribution at x: its distribution function and its density.
template <int L>
struct Normal {
  typedef typename Lanes<L>::V V;
  typedef int32_t Integers __attribute__((vector_size(L * sizeof(int32_t))));
  V distribution, density;

  SPFDE_INLINE explicit Normal(V x) {
    const V exponential = exp_of_negative(x * x * -0.5f);
    // erfc of |x| / sqrt(2): Abramowitz and Stegun, 7.1.26, which is off by 1.5e-7 at most.
    const V t = 1.0f / (1.0f + (x < V{} ? -x : x) * (0.3275911f * 0.70710678f));
    const V series =
        ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t +
         0.254829592f) *
        t;
    const V tail = series * exponential * 0.5f;
    distribution = x < V{} ? tail : 1.0f - tail;
    density = exponential * 0.39894228f;
  }

 private:
  // As in Cephes: 2^n times a polynomial; 0 where that is below the least normal number.
  static SPFDE_INLINE V exp_of_negative(V exponent) {
    const V least = V{} - 87.0f;
    const V y = exponent > least ? exponent : least;
    // Adding this leaves the nearest whole number in the last bits.
    constexpr float kRounder = 12582912.0f;
    const V rounded = y * 1.44269504f + kRounder;
    const V n = rounded - kRounder;
    const V r = y - n * 0.693359375f + n * 2.12194440e-4f;
    const V series = ((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r +
                       4.1665795894e-2f) *
                          r +
                      1.6666665459e-1f) *
                         r +
                     0.5f;
    const Integers power = ((Integers)rounded - 0x4B400000 + 127) << 23;
    return exponent < least ? V{} : (series * r * r + r + 1.0f) * (V)power;
  }
};

// dst[i] = function(vectors of src and of more at i), for all i; `more` may be src.
template <int L, class Function>
SPFDE_INLINE void each_vector(const float* src, const float* more, int64_t size, float* dst,
                              Function function) {
  int64_t i = 0;
  for (; i + L <= size; i += L)
    store_any<L>(dst + i, function(load_any<L>(src + i), load_any<L>(more + i)));
  if (i == size) return;
  float x[L] = {}, y[L] = {};
  for (int64_t k = i; k < size; ++k) x[k - i] = src[k], y[k - i] = more[k];
  store_any<L>(x, function(load_any<L>(x), load_any<L>(y)));
  for (int64_t k = i; k < size; ++k) dst[k] = x[k - i];
}

template <int L>
void gelu(const float* src, int64_t size, float* dst) {
  typedef typename Lanes<L>::V V;
  each_vector<L>(src, src, size, dst, [](V x, V) { return x * Normal<L>(x).distribution; });
}

template <int L>
void gelu_gradient(const float* src, const float* diff_dst, int64_t size, float* diff_src) {
  typedef typename Lanes<L>::V V;
  each_vector<L>(src, diff_dst, size, diff_src, [](V x, V diff) {
    const Normal<L> normal(x);
    return diff * (normal.distribution + x * normal.density);
  });
}

template <int L>
const ActivationKernels* activation_kernels() {
  static const ActivationKernels kernels = {gelu<L>, gelu_gradient<L>};
  return &kernels;
}

}  // namespace SPFDE_ISA

#endif  // SPFDE_ENGINE_ACTIVATION_SIMD_H_
