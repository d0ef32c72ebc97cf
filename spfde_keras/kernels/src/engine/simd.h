// Vectors of 4, 8 or 16 floats, in the compiler's own notation.
//
// Compiled for one instruction set (SPFDE_ISA); depends on nothing. Needs __builtin_shufflevector
// and arithmetic on vector_size types, which GCC 12 and Clang 13 have.
#ifndef SPFDE_ENGINE_SIMD_H_
#define SPFDE_ENGINE_SIMD_H_

#include <stddef.h>

// Compilers stop inlining where a file has grown enough, and these are worth it everywhere.
#define SPFDE_INLINE inline __attribute__((always_inline))

namespace SPFDE_ISA {

typedef float Quad __attribute__((vector_size(16)));
typedef float AnyQuad __attribute__((vector_size(16), aligned(4), may_alias));

template <int L>
struct Lanes;

template <>
struct Lanes<1> {
  typedef float V;
};

// Each of these works within quarters of 4 lanes, so that quarters can be told apart afterwards:
// low(a, b) is a0 b0 a1 b1, high is a2 b2 a3 b3; front(a, b) is a0 a1 b0 b1, back is a2 a3 b2 b3.
template <>
struct Lanes<4> {
  typedef Quad V;
  static V low(V a, V b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
  static V high(V a, V b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
  static V front(V a, V b) { return __builtin_shufflevector(a, b, 0, 1, 4, 5); }
  static V back(V a, V b) { return __builtin_shufflevector(a, b, 2, 3, 6, 7); }
  static SPFDE_INLINE void swap_quarters(V* /*v*/) {}
  static SPFDE_INLINE Quad fold(V v) { return v; }
};

template <>
struct Lanes<8> {
  typedef float V __attribute__((vector_size(32)));
  static V low(V a, V b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13); }
  static V high(V a, V b) { return __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15); }
  static V front(V a, V b) { return __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13); }
  static V back(V a, V b) { return __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15); }
  static SPFDE_INLINE void swap_quarters(V* v) {
    for (int i = 0; i < 4; ++i) {
      const V a = v[i], b = v[i + 4];
      v[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
      v[i + 4] = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
    }
  }
  static SPFDE_INLINE Quad fold(V v) {
    return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
  }
};

template <>
struct Lanes<16> {
  typedef float V __attribute__((vector_size(64)));
  static V low(V a, V b) {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  }
  static V high(V a, V b) {
    return __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15,
                                   31);
  }
  static V front(V a, V b) {
    return __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
  }
  static V back(V a, V b) {
    return __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30,
                                   31);
  }
  static V even(V a, V b) {
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  }
  static V odd(V a, V b) {
    return __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30,
                                   31);
  }
  static SPFDE_INLINE void swap_quarters(V* v) {
    for (int i = 0; i < 4; ++i) {
      const V a = even(v[i], v[i + 4]), b = odd(v[i], v[i + 4]);
      const V c = even(v[i + 8], v[i + 12]), d = odd(v[i + 8], v[i + 12]);
      v[i] = even(a, c);
      v[i + 4] = even(b, d);
      v[i + 8] = odd(a, c);
      v[i + 12] = odd(b, d);
    }
  }
  static SPFDE_INLINE Quad fold(V v) {
    return Lanes<8>::fold(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                          __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
  }
};

template <int L>
SPFDE_INLINE typename Lanes<L>::V load(const float* p) {
  return *(const typename Lanes<L>::V*)p;
}

template <int L>
SPFDE_INLINE typename Lanes<L>::V load_any(const float* p) {
  typedef typename Lanes<L>::V Any __attribute__((aligned(4)));
  return *(const Any*)p;
}

template <int L>
SPFDE_INLINE void store_any(float* p, typename Lanes<L>::V v) {
  typedef typename Lanes<L>::V Any __attribute__((aligned(4)));
  *(Any*)p = v;
}

template <int L>
SPFDE_INLINE void store(float* p, typename Lanes<L>::V v) {
  *(typename Lanes<L>::V*)p = v;
}

// Turns L vectors of L lanes, the rows of a square, into its columns.
template <int L>
SPFDE_INLINE void transpose(typename Lanes<L>::V* v) {
  typedef Lanes<L> X;
  for (int i = 0; i < L; i += 4) {
    const typename X::V a = X::low(v[i], v[i + 1]), b = X::high(v[i], v[i + 1]);
    const typename X::V c = X::low(v[i + 2], v[i + 3]), d = X::high(v[i + 2], v[i + 3]);
    v[i] = X::front(a, c);
    v[i + 1] = X::back(a, c);
    v[i + 2] = X::front(b, d);
    v[i + 3] = X::back(b, d);
  }
  X::swap_quarters(v);
}

// The sums over the lanes of 4 vectors.
template <int L>
SPFDE_INLINE Quad sum(const typename Lanes<L>::V* v) {
  typedef Lanes<L> X;
  typename X::V a = X::low(v[0], v[1]) + X::high(v[0], v[1]);
  typename X::V b = X::low(v[2], v[3]) + X::high(v[2], v[3]);
  return X::fold(X::front(a, b) + X::back(a, b));
}

}  // namespace SPFDE_ISA

#endif  // SPFDE_ENGINE_SIMD_H_
